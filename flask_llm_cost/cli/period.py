"""The calls that a command covers: their days, provider, model and tags."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Iterable

import click

if t.TYPE_CHECKING:
    from ..query.filters import CallFilter
    from ..query.host import Host

Command: t.TypeAlias = Callable[..., t.Any]

_MOST: t.Final = 3660


def period_options(command: Command) -> Command:
    """Add ``--days``, ``--from`` and ``--to``."""
    for option in (
        click.option(
            "--to",
            metavar="DAY",
            help="The last day. Default: today.",
        ),
        click.option(
            "--from", "from_", metavar="DAY", help="The first day, as YYYY-MM-DD."
        ),
        click.option(
            "--days",
            type=click.IntRange(1, _MOST),
            help="Number of days up to today. Default: 30.",
        ),
    ):
        command = option(command)
    return command


def filter_options(command: Command) -> Command:
    """Add ``--provider``, ``--model``, ``--scope`` and ``--tag``."""
    for option in (
        click.option(
            "--tag",
            "tags",
            multiple=True,
            metavar="KEY:VALUE",
            help="Only calls with this tag; can be repeated.",
        ),
        click.option(
            "--scope",
            metavar="NAME=ID",
            help="Only calls in this scope, or part of one: project=proj_1.",
        ),
        click.option("--model", help="Only calls of this model."),
        click.option("--provider", help="Only calls to this provider."),
    ):
        command = option(command)
    return command


def chosen(
    host: Host,
    days: int | None,
    from_: str | None,
    to: str | None,
    *,
    tags: Iterable[str] = (),
    **conditions: str | None,
) -> CallFilter:
    """The selected calls; days are of ``LLM_COST_TIMEZONE``.

    :param tags: Texts of the form ``key:value``.
    :param conditions: For :meth:`.CallFilter.narrowed`.
    :raises click.UsageError: If both kinds of options are given.
    :raises FilterError: If a date or tag is invalid or the range is reversed.
    """
    from ..query.filters import tag_conditions

    found = _days(host, days, from_, to)
    return found.narrowed(tags=tuple(tag_conditions(tags)), **conditions)


def _days(
    host: Host, days: int | None, from_: str | None, to: str | None
) -> CallFilter:
    from ..query.filters import CallFilter

    zone = host.settings.timezone
    today = host.clock().astimezone(zone).date()
    if days is None:
        return CallFilter.days(from_, to, zone, today)
    if from_ is not None or to is not None:
        raise click.UsageError("Use --days, or --from and --to, not both.")
    first = today - dt.timedelta(days=days - 1)
    return CallFilter.days(first.isoformat(), None, zone, today)
