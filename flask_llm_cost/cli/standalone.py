"""``python -m flask_llm_cost``: the commands on a ledger, without its app."""

from __future__ import annotations

import copy
import os
import tempfile
import typing as t

import click
from flask import Flask
from flask.cli import ScriptInfo

from . import all_commands
from . import Commands
from . import MakeApp
from .db import from_here


def make_root(make_app: MakeApp) -> Commands:
    """Create the commands, with options that select a ledger.

    :param make_app: Creates the app to run a command in, unless ``--app`` names one.
    """
    root = Commands(
        "flask-llm-cost",
        params=list(_OPTIONS),
        help=(
            "Query and maintain a ledger of LLM calls without its Flask app. With the app,"
            " use `flask llm-cost`.\n\nSelect the ledger with --database-uri,"
            " --instance-path or --app, before or after the command."
        ),
    )
    for command in all_commands(make_app):
        root.add_command(_with_options(command))

    @click.pass_context
    def start(ctx: click.Context, /, **_: t.Any) -> None:
        ctx.obj = ScriptInfo(create_app=lambda: _app(ctx, make_app))

    root.callback = start
    return root


def _with_options(command: click.Command) -> click.Command:
    """A copy of a command that takes the options too, so that they may follow it."""
    copied = copy.copy(command)
    if isinstance(command, click.Group):
        copied = t.cast(click.Group, copied)
        copied.commands = {n: _with_options(c) for n, c in command.commands.items()}
        return copied
    taken = {param.name for param in command.params}
    copied.params = [*command.params, *(p for p in _OPTIONS if p.name not in taken)]
    return copied


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and param.name is not None:
        ctx.find_root().meta[param.name] = value


_OPTIONS: t.Final = (
    click.Option(
        ["--database-uri"],
        metavar="URL",
        expose_value=False,
        callback=_remember,
        help="The ledger's database, e.g. postgresql+psycopg://user@host/name.",
    ),
    click.Option(
        ["--instance-path"],
        metavar="DIR",
        type=click.Path(file_okay=False),
        expose_value=False,
        callback=_remember,
        help="The app's instance folder, with its spool and llm_cost.db.",
    ),
    click.Option(
        ["--app"],
        metavar="IMPORT",
        expose_value=False,
        callback=_remember,
        help="The Flask app, as in `flask --app`.",
    ),
)


def _needs_ledger(root: click.Context) -> bool:
    """Whether the command that runs reads or changes calls. Most of ``prices`` do not."""
    current = click.get_current_context()
    return (
        root.invoked_subcommand != "prices"
        or current.info_name == "reprice"
        or current.params.get("event_id") is not None
    )


def _app(ctx: click.Context, make_app: MakeApp) -> Flask:
    """The app to run a command in: the one that ``--app`` names, else a bare one."""
    source = ctx.meta
    if "app" in source:
        named = ScriptInfo(app_import_path=source["app"]).load_app()
        if "llm_cost" not in named.extensions:
            raise click.UsageError(f"LlmCost is not set up on {source['app']}.")
        return named
    config = {}
    if "database_uri" in source:
        config["LLM_COST_DATABASE_URI"] = from_here(source["database_uri"])
    folder = source.get("instance_path")
    if folder is None:
        if not config and _needs_ledger(ctx):
            raise click.UsageError(
                "No ledger given. Add --database-uri URL, --instance-path DIR or --app IMPORT."
            )
        # Without an app there is no spool to drain, so the folder is an empty one.
        folder = ctx.with_resource(tempfile.TemporaryDirectory(prefix="llm-cost-"))
    app = make_app(config, os.path.abspath(folder))
    ctx.call_on_close(app.extensions["llm_cost"].close)
    return app
