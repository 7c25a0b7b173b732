"""The SDKs' own clients give the same results and errors, and each attempt is a record."""

from __future__ import annotations

import asyncio
import gc
import typing as t
from collections.abc import Callable
from dataclasses import dataclass

import anthropic
import openai
import pytest

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.meter import Tap
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM
from tests.capture.server import MESSAGE_JSON
from tests.capture.server import MESSAGE_STREAM
from tests.capture.server import Provider

MESSAGES: t.Any = [{"role": "user", "content": "hello"}]
JSON: t.Final = (("Content-Type", "application/json"),)
SSE: t.Final = (("Content-Type", "text/event-stream"),)
REFUSED: t.Final = (*JSON, ("retry-after-ms", "1"))


@dataclass(frozen=True)
class Sdk:
    """How one SDK is made and asked."""

    name: str
    provider: str
    make: t.Any
    make_async: t.Any
    create: Callable[..., t.Any]
    answer: bytes
    stream: bytes
    root: str


def _chat(client: t.Any, **options: t.Any) -> t.Any:
    return client.chat.completions.create(model="gpt-4o", messages=MESSAGES, **options)


def _message(client: t.Any, **options: t.Any) -> t.Any:
    return client.messages.create(
        model="claude", messages=MESSAGES, max_tokens=9, **options
    )


SDKS: t.Final = (
    Sdk(
        "openai",
        "openai",
        openai.OpenAI,
        openai.AsyncOpenAI,
        _chat,
        CHAT_JSON,
        CHAT_STREAM,
        "/v1",
    ),
    Sdk(
        "anthropic",
        "anthropic",
        anthropic.Anthropic,
        anthropic.AsyncAnthropic,
        _message,
        MESSAGE_JSON,
        MESSAGE_STREAM,
        "",
    ),
)


@dataclass(frozen=True)
class Scene:
    """What the provider does, how the app reads, and what is to be recorded."""

    answers: Callable[[Sdk], list[Answer]]
    outcomes: tuple[str, ...]
    reads: t.Literal["all", "one", "none", "dropped"] = "all"
    streams: bool = False
    timeout: float = 5


def _plain(sdk: Sdk) -> list[Answer]:
    return [Answer(sdk.answer, headers=JSON, encoding="gzip")]


def _streamed(**more: t.Any) -> Callable[[Sdk], list[Answer]]:
    return lambda sdk: [Answer(sdk.stream, headers=SSE, cuts=(50,), **more)]


def _status(*codes: int) -> Callable[[Sdk], list[Answer]]:
    def answers(sdk: Sdk) -> list[Answer]:
        error = b'{"type": "error", "error": {"type": "x", "message": "no"}}'
        return [
            Answer(sdk.answer, headers=JSON)
            if code == 200
            else Answer(error, status=code, headers=REFUSED)
            for code in codes
        ]

    return answers


SCENES: dict[str, Scene] = {
    "plain": Scene(_plain, ("ok",)),
    "streamed to the end": Scene(_streamed(), ("ok",), streams=True),
    "gzipped stream": Scene(_streamed(encoding="gzip"), ("ok",), streams=True),
    "stopped early": Scene(
        _streamed(dies_after=300, hangs=True),
        ("interrupted",),
        reads="one",
        streams=True,
    ),
    "never read": Scene(_streamed(), ("interrupted",), reads="none", streams=True),
    "never closed": Scene(_streamed(), ("interrupted",), reads="dropped", streams=True),
    "dies mid-stream": Scene(_streamed(dies_after=300), ("failed",), streams=True),
    "429, then 200": Scene(_status(429, 200), ("http_error", "ok")),
    "401": Scene(_status(401), ("http_error",)),
    "500 each time": Scene(_status(500), ("http_error",) * 2),
    "timeout": Scene(
        lambda sdk: [Answer(sdk.answer, headers=JSON, delay=0.15)],
        ("no_response",) * 2,
        timeout=0.04,
    ),
    "no JSON": Scene(lambda _: [Answer(b"<html>", headers=JSON)], ("ok",)),
    "a body that dies": Scene(
        lambda sdk: [Answer(sdk.answer, headers=JSON, dies_after=40)],
        ("failed",) * 2,
    ),
}


def _seen(error: Exception) -> tuple[t.Any, ...]:
    return type(error), str(error), type(error.__cause__)


def _options(sdk: Sdk, scene: Scene, provider: Provider) -> dict[str, t.Any]:
    return {
        "api_key": "k",
        "base_url": provider.url(sdk.root),
        "timeout": scene.timeout,
        "max_retries": 1,
    }


def run(sdk: Sdk, scene: Scene, provider: Provider, tap: Tap | None) -> t.Any:
    """What the app sees."""
    provider.play(*scene.answers(sdk))
    provider.released.clear()
    with sdk.make(**_options(sdk, scene, provider)) as client:
        if tap is not None:
            clients.wrap(tap, client)
        try:
            return _read(sdk, scene, client)
        except Exception as error:
            return _seen(error)
        finally:
            provider.released.set()


def _read(sdk: Sdk, scene: Scene, client: t.Any) -> t.Any:
    if not scene.streams:
        return sdk.create(client)
    stream = sdk.create(client, stream=True)
    if scene.reads == "all":
        return list(stream)
    if scene.reads == "one":
        first = next(iter(stream))
        stream.close()
        return first
    if scene.reads == "none":
        stream.close()
        return None
    del stream
    gc.collect()
    return None


async def _read_async(sdk: Sdk, scene: Scene, client: t.Any) -> t.Any:
    if not scene.streams:
        return await sdk.create(client)
    stream = await sdk.create(client, stream=True)
    if scene.reads == "all":
        return [event async for event in stream]
    if scene.reads == "one":
        first = await anext(aiter(stream))
        await stream.close()
        return first
    if scene.reads == "none":
        await stream.close()
        return None
    del stream
    gc.collect()
    return None


def run_async(sdk: Sdk, scene: Scene, provider: Provider, tap: Tap | None) -> t.Any:
    """What the app sees in a task."""
    provider.play(*scene.answers(sdk))
    provider.released.clear()

    async def main() -> t.Any:
        async with sdk.make_async(**_options(sdk, scene, provider)) as client:
            if tap is not None:
                clients.wrap(tap, client)
            try:
                return await _read_async(sdk, scene, client)
            except Exception as error:
                return _seen(error)
            finally:
                provider.released.set()

    return asyncio.run(main())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("work", [run, run_async])
@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.name)
def test_an_app_sees_what_it_would_see_without_us(
    sdk: Sdk,
    name: str,
    work: t.Any,
    provider: Provider,
    book: Book,
    hosts: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{sdk.name}._base_client.INITIAL_RETRY_DELAY", 0.001)
    hosts[provider.host] = sdk.provider
    scene = SCENES[name]
    expected = work(sdk, scene, provider, None)
    assert work(sdk, scene, provider, Tap(book, hosts=hosts)) == expected
    if scene.reads == "dropped":
        gc.collect()
    assert tuple(call.outcome for call in book.calls) == scene.outcomes
    assert len(provider.scene.requests) == len(scene.outcomes)
    for call in book.calls:
        used = call.outcome == "ok" and name != "no JSON"
        assert (call.usage is not None) == used or call.usage_source == "stream_partial"
