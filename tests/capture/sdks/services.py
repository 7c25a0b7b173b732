"""SDKs of services whose clients are alike in nothing. Each that is installed is played."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterator

from tests.capture.sdks.driver import installed
from tests.capture.sdks.driver import MESSAGES
from tests.capture.sdks.driver import Sdk
from tests.capture.sdks.frameworks import ANSWER
from tests.capture.sdks.frameworks import EVENTS

_STREAMS: t.Final = ("plain", "streamed to the end", "dies mid-stream", "401")
"""What an SDK without retries plays, whose streams cannot be closed."""


def _asked(client: t.Any, model: str = "gpt-4o", **more: t.Any) -> t.Any:
    return client.chat.completions.create(model=model, messages=MESSAGES, **more)


def _streamed(client: t.Any) -> t.Any:
    return _asked(client, stream=True)


def _content(answer: t.Any) -> t.Any:
    choices = answer.choices
    if not choices:
        return None
    choice = choices[0]
    part = getattr(choice, "message", None) or getattr(choice, "delta", None)
    return getattr(part, "content", None)


def _both(
    name: str, make: Callable[..., t.Any], provider: str, **more: t.Any
) -> Iterator[Sdk]:
    """A sync and an async client that are called alike."""
    common: dict[str, t.Any] = {
        "ask": _asked,
        "stream": _streamed,
        "answer": ANSWER,
        "events": EVENTS,
        "shown": _content,
        "holds_client": False,
        "scenes": _STREAMS,
    }
    for asynchronous in (False, True):
        yield Sdk(
            name=f"{name} async" if asynchronous else name,
            provider=provider,
            make=lambda url, timeout, a=asynchronous: make(url, timeout, a),
            asynchronous=asynchronous,
            **common | more,
        )


def _portkey() -> Iterator[Sdk]:
    from portkey_ai import AsyncPortkey
    from portkey_ai import Portkey

    def make(url: str, timeout: float, asynchronous: bool) -> t.Any:
        kind = AsyncPortkey if asynchronous else Portkey
        return kind(api_key="k", base_url=f"{url}/v1", provider="openai")

    yield from _both("portkey-ai", make, "openai")


def _hugging_face() -> Iterator[Sdk]:
    from huggingface_hub import AsyncInferenceClient
    from huggingface_hub import InferenceClient

    def make(url: str, timeout: float, asynchronous: bool) -> t.Any:
        kind = AsyncInferenceClient if asynchronous else InferenceClient
        return kind(base_url=f"{url}/v1", api_key="k", timeout=timeout)

    yield from _both("huggingface_hub", make, "huggingface")


def _azure_inference() -> Iterator[Sdk]:
    from azure.ai.inference import ChatCompletionsClient
    from azure.core.credentials import AzureKeyCredential

    def make(url: str, timeout: float) -> t.Any:
        credential = AzureKeyCredential("k")
        return ChatCompletionsClient(
            url + "/models", credential, read_timeout=timeout, retry_total=1
        )

    def ask(client: t.Any, **more: t.Any) -> t.Any:
        return client.complete(model="gpt-4o", messages=MESSAGES, **more)

    yield Sdk(
        name="azure-ai-inference",
        provider="azure_ai",
        make=make,
        ask=ask,
        stream=lambda client: ask(client, stream=True),
        answer=ANSWER,
        events=EVENTS,
        shown=_content,
        holds_client=False,
        scenes=("plain", "streamed to the end", "401"),
    )


def _ai21() -> Iterator[Sdk]:
    from ai21 import AI21Client
    from ai21 import AsyncAI21Client
    from ai21.models.chat import UserMessage

    said = [UserMessage(content="hi")]

    def make(url: str, timeout: float, asynchronous: bool) -> t.Any:
        kind = AsyncAI21Client if asynchronous else AI21Client
        return kind(
            api_key="k", api_host=f"{url}/studio/v1", timeout_sec=timeout, num_retries=1
        )

    def ask(client: t.Any, **more: t.Any) -> t.Any:
        chats = client.chat.completions
        return chats.create(model="jamba-large", messages=said, **more)

    yield from _both(
        "ai21",
        make,
        "ai21",
        ask=ask,
        stream=lambda client: ask(client, stream=True),
        scenes=("plain", "401"),
    )


_SERVICES: t.Final[tuple[tuple[str, Callable[[], Iterator[Sdk]]], ...]] = (
    ("portkey_ai", _portkey),
    ("huggingface_hub", _hugging_face),
    ("azure.ai.inference", _azure_inference),
    ("ai21", _ai21),
)

SDKS = tuple(sdk for module, make in _SERVICES if installed(module) for sdk in make())
