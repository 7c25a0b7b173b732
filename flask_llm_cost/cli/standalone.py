"""``python -m flask_llm_cost``: the commands on a ledger of which there is no app."""

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
    """The commands with options that say which ledger is meant.

    :param make_app: Makes the app that stands in for the missing one.
    """
    root = Commands(
        "flask-llm-cost",
        params=list(_SOURCE),
        help=(
            "Read and keep a ledger of what LLM calls cost, where no Flask app is at"
            " hand. With one, use `flask llm-cost`.\n\nSay which ledger is meant with"
            " --database-uri, --instance-path or --app, before or after the command."
        ),
    )
    for command in all_commands(make_app):
        root.add_command(_with_source(command))

    @click.pass_context
    def start(ctx: click.Context, /, **_: t.Any) -> None:
        ctx.obj = ScriptInfo(create_app=lambda: _app(ctx, make_app))

    root.callback = start
    return root


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
        config["LLM_COST_DATABASE_URI"] = from_here(source["database_uri"])
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
