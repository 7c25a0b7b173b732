"""Sessions over websockets: each turn is a row, begun before its first message leaves."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field

import aiohttp
import openai
import pytest
from google import genai
from websockets.asyncio.client import connect as async_connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.errors import UnknownPrice
from tests.capture.conftest import Book
from tests.capture.test_leaks import check_leaks
from tests.capture.test_leaks import Few

REALTIME = "/v1/realtime?model=gpt-realtime"
RESPONSES = "/v1/responses"
LIVE = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
_Message: t.TypeAlias = dict[str, t.Any]


@dataclass
class Server:
    """Answers each message as its script says, and keeps what it was sent."""

    url: str = ""
    host: str = ""
    greeting: list[_Message] = field(default_factory=list)
    script: Callable[[_Message], list[_Message]] = lambda message: []
    seen: list[t.Any] = field(default_factory=list)
    dies: bool = False

    def received(self, count: int) -> list[t.Any]:
        """What it was sent; it reads on a thread of its own, so wait for it."""
        until = time.monotonic() + 20
        while len(self.seen) < count and time.monotonic() < until:
            time.sleep(0.01)
        return self.seen

    def handle(self, connection: t.Any) -> None:
        for message in self.greeting:
            connection.send(json.dumps(message))
        for data in connection:
            self.seen.append(data)
            for message in self.script(json.loads(data)):
                connection.send(json.dumps(message))
            if self.dies:
                connection.socket.close()
                return


@contextmanager
def serving() -> Iterator[Server]:
    served = Server()
    with serve(served.handle, "127.0.0.1", 0) as listening:
        port = listening.socket.getsockname()[1]
        served.host, served.url = f"127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield served
        listening.shutdown()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as served:
        yield served


@pytest.fixture
def tap(server: Server, book: Book) -> Iterator[Tap]:
    tap = Tap(book, hosts={server.host: "openai"})
    clients.instrument(tap)
    yield tap
    clients.uninstrument()


@pytest.fixture
def gemini(tap: Tap, server: Server) -> None:
    tap.hosts = {server.host: "gemini"}


Play: t.TypeAlias = Callable[[str, list[t.Any], int], list[t.Any]]


def _by_threads(url: str, sent: list[t.Any], count: int) -> list[t.Any]:
    with connect(url) as connection:
        found: list[t.Any] = []
        try:
            for message in sent:
                connection.send(json.dumps(message))
            while len(found) < count:
                found.append(connection.recv(timeout=10))
        except ConnectionClosed as error:
            found.append((type(error), str(error)))
        return found


def _by_asyncio(url: str, sent: list[t.Any], count: int) -> list[t.Any]:
    async def main() -> list[t.Any]:
        async with async_connect(url) as connection:
            found: list[t.Any] = []
            try:
                for message in sent:
                    await connection.send(json.dumps(message))
                async with asyncio.timeout(10):
                    while len(found) < count:
                        found.append(await connection.recv())
            except ConnectionClosed as error:
                found.append((type(error), str(error)))
            return found

    return asyncio.run(main())


def _by_aiohttp(url: str, sent: list[t.Any], count: int) -> list[t.Any]:
    async def main() -> list[t.Any]:
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(url) as websocket:
                for message in sent:
                    await websocket.send_json(message)
                found = [await websocket.receive(timeout=10) for _ in range(count)]
                return [each.data for each in found]

    return asyncio.run(main())


PLAYS: dict[str, Play] = {
    "threads": _by_threads,
    "asyncio": _by_asyncio,
    "aiohttp": _by_aiohttp,
}
# It connects in a way that websockets has deprecated.
SDK = pytest.mark.filterwarnings("ignore:connect.. must:DeprecationWarning")
EACH = pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS)

USAGE = {
    "total_tokens": 120,
    "input_tokens": 100,
    "output_tokens": 20,
    "input_token_details": {"text_tokens": 40, "audio_tokens": 60, "cached_tokens": 0},
    "output_token_details": {"text_tokens": 5, "audio_tokens": 15},
}
SESSION = {
    "type": "session.created",
    "session": {
        "id": "sess_1",
        "model": "gpt-realtime-2",
        "audio": {"input": {"transcription": {"model": "gpt-4o-mini-transcribe"}}},
    },
}
ASK = {"type": "response.create"}


def answer(name: str, *, usage: t.Any = USAGE, kind: str = "done") -> list[_Message]:
    head = {"id": name, "object": "realtime.response"}
    return [
        {"type": "response.created", "response": {**head, "status": "in_progress"}},
        {"type": "response.output_audio.delta", "response_id": name, "delta": "UklG"},
        {
            "type": f"response.{kind}",
            "response": {**head, "status": "completed", "usage": usage},
        },
    ]


def numbered(kind: str = "done") -> Callable[[_Message], list[_Message]]:
    """A script that answers each request for a response."""
    made: list[int] = []

    def script(message: _Message) -> list[_Message]:
        if message.get("type") != "response.create":
            return []
        made.append(1)
        return answer(f"resp_{len(made)}", kind=kind)

    return script


@EACH
def test_each_turn_is_a_row(play: Play, server: Server, book: Book, tap: Tap) -> None:
    server.greeting, server.script = [SESSION], numbered()
    clients.uninstrument()
    expected = play(server.url + REALTIME, [ASK, ASK, ASK], 10)
    before, server.seen, server.script = server.received(3), [], numbered()
    clients.instrument(tap)
    assert play(server.url + REALTIME, [ASK, ASK, ASK], 10) == expected
    assert server.received(3) == before
    assert [call.response_id for call in book.calls] == ["resp_1", "resp_2", "resp_3"]
    for call in book.calls:
        assert (call.outcome, call.operation) == ("ok", "realtime")
        assert call.usage is not None
        assert (call.usage.input_tokens, call.usage.input_audio_tokens) == (40, 60)
        assert call.usage.output_audio_tokens == 15
        assert call.request_model == "gpt-realtime"
    assert book.calls[-1].model == "gpt-realtime-2"


@EACH
def test_a_budget_stops_a_turn_before_it_is_sent(
    play: Play, server: Server, book: Book, tap: Tap
) -> None:
    server.script = numbered()
    book.forbids = UnknownPrice("openai", "gpt-realtime")
    with pytest.raises(UnknownPrice):
        play(server.url + REALTIME, [{"type": "session.update"}, ASK], 1)
    seen = [json.loads(data)["type"] for data in server.received(1)]
    assert seen == ["session.update"]
    assert not book.calls


@EACH
def test_a_turn_that_is_cut_is_a_row(
    play: Play, server: Server, book: Book, tap: Tap
) -> None:
    server.script = numbered()
    play(server.url + REALTIME, [ASK], 2)
    assert (book.call.outcome, book.call.usage) == ("interrupted", None)


@EACH
def test_a_connection_that_is_lost_fails_its_turn(
    play: Play, server: Server, book: Book, tap: Tap
) -> None:
    server.script = lambda message: answer("resp_1")[:2]
    server.dies = True
    clients.uninstrument()
    expected = play(server.url + REALTIME, [ASK], 3)
    clients.instrument(tap)
    assert play(server.url + REALTIME, [ASK], 3) == expected
    assert (book.call.outcome, book.call.response_id) == ("failed", "resp_1")


@EACH
def test_a_turn_that_the_provider_begins_is_a_row(
    play: Play, server: Server, book: Book, tap: Tap
) -> None:
    server.script = lambda message: answer("resp_1")
    append = {"type": "input_audio_buffer.append", "audio": "UklG"}
    play(server.url + REALTIME, [append], 3)
    assert book.call.usage is not None
    assert book.attempts[0].poll
    # It costs already, so a budget stops the next one.
    book.forbids = UnknownPrice("openai", "gpt-realtime")
    play(server.url + REALTIME, [append], 3)
    assert len(book.calls) == 1


def test_a_transcript_is_a_row_of_its_own_model(
    server: Server, book: Book, tap: Tap
) -> None:
    server.greeting = [SESSION]
    created, delta, done = answer("resp_1")
    transcript = {
        "type": "conversation.item.input_audio_transcription.completed",
        "item_id": "item_1",
        "transcript": "hello",
        "usage": {
            "type": "tokens",
            "input_tokens": 9,
            "output_tokens": 4,
            "total_tokens": 13,
            "input_token_details": {"audio_tokens": 9},
        },
    }
    server.script = lambda message: [created, transcript, delta, done]
    _by_threads(server.url + REALTIME, [ASK], 5)
    spoken, answered = book.calls
    assert (spoken.model, spoken.response_id) == ("gpt-4o-mini-transcribe", "item_1")
    assert (spoken.operation, answered.operation) == ("audio", "realtime")
    assert spoken.usage is not None
    assert spoken.usage.input_audio_tokens == 9
    assert answered.usage is not None
    assert answered.usage.input_audio_tokens == 60


def test_responses_of_several_streams_are_rows(
    server: Server, book: Book, tap: Tap
) -> None:
    def event(kind: str, name: str, **more: t.Any) -> _Message:
        response = {"id": f"resp_{name}", "model": "gpt-5.2", **more}
        return {"type": f"response.{kind}", "stream_id": name, "response": response}

    def script(message: _Message) -> list[_Message]:
        if message["stream_id"] == "a":
            return []
        return [
            event("created", "b"),
            event("created", "a"),
            event("completed", "a", usage={"input_tokens": 1, "output_tokens": 2}),
            event("completed", "b", usage={"input_tokens": 3, "output_tokens": 4}),
        ]

    server.script = script
    asks = [
        {"type": "response.create", "stream_id": s, "model": f"gpt-{s}", "input": "x"}
        for s in "ab"
    ]
    _by_threads(server.url + RESPONSES, asks, 4)
    found = [(c.response_id, c.request_model, c.usage) for c in book.calls]
    assert [each[:2] for each in found] == [("resp_a", "gpt-a"), ("resp_b", "gpt-b")]
    assert [used.total_tokens for *_, used in found if used] == [3, 7]
    assert {call.operation for call in book.calls} == {"responses"}


def test_a_refused_response_is_an_http_error(
    server: Server, book: Book, tap: Tap
) -> None:
    error = {"type": "error", "status": 429, "error": {"code": "rate_limit"}}
    server.script = lambda message: [error]
    ask = {"type": "response.create", "model": "gpt-5.2", "input": "x"}
    _by_threads(server.url + RESPONSES, [ask], 1)
    assert (book.call.outcome, book.call.http_status) == ("http_error", 429)


COUNTS = {
    "promptTokenCount": 100,
    "responseTokenCount": 20,
    "totalTokenCount": 120,
    "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 20}],
}
SPOKEN = {"serverContent": {"modelTurn": {"parts": [{"text": "hello"}]}}}
ENDED = {"serverContent": {"turnComplete": True}}
ENDINGS: dict[str, list[_Message]] = {
    "with the last message": [SPOKEN, {**ENDED, "usageMetadata": COUNTS}],
    "before it": [SPOKEN, {"usageMetadata": COUNTS}, ENDED],
    "after it": [SPOKEN, ENDED, {"usageMetadata": COUNTS}],
}


@pytest.mark.usefixtures("gemini")
@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("ending", ENDINGS)
def test_each_turn_of_gemini_is_a_row(
    ending: str, asked: bool, server: Server, book: Book
) -> None:
    answers = ENDINGS[ending]

    def script(message: _Message) -> list[_Message]:
        return [{"setupComplete": {}}] if "setup" in message else answers

    server.script = script
    ask: _Message = {"realtime_input": {"audio": {"data": "UklG"}}}
    if asked:
        ask = {"client_content": {"turns": [], "turn_complete": True}}
    setup = {"setup": {"model": "models/gemini-live-2.5"}}
    _by_asyncio(server.url + LIVE, [setup, ask, ask], 1 + 2 * len(answers))
    assert [call.outcome for call in book.calls] == ["ok", "ok"]
    assert [attempt.poll for attempt in book.attempts] == [not asked] * 2
    for call in book.calls:
        assert call.model == "gemini-live-2.5"
        assert call.usage is not None
        assert (call.usage.input_tokens, call.usage.output_audio_tokens) == (100, 20)


@pytest.mark.usefixtures("gemini")
def test_each_generation_of_a_turn_with_tools_is_a_row(
    server: Server, book: Book
) -> None:
    def script(message: _Message) -> list[_Message]:
        if "tool_response" in message:
            return [SPOKEN, {**ENDED, "usageMetadata": COUNTS}]
        return [{"toolCall": {"functionCalls": []}, "usageMetadata": COUNTS}]

    server.script = script
    ask = {"client_content": {"turns": [], "turn_complete": True}}
    _by_threads(server.url + LIVE, [ask, {"tool_response": {}}], 3)
    assert [call.usage and call.usage.total_tokens for call in book.calls] == [120, 120]
    assert len({call.event_id for call in book.calls}) == 2


def test_the_app_s_own_server_is_left_alone(book: Book, tap: Tap) -> None:
    seen: list[t.Any] = []

    def handle(connection: t.Any) -> None:
        for data in connection:
            seen.append(vars(connection).get("_llm_cost"))
            connection.send(data)

    with serve(handle, "127.0.0.1", 0) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        port = listening.socket.getsockname()[1]
        _by_threads(f"ws://127.0.0.1:{port}/v1/realtime", [ASK], 1)
        listening.shutdown()
        thread.join()
    assert seen == [None]
    assert not book.attempts


@EACH
@pytest.mark.parametrize(
    ("path", "usage"), [("/chat", USAGE), ("/v1/realtime", None), ("/v1/responses", {})]
)
def test_an_app_s_own_websocket_is_not_a_call(
    path: str, usage: t.Any, play: Play, server: Server, book: Book, tap: Tap
) -> None:
    book.unlisted_hosts = "record"
    tap.hosts = {}
    said = answer("resp_1", usage=usage)
    server.script = lambda message: said if message == ASK else []
    sent = [ASK, {"type": "message", "text": "hello"}, {"usage": USAGE}]
    found = play(f"{server.url}{path}", sent, 3)
    assert [json.loads(each) for each in found] == said
    assert [json.loads(each) for each in server.received(3)] == sent
    assert not book.calls
    assert not book.counted


UNLISTED: dict[str, tuple[str, _Message, list[_Message], int]] = {
    "realtime": (REALTIME, ASK, answer("resp_1"), 120),
    "responses": (
        RESPONSES,
        ASK,
        [
            {
                "type": "response.completed",
                "response": {
                    "id": "resp_1",
                    "object": "response",
                    "model": "gpt-5",
                    "output": [],
                    "usage": {"input_tokens": 100, "output_tokens": 20},
                },
            }
        ],
        120,
    ),
    "live": (
        LIVE,
        {"client_content": {"turns": [], "turn_complete": True}},
        [SPOKEN, {**ENDED, "usageMetadata": COUNTS}],
        120,
    ),
}


@pytest.mark.parametrize("name", UNLISTED)
@pytest.mark.parametrize("mode", ["count", "record", "ignore"])
def test_turns_with_a_host_on_no_list_are_noticed(
    mode: str, name: str, server: Server, book: Book, tap: Tap
) -> None:
    path, ask, said, tokens = UNLISTED[name]
    book.unlisted_hosts, tap.hosts = mode, {}
    server.script = lambda message: said
    _by_threads(server.url + path, [ask, ask], 2 * len(said))
    assert book.counted == [server.host] * (2 if mode == "count" else 0)
    assert len(book.calls) == (2 if mode == "record" else 0)
    for call in book.calls:
        assert (call.provider, call.outcome) == (server.host, "ok")
        assert call.usage is not None
        assert call.usage.total_tokens == tokens
        assert "unlisted_host" in call.flags


@EACH
def test_nothing_leaks(
    play: Play, server: Server, tap: Tap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each session has ten turns, and another one that is left under way."""
    # pytest would keep what the server logs of connections that end meanwhile.
    monkeypatch.setattr(logging.getLogger("websockets.server"), "disabled", True)
    tap.recorder = Few()
    server.script = numbered()
    idle = threading.active_count()

    def run(count: int) -> None:
        for _ in range(count // 10):
            server.seen.clear()
            play(f"{server.url}{REALTIME}", [ASK] * 11, 30)
        # The server's threads hold memory until they have seen their connections end.
        until = time.monotonic() + 60
        while threading.active_count() > idle and time.monotonic() < until:
            time.sleep(0.01)

    check_leaks(run, 300)


def test_what_is_under_way_is_followed_after_the_patches_are_gone(
    server: Server, book: Book, tap: Tap
) -> None:
    server.script = numbered()
    with connect(server.url + REALTIME) as connection:
        connection.send(json.dumps(ASK))
        assert len(book.attempts) == 1
        clients.uninstrument()
        connection.send(json.dumps(ASK))
        clients.instrument(tap)
        for _ in range(3):
            connection.recv(timeout=10)
        assert book.call.outcome == "ok"


@SDK
def test_the_openai_sdk_is_captured(server: Server, book: Book, tap: Tap) -> None:
    server.greeting, server.script = [SESSION], numbered()
    sdk = openai.OpenAI(api_key="k", websocket_base_url=f"{server.url}/v1")
    with sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        connection.response.create()
        connection.response.create()
        kinds = [connection.recv().type for _ in range(7)]
    assert kinds.count("response.done") == 2
    assert [call.response_id for call in book.calls] == ["resp_1", "resp_2"]


@SDK
def test_the_openai_sdk_s_responses_are_captured(
    server: Server, book: Book, tap: Tap
) -> None:
    server.script = numbered("completed")
    sdk = openai.OpenAI(api_key="k", websocket_base_url=f"{server.url}/v1")
    with sdk, sdk.responses.connect() as connection:
        connection.response.create(model="gpt-5.2", input="hello")
        for _ in range(3):
            connection.recv()
    assert (book.call.request_model, book.call.operation) == ("gpt-5.2", "responses")
    assert book.call.usage is not None


@pytest.mark.usefixtures("gemini")
def test_the_google_sdk_is_captured(
    server: Server, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(url: str, **options: t.Any) -> t.Any:
        options.pop("ssl", None)
        return async_connect(url.replace("wss://", "ws://"), **options)

    monkeypatch.setattr("google.genai.live.ws_connect", plain)

    def script(message: _Message) -> list[_Message]:
        if "setup" in message:
            return [{"setupComplete": {}}]
        return [SPOKEN, {**ENDED, "usageMetadata": COUNTS}]

    server.script = script

    async def main() -> None:
        options = genai.types.HttpOptions(base_url=f"http://{server.host}")
        sdk = genai.Client(api_key="k", http_options=options)
        async with sdk.aio.live.connect(model="gemini-live-2.5") as session:
            for _ in range(2):
                await session.send_client_content(
                    turns={"role": "user", "parts": [{"text": "hello"}]}
                )
                assert [message async for message in session.receive()]

    asyncio.run(main())
    assert [call.model for call in book.calls] == ["gemini-live-2.5"] * 2
    assert all(call.usage is not None for call in book.calls)
