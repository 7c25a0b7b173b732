"""aiohttp: the same bytes and errors, one call each."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import typing as t
from collections.abc import AsyncIterator
from collections.abc import Awaitable
from collections.abc import Callable

import aiohttp
import pytest
from aiohttp import compression_utils
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.capture import aiohttp_session
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.errors import UnknownPrice
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import Case
from tests.capture.server import CASES
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM
from tests.capture.server import ENCODINGS
from tests.capture.server import Provider
from tests.capture.test_requests import check

ASK = {"model": "gpt-4o", "stream": True}
Work: t.TypeAlias = Callable[[aiohttp.ClientSession], Awaitable[t.Any]]


@pytest.fixture
def tap(book: Book, hosts: dict[str, str]) -> Tap:
    return Tap(book, hosts=hosts)


def run(tap: Tap | None, work: Work, **options: t.Any) -> t.Any:
    """Run some work with a session, captured if there is a tap."""

    async def main() -> t.Any:
        async with aiohttp.ClientSession(**options) as session:
            if tap is not None:
                aiohttp_session.wrap(tap, session)
            return await work(session)

    return asyncio.run(main())


async def _joined(chunks: AsyncIterator[t.Any]) -> bytes:
    return b"".join([c[0] if isinstance(c, tuple) else c async for c in chunks])


async def _by(read: Callable[[], Awaitable[bytes]]) -> bytes:
    pieces = []
    while piece := await read():
        pieces.append(piece)
    return b"".join(pieces)


async def _exactly(response: aiohttp.ClientResponse) -> bytes:
    first = await response.content.readexactly(20)
    return first + await response.content.read()


WAYS: dict[str, Callable[[aiohttp.ClientResponse], Awaitable[t.Any]]] = {
    "read": lambda r: r.read(),
    "text": lambda r: r.text(),
    "content.read": lambda r: r.content.read(),
    "content.read(50)": lambda r: _by(lambda: r.content.read(50)),
    "readany": lambda r: _by(r.content.readany),
    "readline": lambda r: _by(r.content.readline),
    "lines": lambda r: _joined(r.content),
    "iter_any": lambda r: _joined(r.content.iter_any()),
    "iter_chunked": lambda r: _joined(r.content.iter_chunked(33)),
    "iter_chunks": lambda r: _joined(r.content.iter_chunks()),
    "readexactly": _exactly,
}


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate", "br"])
@pytest.mark.parametrize("cuts", [(), (7, 300, 40)], ids=["length", "mixed"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_way_of_reading_gives_the_same_bytes_and_one_call(
    case: Case,
    cuts: tuple[int, ...],
    encoding: str,
    provider: Provider,
    tap: Tap,
    book: Book,
    hosts: dict[str, str],
) -> None:
    hosts[provider.host] = case.provider
    provider.play(Answer(case.body, cuts=cuts, encoding=encoding))

    async def work(session: aiohttp.ClientSession) -> list[t.Any]:
        read = []
        for way in WAYS.values():
            async with session.post(
                provider.url(case.path), json=case.request
            ) as response:
                read.append(await way(response))
        return read

    assert run(tap, work) == run(None, work)
    assert len(book.calls) == len(WAYS)
    for call in book.calls:
        check(call, case)
    assert not any(book.deferred)


KNOWN: t.Final = [
    name
    for name in ENCODINGS
    if name != "zstd" or getattr(compression_utils, "HAS_ZSTD", False)
]
"""The encodings that the installed aiohttp can decode."""


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    case=st.sampled_from(CASES),
    encoding=st.sampled_from(KNOWN),
    cuts=st.lists(st.integers(1, 200), max_size=6).map(tuple),
    way=st.sampled_from(sorted(WAYS)),
    decode=st.booleans(),
)
def test_bytes_are_the_same_however_they_are_cut_and_read(
    provider: Provider,
    tap: Tap,
    book: Book,
    hosts: dict[str, str],
    case: Case,
    encoding: str,
    cuts: tuple[int, ...],
    way: str,
    decode: bool,
) -> None:
    hosts[provider.host] = case.provider
    provider.play(Answer(case.body, cuts=cuts, encoding=encoding))
    book.calls.clear()
    way = way if decode or way != "text" else "read"

    async def work(session: aiohttp.ClientSession) -> t.Any:
        url = provider.url(case.path)
        async with session.post(url, json=case.request) as response:
            return await WAYS[way](response)

    options = {"auto_decompress": decode}
    assert run(tap, work, **options) == run(None, work, **options)
    check(book.call, case)


def test_a_body_that_is_not_decompressed_is_read(
    provider: Provider, tap: Tap, book: Book
) -> None:
    answer = Answer(CHAT_STREAM, cuts=(40,), encoding="gzip")
    provider.play(answer)

    async def work(session: aiohttp.ClientSession) -> bytes:
        async with session.post(provider.url(), json=ASK) as response:
            return await response.read()

    assert run(tap, work, auto_decompress=False) == answer.sent()
    assert book.call.usage is not None


def test_a_response_looks_unchanged(provider: Provider, tap: Tap) -> None:
    scene = provider.play(Answer(CHAT_JSON))

    async def work(session: aiohttp.ClientSession) -> str:
        async with session.post(provider.url(), json=ASK) as response:
            assert isinstance(response, aiohttp.ClientResponse)
            assert isinstance(response.content, aiohttp.StreamReader)
            assert response.content.total_bytes >= 0
            await response.read()
            assert response.content.at_eof()
            return type(response).__qualname__

    assert run(tap, work) == run(None, work)
    ours, theirs = scene.requests
    assert ours == theirs


def test_streamed_calls_share_one_connection(
    provider: Provider, tap: Tap, book: Book
) -> None:
    scene = provider.play(Answer(CHAT_STREAM, cuts=(40,)))

    async def work(session: aiohttp.ClientSession) -> None:
        for _ in range(10):
            async with session.post(provider.url(), json=ASK) as response:
                await response.read()

    run(tap, work)
    assert scene.connections == 1
    assert len(book.calls) == 10


def test_a_caller_who_stops_at_done_has_a_complete_record(
    provider: Provider, tap: Tap, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(64,), hangs=True, dies_after=-5))

    async def work(session: aiohttp.ClientSession) -> None:
        async with session.post(provider.url(), json=ASK) as response:
            async for line in response.content:
                if line.strip() == b"data: [DONE]":
                    break

    run(tap, work)
    provider.released.set()
    assert book.call.outcome == "ok"
    assert book.call.usage is not None


def test_a_caller_who_stops_early_interrupts(
    provider: Provider, tap: Tap, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,), dies_after=500, hangs=True))

    async def work(session: aiohttp.ClientSession) -> None:
        async with session.post(provider.url(), json=ASK) as response:
            await response.content.readany()

    run(tap, work)
    provider.released.set()
    assert book.call.outcome == "interrupted"
    assert book.deferred == [False]


@pytest.mark.filterwarnings("ignore:Unclosed")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_answer_that_is_dropped_is_recorded_when_it_is_freed(
    provider: Provider, tap: Tap, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,), dies_after=500, hangs=True))

    async def work(session: aiohttp.ClientSession) -> None:
        response = await session.post(provider.url(), json=ASK)
        await response.content.readany()
        del response

    run(tap, work)
    gc.collect()
    provider.released.set()
    assert book.call.outcome in ("interrupted", "failed")


@pytest.mark.parametrize("cuts", [(), (50,)], ids=["length", "chunks"])
def test_a_body_that_dies_fails_with_the_same_error(
    cuts: tuple[int, ...], provider: Provider, tap: Tap, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=cuts, dies_after=60))

    async def work(session: aiohttp.ClientSession) -> tuple[t.Any, ...]:
        with pytest.raises(aiohttp.ClientPayloadError) as raised:
            async with session.post(provider.url(), json=ASK) as response:
                await response.read()
        return raised.type, str(raised.value), raised.traceback[-1].lineno

    assert run(tap, work) == run(None, work)
    assert book.call.outcome == "failed"


def test_a_timeout_and_a_refused_connection_are_records(
    provider: Provider, tap: Tap, book: Book, hosts: dict[str, str]
) -> None:
    provider.play(Answer(silent=True))
    hosts["127.0.0.1:9"] = "openai"

    async def work(session: aiohttp.ClientSession) -> None:
        timeout = aiohttp.ClientTimeout(total=0.05)
        with pytest.raises(asyncio.TimeoutError):
            await session.post(provider.url(), json=ASK, timeout=timeout)
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.post("http://127.0.0.1:9/v1/embeddings", data=b"{}")

    run(tap, work)
    assert [call.outcome for call in book.calls] == ["no_response"] * 2
    assert [call.model for call in book.calls] == ["gpt-4o", "unknown"]


@pytest.mark.parametrize("raises", [False, True])
def test_an_http_error_is_a_record_without_usage(
    raises: bool, provider: Provider, tap: Tap, book: Book
) -> None:
    provider.play(Answer(json.dumps({"error": {}}).encode(), status=429))

    async def work(session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.ClientResponseError):
            async with session.post(
                provider.url(), json=ASK, raise_for_status=raises
            ) as response:
                response.raise_for_status()

    run(tap, work)
    assert (book.call.outcome, book.call.http_status) == ("http_error", 429)


def test_the_request_is_read_from_its_data(
    provider: Provider, tap: Tap, book: Book
) -> None:
    scene = provider.play(Answer(CHAT_JSON))
    body = json.dumps(ASK)

    async def generated() -> AsyncIterator[bytes]:
        yield body.encode()

    async def work(session: aiohttp.ClientSession) -> None:
        for data in (body, body.encode(), generated()):
            async with session.post("/v1/chat/completions", data=data) as response:
                await response.read()

    run(tap, work, base_url=provider.url("/"))
    assert [call.request_model for call in book.calls] == ["gpt-4o", "gpt-4o", None]
    assert {seen.body for seen in scene.requests} == {body.encode()}


def test_the_model_of_a_form_with_a_file_is_known(
    provider: Provider, tap: Tap, book: Book
) -> None:
    scene = provider.play(Answer(b'{"text":"Hello."}'))
    audio = b"RIFF" * 50_000

    def built() -> aiohttp.FormData:
        made = aiohttp.FormData({"model": "whisper-1", "prompt": "Names: Zoe."})
        made.add_field("file", io.BytesIO(audio), filename="a.wav")
        return made

    def named() -> dict[str, t.Any]:
        return {"model": "whisper-1", "file": io.BytesIO(audio)}

    async def work(session: aiohttp.ClientSession) -> None:
        for data in (built(), named(), list(named().items())):
            url = provider.url("/v1/audio/transcriptions")
            async with session.post(url, data=data) as response:
                await response.read()

    run(tap, work)
    assert [call.model for call in book.calls] == ["whisper-1"] * 3
    assert [attempt.body for attempt in book.attempts] == [None] * 3
    assert [seen.body.count(b"RIFF") for seen in scene.requests] == [50_000] * 3


def test_a_recorder_may_reject_a_call(provider: Provider, tap: Tap, book: Book) -> None:
    scene = provider.play(Answer(CHAT_JSON))
    book.forbids = UnknownPrice("openai", "gpt-9")

    async def work(session: aiohttp.ClientSession) -> None:
        with pytest.raises(UnknownPrice):
            await session.post(provider.url(), json=ASK)

    run(tap, work)
    assert not scene.requests


class Key:
    """A value that a session's own JSON encoder supports, but not ours."""


def test_json_that_only_the_session_can_write_is_still_a_call(
    provider: Provider, tap: Tap, book: Book
) -> None:
    scene = provider.play(Answer(CHAT_JSON))

    async def work(session: aiohttp.ClientSession) -> bytes:
        async with session.post(provider.url(), json={Key(): 1}) as response:
            return await response.read()

    assert run(tap, work, json_serialize=lambda document: "{}") == CHAT_JSON
    assert scene.requests[0].body == b"{}"
    assert (book.call.outcome, book.call.model) == ("ok", "gpt-4o-2024-08-06")


def test_an_invalid_url_raises_the_same_error(
    provider: Provider, tap: Tap, book: Book
) -> None:
    async def work(session: aiohttp.ClientSession) -> None:
        await session.post("//[bad")

    errors = []
    for each in (tap, None):
        with pytest.raises(aiohttp.InvalidURL) as raised:
            run(each, work, base_url=provider.url("/"))
        errors.append((type(raised.value), str(raised.value)))
    assert errors[0] == errors[1]
    assert book.calls == []


def test_a_middleware_error_with_a_status_is_a_record(
    provider: Provider, tap: Tap, book: Book
) -> None:
    class OutOfOrder(Exception):
        status = "out of order"

    async def middleware(request: t.Any, handler: t.Any) -> t.NoReturn:
        raise OutOfOrder

    async def work(session: aiohttp.ClientSession) -> None:
        with pytest.raises(OutOfOrder):
            await session.post(provider.url(), json=ASK, middlewares=(middleware,))

    run(tap, work)
    assert (book.call.outcome, book.call.http_status) == ("no_response", None)


@pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")
def test_a_call_keeps_its_session_alive_until_it_is_awaited(
    provider: Provider, tap: Tap, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON))

    def post() -> t.Any:
        session = aiohttp.ClientSession()
        aiohttp_session.wrap(tap, session)
        return session.post(provider.url(), json=ASK)

    async def main() -> bytes:
        call = post()
        gc.collect()
        async with call as response:
            return t.cast(bytes, await response.read())

    assert asyncio.run(main()) == CHAT_JSON
    assert book.call.outcome == "ok"
