"""The ``flask llm-cost`` commands, also run as ``python -m flask_llm_cost``.

A command is one function in a module, and one line in :func:`all_commands`. It parses
options, calls functions that work without a command line, and prints the result.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import MutableMapping

import click
from flask import Flask
from flask.cli import AppGroup

from ..errors import FilterError
from ..errors import LlmCostError


class MakeApp(t.Protocol):
    """Creates a Flask app with LlmCost set up on it."""

    def __call__(
        self, config: dict[str, t.Any], instance_path: str | None = None
    ) -> Flask: ...


class Commands(AppGroup):
    """A command group that reports errors in one line.

    Exit status 1 is a failure, 2 a usage error.

    :param load: Returns the commands. Called on first access, so that an app that only
        serves requests does not import them.
    """

    def __init__(
        self,
        name: str,
        *,
        load: Callable[[], Iterable[click.Command]] = tuple,
        **options: t.Any,
    ) -> None:
        self._load: Callable[[], Iterable[click.Command]] = load
        super().__init__(name, **options)

    @property
    def commands(self) -> MutableMapping[str, click.Command]:
        """The commands by name."""
        load, self._load = self._load, tuple
        for command in load():
            self._commands[command.name or ""] = command
        return self._commands

    @commands.setter
    def commands(self, commands: MutableMapping[str, click.Command]) -> None:
        self._commands = commands

    def invoke(self, ctx: click.Context) -> t.Any:
        try:
            return super().invoke(ctx)
        except FilterError as error:
            raise click.UsageError(_line(error)) from error
        except LlmCostError as error:
            raise click.ClickException(_line(error)) from error


def _line(error: LlmCostError) -> str:
    from .text import plain

    # It may repeat what a file or a server says.
    return plain(" ".join(str(error).split()))


def all_commands(make_app: MakeApp) -> tuple[click.Command, ...]:
    """Every command.

    :param make_app: Creates the app that ``demo`` runs.
    """
    from .bills import bills
    from .budgets import budgets
    from .calls import calls
    from .clear import clear
    from .db import db
    from .demo import demo_command
    from .distribute import distribute
    from .doctor import doctor
    from .drain import drain
    from .focus import focus
    from .ledger import ledger
    from .partition import partition
    from .prune import prune
    from .reconcile import reconcile
    from .report import report
    from .savings import savings
    from .statement import statement
    from .summary import daily
    from .summary import sessions
    from .summary import summary
    from .tags import tags
    from .verify import verify_capture
    from .whatif import prices

    return (
        db,
        report,
        summary,
        sessions,
        daily,
        calls,
        focus,
        savings,
        statement,
        prices,
        drain,
        prune,
        clear,
        partition,
        distribute,
        ledger,
        tags,
        budgets,
        reconcile,
        bills,
        doctor,
        verify_capture,
        demo_command(make_app),
    )


def make_group(make_app: MakeApp) -> AppGroup:
    """Create the ``llm-cost`` group for ``app.cli``.

    :param make_app: Creates the app that ``demo`` runs.
    """
    return Commands(
        "llm-cost",
        load=lambda: all_commands(make_app),
        short_help="Track what this app's LLM calls cost.",
        help="Query and maintain the ledger of this app's LLM calls.",
    )
