"""``report``: what was spent in some days, on what, and by whom."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal

import click
from flask import current_app
from flask.cli import with_appcontext

from ..calendar import iso
from .drain import drain_first
from .period import chosen
from .period import period_options
from .text import count
from .text import fit
from .text import gaps
from .text import money
from .text import pruned
from .text import short
from .text import spend

if t.TYPE_CHECKING:
    import sqlalchemy as sa

    from ..query.filters import CallFilter
    from ..query.host import Host
    from ..query.listing import CallRow
    from ..query.report import Report
    from ..query.totals import Group
    from ..query.totals import Totals


_COLUMNS: t.Final = (
    "calls",
    "failed",
    "priced",
    "unpriced",
    "incomplete",
    "estimated",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "total_tokens",
    "cost_usd",
    "estimated_usd",
)


@dataclass(frozen=True, slots=True)
class Section:
    """One breakdown, ready to be printed: a line for each of its groups."""

    by: str
    """As ``--by`` names it."""
    title: str
    rows: Sequence[tuple[str, Totals, Decimal | None]]
    """A name, what it adds up to, and its part of the whole's spend (0 to 1)."""
    note: Sequence[str] = ()
    """What it lacks, as lines."""


def _by(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value in (None, "model", "provider", "day", "session"):
        return value
    if value.startswith("tag:") and len(value) > len("tag:"):
        return value
    raise click.BadParameter(
        f"{value!r} is none of model, provider, day, session and tag:KEY."
    )


@click.command()
@period_options
@click.option(
    "--by",
    callback=_by,
    metavar="[model|provider|day|session|tag:KEY]",
    help="Only this breakdown, whole.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    show_default=True,
    help="Money in json and csv is exact, as text.",
)
@with_appcontext
def report(
    days: int | None, from_: str | None, to: str | None, by: str | None, form: str
) -> None:
    """Show what was spent: totals, providers, models, tags and the dearest calls.

    Without --by there is a breakdown for each tag of LLM_COST_ROLLUP_TAGS, and the text
    is cut to the ten dearest of each. Costs are what is known; how many calls have no
    price, or one only for a part of them, stands beside every total.

    \b
    flask llm-cost report --days 7
    flask llm-cost report --by tag:feature
    flask llm-cost report --from 2026-10-01 --to 2026-10-31 --by day --format csv
    """
    host: Host = current_app.extensions["llm_cost"]
    where = chosen(host, days, from_, to)
    drain_first(host)
    if by is None:
        click.echo(full(host, where, form), nl=False)
    else:
        click.echo(single(host, where, by, form), nl=False)


def full(host: Host, where: CallFilter, form: str = "text") -> str:
    """The whole report.

    :param form: ``"text"``, ``"json"`` or ``"csv"``.
    """
    from ..query import report as query

    with host.ledger.reading(since=where.start, until=where.end) as connection:
        found = query.report(connection, where, tags=host.settings.rollup_tags)
    note = pruned(found.pruned_before, where.zone)
    sections = [
        Section("provider", "Providers", _rows(found.providers)),
        Section("model", "Models", _rows(found.models)),
        *(
            Section(
                f"tag:{key}",
                f"Tag {key}",
                _rows(groups),
                pruned(found.tags_pruned_before[key], where.zone),
            )
            for key, groups in found.tags.items()
        ),
    ]
    if form == "json":
        return _dumps(_report_json(found, sections))
    if form == "csv":
        return _csv(found.totals, sections)
    return _text(
        [
            *_head(where, found.totals),
            *(line for s in sections for line in _table(s, most=10)),
            *_dearest(found.dearest, where, note),
        ]
    )


def single(host: Host, where: CallFilter, by: str, form: str = "text") -> str:
    """One breakdown and its total.

    :param by: ``"model"``, ``"provider"``, ``"day"``, ``"session"`` or ``"tag:KEY"``.
    :raises FilterError: If the key can be no tag's.
    """
    from ..query.sources import pruned_before
    from ..query.totals import totals

    names = {
        "model": ("provider", "model"),
        "provider": ("provider",),
        "day": (),
        "session": (f"tag:{host.settings.session_tag}",),
    }
    with host.ledger.reading(since=where.start, until=where.end) as connection:
        whole = totals(connection, where)
        limit = pruned_before(connection, where, names.get(by, (by,)))
        section = _section(host, connection, where, by)
    section = replace(section, note=pruned(limit, where.zone))
    if form == "json":
        rows = [{"key": n} | _totals_json(g, share) for n, g, share in section.rows]
        return _dumps(
            _period(where)
            | {"pruned_before": iso(limit), "by": by}
            | {"totals": _totals_json(whole), "rows": rows}
        )
    if form == "csv":
        return _csv(whole, [section])
    return _text([*_head(where, whole), *_table(section)])


def _section(
    host: Host, connection: sa.Connection, where: CallFilter, by: str
) -> Section:
    from ..query.totals import breakdown
    from ..query.totals import tag_breakdown

    if by == "provider":
        return Section(by, "Providers", _rows(breakdown(connection, where, by)))
    if by == "model":
        groups = breakdown(connection, where, "provider", "model")
        return Section(by, "Models", _rows(groups))
    if by == "day":
        return Section(by, "Days", _days(connection, where))
    key = host.settings.session_tag if by == "session" else by.removeprefix("tag:")
    title = "Sessions" if by == "session" else f"Tag {key}"
    return Section(by, title, _rows(tag_breakdown(connection, where, key)))


def _rows(groups: Iterable[Group]) -> list[tuple[str, Totals, Decimal | None]]:
    return [("/".join(g.key), g.totals, g.share) for g in groups]


def _days(
    connection: sa.Connection, where: CallFilter
) -> list[tuple[str, Totals, Decimal | None]]:
    from ..calendar import edges
    from ..query.totals import series

    first, last = where.first_day, where.last_day
    assert first is not None  # days() gives both ends
    assert last is not None
    marks = edges("day", first, last, where.zone)
    found = series(connection, where, marks)
    whole = sum(day.spend_pico for day in found)
    return [
        (
            mark.astimezone(where.zone).date().isoformat(),
            day,
            Decimal(day.spend_pico) / whole if whole else None,
        )
        for mark, day in zip(marks, found, strict=False)
    ]


# Text -------------------------------------------------------------------------


def _text(lines: Iterable[str]) -> str:
    return "".join(line.rstrip() + "\n" for line in lines)


def _head(where: CallFilter, totals: Totals) -> Iterator[str]:
    first, last = where.first_day, where.last_day
    assert first is not None
    assert last is not None
    yield f"LLM cost report: {count((last - first).days + 1, 'day')}"
    yield f"{first} to {last}, {where.zone}"
    yield ""
    yield f"Total cost   {spend(totals):>14}   {gaps(totals)}"
    yield f"Calls        {totals.calls:>14,}   {totals.failed:,} failed"
    hits = totals.cache_hit_rate
    cached = "" if hits is None else f" ({hits:.0%} from cache)"
    yield (
        f"Tokens       {totals.total_tokens:>14,}"
        f"   {totals.input_tokens:,} in{cached}, {totals.output_tokens:,} out"
    )
    yield f"Average cost {money(totals.average_usd):>14}   for each priced call"
    latency = totals.average_latency_ms
    shown = "unknown" if latency is None else f"{latency:,.0f} ms"
    yield f"Avg latency  {shown:>14}"


def _table(section: Section, most: int | None = None) -> Iterator[str]:
    yield ""
    yield from section.note
    if not section.rows:
        yield f"{section.title}: none"
        return
    yield f"{section.title:<38}{'Calls':>9}{'Tokens':>12}{'Cost':>14}{'Share':>7}"
    shown = section.rows[:most]
    for name, totals, share in shown:
        nothing = totals.all_failed or totals.cost_usd is None
        part = "" if share is None or nothing else f"{share:.1%}"
        yield (
            f"  {fit(name, 35)} {totals.calls:>9,}{short(totals.total_tokens):>12}"
            f"{spend(totals):>14}{part:>7}"
        )
        if totals.unpriced or totals.incomplete or totals.estimated:
            yield f"    {gaps(totals)}"
    rest = len(section.rows) - len(shown)
    if rest:
        yield f"  and {rest:,} more: --by {section.by}"


def _dearest(
    rows: Sequence[CallRow], where: CallFilter, note: Sequence[str]
) -> Iterator[str]:
    yield ""
    yield from note
    if not rows:
        yield "Dearest calls: none"
        return
    yield f"{'Dearest calls':<58}{'Cost':>22}"
    for row in rows:
        at = row.started_at.astimezone(where.zone).strftime("%Y-%m-%d %H:%M")
        name = fit(f"{row.provider}/{row.model}", 38)
        floor = "" if row.cost_complete else "at least "
        yield f"  {at}  {name}{floor + money(row.cost_usd):>22}"
        yield f"    {row.event_id}"


# JSON and CSV -----------------------------------------------------------------


def _dumps(value: Mapping[str, t.Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _period(where: CallFilter) -> dict[str, t.Any]:
    return {
        "from": str(where.first_day),
        "to": str(where.last_day),
        "timezone": str(where.zone),
    }


def plain_usd(amount: Decimal | None) -> str | None:
    """Every digit, and no exponent."""
    return None if amount is None else f"{amount:f}"


def _totals_json(totals: Totals, share: Decimal | None = None) -> dict[str, t.Any]:
    values = {name: getattr(totals, name) for name in _COLUMNS}
    values["cost_usd"] = plain_usd(totals.cost_usd)
    values["estimated_usd"] = plain_usd(totals.estimated_usd)
    if share is not None:
        values["share"] = f"{share:.6f}"
    return values


def _report_json(found: Report, sections: Sequence[Section]) -> dict[str, t.Any]:
    tables = {
        s.by: [{"key": n} | _totals_json(g, share) for n, g, share in s.rows]
        for s in sections
    }
    return _period(found.where) | {
        "pruned_before": iso(found.pruned_before),
        "totals": _totals_json(found.totals)
        | {
            "average_cost_usd": _rounded(found.totals.average_usd),
            "average_latency_ms": found.totals.average_latency_ms,
        },
        "by": tables,
        "dearest": [
            {
                "event_id": row.event_id,
                "started_at": row.started_at.isoformat(timespec="milliseconds"),
                "provider": row.provider,
                "model": row.model,
                "total_tokens": row.total_tokens,
                "cost_usd": plain_usd(row.cost_usd),
                "complete": row.cost_complete,
            }
            for row in found.dearest
        ],
    }


def _rounded(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:.12f}"


def _csv(whole: Totals, sections: Sequence[Section]) -> str:
    # A table has no place for remarks.
    for line in dict.fromkeys(line for s in sections for line in s.note):
        click.echo(line, err=True)
    return "".join(_csv_lines(whole, sections))


def _csv_lines(whole: Totals, sections: Sequence[Section]) -> Iterator[str]:
    from ..query.export import csv_line

    yield csv_line(("by", "key", *_COLUMNS, "share"))
    rows: list[tuple[str, str, Totals, Decimal | None]] = [("total", "", whole, None)]
    rows += [(s.by, *row) for s in sections for row in s.rows]
    for by, name, totals, share in rows:
        values = [getattr(totals, column) for column in _COLUMNS]
        part = None if share is None else round(share, 6)
        yield csv_line((by, name, *values, part))
