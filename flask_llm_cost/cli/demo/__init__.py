"""``demo``: a month of an imaginary app's calls, a report, and the dashboard on it."""

from __future__ import annotations

import contextlib
import contextvars
import datetime as dt
import shutil
import signal
import socket
import tempfile
import threading
import typing as t
from collections.abc import Iterator
from concurrent.futures import as_completed
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import click

from ..text import progress

if t.TYPE_CHECKING:
    import requests
    from flask import Flask

    from .provider import Urls
    from .traffic import Planned

HOST: t.Final = "127.0.0.1"
MOUNT: t.Final = "/llm-costs"

_WORKERS: t.Final = 24


def demo_command(make_app: t.Any) -> click.Command:
    """The command, with what it makes its app with."""

    @click.command()
    @click.option(
        "--calls",
        type=click.IntRange(1, 100_000),
        default=400,
        show_default=True,
        help="How many calls to send.",
    )
    @click.option(
        "--port",
        type=click.IntRange(0, 65_535),
        default=0,
        show_default="a free one",
        help="Where the dashboard is served.",
    )
    @click.option(
        "--database-uri",
        metavar="URL",
        help="A database for the ledger; it is kept. Left out: a temporary file.",
    )
    @click.option("--once", is_flag=True, help="End after the report.")
    def demo(calls: int, port: int, database_uri: str | None, once: bool) -> None:
        """Try it: send calls to a fake provider, then look at the dashboard.

        Everything stays on this machine: a loopback server plays OpenAI, Anthropic and
        Gemini, and the calls are spread over the last thirty days. No key and no network
        is needed. Ctrl-C ends it.

        \b
        python -m flask_llm_cost demo
        python -m flask_llm_cost demo --once --calls 50
        """
        with contextlib.ExitStack() as stack:
            listener = None if once else stack.enter_context(_listen(port))
            folder = stack.enter_context(_folder())
            stack.enter_context(_ended_by_sigterm())
            _run(make_app, folder, calls, database_uri, listener)

    return demo


def _run(
    make_app: t.Any,
    folder: str,
    calls: int,
    database_uri: str | None,
    listener: socket.socket | None,
) -> None:
    from .provider import serve_each
    from .traffic import plan

    with serve_each(pause=0.004) as urls:
        app = demo_app(make_app, folder, urls, calls, database_uri)
        state = app.extensions["llm_cost"]
        try:
            click.echo(f"Ledger: {state.ledger.database_label}")
            state.ledger.upgrade()
            now = dt.datetime.now(dt.UTC)
            click.echo(f"Sending {calls:,} calls to a fake provider ...")
            send(app, urls, plan(calls, now))
            if not state.extension.flush(60):
                raise click.ClickException("Some calls still wait to be written.")
            click.echo()
            click.echo(_report(app), nl=False)
            if listener is not None:
                _serve(app, listener)
        finally:
            state.close()


def demo_app(
    make_app: t.Any,
    folder: str,
    urls: Urls,
    calls: int,
    database_uri: str | None = None,
) -> Flask:
    """The imaginary app, with the dashboard at :data:`MOUNT`.

    :param calls: How many it will make: its budgets are for so many.
    """
    from flask import redirect

    from ..db import from_here

    config: dict[str, t.Any] = {
        "LLM_COST_PROVIDER_HOSTS": urls.hosts,
        "LLM_COST_ROLLUP_TAGS": ("feature", "tenant"),
        "LLM_COST_BUDGETS": _budgets(calls),
        # The model without a price is there to be seen in the report.
        "LLM_COST_ON_UNKNOWN_PRICE": "ignore",
    }
    if database_uri is not None:
        config["LLM_COST_DATABASE_URI"] = from_here(database_uri)
    app: Flask = make_app(config, folder)
    llm_cost = app.extensions["llm_cost"].extension
    # Open to whoever can reach it, which on loopback is this machine.
    app.register_blueprint(llm_cost.blueprint(access="public"), url_prefix=MOUNT)
    app.add_url_rule("/", "home", lambda: redirect(f"{MOUNT}/"))
    return app


def _budgets(calls: int) -> list[dict[str, t.Any]]:
    """One of each kind, full to a different part at the end of the month."""

    def limit(usd_per_call: str) -> str:
        return f"{max(Decimal(usd_per_call) * calls, Decimal('0.01')):.2f}"

    return [
        {"name": "everything", "period": "month", "limit_usd": limit("0.0075")},
        {
            "name": "chat",
            "period": "week",
            "limit_usd": limit("0.0015"),
            "tags": {"feature": "chat"},
        },
        {
            "name": "each tenant",
            "period": "month",
            "limit_usd": limit("0.0025"),
            "tags": {"tenant": "*"},
        },
    ]


# Sending ----------------------------------------------------------------------

_moment: contextvars.ContextVar[dt.datetime] = contextvars.ContextVar("moment")


def send(app: Flask, urls: Urls, planned: list[Planned]) -> None:
    """Make the calls through a mounted adapter, each at its own time."""
    import requests

    state = app.extensions["llm_cost"]
    clock = state.clock
    state.clock = lambda: _moment.get(None) or clock()
    with requests.Session() as session, ThreadPoolExecutor(_WORKERS) as workers:
        session.mount("http://", state.extension.adapter(pool_maxsize=_WORKERS))
        try:
            sent = [workers.submit(_send, app, session, urls, p) for p in planned]
            with progress(len(sent), "Sending") as step:
                for future in as_completed(sent):
                    future.result()
                    step(1)
        finally:
            workers.shutdown(cancel_futures=True)
            state.clock = clock


def _send(app: Flask, session: requests.Session, urls: Urls, planned: Planned) -> None:
    import requests

    _moment.set(planned.at)
    with (
        app.app_context(),
        app.extensions["llm_cost"].extension.tags(**planned.tags),
        # A dropped connection and a cut stream are part of the plan.
        contextlib.suppress(requests.RequestException),
        session.post(
            getattr(urls, planned.dialect) + planned.path,
            json=planned.body,
            headers={"X-Loopback": planned.orders, "Authorization": "Bearer demo"},
            stream=planned.stream,
            timeout=30,
        ) as response,
    ):
        for number, _ in enumerate(response.iter_lines()):
            if planned.leaves and number > 4:
                break


def _report(app: Flask) -> str:
    from ..period import chosen
    from ..report import full

    state = app.extensions["llm_cost"]
    return full(state, chosen(state, None, None, None))


# Serving ----------------------------------------------------------------------


def _serve(app: Flask, listener: socket.socket) -> None:
    from werkzeug.serving import make_server
    from werkzeug.serving import WSGIRequestHandler

    class Quiet(WSGIRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """The address is the last thing to be seen."""

    port = listener.getsockname()[1]
    server = make_server(
        HOST,
        port,
        app,
        threaded=True,
        request_handler=Quiet,
        fd=listener.fileno(),
    )
    try:
        click.echo()
        click.echo(f"Dashboard: http://{HOST}:{port}{MOUNT}/")
        click.echo("Press Ctrl-C to end.")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    finally:
        server.server_close()


@contextlib.contextmanager
def _listen(port: int) -> Iterator[socket.socket]:
    # Taken before anything is sent: a busy port must not be found out at the end.
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        raise click.ClickException(
            f"Cannot listen on {HOST}:{port}: {error.strerror}. Take another --port, or"
            " leave it out for a free one."
        ) from None
    with listener:
        yield listener


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="llm-cost-demo-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """End as by Ctrl-C when asked to terminate, so that nothing is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: t.Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
