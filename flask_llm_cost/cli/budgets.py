"""``budgets``: how they stand, whether they are right, and freeing what was lost."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Sequence
from decimal import Decimal

import click
from flask import current_app
from flask.cli import with_appcontext

from ..errors import LlmCostError
from .text import count
from .text import plain

if t.TYPE_CHECKING:
    from ..budgets.maintenance import Budgets
    from ..budgets.standing import Standing
    from ..query.host import Host


@click.group()
def budgets() -> None:
    """See how budgets stand, and keep them right."""


_form = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print it.",
)


@budgets.command("list")
@_form
@with_appcontext
def list_(form: str) -> None:
    """Print each budget's window of now: spent, held, lost and left.

    Of a budget that each value of a tag has, the fifty fullest are printed.
    """
    _print(_standings(None, past=False), form)


@budgets.command()
@click.argument("name")
@_form
@with_appcontext
def show(name: str, form: str) -> None:
    """Print the windows of one budget, also those that are over; the latest first."""
    _print(_standings(name, past=True), form)


@budgets.command()
@click.option("--fix", is_flag=True, help="Set what differs to what the ledger says.")
@with_appcontext
def verify(fix: bool) -> None:
    """Compare what was spent with the calls in the ledger, and what is held with the holds.

    Ends with 1 if they differ; each line says where. Windows of which calls were pruned are
    left out where the ledger cannot tell any more which calls they had.
    """
    host: Host = current_app.extensions["llm_cost"]
    kept = _kept(host)
    host.ledger.drain()
    with host.ledger.reading() as connection:
        lines, unsure = kept.counters.audit.differences(connection)
    for line in lines:
        click.echo(plain(line))
    if unsure:
        click.echo(
            f"{count(unsure, 'window')} cannot be compared: calls or tags of theirs are"
            " gone, or their budget is defined no more."
        )
    if lines and fix:
        kept.mend()
        click.echo(f"{count(len(lines), 'counter')} set right.")
    elif lines:
        raise click.ClickException(f"{count(len(lines), 'difference')} found.")
    else:
        click.echo("What was spent is what the calls cost.")


@budgets.command("reset-hold")
@click.argument("name", required=False)
@click.option("--event-id", help="Free the holds of this call, in whatever state.")
@with_appcontext
def reset_hold(name: str | None, event_id: str | None) -> None:
    """Free holds that were lost: of one budget, or of one call.

    A hold is lost when the process that took it is gone and no row came for its call. It
    counts until then as if the call had cost that much.
    """
    host: Host = current_app.extensions["llm_cost"]
    if (name is None) == (event_id is None):
        raise click.UsageError("Give the name of a budget, or --event-id.")
    kept = _kept(host)
    if name is not None:
        _known(kept, name)
    # What waits in a spool may be the row of a call whose hold was lost.
    host.ledger.drain()
    states = ["lost", "unpriced"] if event_id is None else ["held", "lost", "unpriced"]
    freed = kept.free(states, name=name, event_id=event_id)
    click.echo(f"{count(freed, 'hold')} freed.")


def _kept(host: Host) -> Budgets:
    kept = host.ledger.budgets
    if kept is None:
        raise LlmCostError(
            "There are no budgets: set LLM_COST_MONTHLY_BUDGET or LLM_COST_BUDGETS."
        )
    return kept


def _known(kept: Budgets, name: str) -> None:
    names = [budget.name for budget in kept.defined]
    if name not in names:
        raise click.UsageError(
            f"There is no budget {name!r}; there are {', '.join(map(repr, names))}."
        )


def _standings(name: str | None, *, past: bool) -> Sequence[Standing]:
    from ..budgets.standing import standings

    host: Host = current_app.extensions["llm_cost"]
    kept = _kept(host)
    if name is not None:
        _known(kept, name)
    host.ledger.drain()
    chosen = [b for b in kept.defined if name in (None, b.name)]
    with host.ledger.reading() as connection:
        return standings(connection, chosen, host.clock(), past=past)


def _print(found: Sequence[Standing], form: str) -> None:
    if form == "json":
        click.echo(json.dumps([_document(each) for each in found], indent=2))
        return
    for each in found:
        click.echo(plain(_line(each)))
        click.echo(plain(_more(each)))
    if not found:
        click.echo("No window of a budget has a call yet.")


def _line(each: Standing) -> str:
    whose = "".join(f" {key}:{value}" for key, value in each.tags.items())
    limit = "no limit" if each.limit_usd is None else f"${_usd(each.limit_usd)}"
    percent = "" if each.share is None else f" ({each.share * 100:.1f} %)"
    state = ""
    if each.limit_usd is not None and each.exceeded:
        state = "  SPENT" if each.spent_usd >= each.limit_usd else "  FULL"
    return (
        f"{each.budget.name}{whose}: ${_usd(each.used_usd)} of {limit}{percent}{state}"
    )


def _more(each: Standing) -> str:
    end = "" if each.ends_at is None else f" to {each.ends_at:%Y-%m-%d %H:%M} UTC"
    parts = [
        f"  {each.budget.period} from {each.starts_at:%Y-%m-%d %H:%M}{end}",
        f"spent ${_usd(each.spent_usd)}",
    ]
    if each.held_usd:
        parts.append(f"held ${_usd(each.held_usd)}")
    if each.lost_usd:
        parts.append(f"lost ${_usd(each.lost_usd)}")
    if each.passed:
        passed = ", ".join(
            f"{part * 100:f}".rstrip("0").rstrip(".") for part in each.passed
        )
        parts.append(f"passed {passed} %")
    if each.projected_usd is not None:
        parts.append(f"heading for ${each.projected_usd:,.2f}")
    parts.append(each.budget.behavior)
    return ", ".join(parts)


def _usd(amount: Decimal) -> str:
    return f"{amount.normalize():,f}"


def _document(each: Standing) -> dict[str, t.Any]:
    end = each.ends_at
    return {
        "budget": each.budget.name,
        "period": each.budget.period,
        "behavior": each.budget.behavior,
        "unpriced_policy": each.budget.unpriced,
        "tags": dict(each.tags),
        "starts_at": each.starts_at.isoformat(),
        "ends_at": None if end is None else end.isoformat(),
        "limit_usd": None if each.limit_usd is None else _plain(each.limit_usd),
        "spent_usd": _plain(each.spent_usd),
        "held_usd": _plain(each.held_usd),
        "lost_usd": _plain(each.lost_usd),
        "unpriced_calls": each.unpriced,
        "passed": [str(part) for part in each.passed],
        "projected_usd": None
        if each.projected_usd is None
        else _plain(each.projected_usd),
    }


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
