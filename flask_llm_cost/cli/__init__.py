"""``flask llm-cost ...``, and ``python -m flask_llm_cost`` where no app is at hand.

A command is one function in a module of its own name, and one line in ``COMMANDS``.
It translates options, calls functions that work without a command line, and prints.
"""

from __future__ import annotations

import copy
import os
import tempfile
import typing as t

import click
from flask import Flask
from flask.cli import AppGroup
from flask.cli import ScriptInfo

from ..errors import FilterError
from ..errors import LlmCostError
from . import calls
from . import db
from . import doctor
from . import drain
from . import ledger
from . import prices
from . import report
from . import summary
from .demo import demo_command

COMMANDS: t.Final[tuple[click.Command, ...]] = (
    db.db,
    report.report,
    summary.summary,
    summary.sessions,
    summary.daily,
    calls.calls,
    prices.prices,
    drain.drain,
    ledger.ledger,
    doctor.doctor,
)


class MakeApp(t.Protocol):
    """Makes a Flask app that LlmCost is set up on."""

    def __call__(
        self, config: dict[str, t.Any], instance_path: str | None = None
    ) -> Flask: ...


class Commands(AppGroup):
    """A group that says in one line what went wrong: 1 failed, 2 wrongly used."""

    def invoke(self, ctx: click.Context) -> t.Any:
        try:
            return super().invoke(ctx)
        except FilterError as error:
            raise click.UsageError(_line(error)) from error
        except LlmCostError as error:
            raise click.ClickException(_line(error)) from error


def _line(error: LlmCostError) -> str:
    return " ".join(str(error).split())


def make_group(make_app: MakeApp) -> AppGroup:
    """The commands of an app, to be added to ``app.cli``.

    :param make_app: Makes an app of its own for ``demo``.
    """
    group = Commands(
        "llm-cost",
        short_help="What this app's LLM calls cost.",
        help="Read and keep the ledger of what this app's LLM calls cost.",
    )
    for command in (*COMMANDS, demo_command(make_app)):
        group.add_command(command)
    return group


def main(make_app: MakeApp) -> None:
    """Run the commands without an app: on ``--database-uri``, or on an app's folder."""
    root = Commands(
        "flask-llm-cost",
        params=list(_SOURCE),
        help=(
            "Read and keep a ledger of what LLM calls cost, where no Flask app is at"
            " hand. With one, use `flask llm-cost`.\n\nSay which ledger is meant with"
            " --database-uri, --instance-path or --app, before or after the command."
        ),
    )
    for command in (*COMMANDS, demo_command(make_app)):
        root.add_command(_with_source(command))

    @click.pass_context
    def start(ctx: click.Context, /, **_: t.Any) -> None:
        ctx.obj = ScriptInfo(create_app=lambda: _app(ctx, make_app))

    root.callback = start
    root()


def _with_source(command: click.Command) -> click.Command:
    """The command with the options that say which ledger, so that order is free."""
    twin = copy.copy(command)
    if isinstance(command, click.Group):
        twin = t.cast(click.Group, twin)
        twin.commands = {n: _with_source(c) for n, c in command.commands.items()}
        return twin
    taken = {param.name for param in command.params}
    twin.params = [*command.params, *(p for p in _SOURCE if p.name not in taken)]
    return twin


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and param.name is not None:
        ctx.find_root().meta[param.name] = value


_SOURCE: t.Final = (
    click.Option(
        ["--database-uri"],
        metavar="URL",
        expose_value=False,
        callback=_remember,
        help="The ledger's database, such as postgresql+psycopg://user@host/name.",
    ),
    click.Option(
        ["--instance-path"],
        metavar="DIR",
        type=click.Path(file_okay=False),
        expose_value=False,
        callback=_remember,
        help="The app's instance folder, where its spool and llm_cost.db are.",
    ),
    click.Option(
        ["--app"],
        metavar="IMPORT",
        expose_value=False,
        callback=_remember,
        help="The Flask app, as in `flask --app`.",
    ),
)


def _app(ctx: click.Context, make_app: MakeApp) -> Flask:
    """The app that a command runs in: the one named, else a bare one."""
    source = ctx.meta
    if "app" in source:
        named = ScriptInfo(app_import_path=source["app"]).load_app()
        if "llm_cost" not in named.extensions:
            raise click.UsageError(f"LlmCost is not set up on {source['app']}.")
        return named
    config = {}
    if "database_uri" in source:
        config["LLM_COST_DATABASE_URI"] = db.from_here(source["database_uri"])
    folder = source.get("instance_path")
    if folder is None:
        if not config and ctx.invoked_subcommand != "prices":
            raise click.UsageError(
                "Say which ledger: --database-uri URL, --instance-path DIR or --app IMPORT."
            )
        # There is no app whose spool could be drained: an empty folder stands for it.
        folder = ctx.with_resource(tempfile.TemporaryDirectory(prefix="llm-cost-"))
    app = make_app(config, os.path.abspath(folder))
    ctx.call_on_close(app.extensions["llm_cost"].close)
    return app
