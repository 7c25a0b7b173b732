"""Formats numbers and names for a terminal, and for JSON."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import textwrap
import typing as t
import unicodedata
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from decimal import Decimal
from decimal import ROUND_CEILING

import click

from ..money import own_context

if t.TYPE_CHECKING:
    from ..query.totals import Totals


text_or_json: t.Final = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output format.",
)

WIDTH: t.Final = 80
"""Columns of a terminal."""

_MICRO: t.Final = Decimal("0.000001")


def count(number: int, noun: str) -> str:
    """``1 call``, ``1,204 calls``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


@own_context
def money(amount: Decimal | None) -> str:
    """USD with six decimal places, so that columns align.

    A positive amount is never shown as zero, and an unknown one never as a number.
    """
    if amount is None:
        return "unknown"
    shown = f"{amount:,.6f}"
    if amount and not Decimal(shown.replace(",", "")):
        return "<$0.000001"
    return f"${shown}"


def spend(totals: Totals) -> str:
    """The cost of calls; a dash if all of them failed."""
    return "–" if totals.all_failed else money(totals.cost_usd)


def head(totals: Totals) -> Iterator[str]:
    """The lines that sum up calls: cost, calls, tokens, averages."""
    yield f"Total cost   {spend(totals):>14}{at_most(totals)}"
    yield from wrapped(gaps(totals), 13)
    yield f"Calls        {totals.calls:>14,}   {totals.failed:,} failed"
    hits = totals.cache_hit_rate
    cached = "" if hits is None else f" ({percent(hits, 0)} cache reads)"
    yield (
        f"Tokens       {short(totals.total_tokens):>14}"
        f"   {short(totals.input_tokens)} in{cached}, {short(totals.output_tokens)} out"
    )
    yield f"Average cost {money(totals.average_usd):>14}   per priced call"
    latency = totals.average_latency_ms
    shown = "unknown" if latency is None else f"{latency:,.0f} ms"
    yield f"Avg latency  {shown:>14}"


def wrapped(text: str, indent: int = 0) -> list[str]:
    """The text in lines of at most :data:`WIDTH` columns; none if it is empty."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent
    )


def joined(lines: Iterable[str]) -> str:
    """The lines as one text, without blanks at their ends."""
    return "".join(line.rstrip() + "\n" for line in lines)


@own_context
def most(amount: Decimal) -> str:
    """``at most $2.410000``, rounded up."""
    return f"at most {money(amount.quantize(_MICRO, ROUND_CEILING))}"


def at_most(totals: Totals) -> str:
    """``, at most $2.410000``, to follow the spend; empty if nothing is open."""
    return f", {most(totals.bounded_usd)}" if totals.open_pico else ""


def gaps(totals: Totals) -> str:
    """What a total does not include; empty if nothing is missing."""
    found = [
        f"+{number:,} {name}"
        for name, number in (
            ("unpriced", totals.unpriced),
            ("incomplete", totals.incomplete),
        )
        if number
    ]
    if totals.unbounded and totals.open_pico:
        # Otherwise no limit is shown that they would have to be excepted from.
        found.append(f"+{totals.unbounded:,} without a known limit")
    if totals.estimated:
        found.append(f"+{money(totals.estimated_usd)} estimated")
    if totals.saturated:
        found.append("a sum exceeds what the ledger can store")
    return ", ".join(found)


@own_context
def short(number: int) -> str:
    """``1,234,567`` up to a billion, then ``1,234.6M``."""
    return f"{number:,}" if number < 10**9 else f"{Decimal(number) / 10**6:,.1f}M"


@own_context
def percent(share: Decimal, places: int) -> str:
    """``42.3%``."""
    return f"{share:.{places}%}"


def fit(text: str, width: int) -> str:
    """The text, padded or shortened in the middle to a number of terminal cells.

    Names are untrusted, so control characters are replaced.
    """
    shown = plain(text)
    if _cells(shown) > width:
        head, tail = shown[: width * 2 // 3], shown[-(width // 3) :]
        while _cells(head) + _cells(tail) > width - 3:
            if len(head) >= len(tail):
                head = head[:-1]
            else:
                tail = tail[1:]
        shown = f"{head}...{tail}"
    return shown + " " * (width - _cells(shown))


def pruned(limit: dt.datetime | None, zone: dt.tzinfo) -> list[str]:
    """A note that calls before a moment were pruned; empty if there is no such moment."""
    if limit is None:
        return []
    local = limit.astimezone(zone)
    shown = (
        f"{local:%Y-%m-%d}" if local.time() == dt.time() else f"{local:%Y-%m-%d %H:%M}"
    )
    return [f"Calls before {shown} were pruned. This part excludes them."]


def plain(text: str) -> str:
    """The text with control characters replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _cells(text: str) -> int:
    # Two for East Asian characters, none for combining ones.
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


@contextlib.contextmanager
def progress(length: int, label: str) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, if that is a terminal.

    Yields a function that takes the number of steps done since its last call.
    """
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    with click.progressbar(
        length=length,
        label=label,
        file=sys.stderr,
        update_min_steps=max(1, length // 200),
    ) as bar:
        yield bar.update
