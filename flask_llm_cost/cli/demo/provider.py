"""A fake LLM provider on loopback: a real HTTP server that needs no network.

.. code-block:: text

    $ python -m flask_llm_cost.cli.demo.provider --port 8001

Every port answers as OpenAI, Anthropic and Gemini do (:mod:`.answers`). As
``LLM_COST_PROVIDER_HOSTS`` maps ``host:port`` to a provider, each gets a port of its own.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import typing as t
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import click
from werkzeug.serving import make_server
from werkzeug.serving import WSGIRequestHandler
from werkzeug.wrappers import Request
from werkzeug.wrappers import Response

from .answers import Answer
from .answers import answer
from .answers import Ask
from .answers import orders_of

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

HOST: t.Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Urls:
    """Where each provider is served."""

    openai: str
    anthropic: str
    gemini: str

    @property
    def hosts(self) -> dict[str, str]:
        """The value for ``LLM_COST_PROVIDER_HOSTS``."""
        return {
            self.openai.removeprefix("http://"): "openai",
            self.anthropic.removeprefix("http://"): "anthropic",
            self.gemini.removeprefix("http://"): "gemini",
        }


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Do nothing: tests and demos have their own output."""


@contextlib.contextmanager
def serve_app(app: WSGIApplication, port: int = 0) -> Iterator[str]:
    """Serve a WSGI app on loopback, in a thread, while the block runs.

    Yields the URL, such as ``http://127.0.0.1:40001``.

    :param port: 0 selects a free port.
    :raises OSError: If the port is in use.
    """
    # Bound here, because werkzeug ends the process if the port is in use.
    with socket.create_server((HOST, port), backlog=128) as listener:
        server = make_server(
            HOST,
            listener.getsockname()[1],
            app,
            threaded=True,
            request_handler=_Quiet,
            fd=listener.fileno(),
        )
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        thread.start()
        try:
            yield f"http://{HOST}:{server.port}"
        finally:
            server.shutdown()
            thread.join()


def port_in_use(port: int, error: OSError) -> click.ClickException:
    """The error to raise when :func:`serve_app` raised one for a port."""
    return click.ClickException(
        f"Cannot listen on {HOST}:{port}: {error.strerror}. Choose another --port, or"
        " omit it for a free one."
    )


def serve(port: int = 0, *, pause: float = 0.001) -> t.ContextManager[str]:
    """Serve the fake provider with :func:`serve_app`.

    :param pause: Seconds between the chunks of a stream.
    """

    @Request.application
    def provider(request: Request) -> Response:
        return _respond(request, pause)

    return serve_app(provider, port)


@contextlib.contextmanager
def serve_each(port: int = 0, *, pause: float = 0.001) -> Iterator[Urls]:
    """Serve a port for each provider.

    :param port: The first of three consecutive ports; 0 selects free ones.
    :raises OSError: If one is in use.
    """
    with contextlib.ExitStack() as stack:
        yield Urls(
            *(
                stack.enter_context(serve(port and port + i, pause=pause))
                for i in range(3)
            )
        )


def _respond(request: Request, pause: float) -> Response:
    if request.method != "POST":
        return Response("POST to /v1/chat/completions, /v1/messages, ...\n", 404)
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        return Response('{"error": {"message": "Send a JSON object."}}', 400)
    orders = orders_of(request.headers.get("X-Loopback", ""))
    ask = Ask(request.full_path, body, orders)
    answered = answer(ask)
    time.sleep(float(orders.get("slow", 0)) / 1000)
    connection: socket.socket = request.environ["werkzeug.socket"]
    if ask.failure == "drop":
        connection.shutdown(socket.SHUT_RDWR)
    zipped = bool(request.accept_encodings["gzip"])
    response = Response(
        _sent(answered, connection, zipped, pause, ask.failure == "cut"),
        answered.status,
        list(answered.headers),
        content_type=answered.content_type,
    )
    if zipped:
        response.content_encoding = "gzip"
    return response


def _sent(
    answered: Answer,
    connection: socket.socket,
    zipped: bool,
    pause: float,
    cut: bool,
) -> Iterator[bytes]:
    """The chunks of a body, to the middle if it is to be cut."""
    packer = zlib.compressobj(wbits=31) if zipped else None
    pieces = answered.pieces[: len(answered.pieces) // 2 if cut else None]
    for piece in pieces:
        if packer is not None:
            piece = packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
        yield piece
        time.sleep(pause)
    if cut:
        connection.shutdown(socket.SHUT_RDWR)
    elif packer is not None:
        yield packer.flush()


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_533),
    default=0,
    show_default="free ports",
    help="The first of three consecutive ports.",
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
            raise port_in_use(port, error) from None
        click.echo(f"openai     {urls.openai}")
        click.echo(f"anthropic  {urls.anthropic}")
        click.echo(f"gemini     {urls.gemini}")
        click.echo(f"LLM_COST_PROVIDER_HOSTS = {json.dumps(urls.hosts)}")
        click.echo("Press Ctrl-C to stop.")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
