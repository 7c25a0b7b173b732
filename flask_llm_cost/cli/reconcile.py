"""``reconcile``: compare the ledger to the bills of providers."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Mapping
from decimal import Decimal

import click
from flask import current_app
from flask.cli import with_appcontext

from ..errors import BillError
from ..money import digits
from ..money import parse
from ..storage import NO_REPRICING
from ..storage import required
from .drain import store_queued
from .text import count
from .text import percent
from .text import plain
from .text import text_or_json

if t.TYPE_CHECKING:
    from ..bills import Report
    from ..bills import Statement
    from ..query.host import Host


_DAY: t.Final = click.DateTime(["%Y-%m-%d"])


def _rate(ctx: click.Context, param: click.Parameter, text: str | None) -> t.Any:
    number = None if text is None else parse(text)
    if text is not None and (number is None or number <= 0):
        raise click.BadParameter(f"{text!r} is not a number above 0, such as 1.08.")
    return number


@click.command()
@click.argument("files", metavar="[BILL...]", nargs=-1)
@click.option(
    "--source",
    metavar="NAME",
    help="The provider or format of the bill, if it is not recognized.",
)
@click.option(
    "--live", metavar="NAME", help="Fetch the bill from the admin API of this source."
)
@click.option("--from", "from_", type=_DAY, help="With --live: the first UTC day.")
@click.option("--to", type=_DAY, help="With --live: the last UTC day.")
@click.option("--team", metavar="ID", help="With --live xai: the id of the team.")
@click.option(
    "--rate",
    metavar="USD",
    callback=_rate,
    help="USD per unit of the bill's currency, for a bill without USD.",
)
@click.option(
    "--dates",
    type=click.Choice(["MM/DD", "DD/MM"]),
    help="How days such as 03/04/2026 are written, if the files do not say it.",
)
@click.option(
    "--settle",
    is_flag=True,
    help="Record the true cost of each call that the bill lists, and settle the calls"
    " of reconciled days.",
)
@text_or_json
@with_appcontext
def reconcile(
    files: tuple[str, ...],
    source: str | None,
    rate: Decimal | None,
    settle: bool,
    form: str,
    **asked: t.Any,
) -> None:
    """Compare the ledger to a bill, and explain each difference.

    BILL is a file from the provider's API or console; name all pages. The source is
    recognized. With --live, the bill is fetched from the provider's admin API, with a
    key from the environment. Days are UTC days, as on bills. The bill is stored: see
    `bills`. Exits with status 0 if the bill is reconciled or explained, 1 if not, and 2
    if it cannot be read.

    \b
    flask llm-cost reconcile costs.json usage.json
    flask llm-cost reconcile azure.csv --rate 1.08
    flask llm-cost reconcile activity.csv --settle
    flask llm-cost reconcile --live openai --from 2026-09-01 --to 2026-09-30
    """
    host: Host = current_app.extensions["llm_cost"]
    from .. import bills

    try:
        statements = _statements(files, source, **asked)
    except BillError as error:
        raise click.UsageError(" ".join(str(error).split())) from error
    if rate is not None:
        _check_rate(statements)
    if host.ledger.queue is not None:
        store_queued(host)
    scopes = host.settings.bill_scopes
    reports: list[Report] = []
    costs: dict[str, Decimal] = {}
    for statement in statements:
        found = _compare(host, statement, rate)
        reports += found
        if settle:
            costs |= bills.true_costs(host.ledger, statement, found, scopes)
    if form == "json":
        click.echo(bills.as_text(reports))
    else:
        for number, report in enumerate(reports):
            click.echo("\n" * bool(number) + "\n".join(lines_of(report)))
    if settle:
        _settle(host, costs, quiet=form == "json")
    if not reports or not all(report.good for report in reports):
        click.get_current_context().exit(1)


def _check_rate(statements: t.Iterable[Statement]) -> None:
    currencies = {each.currency for each in statements}
    if len(currencies - {"USD"}) != 1:
        raise click.UsageError(
            "--rate is for one currency other than USD; these bills are in"
            f" {' and '.join(sorted(currencies))}."
        )


def _statements(
    files: tuple[str, ...],
    source: str | None,
    *,
    live: str | None,
    from_: dt.datetime | None,
    to: dt.datetime | None,
    team: str | None,
    dates: str | None,
) -> tuple[Statement, ...]:
    from .. import bills

    if live is None:
        if from_ is not None or to is not None or team is not None:
            raise click.UsageError("--from, --to and --team need --live.")
        if not files:
            raise click.UsageError("Name the files of a bill, or fetch it with --live.")
        day_first = None if dates is None else dates == "DD/MM"
        documents = [
            bills.Document.of_path(each, day_first=day_first) for each in files
        ]
        return bills.read(documents, source)
    if files or source is not None or dates is not None:
        raise click.UsageError("Use --live, or files and --source, not both.")
    if from_ is None or to is None:
        raise click.UsageError("--live needs --from and --to.")
    if to < from_:
        raise click.UsageError(
            f"--from {from_:%Y-%m-%d} is after --to {to:%Y-%m-%d}. Swap them."
        )
    from ..bills.live import fetch

    end = to.date() + dt.timedelta(days=1)
    fetched = fetch(live, from_.date(), end, team=team, progress=_progress)
    return bills.read(fetched, live)


def _progress(text: str) -> None:
    click.echo(plain(text), err=True)


def _compare(host: Host, statement: Statement, rate: Decimal | None) -> list[Report]:
    from .. import bills

    reports = bills.compare(
        host.ledger,
        statement,
        scopes=host.settings.bill_scopes,
        rate=rate,
        now=host.clock(),
    )
    if statement.covered:
        stored = bills.StoredBills(host.ledger.bills)
        stored.note(stored.put(statement), reports)
    unknown = bills.unknown_groups(statement, host.settings.bill_scopes)
    for warning in (*statement.warnings, *unknown):
        click.echo(plain(warning), err=True)
    return reports


def _settle(host: Host, costs: Mapping[str, Decimal], *, quiet: bool) -> None:
    if not costs:
        click.echo("The bill does not settle any call.", err=quiet)
        return
    repricing = required(host.ledger.repricing, NO_REPRICING)
    done = repricing.settle(costs, now=dt.datetime.now(dt.UTC))
    click.echo(
        f"{count(done.priced + done.changed, 'call')} settled. To undo this:"
        f" flask llm-cost prices reprice --undo {done.run}",
        err=quiet,
    )


_VERDICTS: t.Final = {
    "reconciled": "RECONCILED",
    "explained": "EXPLAINED",
    "unexplained": "UNEXPLAINED",
    "not_comparable": "NOT COMPARABLE",
    "nothing": "NOTHING TO COMPARE",
}


def lines_of(report: Report) -> list[str]:
    """Describe a report."""
    from .. import bills

    scope = "" if report.scope is None else f", {report.scope}"
    coverage = ""
    if report.coverage is not None:
        coverage = f" ({percent(report.coverage, 2)} of the amount billed per call)"
    days = "no days"
    if report.start <= report.end:
        days = f"{report.start} to {report.end} (UTC)"
    found = [
        f"{report.source}{scope}: {days}",
        f"  billed      ${digits(report.billed_usd)}",
        f"  ledger      ${digits(report.ledger_usd)}{coverage}",
        f"  difference  {_signed(report.difference_usd)}",
    ]
    if report.ignored_usd:
        found.append(f"  excluded, not for LLMs: ${digits(report.ignored_usd)}")
    for cause, usd in report.by_cause().items():
        found.append(f"    {_signed(usd)}  {cause}: {bills.CAUSES[cause]}")
        if cause == "unexplained":
            found += [f"      {line}" for line in _unexplained(report)]
    found.append(
        f"  {_VERDICTS[report.verdict]}"
        + (f". {report.reason}" if report.reason else "")
    )
    found += [
        f"  {each.day}: not comparable. {each.reason}"
        for each in report.days
        if each.verdict == "not_comparable" and report.verdict != "not_comparable"
    ]
    found += [f"  {each}" for each in report.suggestions]
    return [plain(line) for line in found]


def _unexplained(report: Report) -> list[str]:
    found = []
    for each in report.residuals:
        if each.cause == "unexplained":
            what = " ".join(filter(None, (each.model, each.meter)))
            why = f" (possibly {', '.join(each.candidates)})" if each.candidates else ""
            found.append(f"{each.day} {what} {_signed(each.amount_usd)}{why}")
    more = len(found) - 20
    return found[:20] + ([f"and {more} more: see --format json"] if more > 0 else [])


def _signed(usd: Decimal) -> str:
    return f"{'-' if usd < 0 else '+'}${digits(abs(usd))}"
