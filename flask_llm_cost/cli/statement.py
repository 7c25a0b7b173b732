"""``statement``: what each customer, user or feature cost in a month."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator

import click
from flask import current_app
from flask.cli import with_appcontext

from ..calendar import day_start
from ..calendar import iso
from ..calendar import next_first_day
from ..money import digits
from ..money import dumps
from .drain import drain_first
from .focus import month as month_of
from .text import count
from .text import fit
from .text import money
from .text import plain

if t.TYPE_CHECKING:
    from ..query.host import Host
    from ..query.statement import Section
    from ..query.statement import Statement


@click.command()
@click.option("--tag", "key", metavar="KEY", required=True, help="The tag to split by.")
@click.option(
    "--month",
    metavar="YYYY-MM",
    required=True,
    callback=month_of,
    help="The month, in UTC like bills.",
)
@click.option("--value", help="Only this value of the tag.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "csv", "json", "html"]),
    default="text",
    show_default=True,
    help="html is a printable page.",
)
@with_appcontext
def statement(key: str, month: dt.date, value: str | None, form: str) -> None:
    """Show what each value of a tag cost in a month.

    By model and meter. The sections add up to the month's total. Unsettled, estimated and
    unpriced calls are separate lines. LLM_COST_STATEMENT_MARKUP sets factors for
    re-billing. The statement of a closed month never changes; corrections are listed
    after it.

    \b
    flask llm-cost statement --tag tenant --month 2026-10 --format csv
    flask llm-cost statement --tag tenant --month 2026-10 --value acme \\
        --format html
    """
    from ..query import statement_export
    from ..query.statement import statement as ask

    host: Host = current_app.extensions["llm_cost"]
    drain_first(host)
    since = day_start(month, dt.UTC)
    until = day_start(next_first_day("month", month), dt.UTC)
    settings = host.settings
    with host.ledger.reading(since=since, until=until) as connection:
        found = ask(
            connection,
            settings.timezone,
            month,
            key,
            value=value,
            markup=settings.statement_markup,
        )
    if form == "json":
        click.echo(dumps(statement_export.to_json(found)))
        return
    if form == "text":
        for line in _text(found):
            click.echo(plain(line))
        return
    export = statement_export.to_csv if form == "csv" else statement_export.to_html
    click.echo("".join(export(found)), nl=False)


def _text(found: Statement) -> Iterator[str]:
    closed = "" if found.closed_at is None else f", closed {iso(found.closed_at)}"
    yield f"Statement by {found.tag}: {found.month:%Y-%m} (UTC{closed})"
    for section in found.sections:
        yield from _section(section, found)
    yield ""
    yield _total("Total", found.cost_usd, found.charged_usd, found)
    for section in found.corrections:
        yield from _section(section, found)
    if found.corrections:
        yield ""
        yield f"{'Corrected total (cost)':<56}{money(found.corrected_usd):>24}"


def _section(section: Section, found: Statement) -> Iterator[str]:
    from ..query.statement_export import name_of

    yield ""
    name = fit(name_of(section.value), 40)
    on = section.corrected_on
    title = f"Correction of {on}: {name}" if on else name
    yield _total(title, section.cost_usd, section.charged_usd, found)
    for line in section.lines:
        status = "" if line.key.status == "priced" else f", {line.key.status}"
        meter = f"{line.key.meter or 'calls'}{status}"
        cost = "unknown" if line.cost_usd is None else digits(line.cost_usd)
        used = f"{line.calls:,}" if not line.key.meter else digits(line.quantity)
        model = fit(f"{line.key.provider}/{line.key.model}", 28)
        yield f"  {model} {fit(meter, 20)}{used:>14}{cost:>16}"
    unknown = section.calls.get("unpriced", 0)
    if unknown:
        yield f"  {count(unknown, 'call')} without a price."


def _total(title: str, cost: t.Any, charged: t.Any, found: Statement) -> str:
    line = f"{title:<56}{money(cost):>24}"
    return f"{line}  charged {money(charged)}" if found.marked_up else line
