"""Describes an SDK for the matrix, and plays one of its calls."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from flask_llm_cost.call import Usage
from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap
from tests.capture.server import Answer
from tests.capture.server import Provider
from tests.capture.server import Seen

JSON: t.Final = (("Content-Type", "application/json"),)
USED: t.Final = Usage(input_tokens=60, cache_read_tokens=40, output_tokens=20)
MESSAGES: t.Final[t.Any] = [{"role": "user", "content": "hello"}]


def installed(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def itself(value: t.Any) -> t.Any:
    return value


@dataclass(frozen=True, kw_only=True)
class Sdk:
    """How to create and call one SDK. It retries a call once, if it can."""

    name: str
    provider: str
    """The provider, as in ``LLM_COST_PROVIDER_HOSTS``."""
    make: Callable[[str, float], t.Any]
    """Creates a client from a base URL and a read timeout in seconds; a general timeout if
    the SDK has no other."""
    ask: Callable[[t.Any], t.Any]
    stream: Callable[[t.Any], t.Any]
    """Returns an iterator, an async iterator, or an awaitable of one."""
    answer: bytes
    events: Sequence[bytes]
    """The events of a streamed answer."""
    media: str = "text/event-stream"
    asynchronous: bool = False
    shown: Callable[[t.Any], t.Any] = itself
    """The part of a result that is the same each time."""
    used: Usage = USED
    error: bytes = b'{"type": "error", "error": {"type": "x", "message": "no"}}'
    holds_client: bool = True
    """It has a client that can be wrapped."""
    closing: Callable[[t.Any], t.Any] = itself
    """The part of a client to close at the end."""
    counts_tries: bool = True
    """It gives up after a number of attempts; otherwise, after some time."""
    without: Sequence[str] = ()
    """Scenes that it cannot play."""
    scenes: Sequence[str] | None = None
    """The only scenes to play; all if left out."""
    patches: Sequence[tuple[str, t.Any]] = ()
    """Patches that shorten its wait between two attempts."""

    def __str__(self) -> str:
        return self.name


Reads: t.TypeAlias = t.Literal["plain", "all", "one", "none", "dropped"]


@dataclass(frozen=True)
class Scene:
    """What the provider does, how the app reads, and what must be recorded."""

    answers: Callable[[Sdk], list[Answer]]
    outcome: str
    """The outcome of an attempt that was answered with 200."""
    reads: Reads = "plain"
    usage: bool = False
    """Whether that attempt has its usage."""
    timeout: float = 10

    def outcomes(self, sdk: Sdk, count: int) -> list[str]:
        """The outcomes to record for this number of attempts."""
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
            # Each chunk has two framing lines.
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
    "timeout": Scene(_plain(silent=True), "no_response", timeout=0.3),
    "no JSON": Scene(lambda _: [Answer(b"<html>", headers=JSON)], "ok"),
}


WIDE: t.Final = (
    *("plain", "streamed to the end", "stopped early", "dies mid-stream"),
    *("401", "429, then 200"),
)
"""What each SDK of a wide matrix plays: plain, streamed, cut, refused and retried."""


@dataclass
class Played:
    """The result of one call."""

    result: t.Any
    """What the app saw: a value, or an error with its causes."""
    requests: list[tuple[str, str, dict[str, str], bytes]]
    """What the provider received, except for what differs each time."""


def play(
    sdk: Sdk, scene: Scene, provider: Provider, tap: Tap | None, how: str
) -> Played:
    """Make a call, captured in one of the ways if there is a tap."""
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
        # A request may be aborted before the provider has read it.
        provider.settle()
    requests = sorted(played.requests, key=lambda seen: seen.connection)
    return Played(result, [_stable(seen) for seen in requests])


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
        return _visible(error)
    finally:
        # Drop our own references, too; otherwise nothing is freed.
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
        return _visible(error)
    finally:
        stream = items = None
        if scene.reads == "dropped":
            gc.collect()
            # The event loop closes dropped generators.
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


_VARYING_TEXT: t.Final = re.compile(r"0x[0-9a-f]+|(?<=time taken=)[0-9.]+")


def _visible(error: BaseException | None) -> t.Any:
    """What an app can see of an error and its causes."""
    if error is None:
        return None
    return (
        type(error),
        _VARYING_TEXT.sub("", str(error)),
        getattr(error, "status_code", None),
        getattr(error, "body", None),
        _visible(error.__cause__),
        error.__suppress_context__ or _visible(error.__context__),
    )


_VARYING: t.Final = frozenset(
    (
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "host",
        "idempotency-key",
        "x-amz-date",
        "x-amzn-trace-id",
        "x-client-request-id",
        "x-ms-client-request-id",
        "x-request-id",
    )
)
"""Headers that differ in each call."""


def _stable(seen: Seen) -> tuple[str, str, dict[str, str], bytes]:
    headers = {k: v for k, v in seen.headers.items() if k.lower() not in _VARYING}
    return seen.method, seen.path, headers, seen.body
