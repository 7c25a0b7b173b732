"""``summary``, ``sessions`` and ``daily``: the current day, week, month or year."""

from __future__ import annotations

import contextlib
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from decimal import Decimal

import click
from flask import current_app
from flask.cli import with_appcontext

from .drain import drain_first
from .text import dumps
from .text import fit
from .text import iso
from .text import money
from .text import pruned
from .text import short
from .text import spend

if t.TYPE_CHECKING:
    from ..query.calls import CallQuery
    from ..query.host import Host
    from ..query.sessions import Session
    from ..query.totals import Totals

PERIODS: t.Final = ("day", "week", "month", "year", "all")

_Command: t.TypeAlias = Callable[..., t.Any]

_MICRO: t.Final = Decimal("0.000001")


def _options(command: _Command) -> _Command:
    for option in (
        click.option(
            "--format",
            "form",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
        ),
        click.option("--model", help="Only calls of this model."),
    ):
        command = option(command)
    return command


_period = click.option(
    "--period",
    type=click.Choice(PERIODS),
    default="month",
    show_default=True,
    help="The current one, so far.",
)


@click.command()
@_period
@_options
@with_appcontext
def summary(period: str, model: str | None, form: str) -> None:
    """Sum up the current day, week, month or year.

    \b
    flask llm-cost summary
    flask llm-cost summary --period week --model gpt-4o --format json
    """
    from ..query.totals import sum_up

    host: Host = current_app.extensions["llm_cost"]
    drain_first(host)
    with asking(host, model, period) as calls:
        asked = current(calls, period)
        models = asked.group_by("model")
        found = summed(calls, period, models)
        limit = asked.pruned_before()
    found["pruned_before"] = iso(limit)
    if form == "json":
        click.echo(dumps(found))
        return
    unknown = f"+{found['unpriced']:,} unpriced, +{found['incomplete']:,} incomplete"
    if found["estimated"]:
        unknown += f", +{money(found['estimated_cost'])} estimated"
    since = found["from"] or "the first call"
    click.echo(f"Since {since} ({host.settings.timezone})")
    for line in pruned(limit, host.settings.timezone):
        click.echo(line)
    click.echo()
    click.echo(f"Cost      {spend(sum_up(models.values()))}  {unknown}")
    click.echo(f"Requests  {found['record_count']:,}")
    click.echo(
        f"Tokens    {found['total_tokens']:,}: {found['prompt_tokens']:,} in"
        f" ({found['cache_read_tokens']:,} from cache),"
        f" {found['completion_tokens']:,} out, {found['cache_write_tokens']:,} to cache"
    )
    click.echo()
    click.echo(f"{'Models':<42}{'Requests':>10}{'Tokens':>14}{'Cost':>14}")
    for name, totals in models.items():
        tokens = _prompt(totals) + totals.output_tokens
        click.echo(
            f"  {fit(name, 39)} {totals.calls:>10,}{short(tokens):>14}"
            f"{spend(totals):>14}"
        )


@click.command()
@_period
@_options
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="How many at most.",
)
@with_appcontext
def sessions(period: str, model: str | None, form: str, limit: int) -> None:
    """Show what each session cost, the dearest first.

    A session is a value of the tag that LLM_COST_SESSION_TAG names. LLM_COST_SESSION_NAMES
    gives them names; those it does not know are one row.
    """
    host: Host = current_app.extensions["llm_cost"]
    drain_first(host)
    with asking(host, model, period) as calls:
        asked = current(calls, period)
        before = asked.pruned_before("session")
        found = [(s.totals, _session(s, host)) for s in asked.sessions(limit)]
    for line in pruned(before, host.settings.timezone):
        click.echo(line, err=form == "json")
    if form == "json":
        since = {"pruned_before": iso(before)}
        click.echo(dumps([row | since for _, row in found]))
        return
    if not found:
        click.echo("No calls in this period.")
        return
    click.echo(f"{'Sessions':<30}{'Last':<17}{'Requests':>9}{'Tokens':>11}{'Cost':>13}")
    for totals, row in found:
        name = row["session_name"] or row["session_id"]
        if row["is_deleted"]:
            name = "(deleted sessions)"
        last = row["last_request"][:16].replace("T", " ")
        click.echo(
            f"{fit(name, 29)} {last:<17}{row['requests']:>9,}"
            f"{short(row['total_tokens']):>11}{spend(totals):>13}"
        )


@click.command()
@click.option(
    "--days",
    type=click.IntRange(1, 3660),
    default=30,
    show_default=True,
    help="The last so many days, today included.",
)
@_options
@with_appcontext
def daily(days: int, model: str | None, form: str) -> None:
    """Show every one of the last days, those without calls too."""
    host: Host = current_app.extensions["llm_cost"]
    drain_first(host)
    with asking(host, model, days) as calls:
        by_day = calls.last(days).group_by_period("day")
        before = calls.last(days).pruned_before()
    for line in pruned(before, host.settings.timezone):
        click.echo(line, err=form == "json")
    if form == "json":
        click.echo(dumps([_day(day, totals) for day, totals in by_day.items()]))
        return
    most = max(totals.spend_pico for totals in by_day.values())
    click.echo(f"{'Day':<12}{'Requests':>9}{'Tokens':>14}{'Cost':>14}")
    for day, totals in by_day.items():
        bar = "#" * -(-28 * totals.spend_pico // most) if most else ""
        click.echo(
            f"{day:<12}{totals.calls:>9,}{short(totals.total_tokens):>14}"
            f"{spend(totals):>14}  {bar}".rstrip()
        )


@contextlib.contextmanager
def asking(
    host: Host, model: str | None = None, period: str | int = "all"
) -> Iterator[CallQuery]:
    """Questions that all see the same moment of the ledger.

    :param period: Nothing before that is asked for: a current one, or so many days.
    """
    from ..query.calls import CallQuery

    nobody = CallQuery(host.ledger.reading, host.settings, host.clock)
    asked = nobody.last(period) if isinstance(period, int) else current(nobody, period)
    span = asked.filter
    with host.ledger.reading(since=span.start, until=span.end) as connection:
        calls = CallQuery(
            lambda **_: contextlib.nullcontext(connection), host.settings, host.clock
        )
        yield calls if model is None else calls.where(model=model)


def current(calls: CallQuery, period: str) -> CallQuery:
    """The calls of the current day, week, month or year, or all."""
    if period == "day":
        return calls.today()
    if period == "week":
        return calls.this_week()
    if period == "month":
        return calls.this_month()
    if period == "year":
        today = calls.now().astimezone(calls.settings.timezone).date()
        return calls.between(
            today.replace(month=1, day=1), today.replace(month=12, day=31)
        )
    return calls


def summed(
    calls: CallQuery, period: str, models: Mapping[str, Totals]
) -> dict[str, t.Any]:
    """The totals of a period, with names as BillingStore has them.

    :param models: What the calls of each model add up to.
    """
    found = current(calls, period)
    zone = calls.settings.timezone
    start = found.filter.start
    totals = found.totals()
    days = found.group_by_period("day")
    return {
        "period": period,
        "from": None if start is None else start.astimezone(zone).isoformat(),
        "to": calls.now().astimezone(zone).isoformat(timespec="seconds"),
        "total_cost": _micro(totals.cost_usd),
        **_tokens(totals),
        "by_model": {
            model: {
                "cost": group.cost_usd,
                "prompt_tokens": _prompt(group),
                "completion_tokens": group.output_tokens,
                "requests": group.calls,
            }
            for model, group in models.items()
        },
        "by_day": {day: group.cost_usd for day, group in days.items() if group.calls},
        "record_count": totals.calls,
        "unpriced": totals.unpriced,
        "incomplete": totals.incomplete,
        "estimated": totals.estimated,
        "estimated_cost": _micro(totals.estimated_usd),
    }


def _session(session: Session, host: Host) -> dict[str, t.Any]:
    totals, zone = session.totals, host.settings.timezone
    return {
        "session_id": session.session_id,
        "session_name": session.name,
        "is_deleted": session.deleted,
        "total_cost": _micro(totals.cost_usd),
        **_tokens(totals),
        "requests": totals.calls,
        "first_request": session.first_at.astimezone(zone).isoformat(
            timespec="seconds"
        ),
        "last_request": session.last_at.astimezone(zone).isoformat(timespec="seconds"),
        "models": list(session.models),
        "unpriced": totals.unpriced,
        "incomplete": totals.incomplete,
        "estimated": totals.estimated,
        "estimated_cost": _micro(totals.estimated_usd),
    }


def _day(day: str, totals: Totals) -> dict[str, t.Any]:
    tokens = _tokens(totals)
    return {
        "date": day,
        "cost": _micro(totals.cost_usd),
        "tokens": tokens.pop("total_tokens"),
        **tokens,
        "requests": totals.calls,
        "unpriced": totals.unpriced,
        "incomplete": totals.incomplete,
        "estimated": totals.estimated,
        "estimated_cost": _micro(totals.estimated_usd),
    }


def _prompt(totals: Totals) -> int:
    # BillingStore's prompt holds what was read from a cache, not what was written to one.
    return totals.input_tokens - totals.cache_write_tokens


def _tokens(totals: Totals) -> dict[str, int]:
    prompt = _prompt(totals)
    return {
        "total_tokens": prompt + totals.output_tokens,
        "prompt_tokens": prompt,
        "completion_tokens": totals.output_tokens,
        "cache_read_tokens": totals.cache_read_tokens,
        "cache_write_tokens": totals.cache_write_tokens,
    }


def _micro(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else amount.quantize(_MICRO)
