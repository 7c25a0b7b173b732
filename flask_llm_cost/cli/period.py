"""Which days a command is about: ``--days``, or ``--from`` and ``--to``."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable

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
            help="The last day, in the same form; today if left out.",
        ),
        click.option(
            "--from", "from_", metavar="DAY", help="The first day: YYYY-MM-DD."
        ),
        click.option(
            "--days",
            type=click.IntRange(1, _MOST),
            help="The last so many days, today included; 30 if left out.",
        ),
    ):
        command = option(command)
    return command


def chosen(
    host: Host, days: int | None, from_: str | None, to: str | None
) -> CallFilter:
    """The days that were asked for, in the zone of the reports.

    :raises click.UsageError: If both ways of asking were used.
    :raises FilterError: For a date that is none, and for days the wrong way round.
    """
    from ..query.filters import CallFilter

    zone = host.settings.timezone
    today = host.clock().astimezone(zone).date()
    if days is None:
        return CallFilter.days(from_, to, zone, today)
    if from_ is not None or to is not None:
        raise click.UsageError("Use --days, or --from and --to, not both.")
    first = today - dt.timedelta(days=days - 1)
    return CallFilter.days(first.isoformat(), None, zone, today)
