"""``flask llm-cost ...``, and ``python -m flask_llm_cost`` where no app is at hand.

A command is one function in a module, and one line in :func:`all_commands`. It translates
options, calls functions that work without a command line, and prints.
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
    """Makes a Flask app that LlmCost is set up on."""

    def __call__(
        self, config: dict[str, t.Any], instance_path: str | None = None
    ) -> Flask: ...


class Commands(AppGroup):
    """A group that says in one line what went wrong: 1 failed, 2 wrongly used.

    :param load: Gives its commands when the first of them is wanted. An app that serves
        requests has this group too, and should not pay for its modules.
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
        """By name."""
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
    return " ".join(str(error).split())


def all_commands(make_app: MakeApp) -> tuple[click.Command, ...]:
    """Every command.

    :param make_app: Makes an app of its own for ``demo``.
    """
    from . import budgets
    from . import calls
    from . import clear
    from . import db
    from . import demo
    from . import doctor
    from . import drain
    from . import ledger
    from . import partition
    from . import pricefile
    from . import prune
    from . import report
    from . import summary
    from . import tags
    from . import verify

    return (
        db.db,
        report.report,
        summary.summary,
        summary.sessions,
        summary.daily,
        calls.calls,
        pricefile.prices,
        drain.drain,
        prune.prune,
        clear.clear,
        partition.partition,
        ledger.ledger,
        tags.tags,
        budgets.budgets,
        doctor.doctor,
        verify.verify_capture,
        demo.demo_command(make_app),
    )


def make_group(make_app: MakeApp) -> AppGroup:
    """The commands of an app, to be added to ``app.cli``.

    :param make_app: Makes an app of its own for ``demo``.
    """
    return Commands(
        "llm-cost",
        load=lambda: all_commands(make_app),
        short_help="What this app's LLM calls cost.",
        help="Read and keep the ledger of what this app's LLM calls cost.",
    )


def main(make_app: MakeApp) -> None:
    """Run the commands without an app: on ``--database-uri``, or on an app's folder.

    :param make_app: Makes the app that stands in for the missing one.
    """
    from .alone import make_root

    make_root(make_app)()
