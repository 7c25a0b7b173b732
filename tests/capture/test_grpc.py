"""gRPC: xAI's SDK and Google's messages, against a server on loopback."""

from __future__ import annotations

import asyncio
import gc
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.errors import UnknownPrice
from tests.capture.conftest import Book
from tests.capture.test_leaks import check_leaks
from tests.capture.test_leaks import Few

grpc = pytest.importorskip("grpc")
xai_sdk = pytest.importorskip("xai_sdk")

from xai_sdk.chat import user  # noqa: E402
from xai_sdk.proto import chat_pb2  # noqa: E402
from xai_sdk.proto import chat_pb2_grpc  # noqa: E402
from xai_sdk.proto import usage_pb2  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

USAGE = usage_pb2.SamplingUsage(
    prompt_tokens=100,
    cached_prompt_text_tokens=40,
    completion_tokens=20,
    reasoning_tokens=30,
    total_tokens=150,
    cost_in_usd_ticks=12_345_678,
)


class Chat(chat_pb2_grpc.ChatServicer):  # type: ignore[misc]
    """Answers as a test says."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.code: t.Any = None
        self.dies = False

    def _check(self, request: t.Any, context: t.Any) -> None:
        self.seen.append(request.SerializeToString(deterministic=True))
        if self.code is not None:
            context.abort(self.code, "no")

    def GetCompletion(self, request: t.Any, context: t.Any) -> t.Any:
        self._check(request, context)
        answer = chat_pb2.GetChatCompletionResponse(
            id="xai_1", model="grok-4-0709", usage=USAGE
        )
        answer.outputs.add().message.content = "hello"
        return answer

    def GetCompletionChunk(self, request: t.Any, context: t.Any) -> Iterator[t.Any]:
        self._check(request, context)
        for text in ("hel", "lo"):
            chunk = chat_pb2.GetChatCompletionChunk(id="xai_1", model="grok-4-0709")
            chunk.outputs.add().delta.content = text
            yield chunk
        if self.dies:
            context.abort(grpc.StatusCode.INTERNAL, "died")
        yield chat_pb2.GetChatCompletionChunk(
            id="xai_1", model="grok-4-0709", usage=USAGE
        )


@pytest.fixture
def chat() -> Iterator[tuple[Chat, str]]:
    service = Chat()
    server = grpc.server(ThreadPoolExecutor(2))
    chat_pb2_grpc.add_ChatServicer_to_server(service, server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield service, f"localhost:{port}"
    server.stop(None).wait()


@pytest.fixture
def tap(chat: tuple[Chat, str], book: Book) -> Iterator[Tap]:
    tap = Tap(book, hosts={chat[1]: "xai"})
    clients.instrument(tap)
    yield tap
    clients.uninstrument()


def _sdk(kind: t.Any, host: str) -> t.Any:
    return kind(api_key="k", api_host=host, use_insecure_channel=True, timeout=10)


def _ask(host: str, stop: int | None) -> t.Any:
    asked = _sdk(xai_sdk.Client, host).chat.create(model="grok-4")
    asked.append(user("hello"))
    return asked.sample().content


def _stream(host: str, stop: int | None) -> t.Any:
    asked = _sdk(xai_sdk.Client, host).chat.create(model="grok-4")
    asked.append(user("hello"))
    found = []
    for _, chunk in asked.stream():
        found.append(chunk.content)
        if len(found) == stop:
            break
    return found


def _async(calls: Callable[..., t.Any]) -> Callable[[str, int | None], t.Any]:
    async def main(host: str, stop: int | None) -> t.Any:
        sdk = _sdk(xai_sdk.AsyncClient, host)
        try:
            asked = sdk.chat.create(model="grok-4")
            asked.append(user("hello"))
            return await calls(asked, stop)
        finally:
            await sdk.close()

    return lambda host, stop: asyncio.run(main(host, stop))


async def _ask_async(asked: t.Any, stop: int | None) -> t.Any:
    return (await asked.sample()).content


async def _stream_async(asked: t.Any, stop: int | None) -> t.Any:
    found: list[str] = []
    async for _, chunk in asked.stream():
        found.append(chunk.content)
        if len(found) == stop:
            break
    return found


Call: t.TypeAlias = Callable[[str, int | None], t.Any]
CALLS: dict[str, Call] = {
    "whole": _ask,
    "stream": _stream,
    "async": _async(_ask_async),
    "async stream": _async(_stream_async),
}
EACH = pytest.mark.parametrize("name", CALLS)


def _seen(call: Call, host: str) -> t.Any:
    try:
        return call(host, None)
    except grpc.RpcError as error:
        return type(error), error.code(), error.details()


@EACH
def test_a_call_is_a_row(
    name: str, chat: tuple[Chat, str], book: Book, tap: Tap
) -> None:
    service, host = chat
    clients.uninstrument()
    expected = _seen(CALLS[name], host)
    clients.instrument(tap)
    assert _seen(CALLS[name], host) == expected
    assert service.seen[0] == service.seen[1]
    call = book.call
    assert (call.provider, call.operation, call.outcome) == ("xai", "chat", "ok")
    assert (call.request_model, call.model) == ("grok-4", "grok-4-0709")
    assert (call.response_id, call.stream) == ("xai_1", "stream" in name)
    assert call.reported_cost == Decimal("0.0012345678")
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.cache_read_tokens) == (60, 40)
    assert (call.usage.output_tokens, call.usage.reasoning_tokens) == (50, 30)


@EACH
def test_a_budget_stops_a_call_before_it_is_sent(
    name: str, chat: tuple[Chat, str], book: Book, tap: Tap
) -> None:
    book.forbids = UnknownPrice("xai", "grok-4")
    with pytest.raises(UnknownPrice):
        CALLS[name](chat[1], None)
    assert not chat[0].seen
    assert not book.calls


@EACH
@pytest.mark.parametrize("mode", ["count", "record", "ignore"])
def test_a_call_to_a_host_on_no_list_is_noticed(
    mode: str, name: str, chat: tuple[Chat, str], book: Book, tap: Tap
) -> None:
    """As to a proxy of the app's own: the method's full name says what it is."""
    service, host = chat
    book.unlisted_hosts, tap.hosts = mode, {}
    captured = CALLS[name](host, None)
    clients.uninstrument()
    assert captured == CALLS[name](host, None)
    assert service.seen[0] == service.seen[1]
    assert book.counted == [host] * (mode == "count")
    if mode == "record":
        assert (book.call.provider, book.call.model) == (host, "grok-4-0709")
        assert book.call.usage is not None
        assert book.call.usage.total_tokens == 150
        assert book.call.reported_cost is None
    else:
        assert not book.calls


def test_a_refused_call_to_a_host_on_no_list_is_not_a_call(
    chat: tuple[Chat, str], book: Book, tap: Tap
) -> None:
    book.unlisted_hosts, tap.hosts = "record", {}
    chat[0].code = grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError):
        _ask(chat[1], None)
    assert not book.calls
    assert not book.counted


@EACH
def test_an_error_is_the_same_and_a_row(
    name: str, chat: tuple[Chat, str], book: Book, tap: Tap
) -> None:
    service, host = chat
    service.code = grpc.StatusCode.RESOURCE_EXHAUSTED
    clients.uninstrument()
    expected = _seen(CALLS[name], host)
    clients.instrument(tap)
    assert _seen(CALLS[name], host) == expected
    assert (book.call.outcome, book.call.http_status) == ("http_error", 429)


@EACH
def test_a_server_that_cannot_be_reached_is_a_row(
    name: str, book: Book, tap: Tap
) -> None:
    tap.hosts = {"localhost:9": "xai"}
    found = _seen(CALLS[name], "localhost:9")
    assert found[1] is grpc.StatusCode.UNAVAILABLE
    assert (book.call.outcome, book.call.http_status) == ("no_response", None)


@pytest.mark.parametrize("name", ["stream", "async stream"])
def test_a_stream_that_dies_fails(
    name: str, chat: tuple[Chat, str], book: Book, tap: Tap
) -> None:
    chat[0].dies = True
    assert _seen(CALLS[name], chat[1])[1] is grpc.StatusCode.INTERNAL
    assert (book.call.outcome, book.call.usage) == ("failed", None)


@pytest.mark.parametrize("name", ["stream", "async stream"])
def test_a_stream_that_is_dropped_interrupts(
    name: str, chat: tuple[Chat, str], book: Book, tap: Tap
) -> None:
    assert CALLS[name](chat[1], 1)
    gc.collect()
    assert book.call.outcome == "interrupted"


@pytest.mark.parametrize("name", ["whole", "stream"])
def test_nothing_leaks(name: str, chat: tuple[Chat, str], tap: Tap) -> None:
    """Every stream is dropped after its first message."""
    tap.recorder = Few()

    def run(count: int) -> None:
        for _ in range(count):
            CALLS[name](chat[1], 1)
            chat[0].seen.clear()

    check_leaks(run, 300)


def test_other_methods_are_untouched(
    chat: tuple[Chat, str], book: Book, tap: Tap
) -> None:
    with grpc.insecure_channel(chat[1]) as channel:
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/app.Chat/GetCompletion")(b"")
        answer = channel.unary_stream("/app.Chat/GetCompletionChunk")(b"")
        assert type(answer).__mro__[0].__module__ == "grpc._channel"
        assert "_llm_cost" not in vars(answer)
        answer.cancel()
    assert not book.attempts


def test_a_future_is_a_row(chat: tuple[Chat, str], book: Book, tap: Tap) -> None:
    with grpc.insecure_channel(chat[1]) as channel:
        stub = chat_pb2_grpc.ChatStub(channel)
        asked = chat_pb2.GetCompletionsRequest(model="grok-4")
        future = stub.GetCompletion.future(asked)
        assert future.result().id == "xai_1"
        answer, call = stub.GetCompletion.with_call(asked)
        assert (answer.id, call.code()) == ("xai_1", grpc.StatusCode.OK)
        # The callback of a future runs on a thread of gRPC.
        for _ in range(100):
            if len(book.calls) == 2:
                break
            asyncio.run(asyncio.sleep(0.01))
    assert [call.outcome for call in book.calls] == ["ok", "ok"]


def test_google_s_messages_are_read() -> None:
    """The fields that Google's clients have, in a message made here."""
    from google.protobuf import descriptor_pb2
    from google.protobuf import descriptor_pool
    from google.protobuf import message_factory

    from flask_llm_cost.capture.grpc_channel import _document

    file = descriptor_pb2.FileDescriptorProto(name="answer.proto", package="answer")
    usage = file.message_type.add(name="Usage")
    count = descriptor_pb2.FieldDescriptorProto.TYPE_INT32
    usage.field.add(name="prompt_token_count", number=1, type=count, label=1)
    answer = file.message_type.add(name="Answer")
    text = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    answer.field.add(name="model_version", number=1, type=text, label=1)
    nested = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    answer.field.add(
        name="usage_metadata", number=2, type=nested, label=1, type_name=".answer.Usage"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("answer.Answer"))
    message: t.Any = made(model_version="gemini-2.5-flash")
    message.usage_metadata.prompt_token_count = 100
    assert _document(message)["usage_metadata"]["prompt_token_count"] == 100
