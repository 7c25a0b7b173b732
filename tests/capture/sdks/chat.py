"""SDKs whose chats have OpenAI's shape: those of other providers, and frameworks.

Each that is installed is played. They have little in common but the wire, so each says how
to create its client and to ask; the scenes are the same.
"""

from __future__ import annotations

import importlib
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field

from flask_llm_cost.call import Usage
from tests.capture.sdks.driver import installed
from tests.capture.sdks.driver import MESSAGES
from tests.capture.sdks.driver import Sdk
from tests.capture.sdks.driver import USED
from tests.capture.sdks.driver import WIDE
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM

EVENTS: t.Final = tuple(piece + b"\n\n" for piece in CHAT_STREAM.split(b"\n\n"))


def _asked(client: t.Any, **more: t.Any) -> t.Any:
    return client.chat.completions.create(model="gpt-4o", messages=MESSAGES, **more)


def _streamed(client: t.Any) -> t.Any:
    return _asked(client, stream=True)


@dataclass(frozen=True, kw_only=True)
class Generated:
    """An SDK that was generated from the same templates as OpenAI's own."""

    package: str
    module: str
    kinds: tuple[str, str]
    """The names of the client's class, sync and async."""
    provider: str
    path: str = ""
    options: dict[str, t.Any] = field(default_factory=dict)
    keys: tuple[str, ...] = ("api_key",)
    url: str = "base_url"
    used: Usage = USED
    answer: bytes = CHAT_JSON
    events: tuple[bytes, ...] = EVENTS
    ask: Callable[..., t.Any] = _asked
    stream: Callable[..., t.Any] = _streamed
    base: str = "_base_client"
    without: tuple[str, ...] = ()

    def sdks(self) -> Iterator[Sdk]:
        """The sync and the async client, if the package is installed."""
        module = importlib.import_module(self.module)
        for kind in filter(None, self.kinds):
            asynchronous = kind == self.kinds[1]
            yield Sdk(
                name=f"{self.package} async" if asynchronous else self.package,
                provider=self.provider,
                make=self._maker(getattr(module, kind)),
                ask=self.ask,
                stream=self.stream,
                answer=self.answer,
                events=self.events,
                used=self.used,
                asynchronous=asynchronous,
                patches=((f"{self.module}.{self.base}.INITIAL_RETRY_DELAY", 0.001),),
                without=self.without,
                scenes=WIDE,
            )

    def _maker(self, kind: t.Any) -> Callable[[str, float], t.Any]:
        def make(url: str, timeout: float) -> t.Any:
            keys = dict.fromkeys(self.keys, "k")
            where = {self.url: url + self.path}
            more = keys | where | self.options
            return kind(timeout=timeout, max_retries=1, **more)

        return make


GENERATED: t.Final = (
    Generated(
        package="together",
        module="together",
        kinds=("Together", "AsyncTogether"),
        provider="together",
        path="/v1",
    ),
    Generated(
        package="cerebras-cloud-sdk",
        module="cerebras.cloud.sdk",
        kinds=("Cerebras", "AsyncCerebras"),
        provider="cerebras",
        options={"warm_tcp_connection": False},
    ),
    Generated(
        package="gradient",
        module="gradient",
        kinds=("Gradient", "AsyncGradient"),
        provider="gradient",
        path="/v1",
        keys=("access_token", "model_access_key"),
        url="inference_endpoint",
    ),
    Generated(
        package="perplexityai",
        module="perplexity",
        kinds=("Perplexity", "AsyncPerplexity"),
        provider="perplexity",
    ),
    Generated(
        package="sambanova",
        module="sambanova",
        kinds=("SambaNova", "AsyncSambaNova"),
        provider="sambanova",
        path="/v1",
    ),
    Generated(
        package="fireworks-ai",
        module="fireworks",
        kinds=("Fireworks", "AsyncFireworks"),
        provider="fireworks_ai",
    ),
    Generated(
        package="writer-sdk",
        module="writerai",
        kinds=("Writer", "AsyncWriter"),
        provider="writer",
        ask=lambda client, **more: client.chat.chat(
            model="palmyra-x5", messages=MESSAGES, **more
        ),
        stream=lambda client: client.chat.chat(
            model="palmyra-x5", messages=MESSAGES, stream=True
        ),
    ),
    Generated(
        package="zai-sdk",
        module="zai",
        kinds=("ZaiClient", ""),
        provider="zai",
        path="/api/paas/v4",
        base="core._http_client",
        without=("stopped early",),  # its streams cannot be closed
    ),
)
"""See the SDKs' own clients: each takes a base URL, a timeout and a number of retries."""


SDKS = tuple(sdk for each in GENERATED if installed(each.module) for sdk in each.sdks())
