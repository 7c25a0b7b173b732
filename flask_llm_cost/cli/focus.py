"""``focus``: a month of the ledger for FinOps tools."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import typing as t
from collections.abc import Iterable

import click
from flask import current_app
from flask.cli import with_appcontext

from ..calendar import day_start
from ..calendar import next_first_day
from .created import created
from .drain import drain_first

if t.TYPE_CHECKING:
    from ..query.focus import Spec
    from ..query.host import Host


def month(context: click.Context, option: click.Parameter, text: str) -> dt.date:
    """Read ``YYYY-MM``; return its first day."""
    if re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", text) and "1970" <= text < "2262":
        return dt.date.fromisoformat(f"{text}-01")
    raise click.BadParameter(
        f"{text!r} is not a valid month; use YYYY-MM, from 1970-01 to 2261-12."
    )


@click.command()
@click.option(
    "--month",
    "first",
    metavar="YYYY-MM",
    required=True,
    callback=month,
    help="The month, in UTC like bills.",
)
@click.option(
    "--spec",
    type=click.Choice(["1.2", "1.4"]),
    default="1.2",
    show_default=True,
    help="Version of the specification. The official validator does not know 1.4.",
)
@click.option(
    "--role",
    type=click.Choice(["billing", "enrichment"]),
    default="billing",
    show_default=True,
    help="With enrichment, BilledCost is 0, since the provider's own FOCUS file has it.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    default="-",
    help="The file to create, readable by you only. Default: standard output.",
)
@with_appcontext
def focus(first: dt.date, spec: Spec, role: str, output: str) -> None:
    """Export the costs of a month in FOCUS format.

    FOCUS, which FinOps tools read, is the FinOps Open Cost and Usage Specification. There
    is a row per day, meter, model and price, and per value of the tags in
    LLM_COST_ROLLUP_TAGS. EffectiveCost sums to the cost in the ledger. BilledCost sums to
    the bill if `reconcile` compared one that covers the whole month, and explained it;
    otherwise it is 0 and x_Reconciled is false. Corrections of a closed month have
    ChargeClass Correction. Calls without a known cost are counted on standard error.

    \b
    flask llm-cost focus --month 2026-10 --output focus-2026-10.csv
    """
    host: Host = current_app.extensions["llm_cost"]
    drain_first(host)
    from ..bills import StoredBills
    from ..query.billed import billed_month
    from ..query.focus import COLUMNS
    from ..query.focus import csv_values
    from ..query.focus import Month
    from ..query.focus import Notes
    from ..query.focus import rows

    notes, settings = Notes(), host.settings
    since = day_start(first, dt.UTC)
    until = day_start(next_first_day("month", first), dt.UTC)
    bills = StoredBills(host.ledger.bills) if role == "billing" else None
    asked = Month(
        first,
        settings.rollup_tags,
        settings.timezone,
        host.book,
        [] if bills is None else billed_month(bills, first),
    )
    with host.ledger.reading(since=since, until=until) as connection:
        with created(output) as sink:
            sink.write(_line(COLUMNS[spec]))
            for row in rows(connection, asked, notes):
                sink.write(_line(csv_values(row, spec)))
    for line in notes.lines():
        click.echo(line, err=True)


def _line(values: Iterable[t.Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode("utf-8", "replace")
