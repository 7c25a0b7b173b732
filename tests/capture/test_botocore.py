"""botocore: the same bytes, events and errors, one call each."""

from __future__ import annotations

import base64
import itertools
import json
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import closing
from contextlib import contextmanager
from dataclasses import dataclass

import boto3
import pytest
from botocore.config import Config
from botocore.eventstream import EventStream
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.call import Usage
from flask_llm_cost.capture import botocore_session
from flask_llm_cost.capture.tap import Tap
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import ENCODINGS
from tests.capture.server import MESSAGE_JSON
from tests.capture.server import MESSAGE_STREAM
from tests.capture.server import Provider
from tests.providers.frames import event_frame

USED = Usage(input_tokens=60, cache_read_tokens=40, output_tokens=20)
_USAGE: t.Final = {
    "inputTokens": 60,
    "outputTokens": 20,
    "totalTokens": 120,
    "cacheReadInputTokens": 40,
}
_ASKED: t.Final[dict[str, t.Any]] = {
    "modelId": "amazon.nova-lite-v1:0",
    "messages": [{"role": "user", "content": [{"text": "hello"}]}],
}
_INVOKED: t.Final[dict[str, t.Any]] = {
    "modelId": "anthropic.claude-3-haiku-20240307-v1:0",
    "body": b'{"max_tokens": 9, "messages": []}',
}
_CONVERSE: t.Final = json.dumps(
    {
        "output": {"message": {"role": "assistant", "content": [{"text": "Grüße"}]}},
        "stopReason": "end_turn",
        "metrics": {"latencyMs": 1},
        "usage": _USAGE,
    }
).encode()


def _frames() -> Iterator[bytes]:
    for name, payload in (
        ("messageStart", {"role": "assistant"}),
        *(("contentBlockDelta", _delta(f"wört {n} ")) for n in range(6)),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": _USAGE, "metrics": {"latencyMs": 1}}),
    ):
        yield event_frame(name, json.dumps(payload).encode())


def _delta(text: str) -> dict[str, t.Any]:
    return {"contentBlockIndex": 0, "delta": {"text": text}}


def _packed_frames() -> Iterator[bytes]:
    for line in MESSAGE_STREAM.splitlines():
        if line.startswith(b"data: "):
            packed = base64.b64encode(line.removeprefix(b"data: ")).decode()
            yield event_frame("chunk", json.dumps({"bytes": packed}).encode())


def _by(read: Callable[[], bytes]) -> Iterator[bytes]:
    return iter(read, b"")


def _into(body: t.Any) -> Iterator[bytes]:
    buffer = bytearray(70)
    while count := body.readinto(buffer):
        yield bytes(buffer[:count])


def _inside(body: t.Any) -> Iterator[bytes]:
    with body as raw:
        yield from raw.stream(40)


WAYS: dict[str, Callable[[t.Any, int], Iterator[t.Any]]] = {
    "read": lambda body, size: iter([body.read()]),
    "read(n)": lambda body, size: _by(lambda: body.read(size)),
    "read(n), read": lambda body, size: iter([body.read(size), body.read()]),
    "iter": lambda body, size: iter(body),
    "next": lambda body, size: _by(lambda: next(body, b"")),
    "iter_chunks": lambda body, size: body.iter_chunks(),
    "iter_chunks(n)": lambda body, size: body.iter_chunks(size),
    "iter_lines": lambda body, size: body.iter_lines(),
    "iter_lines(n)": lambda body, size: body.iter_lines(size, keepends=True),
    "readinto": lambda body, size: _into(body),
    "readlines": lambda body, size: iter(body.readlines()),
    "with": lambda body, size: _inside(body),
}
"""Ways to read a ``StreamingBody``, piece by piece."""

_EVENTS: t.Final = {"events": lambda body, size: iter(body)}
_PARSED: t.Final = {"parsed": lambda body, size: iter([body])}


@dataclass(frozen=True)
class Operation:
    """An operation of Bedrock. All of its answers used the same tokens."""

    name: str
    body: bytes
    ask: Callable[[t.Any], t.Any]
    ways: dict[str, Callable[[t.Any, int], Iterator[t.Any]]]
    stream: bool = False

    def __str__(self) -> str:
        return self.name


def _asked(client: t.Any) -> dict[str, t.Any]:
    answer = client.converse(**_ASKED)
    return {k: v for k, v in answer.items() if k != "ResponseMetadata"}


OPERATIONS: t.Final = (
    Operation("converse", _CONVERSE, _asked, _PARSED),
    Operation(
        "invoke",
        MESSAGE_JSON + b"\n" * 3,
        lambda client: client.invoke_model(**_INVOKED)["body"],
        WAYS,
    ),
    Operation(
        "converse-stream",
        b"".join(_frames()),
        lambda client: client.converse_stream(**_ASKED)["stream"],
        _EVENTS,
        stream=True,
    ),
    Operation(
        "invoke-stream",
        b"".join(_packed_frames()),
        lambda client: client.invoke_model_with_response_stream(**_INVOKED)["body"],
        _EVENTS,
        stream=True,
    ),
)
CASES: t.Final = tuple(
    (operation, way) for operation in OPERATIONS for way in operation.ways
)


def _client(url: str) -> t.Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="id",
        aws_secret_access_key="key",
        config=Config(retries={"total_max_attempts": 1, "mode": "standard"}),
    )


@pytest.fixture(scope="module")
def bare(_provider: Provider) -> Iterator[t.Any]:
    """A client that is not captured."""
    with closing(_client(_provider.url(""))) as client:
        yield client


@pytest.fixture(scope="module")
def bedrock(_provider: Provider) -> Iterator[t.Any]:
    with closing(_client(_provider.url(""))) as client:
        yield client


@pytest.fixture
def client(bedrock: t.Any, provider: Provider, book: Book) -> t.Any:
    """A client whose calls are captured."""
    tap = Tap(book, hosts={provider.host: "bedrock"})
    session = botocore_session.target_of("botocore", bedrock)
    botocore_session.wrap(tap, session)
    return bedrock


@contextmanager
def _closed(body: t.Any) -> Iterator[None]:
    try:
        yield
    finally:
        if not isinstance(body, dict):
            body.close()


def seen(
    client: t.Any,
    operation: Operation,
    way: str,
    size: int = 9,
    stop: int | None = None,
) -> tuple[list[t.Any], tuple[str, str] | None]:
    """What a caller sees of a call: the pieces of its answer, and the error that ended it.

    :param stop: After so many pieces it reads no more.
    """
    pieces: list[t.Any] = []
    try:
        body = operation.ask(client)
        with _closed(body):
            # The pieces before an error stay in the list.
            pieces.extend(itertools.islice(operation.ways[way](body, size), stop))
    except Exception as error:
        return pieces, (type(error).__qualname__, str(error))
    return pieces, None


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("operation", "way"), CASES, ids=str)
def test_every_way_of_reading_gives_the_same_result_and_one_call(
    operation: Operation,
    way: str,
    encoding: str,
    provider: Provider,
    client: t.Any,
    bare: t.Any,
    book: Book,
) -> None:
    for cuts in (), (1, 300, 40):
        provider.play(Answer(operation.body, cuts=cuts, encoding=encoding))
        expected = seen(bare, operation, way)
        assert seen(client, operation, way) == expected
        if encoding == "identity":
            assert expected[1] is None
        if operation.ways is WAYS or encoding == "identity":
            # botocore does not decode bodies, so others are useless to it.
            check(book, operation)
        book.calls.clear()
        book.deferred.clear()


def check(book: Book, operation: Operation) -> None:
    call = book.call
    assert call.usage == USED
    assert (call.provider, call.outcome, call.http_status) == ("bedrock", "ok", 200)
    assert call.stream is operation.stream
    assert call.usage_source == ("stream_final" if operation.stream else "response")
    assert book.deferred == [False]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    case=st.sampled_from(CASES),
    # Most answers are not encoded: botocore does not ask for an encoding.
    encoding=st.one_of(st.just("identity"), st.sampled_from(ENCODINGS)),
    cuts=st.lists(st.integers(1, 200), max_size=6).map(tuple),
    size=st.integers(1, 300),
    stop=st.one_of(st.none(), st.integers(0, 5)),
    dies=st.one_of(st.none(), st.integers(0, 400)),
)
def test_the_caller_sees_the_same_however_a_body_is_cut_read_and_broken_off(
    provider: Provider,
    client: t.Any,
    bare: t.Any,
    book: Book,
    case: tuple[Operation, str],
    encoding: str,
    cuts: tuple[int, ...],
    size: int,
    stop: int | None,
    dies: int | None,
) -> None:
    operation, way = case
    answer = Answer(operation.body, cuts=cuts, encoding=encoding, dies_after=dies)
    provider.play(answer)
    book.calls.clear()
    book.deferred.clear()

    expected = seen(bare, operation, way, size, stop)
    assert seen(client, operation, way, size, stop) == expected
    call = book.call
    if call.outcome == "ok":
        assert call.usage == USED
    elif stop is None and encoding == "identity":
        assert dies is not None
        assert call.outcome in ("failed", "no_response")
    else:
        # The caller stopped; or botocore did, which cannot decode the body.
        broken = [] if dies is None else ["failed", "no_response"]
        assert call.outcome in ("interrupted", *broken)


def test_an_event_stream_is_still_botocores(
    provider: Provider, client: t.Any, book: Book
) -> None:
    provider.play(Answer(OPERATIONS[2].body, cuts=(50,)))
    stream = client.converse_stream(**_ASKED)["stream"]
    assert type(stream) is EventStream
    next(iter(stream))
    stream.close()
    assert (book.call.outcome, book.call.usage) == ("interrupted", None)
