"""``demo``: 90 days of calls from an imaginary app, a report, and its dashboard."""

from __future__ import annotations

import contextlib
import contextvars
import datetime as dt
import signal
import tempfile
import threading
import typing as t
from collections.abc import Iterator
from concurrent.futures import as_completed
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import click

from ...money import multiply
from ..text import progress

if t.TYPE_CHECKING:
    import requests
    from flask import Flask

    from .traffic import Planned

MOUNT: t.Final = "/llm-costs"

_WORKERS: t.Final = 48

_HOSTS: t.Final = {
    "openai": "https://api.openai.com",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
}


def demo_command(make_app: t.Any) -> click.Command:
    """Create the command.

    :param make_app: Creates the app that it runs.
    """

    @click.command()
    @click.option(
        "--calls",
        type=click.IntRange(1, 100_000),
        default=5000,
        show_default=True,
        help="Number of calls to send.",
    )
    @click.option(
        "--port",
        type=click.IntRange(0, 65_535),
        default=0,
        show_default="a free port",
        help="Port of the dashboard.",
    )
    @click.option(
        "--database-uri",
        metavar="URL",
        help="Database for the ledger, which is not deleted. Default: a temporary file.",
    )
    @click.option("--once", is_flag=True, help="Exit after the report.")
    def demo(calls: int, port: int, database_uri: str | None, once: bool) -> None:
        """Send calls to a fake provider and serve the dashboard.

        Nothing leaves this process: it acts as OpenAI, Anthropic and Gemini, and the calls
        are spread over the last 90 days. No API key and no network are needed. Press
        Ctrl-C to stop.

        \b
        python -m flask_llm_cost demo
        python -m flask_llm_cost demo --once --calls 50
        """
        _run(make_app, calls, None if once else port, database_uri)

    return demo


def _run(
    make_app: t.Any, calls: int, port: int | None, database_uri: str | None
) -> None:
    """Send the calls and report; serve the dashboard if it has a port."""
    from .provider import port_in_use
    from .provider import serve_app

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(
                prefix="llm-cost-demo-", ignore_cleanup_errors=True
            )
        )
        stack.enter_context(_interrupted_by_sigterm())
        app = demo_app(make_app, folder, calls, database_uri)
        stack.callback(app.extensions["llm_cost"].close)
        url = None
        if port is not None:
            # Before anything is sent, so that a port in use is reported at once.
            try:
                url = stack.enter_context(serve_app(app, port))
            except OSError as error:
                raise port_in_use(port, error) from None
        _fill(app, calls)
        if url is not None:
            click.echo(f"\nDashboard: {url}{MOUNT}/")
            click.echo("Press Ctrl-C to stop.")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()


def _fill(app: Flask, calls: int) -> None:
    """Send the calls and print the report."""
    from ..period import chosen
    from ..report import full
    from .traffic import DAYS
    from .traffic import plan

    state = app.extensions["llm_cost"]
    click.echo(f"Ledger: {state.ledger.label}")
    state.ledger.schema.upgrade()
    click.echo(f"Sending {calls:,} calls to a fake provider ...")
    send(app, plan(calls, dt.datetime.now(dt.UTC)))
    if not state.extension.flush(60):
        raise click.ClickException("Some calls are not in the ledger yet.")
    click.echo()
    click.echo(full(state, chosen(state, DAYS, None, None)), nl=False)


def demo_app(
    make_app: t.Any, folder: str, calls: int, database_uri: str | None = None
) -> Flask:
    """Create the imaginary app, with the dashboard at :data:`MOUNT`.

    :param calls: The number of calls that its budgets are sized for.
    """
    from flask import redirect

    from ..db import from_here

    config: dict[str, t.Any] = {
        "LLM_COST_ROLLUP_TAGS": ("feature", "tenant"),
        "LLM_COST_BUDGETS": _budgets(calls),
        # One model has no price on purpose, to show it in the report.
        "LLM_COST_ON_UNKNOWN_PRICE": "ignore",
    }
    if database_uri is not None:
        config["LLM_COST_DATABASE_URI"] = from_here(database_uri)
    app: Flask = make_app(config, folder)
    llm_cost = app.extensions["llm_cost"].extension
    # Public, but served on loopback only.
    app.register_blueprint(llm_cost.blueprint(access="public"), url_prefix=MOUNT)
    app.add_url_rule("/", "home", lambda: redirect(f"{MOUNT}/"))
    return app


def _budgets(calls: int) -> list[dict[str, t.Any]]:
    """Budgets of several kinds, used to different degrees."""
    return [
        {"name": name, "period": period, "tags": tags}
        | {
            "limit_usd": f"{max(multiply(Decimal(usd_per_call), calls), Decimal('0.01')):.2f}"
        }
        for name, period, usd_per_call, tags in (
            ("everything", "month", "0.6", {}),
            ("chat", "week", "0.005", {"feature": "chat"}),
            ("each tenant", "month", "0.15", {"tenant": "*"}),
            ("imports", "total", "0.02", {"feature": "import"}),
        )
    ]


_moment: contextvars.ContextVar[dt.datetime] = contextvars.ContextVar("moment")


def send(app: Flask, planned: list[Planned]) -> None:
    """Send the calls through a mounted adapter, each at its planned time."""
    import requests

    from .local import LocalProvider

    state = app.extensions["llm_cost"]
    clock = state.clock
    state.clock = lambda: _moment.get(None) or clock()
    with requests.Session() as session, ThreadPoolExecutor(_WORKERS) as workers:
        session.mount("https://", state.extension.adapter(inner=LocalProvider()))
        try:
            sent = [workers.submit(_send, app, session, p) for p in planned]
            with progress(len(sent), "Sending") as step:
                for future in as_completed(sent):
                    future.result()
                    step(1)
        finally:
            workers.shutdown(cancel_futures=True)
            state.clock = clock


def _send(app: Flask, session: requests.Session, planned: Planned) -> None:
    import requests

    _moment.set(planned.at)
    extension = app.extensions["llm_cost"].extension
    with app.app_context(), extension.tags(**planned.tags):
        if planned.estimate is not None:
            extension.track(**planned.estimate, usage_source="estimated")
            return
        with (
            # Some calls are planned to be dropped or cut.
            contextlib.suppress(requests.RequestException),
            session.post(
                _HOSTS[planned.provider] + planned.path,
                json=planned.body,
                headers={"X-Loopback": planned.orders, "Authorization": "Bearer demo"},
                stream=planned.stream,
                timeout=30,
            ) as response,
        ):
            for number, _ in enumerate(response.iter_lines()):
                if planned.leaves and number > 4:
                    break


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block like Ctrl-C, so that temporary files are deleted."""
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
