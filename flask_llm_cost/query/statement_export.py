"""A statement as JSON, CSV and a printable page."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from decimal import Decimal

from markupsafe import escape

from ..calendar import iso
from ..money import digits
from .aggregate import UNTAGGED
from .export import csv_line
from .statement import Line
from .statement import Section
from .statement import Statement

COLUMNS: t.Final = (
    *("month", "tag", "value", "corrected_on", "status", "provider", "model", "meter"),
    *("unit", "calls", "quantity", "cost_usd", "charged_usd"),
)

_STYLE: t.Final = """
body { font: 14px/1.45 system-ui, sans-serif; color: #111; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; break-after: avoid; }
table { border-collapse: collapse; width: 100%; } tr { break-inside: avoid; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .5rem; text-align: left; }
.num { text-align: right; font-variant-numeric: tabular-nums; }
tfoot td, tfoot th { font-weight: 600; border-bottom: 0; }
.soft { color: #555; }
"""  # noqa: E501


def name_of(value: str) -> str:
    """Name the calls of a value."""
    return value or UNTAGGED


def to_json(found: Statement) -> dict[str, t.Any]:
    """Return a statement for JSON, with amounts as text."""
    return {
        "month": f"{found.month:%Y-%m}",
        "tag": found.tag,
        "closed_at": iso(found.closed_at),
        "cost_usd": digits(found.cost_usd),
        "charged_usd": digits(found.charged_usd) if found.marked_up else None,
        "corrected_usd": digits(found.corrected_usd),
        "sections": [_section(each) for each in found.sections],
        "corrections": [_section(each) for each in found.corrections],
    }


def _section(found: Section) -> dict[str, t.Any]:
    return {
        "value": found.value,
        "corrected_on": found.corrected_on or None,
        "calls": dict(found.calls),
        "cost_usd": digits(found.cost_usd),
        "charged_usd": digits(found.charged_usd),
        "lines": [
            {
                "status": line.key.status,
                "provider": line.key.provider,
                "model": line.key.model,
                "meter": line.key.meter or "calls",
                "unit": line.unit,
                "calls": line.calls,
                "quantity": digits(line.quantity),
                "cost_usd": _text(line.cost_usd),
                "charged_usd": _text(line.charged_usd),
            }
            for line in found.lines
        ],
    }


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else digits(amount)


def to_csv(found: Statement) -> Iterator[str]:
    """Yield a statement as lines of CSV."""
    yield csv_line(COLUMNS)
    month = f"{found.month:%Y-%m}"
    for section in (*found.sections, *found.corrections):
        for line in section.lines:
            key = line.key
            yield csv_line(
                (
                    *(month, found.tag, name_of(key.value), key.corrected_on),
                    *(key.status, key.provider, key.model, key.meter or "calls"),
                    *(line.unit, line.calls, line.quantity),
                    *(line.cost_usd, line.charged_usd),
                )
            )


def to_html(found: Statement) -> Iterator[str]:
    """Yield a statement as a self-contained page."""
    title = escape(f"LLM usage by {found.tag}, {found.month:%B %Y}")
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    )
    closed = (
        "not closed" if found.closed_at is None else f"closed {iso(found.closed_at)}"
    )
    yield f'<p class="soft">UTC month, {closed}. Amounts are in USD.</p>\n'
    for section in found.sections:
        yield from _html_section(section, name_of(section.value), found)
    for section in found.corrections:
        name = f"Correction of {section.corrected_on}: {name_of(section.value)}"
        yield from _html_section(section, name, found)
    whole = found.charged_usd if found.marked_up else found.cost_usd
    yield f"<h2>Total: {digits(whole)}</h2>\n</body></html>\n"


def _html_section(section: Section, name: str, found: Statement) -> Iterator[str]:
    yield (
        f"<h2>{escape(name)}</h2>\n<table><thead><tr><th>Model</th><th>Meter</th>"
        '<th class="num">Quantity</th><th class="num">Amount</th></tr></thead><tbody>\n'
    )
    for line in section.lines:
        yield _html_line(line, found.marked_up)
    amount = section.charged_usd if found.marked_up else section.cost_usd
    yield (
        '</tbody><tfoot><tr><th colspan="3">Total</th>'
        f'<td class="num">{digits(amount)}</td></tr></tfoot></table>\n'
    )


def _html_line(line: Line, marked_up: bool) -> str:
    key = line.key
    amount = line.charged_usd if marked_up else line.cost_usd
    status = "" if key.status == "priced" else f" ({key.status})"
    quantity = digits(line.quantity) if key.meter else f"{line.calls}"
    cells = (f"{key.provider}/{key.model}", f"{key.meter or 'calls'}{status}")
    return (
        f"<tr><td>{escape(cells[0])}</td><td>{escape(cells[1])}</td>"
        f'<td class="num">{quantity} {escape(line.unit.lower())}</td>'
        f'<td class="num">{"unknown" if amount is None else digits(amount)}</td></tr>\n'
    )
