"""HTTP/2 with httpx and httpx2: many streams of one connection, one row each."""

from __future__ import annotations

import asyncio
import importlib
import json
import socket
import threading
import typing as t
from collections.abc import Iterator

import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap
from tests.capture.conftest import Book
from tests.capture.server import CHAT_STREAM
from tests.capture.server import encode

ASK = {"model": "gpt-4o", "stream": True}


async def _provider(scope: t.Any, receive: t.Any, send: t.Any) -> None:
    """Answers by path: whole, gzipped, hanging halfway, or cut off halfway."""
    assert scope["http_version"] == "2"
    while (await receive()).get("more_body"):
        pass
    kind = scope["path"].split("/")[1]
    body = encode(CHAT_STREAM, "gzip") if kind == "gzip" else CHAT_STREAM
    headers = [(b"content-type", b"text/event-stream")]
    if kind == "gzip":
        headers.append((b"content-encoding", b"gzip"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for at in range(0, len(body), 200):
        piece = body[at : at + 200]
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)
        if kind == "breaks" and at:
            raise ConnectionError
        if kind == "hangs" and at:
            while (await receive())["type"] != "http.disconnect":
                pass
            return
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """A provider that speaks HTTP/2 without TLS, with prior knowledge."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = Config()
    config.bind = [f"fd://{listening.fileno()}"]
    config.loglevel = "CRITICAL"
    config.graceful_timeout = 0.1
    # How long it keeps the connection of an app that stopped reading.
    config.keep_alive_timeout = 0.5
    loop = asyncio.new_event_loop()
    over = asyncio.Event()
    app: t.Any = _provider
    work = serve(app, config, shutdown_trigger=over.wait)
    thread = threading.Thread(target=loop.run_until_complete, args=(work,))
    thread.start()
    yield "{}:{}".format(*listening.getsockname())
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()
    listening.detach()


@pytest.fixture(params=["httpx", "httpx2"])
def module(request: pytest.FixtureRequest) -> t.Any:
    return importlib.import_module(request.param)


@pytest.fixture
def tap(book: Book, host: str) -> Tap:
    return Tap(book, hosts={host: "openai"})


def _client(kind: t.Any, tap: Tap | None) -> t.Any:
    client = kind(http1=False, http2=True, timeout=20)
    if tap is not None:
        clients.wrap(tap, client)
    return client


def _read(module: t.Any, tap: Tap | None, host: str, path: str) -> t.Any:
    with _client(module.Client, tap) as client:
        url = f"http://{host}/{path}/v1/chat/completions"
        pieces = []
        try:
            with client.stream("POST", url, json=ASK) as response:
                assert response.http_version == "HTTP/2"
                for piece in response.iter_bytes():
                    pieces.append(piece)
                    if path == "hangs":
                        break
        except module.TransportError as error:
            return b"".join(pieces), type(error)
        if path == "hangs":
            return CHAT_STREAM.startswith(pieces[0])
        return b"".join(pieces)


@pytest.mark.parametrize(
    ("path", "outcome"),
    [("whole", "ok"), ("gzip", "ok"), ("hangs", "interrupted"), ("breaks", "failed")],
)
def test_an_app_sees_the_same_over_http2(
    path: str, outcome: str, module: t.Any, tap: Tap, host: str, book: Book
) -> None:
    assert _read(module, tap, host, path) == _read(module, None, host, path)
    assert book.call.outcome == outcome
    assert (book.call.usage is not None) == (outcome == "ok")


def test_streams_of_one_connection_are_rows_of_their_own(
    module: t.Any, tap: Tap, host: str, book: Book
) -> None:
    async def main() -> None:
        async with _client(module.AsyncClient, tap) as client:

            async def ask(number: int) -> None:
                path = "hangs" if number % 3 == 0 else "whole"
                url = f"http://{host}/{path}/v1/chat/completions"
                body = json.dumps({**ASK, "model": f"m{number}"})
                async with client.stream("POST", url, content=body) as response:
                    assert response.http_version == "HTTP/2"
                    if path == "hangs":
                        await anext(response.aiter_bytes())
                    else:
                        assert await response.aread() == CHAT_STREAM

            await asyncio.gather(*(ask(number) for number in range(30)))

    asyncio.run(main())
    outcomes = {call.request_model: call.outcome for call in book.calls}
    assert len(book.calls) == 30
    assert outcomes == {
        f"m{n}": "interrupted" if n % 3 == 0 else "ok" for n in range(30)
    }
