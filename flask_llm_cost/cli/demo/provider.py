"""A fake LLM provider on loopback: a real HTTP server, and no network beyond it.

.. code-block:: text

    $ python -m flask_llm_cost.cli.demo.provider --port 8001

It speaks OpenAI, Anthropic and Gemini on every port, in their real wire shapes
(:mod:`.dialects`). Since a host is known by ``host:port`` in
``LLM_COST_PROVIDER_HOSTS``, there is one port for each dialect.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import time
import typing as t
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from http.server import HTTPServer

import click

from .answers import Answer
from .answers import Ask
from .dialects import answer

HOST: t.Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Urls:
    """Where each dialect is served."""

    openai: str
    anthropic: str
    gemini: str

    @property
    def hosts(self) -> dict[str, str]:
        """As ``LLM_COST_PROVIDER_HOSTS`` wants it."""
        return {
            self.openai.removeprefix("http://"): "openai",
            self.anthropic.removeprefix("http://"): "anthropic",
            self.gemini.removeprefix("http://"): "gemini",
        }


@contextlib.contextmanager
def serve(port: int = 0, *, pause: float = 0.001) -> Iterator[str]:
    """Serve on loopback while the block runs; gives the URL, such as
    ``http://127.0.0.1:40001``.

    :param port: 0 takes a free one.
    :param pause: Seconds between the chunks of a stream.
    :raises OSError: If the port is taken.
    """
    server = _Server(port, pause)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.stop()
        thread.join()


@contextlib.contextmanager
def serve_each(port: int = 0, *, pause: float = 0.001) -> Iterator[Urls]:
    """Serve a port for each dialect.

    :param port: The first of three in a row; 0 takes free ones.
    :raises OSError: If one is taken.
    """
    with contextlib.ExitStack() as stack:
        yield Urls(
            *(
                stack.enter_context(serve(port and port + i, pause=pause))
                for i in range(3)
            )
        )


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    # Unlike http.server's own ThreadingHTTPServer this one can be stopped: its
    # keep-alive connections are shut and its threads joined.
    daemon_threads = True
    # A taken port must be an error everywhere.
    allow_reuse_port = False
    request_queue_size = 128

    def __init__(self, port: int, pause: float) -> None:
        self.pause = pause
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer asks the resolver for its own name here, which may take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def process_request(self, request: t.Any, client_address: t.Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            daemon=True,
        )
        with self._lock:
            self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: t.Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """A client that goes away midway is what tests and demos do: no traceback."""

    def stop(self) -> None:
        self.shutdown()
        with self._lock:
            connections = dict(self._open)
        for connection, thread in connections.items():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=5)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "loopback"
    sys_version = ""
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        body = b"A fake LLM provider: POST to /v1/chat/completions, /v1/messages, ...\n"
        self._send(Answer(404, "text/plain; charset=utf-8", body))

    def do_POST(self) -> None:
        raw = self._read()
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = None
        if not isinstance(body, dict):
            text = b'{"error":{"message":"The body is no JSON object."}}'
            self._send(Answer(400, body=text))
            return
        ask = Ask(self.path, body, _orders(self.headers.get("X-Loopback", "")))
        said = answer(ask)
        time.sleep(float(ask.orders.get("slow", 0)) / 1000)
        if said.end == "drop":
            self.close_connection = True
        else:
            self._send(said)

    def _read(self) -> bytes:
        """The request's body, whether its length was known beforehand or not."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, said: Answer) -> None:
        zipped = "gzip" in self.headers.get("Accept-Encoding", "")
        packer = zlib.compressobj(wbits=31) if zipped else None
        self.send_response(said.status)
        self.send_header("Content-Type", said.content_type)
        for name, value in said.headers.items():
            self.send_header(name, value)
        if packer is not None:
            self.send_header("Content-Encoding", "gzip")
        if said.frames:
            self._stream(said, packer)
        else:
            self._whole(said, packer)

    def _whole(self, said: Answer, packer: zlib._Compress | None) -> None:
        body = said.body
        if packer is not None:
            body = packer.compress(body) + packer.flush()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if said.end == "cut":
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def _stream(self, said: Answer, packer: zlib._Compress | None) -> None:
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        frames = said.frames
        if said.end == "cut":
            frames = frames[: max(1, len(frames) // 2)]
            self.close_connection = True
        for frame in frames:
            if packer is not None:
                frame = packer.compress(frame) + packer.flush(zlib.Z_SYNC_FLUSH)
            self._chunk(frame)
            time.sleep(self.server.pause)
        if said.end == "cut":
            return
        if packer is not None:
            self._chunk(packer.flush())
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def log_message(self, format: str, *args: t.Any) -> None:
        """Say nothing: tests and demos have their own output."""


def _orders(header: str) -> dict[str, str]:
    """``"status=429 drop"`` -> ``{"status": "429", "drop": ""}``"""
    return {
        name: value
        for name, _, value in (word.partition("=") for word in header.split())
    }


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_533),
    default=0,
    show_default="free ones",
    help="The first of three ports in a row.",
)
@click.option(
    "--pause",
    type=click.FloatRange(0, 10),
    default=0.02,
    show_default=True,
    help="Seconds between the chunks of a stream.",
)
def main(port: int, pause: float) -> None:
    """Serve a fake OpenAI, Anthropic and Gemini on loopback until interrupted."""
    with contextlib.ExitStack() as stack:
        try:
            urls = stack.enter_context(serve_each(port, pause=pause))
        except OSError as error:
            raise click.ClickException(
                f"Cannot listen on {HOST}:{port}: {error.strerror}. Take another --port."
            ) from None
        click.echo(f"openai     {urls.openai}")
        click.echo(f"anthropic  {urls.anthropic}")
        click.echo(f"gemini     {urls.gemini}")
        click.echo(f"LLM_COST_PROVIDER_HOSTS = {json.dumps(urls.hosts)}")
        click.echo("Press Ctrl-C to end.")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
