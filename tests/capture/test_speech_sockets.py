"""Live speech over websockets: one row for each session, with what the messages state."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterator
from decimal import Decimal

import pytest

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.errors import UnknownPrice
from tests.capture.conftest import Book
from tests.capture.test_websockets import EACH
from tests.capture.test_websockets import Play
from tests.capture.test_websockets import PLAYS
from tests.capture.test_websockets import Server
from tests.capture.test_websockets import serving

_Message: t.TypeAlias = dict[str, t.Any]


class Service(t.NamedTuple):
    """A session: what the app sends, what each message is answered with, what is billed."""

    provider: str
    path: str
    sent: list[_Message]
    answers: list[list[_Message]]
    model: str | None
    units: dict[str, int | str]


RESULTS: _Message = {
    "type": "Results",
    "start": 1.5,
    "duration": 2.0,
    "channel_index": [0, 2],
    "metadata": {"request_id": "s1", "model_info": {"arch": "nova-3"}},
}
METADATA: _Message = {
    "type": "Metadata",
    "request_id": "s1",
    "duration": 4.25,
    "channels": 2,
    "model_info": {"u": {"arch": "nova-3"}},
}
SERVICES: dict[str, Service] = {
    "deepgram": Service(
        "deepgram",
        "/v1/listen?model=nova-3",
        [{"type": "KeepAlive"}, {"type": "CloseStream"}],
        [[RESULTS], [METADATA]],
        "streaming/nova-3",
        {"audio_second": "8.5"},
    ),
    "deepgram speech": Service(
        "deepgram",
        "/v1/speak?model=aura-2-thalia-en",
        [{"type": "Speak", "text": "Hello"}, {"type": "Flush"}],
        [[{"type": "Metadata", "request_id": "s1"}], [{"type": "Flushed"}]],
        "aura-2",
        {"character": 5},
    ),
    "elevenlabs": Service(
        "elevenlabs",
        "/v1/text-to-speech/v/stream-input?model_id=eleven_flash_v2_5",
        [{"text": " "}, {"text": "Hello there. "}, {"text": ""}],
        [[], [{"audio": "UklG"}], [{"audio": None, "isFinal": True}]],
        "eleven_flash_v2_5",
        {"character": 13},
    ),
    "assemblyai": Service(
        "assemblyai",
        "/v3/ws?speech_model=universal-streaming-english",
        [{"type": "ForceEndpoint"}, {"type": "Terminate"}],
        [
            [{"type": "Begin", "id": "s1"}],
            [{"type": "Termination", "session_duration_seconds": 7}],
        ],
        "universal-streaming-english",
        {"audio_second": 7},
    ),
    "soniox": Service(
        "soniox",
        "/transcribe-websocket",
        [{"api_key": "k", "model": "stt-rt-v3"}, {"type": "finalize"}],
        [
            [{"total_audio_proc_ms": 500}],
            [{"total_audio_proc_ms": 1500, "finished": True}],
        ],
        "stt-rt-v3",
        {"audio_second": "1.5"},
    ),
}
_by_threads = PLAYS["threads"]
SESSIONS = pytest.mark.parametrize("name", SERVICES)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as served:
        yield served


@pytest.fixture
def tap(server: Server, book: Book) -> Iterator[Tap]:
    tap = Tap(book)
    clients.instrument(tap)
    yield tap
    clients.uninstrument()


def _prepare(name: str, server: Server, tap: Tap) -> tuple[Service, int]:
    service = SERVICES[name]
    tap.hosts = {server.host: service.provider}
    answers = {
        json.dumps(each): found
        for each, found in zip(service.sent, service.answers, strict=True)
    }
    server.script = lambda message: answers[json.dumps(message)]
    return service, sum(map(len, service.answers))


@EACH
@SESSIONS
def test_a_session_is_a_row(
    name: str, play: Play, server: Server, book: Book, tap: Tap
) -> None:
    service, count = _prepare(name, server, tap)
    clients.uninstrument()
    expected = play(server.url + service.path, service.sent, count)
    before, server.seen = server.received(len(service.sent)), []
    clients.instrument(tap)
    assert play(server.url + service.path, service.sent, count) == expected
    assert server.received(len(service.sent)) == before
    call = book.call
    assert (call.outcome, call.provider, call.model) == (
        "ok",
        service.provider,
        service.model,
    )
    assert call.usage is not None
    assert dict(call.usage.units) == {
        unit: Decimal(count) for unit, count in service.units.items()
    }
    assert call.usage_source == "stream_final"


@SESSIONS
def test_a_session_that_is_cut_has_what_was_stated_so_far(
    name: str, server: Server, book: Book, tap: Tap
) -> None:
    service, count = _prepare(name, server, tap)
    first = len(service.answers[0]) + (name == "elevenlabs")
    sent = service.sent[: 1 + (name == "elevenlabs")]
    _by_threads(server.url + service.path, sent, first)
    assert book.call.outcome == "interrupted"
    units = {} if book.call.usage is None else dict(book.call.usage.units)
    floor = {
        "deepgram": {"audio_second": 7},
        "soniox": {"audio_second": Decimal("0.5")},
    }
    known = floor.get(name, service.units if "character" in service.units else {})
    assert units == known
    assert book.call.usage_source == ("stream_partial" if known else "unknown")


@EACH
@SESSIONS
def test_a_budget_stops_a_session_before_anything_is_sent(
    name: str, play: Play, server: Server, book: Book, tap: Tap
) -> None:
    service, count = _prepare(name, server, tap)
    book.forbids = UnknownPrice(service.provider, "m")
    with pytest.raises(UnknownPrice):
        play(server.url + service.path, service.sent, count)
    assert not server.seen
    assert not book.calls


def test_a_connection_that_is_lost_fails_its_session(
    server: Server, book: Book, tap: Tap
) -> None:
    service, _ = _prepare("deepgram", server, tap)
    server.dies = True
    _by_threads(server.url + service.path, service.sent[:1], 2)
    assert (book.call.outcome, book.call.response_id) == ("failed", "s1")


def test_a_session_in_which_only_the_provider_spoke_is_a_row(
    server: Server, book: Book, tap: Tap
) -> None:
    service, _ = _prepare("assemblyai", server, tap)
    server.greeting = service.answers[0]
    _by_threads(server.url + service.path, [], 1)
    assert (book.call.outcome, book.call.response_id) == ("interrupted", "s1")
    assert book.call.usage is None


@EACH
def test_a_session_that_is_not_read_is_a_row_without_usage(
    play: Play, server: Server, book: Book, tap: Tap
) -> None:
    tap.hosts = {server.host: "cartesia"}
    server.script = lambda message: [{"type": "chunk", "data": "UklG"}]
    asked = {"model_id": "sonic-3", "transcript": "Hello"}
    play(server.url + "/tts/websocket", [asked, asked], 2)
    assert (book.call.outcome, book.call.operation) == ("ok", "speech")
    assert book.call.usage is None
    assert "unread_usage" in book.call.flags


@pytest.mark.parametrize("answers", [[RESULTS], [METADATA], [RESULTS, METADATA]])
def test_a_live_transcript_never_has_the_price_of_a_recording(
    answers: list[_Message], server: Server, book: Book, tap: Tap
) -> None:
    tap.hosts = {server.host: "deepgram"}
    server.script = lambda message: answers
    url = server.url + "/v1/listen?model=nova-3"
    _by_threads(url, [{"type": "CloseStream"}], len(answers))
    assert book.call.model == "streaming/nova-3"
