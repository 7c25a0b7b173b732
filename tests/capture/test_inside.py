"""``wrap()`` finds the HTTP client in each SDK, or says what to do instead.

The SDKs are tested where they are installed.
"""

from __future__ import annotations

import json
import typing as t
from collections.abc import Callable
from importlib import import_module

import pytest
import requests

from flask_llm_cost.capture import clients
from flask_llm_cost.capture import inside
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.errors import ConfigError
from tests.capture.conftest import Book
from tests.capture.sdks.driver import installed
from tests.capture.server import Answer
from tests.capture.server import CHAT_JSON
from tests.capture.server import Provider

pytestmark = pytest.mark.filterwarnings("ignore")

JSON = (("Content-Type", "application/json"),)
SAID: t.Any = [{"role": "user", "content": "hello"}]
EMBEDDED = {
    "object": "list",
    "data": [{"object": "embedding", "embedding": [0.1], "index": 0}],
    "model": "voyage-3",
    "usage": {"total_tokens": 7},
}
PREDICTED = {
    "id": "p1",
    "model": "o/m",
    "version": "v",
    "status": "succeeded",
    "input": {},
    "output": "hi",
    "urls": {},
    "created_at": "2026-11-30T00:00:00Z",
    "metrics": {"predict_time": 2.5},
}
TRANSCRIBED = {
    "id": "t1",
    "status": "completed",
    "audio_url": "https://example.com/a.mp3",
    "audio_duration": 9,
}


def _huggingface(url: str) -> tuple[t.Any, Callable[[], object]]:
    hub = import_module("huggingface_hub")
    hub.close_session()
    client = hub.InferenceClient(base_url=f"{url}/v1", api_key="k")
    return hub.get_session(), lambda: client.chat_completion(SAID, model="m")


def _replicate(url: str) -> tuple[t.Any, Callable[[], object]]:
    client = import_module("replicate").Client(api_token="k", base_url=url)
    ask = {"model": "o/m", "input": {"prompt": "hello"}}
    return client, lambda: client.models.predictions.create(**ask)


def _fal(url: str) -> tuple[t.Any, Callable[[], object]]:
    client = import_module("fal_client").SyncClient(key="k")
    return client, lambda: client._client.post(f"{url}/fal-ai/flux", json={})


def _voyage(url: str) -> tuple[t.Any, Callable[[], object]]:
    module: t.Any = import_module("voyageai")
    # It keeps one for each thread.
    requestor = import_module("voyageai.api_resources.api_requestor")
    vars(requestor._thread_context).clear()
    module.requestssession = requests.Session()
    client = module.Client(api_key="k", base_url=f"{url}/v1")
    return module.requestssession, lambda: client.embed(["hello"], model="voyage-3")


def _azure(url: str) -> tuple[t.Any, Callable[[], object]]:
    module = import_module("azure.ai.inference")
    key = import_module("azure.core.credentials").AzureKeyCredential("k")
    client = module.ChatCompletionsClient(url, key)
    return client, lambda: client.complete(messages=SAID, model="m")


def _assemblyai(url: str) -> tuple[t.Any, Callable[[], object]]:
    module = import_module("assemblyai")
    settings = module.Settings(api_key="k", base_url=url)
    transcriber = module.Transcriber(client=module.Client(settings=settings))
    return transcriber, lambda: transcriber.submit("https://example.com/a.mp3")


def _plain(package: str, name: str, **options: t.Any) -> t.Any:
    def make(url: str) -> tuple[t.Any, Callable[[], object]]:
        kind = getattr(import_module(package), name)
        client = kind(api_key="k", base_url=f"{url}/v1", **options)
        return client, lambda: _chat_of(client).create(model="m", messages=SAID)

    return make


def _chat_of(client: t.Any) -> t.Any:
    return client.chat.completions


Make: t.TypeAlias = Callable[[str], tuple[t.Any, Callable[[], object]]]
SDKS: dict[str, tuple[str, str, t.Any, Make]] = {
    "huggingface_hub": ("huggingface_hub", "huggingface", CHAT_JSON, _huggingface),
    "replicate": ("replicate", "replicate", PREDICTED, _replicate),
    "fal": ("fal_client", "fal_ai", {"images": [{}]}, _fal),
    "voyageai": ("voyageai", "voyage", EMBEDDED, _voyage),
    "azure-ai-inference": ("azure.ai.inference", "azure", CHAT_JSON, _azure),
    "assemblyai": ("assemblyai", "assemblyai", TRANSCRIBED, _assemblyai),
    "cerebras": (
        "cerebras.cloud.sdk",
        "cerebras",
        CHAT_JSON,
        _plain("cerebras.cloud.sdk", "Cerebras", warm_tcp_connection=False),
    ),
    "together": ("together", "together", CHAT_JSON, _plain("together", "Together")),
    "fireworks": (
        "fireworks",
        "fireworks",
        CHAT_JSON,
        _plain("fireworks", "Fireworks"),
    ),
    "zai": ("zai", "zai", CHAT_JSON, _plain("zai", "ZaiClient")),
    "portkey": ("portkey_ai", "portkey", CHAT_JSON, _plain("portkey_ai", "Portkey")),
    "perplexity": (
        "perplexity",
        "perplexity",
        CHAT_JSON,
        _plain("perplexity", "Perplexity"),
    ),
    "sambanova": (
        "sambanova",
        "sambanova",
        CHAT_JSON,
        _plain("sambanova", "SambaNova"),
    ),
}


@pytest.mark.parametrize("how", ["wrap", "instrument"])
def test_calls_of_the_installed_sdks_are_captured(
    how: str, provider: Provider, book: Book
) -> None:
    for name, (package, *_) in SDKS.items():
        if installed(package):
            _check_capture(how, name, provider, book)
            book.calls.clear()


def _check_capture(how: str, name: str, provider: Provider, book: Book) -> None:
    _, speaks, answer, make = SDKS[name]
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    provider.play(Answer(body, headers=JSON))
    tap = Tap(book, hosts={provider.host: speaks})
    client, call = make(f"http://{provider.host}")
    if how == "wrap":
        clients.wrap(tap, client)
        call()
    else:
        clients.instrument(tap)
        try:
            call()
        finally:
            clients.uninstrument()
    assert book.call.provider == speaks
    assert book.call.outcome == "ok"


OTHERS: t.Final[list[tuple[str, Callable[[t.Any], t.Any], str]]] = [
    ("huggingface_hub", lambda m: m.InferenceClient(api_key="k"), "get_session()"),
    ("voyageai", lambda m: m.Client(api_key="k"), "voyageai.requestssession ="),
    ("fal_client", lambda m: m.AsyncClient(key="k"), 'instrument("httpx")'),
    ("dashscope", lambda m: m.Generation, 'instrument("requests", "aiohttp")'),
    ("litellm", lambda m: m, 'instrument("httpx", "aiohttp")'),
]


def test_installed_sdks_without_a_client_of_their_own_come_with_the_way(
    book: Book,
) -> None:
    for package, make, said in OTHERS:
        if installed(package):
            client = make(import_module(package))
            with pytest.raises(ConfigError, match="No HTTP client was found") as caught:
                clients.wrap(Tap(book), client)
            assert said in str(caught.value)


class Lazy:
    """Creates its HTTP client when that is first used, as replicate's does."""

    made = 0

    @property
    def _client(self) -> requests.Session:
        self.made += 1
        return vars(self).setdefault("inner", requests.Session())


def test_a_property_is_used_only_of_a_known_class(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Lazy()
    with pytest.raises(ConfigError, match="Wrap the client that it uses"):
        clients.wrap(Tap(book), client)
    assert client.made == 0
    monkeypatch.setitem(inside._MADE, f"{__name__}.Lazy", ("_client",))  # type: ignore[arg-type]
    assert clients.wrap(Tap(book), client) == ("requests",)


def test_an_sdk_that_cannot_make_its_client_has_none(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(inside._MADE, "builtins.object", ("nothing",))  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        clients.wrap(Tap(book), object())
