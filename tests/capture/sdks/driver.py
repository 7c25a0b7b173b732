"""What the matrix needs to know of an SDK, and how a call of it is played."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass

from flask_llm_cost.call import Usage
from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap
from tests.capture.server import Answer
from tests.capture.server import Provider
from tests.capture.server import Seen

JSON: t.Final = (("Content-Type", "application/json"),)
USED: t.Final = Usage(input_tokens=60, cache_read_tokens=40, output_tokens=20)
MESSAGES: t.Final[t.Any] = [{"role": "user", "content": "hello"}]


def itself(value: t.Any) -> t.Any:
    return value


@dataclass(frozen=True, kw_only=True)
class Sdk:
    """How one SDK is made and asked. It tries a call twice, if it can."""

    name: str
    provider: str
    """Who answers, as a host in ``LLM_COST_PROVIDER_HOSTS`` says it."""
    make: Callable[[str, float], t.Any]
    """Makes a client, from a base URL and a timeout in seconds: of waiting for an answer,
    and of nothing else if the SDK can tell."""
    ask: Callable[[t.Any], t.Any]
    stream: Callable[[t.Any], t.Any]
    """Gives an iterator, an async one, or an awaitable of it."""
    answer: bytes
    events: Sequence[bytes]
    """A streamed answer, in pieces that mean something to the app."""
    media: str = "text/event-stream"
    asynchronous: bool = False
    shown: Callable[[t.Any], t.Any] = itself
    """What of a result is the same each time it is asked for."""
    used: Usage = USED
    error: bytes = b'{"type": "error", "error": {"type": "x", "message": "no"}}'
    holds_client: bool = True
    """There is a client that can be wrapped."""
    closing: Callable[[t.Any], t.Any] = itself
    """What of a client is to be closed at the end."""
    counts_tries: bool = True
    """It gives up after so many tries; otherwise, after some time."""
    without: Sequence[str] = ()
    """Scenes that it has no way of playing."""
    patches: Sequence[tuple[str, t.Any]] = ()
    """What keeps it from waiting long between two tries."""

    def __str__(self) -> str:
        return self.name


Reads: t.TypeAlias = t.Literal["plain", "all", "one", "none", "dropped"]


@dataclass(frozen=True)
class Scene:
    """What the provider does, how the app reads, and what is to be recorded."""

    answers: Callable[[Sdk], list[Answer]]
    outcome: str
    """Of an attempt that was answered with 200."""
    reads: Reads = "plain"
    usage: bool = False
    """That attempt has its usage."""
    timeout: float = 10

    def outcomes(self, sdk: Sdk, count: int) -> list[str]:
        """What is to be recorded of so many attempts."""
        answers = self.answers(sdk)
        statuses = [answers[min(n, len(answers) - 1)].status for n in range(count)]
        return [self.outcome if s == 200 else "http_error" for s in statuses]


_CUT: t.Final = 50


def _plain(**more: t.Any) -> Callable[[Sdk], list[Answer]]:
    return lambda sdk: [Answer(sdk.answer, headers=JSON, **more)]


def _stream(*, half: bool = False, **more: t.Any) -> Callable[[Sdk], list[Answer]]:
    def answers(sdk: Sdk) -> list[Answer]:
        body = b"".join(sdk.events)
        headers = (("Content-Type", sdk.media),)
        if half:
            read = len(b"".join(sdk.events[: len(sdk.events) // 2]))
            # Each chunk is framed by two lines.
            more["dies_after"] = (read // _CUT + 1) * (_CUT + 6)
        return [Answer(body, headers=headers, cuts=(_CUT,), **more)]

    return answers


def _status(*codes: int) -> Callable[[Sdk], list[Answer]]:
    def answers(sdk: Sdk) -> list[Answer]:
        refused = (*JSON, ("retry-after-ms", "1"))
        return [
            Answer(sdk.answer, headers=JSON)
            if code == 200
            else Answer(sdk.error, status=code, headers=refused)
            for code in codes
        ]

    return answers


SCENES: t.Final[dict[str, Scene]] = {
    "plain": Scene(_plain(encoding="gzip"), "ok", usage=True),
    "streamed to the end": Scene(_stream(), "ok", "all", usage=True),
    "gzipped stream": Scene(_stream(encoding="gzip"), "ok", "all", usage=True),
    "stopped early": Scene(_stream(half=True, hangs=True), "interrupted", "one"),
    "never read": Scene(_stream(half=True, hangs=True), "interrupted", "none"),
    "never closed": Scene(_stream(half=True, hangs=True), "interrupted", "dropped"),
    "dies mid-stream": Scene(_stream(half=True), "failed", "all"),
    "a body that dies": Scene(_plain(dies_after=20), "failed"),
    "429, then 200": Scene(_status(429, 200), "ok", usage=True),
    "401": Scene(_status(401), "http_error"),
    "500 each time": Scene(_status(500), "http_error"),
    "timeout": Scene(_plain(silent=True), "no_response", timeout=0.1),
    "no JSON": Scene(lambda _: [Answer(b"<html>", headers=JSON)], "ok"),
}


@dataclass
class Played:
    """What came of one call."""

    result: t.Any
    """What the app saw: a value, or an error and what led to it."""
    requests: list[tuple[str, str, dict[str, str], bytes]]
    """What the provider saw, but for what differs each time."""


def play(
    sdk: Sdk, scene: Scene, provider: Provider, tap: Tap | None, how: str
) -> Played:
    """Make a call, captured in some way if there is a tap."""
    played = provider.play(*scene.answers(sdk))
    provider.released.clear()
    if tap is not None and how != "wrapped":
        clients.instrument(tap)
    wrapping = tap if how != "instrumented" else None
    try:
        if sdk.asynchronous:
            result = asyncio.run(_async_call(sdk, scene, provider, wrapping))
        else:
            result = _call(sdk, scene, provider, wrapping)
    finally:
        provider.released.set()
        clients.uninstrument()
        # A request may be given up before the provider has looked at it.
        provider.settle()
    requests = sorted(played.requests, key=lambda seen: seen.connection)
    return Played(result, [_lasting(seen) for seen in requests])


def _call(sdk: Sdk, scene: Scene, provider: Provider, tap: Tap | None) -> t.Any:
    client = sdk.make(provider.url(""), scene.timeout)
    if tap is not None:
        clients.wrap(tap, client)
    try:
        if scene.reads == "plain":
            return sdk.shown(sdk.ask(client))
        stream = sdk.stream(client)
        if scene.reads == "all":
            return [sdk.shown(item) for item in stream]
        items = iter(stream)
        seen = [sdk.shown(next(items))] if scene.reads == "one" else []
        if scene.reads != "dropped":
            (stream if hasattr(stream, "close") else items).close()
        return seen
    except Exception as error:
        return _told(error)
    finally:
        # The scene's own reference, too, or what is dropped is not.
        stream = items = None
        if scene.reads == "dropped":
            gc.collect()
        provider.released.set()
        close = getattr(sdk.closing(client), "close", None)
        if close is not None:
            close()


async def _async_call(
    sdk: Sdk, scene: Scene, provider: Provider, tap: Tap | None
) -> t.Any:
    client = sdk.make(provider.url(""), scene.timeout)
    if tap is not None:
        clients.wrap(tap, client)
    try:
        if scene.reads == "plain":
            return sdk.shown(await sdk.ask(client))
        stream = sdk.stream(client)
        if inspect.isawaitable(stream):
            stream = await stream
        if scene.reads == "all":
            return [sdk.shown(item) async for item in stream]
        items = aiter(stream)
        seen = [sdk.shown(await anext(items))] if scene.reads == "one" else []
        if scene.reads != "dropped":
            await _end(stream, "aclose", "close")
        return seen
    except Exception as error:
        return _told(error)
    finally:
        stream = items = None
        if scene.reads == "dropped":
            gc.collect()
            # Generators that were dropped are closed by the loop.
            for _ in range(3):
                await asyncio.sleep(0)
        provider.released.set()
        await _end(sdk.closing(client), "aclose", "close")


async def _end(thing: t.Any, *names: str) -> None:
    for name in names:
        end = getattr(thing, name, None)
        if end is not None:
            ended = end()
            if inspect.isawaitable(ended):
                await ended
            return


_PASSING_TEXT: t.Final = re.compile(r"0x[0-9a-f]+|(?<=time taken=)[0-9.]+")


def _told(error: BaseException | None) -> t.Any:
    """What an app can see of an error, and of those that led to it."""
    if error is None:
        return None
    return (
        type(error),
        _PASSING_TEXT.sub("", str(error)),
        getattr(error, "status_code", None),
        getattr(error, "body", None),
        _told(error.__cause__),
        error.__suppress_context__ or _told(error.__context__),
    )


_PASSING: t.Final = frozenset(
    (
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "host",
        "idempotency-key",
        "x-amz-date",
    )
)
"""Headers that an SDK makes anew for each call."""


def _lasting(seen: Seen) -> tuple[str, str, dict[str, str], bytes]:
    headers = {k: v for k, v in seen.headers.items() if k.lower() not in _PASSING}
    return seen.method, seen.path, headers, seen.body
