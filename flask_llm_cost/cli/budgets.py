"""``budgets``: show, verify and repair budgets, settle calls, release reservations."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections.abc import Sequence
from decimal import Decimal

import click
from flask import current_app
from flask.cli import with_appcontext

from .. import checks
from ..errors import ConfigError
from ..errors import LlmCostError
from ..money import digits
from ..money import multiply
from ..money import own_context
from .drain import store_queued
from .text import count
from .text import fit
from .text import money
from .text import percent
from .text import plain
from .text import text_or_json
from .text import wrapped

if t.TYPE_CHECKING:
    from ..budgets.standing import Ended
    from ..budgets.standing import Standing
    from ..budgets.storage import Budgets
    from ..query.host import Host


@click.group()
def budgets() -> None:
    """Show budgets, and verify their counters."""


@budgets.command("list")
@text_or_json
@with_appcontext
def list_(form: str) -> None:
    """List the current window of each budget, with a forecast.

    The amounts are spent, reserved (calls in progress), unsettled (calls that were cut,
    reported no usage or have no price) and lost (calls that never ended).

    If each value of a tag has its own budget, the 50 most used are listed.
    """
    _print(_standings(None), form)


@budgets.command()
@click.argument("name")
@text_or_json
@with_appcontext
def show(name: str, form: str) -> None:
    """List all windows of one budget, latest first."""
    _print(_standings(name, ended="all"), form)


@budgets.command()
@click.option("--fix", is_flag=True, help="Set wrong counters to the ledger's amounts.")
@with_appcontext
def verify(fix: bool) -> None:
    """Compare counters with the calls and reservations in the ledger.

    Exits with status 1 if they differ; each line names one difference. Windows that
    cannot be checked, because calls were pruned or tags erased, are skipped.
    """
    host: Host = current_app.extensions["llm_cost"]
    stored = _stored(host)
    store_queued(host)
    with host.ledger.reading() as connection:
        lines, unverifiable = stored.verify(connection)
    for line in lines:
        click.echo(plain(line))
    if unverifiable:
        click.echo(
            f"{count(unverifiable, 'window')} skipped: calls were pruned, tags were erased,"
            " or the budget is no longer defined."
        )
    if lines and fix:
        stored.repair()
        click.echo(f"{count(len(lines), 'counter')} corrected.")
    elif lines:
        raise click.ClickException(
            f"{count(len(lines), 'difference')} found. Run with --fix to correct them."
        )
    else:
        click.echo("The amounts spent equal the cost of the calls.")


@budgets.command()
@click.argument("name", required=False)
@click.option("--event-id", help="Release all amounts of this call instead.")
@with_appcontext
def release(name: str | None, event_id: str | None) -> None:
    """Release the lost and unsettled amounts of a budget or call.

    A reservation is lost if its process ended before the call was stored. It counts
    until the call is stored. An unsettled amount counts until the call's true cost is
    known: see `budgets settle`.
    """
    host: Host = current_app.extensions["llm_cost"]
    if (name is None) == (event_id is None):
        raise click.UsageError("Give either the name of a budget or --event-id.")
    stored = _stored(host)
    if name is not None:
        _check_name(stored, name)
    # The spool may contain calls whose reservations were lost.
    store_queued(host)
    released = stored.release(name=name, event_id=event_id)
    click.echo(f"{count(released, 'reservation')} released.")


@budgets.command()
@click.option("--event-id", required=True, help="The call.")
@click.option("--usd", required=True, help="Its true cost in USD.")
@with_appcontext
def settle(event_id: str, usd: str) -> None:
    """Record the true cost of a call that is not settled.

    Such a call was cut, reported no usage or has no price. Its true cost replaces the
    unsettled amount in budgets, and the known part of the cost in every total. The
    previous cost is kept: `prices reprice --undo RUN` restores it.
    """
    host: Host = current_app.extensions["llm_cost"]
    try:
        cost = checks.money("--usd", usd)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    store_queued(host)
    repricing = host.ledger.repricing
    if repricing is None:
        raise LlmCostError("Calls can be settled only in a database.")
    try:
        done = repricing.settle({event_id: cost}, now=host.clock())
    except ValueError as error:
        raise click.UsageError(f"--event-id: {error}") from None
    if not done.priced + done.changed:
        raise LlmCostError(
            f"No call with the event id {event_id!r} is in the ledger; `calls export` lists"
            " the ids."
        )
    click.echo(f"The call now costs ${digits(cost)}. To undo this:")
    click.echo(f"  flask llm-cost prices reprice --undo {done.run}")


def _stored(host: Host) -> Budgets:
    stored = host.ledger.budgets
    if stored is not None:
        return stored
    if host.settings.storage != "database":
        raise LlmCostError(
            "Budgets are counted only in a database. With another LLM_COST_STORAGE, each"
            " call is checked on its own."
        )
    raise LlmCostError(
        "No budgets are defined in this app: set LLM_COST_MONTHLY_BUDGET or"
        " LLM_COST_BUDGETS. To use an app's settings, add --app."
    )


def _check_name(stored: Budgets, name: str) -> None:
    names = [budget.name for budget in stored.definitions]
    if name not in names:
        raise click.UsageError(
            f"No budget named {name!r}. Defined budgets: {', '.join(map(repr, names))}."
        )


def _standings(name: str | None, *, ended: Ended = "none") -> Sequence[Standing]:
    host: Host = current_app.extensions["llm_cost"]
    stored = _stored(host)
    if name is not None:
        _check_name(stored, name)
    store_queued(host)
    with host.ledger.reading() as connection:
        return stored.standings(connection, host.clock(), name=name, ended=ended)


def _print(found: Sequence[Standing], form: str) -> None:
    if form == "json":
        click.echo(json.dumps([_document(each) for each in found], indent=2))
        return
    if not found:
        click.echo("No call has counted in a budget yet.")
        return
    host: Host = current_app.extensions["llm_cost"]
    zone = host.settings.timezone
    click.echo(f"Amounts in USD, times in {zone}.")
    click.echo()
    click.echo(f"{'Budget':<35}{'Period':>8}{'Used':>15}{'Limit':>15}{'Used':>7}")
    for each in found:
        click.echo(_line(each))
        click.echo("\n".join(wrapped(_details(each, zone), 2)))


@own_context
def _line(each: Standing) -> str:
    scope = "".join(f" {key}:{value}" for key, value in each.tags.items())
    limit = "no limit" if each.limit_usd is None else money(each.limit_usd)
    used = each.used_fraction
    part = "" if used is None else percent(used, 0)
    return (
        f"{fit(each.budget.name + scope, 35)}{each.budget.period:>8}"
        f"{money(each.used_usd):>15}{limit:>15}{part:>7}"
    ).rstrip()


def _details(each: Standing, zone: dt.tzinfo) -> str:
    parts = [f"Since {each.starts_at.astimezone(zone):%Y-%m-%d %H:%M}"]
    if each.ends_at is not None:
        parts.append(f"until {each.ends_at.astimezone(zone):%Y-%m-%d %H:%M}")
    if each.limit is not None and each.exceeded:
        parts.append("EXCEEDED" if each.spent_up else "FULL")
    if each.used != each.spent:
        parts.append(f"{money(each.spent_usd)} spent")
    if each.reserved:
        parts.append(f"{money(each.reserved_usd)} reserved")
    if each.unsettled:
        calls = count(each.unsettled_calls, "call")
        parts.append(f"{money(each.unsettled_usd)} unsettled ({calls})")
    if each.lost:
        parts.append(f"{money(each.lost_usd)} lost")
    if each.passed:
        passed = ", ".join(
            f"{digits(multiply(threshold, 100))}%" for threshold in each.passed
        )
        parts.append(f"thresholds reached: {passed}")
    if each.forecast_usd is not None:
        parts.append(f"forecast {money(each.forecast_usd)}")
    parts.append(each.budget.behavior)
    return plain(", ".join(parts))


def _document(each: Standing) -> dict[str, t.Any]:
    return {
        "budget": each.budget.name,
        "period": each.budget.period,
        "behavior": each.budget.behavior,
        "unpriced_policy": each.budget.unpriced,
        "tags": dict(each.tags),
        "starts_at": each.starts_at.isoformat(),
        "ends_at": None if each.ends_at is None else each.ends_at.isoformat(),
        "limit_usd": _digits(each.limit_usd),
        "spent_usd": _digits(each.spent_usd),
        "reserved_usd": _digits(each.reserved_usd),
        "unsettled_usd": _digits(each.unsettled_usd),
        "unsettled_calls": each.unsettled_calls,
        "lost_usd": _digits(each.lost_usd),
        "passed": [str(threshold) for threshold in each.passed],
        "forecast_usd": _digits(each.forecast_usd),
    }


def _digits(amount: Decimal | None) -> str | None:
    return None if amount is None else digits(amount)
