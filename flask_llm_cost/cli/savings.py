"""``savings``: where money could be saved."""

from __future__ import annotations

import textwrap
import typing as t
from collections.abc import Iterator
from collections.abc import Sequence

import click
from flask import current_app
from flask.cli import with_appcontext

from ..money import digits
from ..money import dumps
from ..money import share
from .drain import drain_first
from .period import chosen
from .text import count
from .text import fit
from .text import money
from .text import percent
from .text import plain
from .text import text_or_json

if t.TYPE_CHECKING:
    from ..query.host import Host
    from ..query.savings import Caching
    from ..query.savings import Savings

_SHOWN: t.Final = 10
_WIDTH: t.Final = 80


def _tags(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> list[tuple[str, str]]:
    found = []
    for text in value:
        key, equals, tag = text.partition("=")
        if not key or not equals:
            raise click.BadParameter(
                f"{text!r} is not a valid tag; use KEY=VALUE, e.g. feature=import."
            )
        found.append((key, tag))
    return found


@click.command()
@click.option(
    "--days",
    type=click.IntRange(1, 3660),
    default=30,
    show_default=True,
    help="Examine the calls of the last N days.",
)
@click.option(
    "--deferrable",
    metavar="TAG=VALUE",
    multiple=True,
    callback=_tags,
    help="Calls that can wait for a batch. Repeatable.",
)
@text_or_json
@with_appcontext
def savings(days: int, deferrable: list[tuple[str, str]], form: str) -> None:
    """Show where money could be saved, with the arithmetic.

    A call is in one line at most, so the lines can be summed and never exceed the
    spend. The net result of caching is shown by model, and by each tag in
    LLM_COST_ROLLUP_TAGS.

    \b
    flask llm-cost savings --days 7 --deferrable feature=import
    """
    from ..query.savings import savings as ask

    host: Host = current_app.extensions["llm_cost"]
    drain_first(host)
    found = ask(
        host.ledger.reading,
        chosen(host, days, None, None),
        host.book,
        tags=host.settings.rollup_tags,
        deferrable=deferrable,
    )
    if form == "json":
        click.echo(dumps(_json(found)))
        return
    for line in _text(found, deferrable):
        click.echo(plain(line))


def _json(found: Savings) -> dict[str, t.Any]:
    first, last = found.where.day_range
    return {
        "from": first.isoformat(),
        "to": last.isoformat(),
        "calls": found.calls,
        "spend_usd": digits(found.spend_usd),
        "saving_usd": digits(found.saving_usd),
        "lines": [
            {
                "kind": line.kind,
                "subject": line.subject,
                "calls": line.calls,
                "spend_usd": digits(line.spend_usd),
                "saving_usd": digits(line.saving_usd),
                "arithmetic": line.arithmetic,
            }
            for line in found.lines
        ],
        "caching": [_caching_json(*each) for each in found.caching],
        "caching_by_tag": [_caching_json(*each) for each in found.caching_by_tag],
    }


def _caching_json(subject: str, each: Caching) -> dict[str, t.Any]:
    return {
        "subject": subject,
        "calls": each.calls,
        "read_tokens": each.of("read"),
        "written_tokens": each.of("write"),
        "reads_saved_usd": digits(each.saved_usd("read")),
        "writes_paid_usd": digits(-each.saved_usd("write")),
        "net_usd": digits(each.saved_usd()),
        "arithmetic": each.arithmetic,
    }


def _text(found: Savings, deferrable: Sequence[object]) -> Iterator[str]:
    from ..query.savings import KINDS

    first, last = found.where.day_range
    yield f"Savings: {first} to {last}, {found.where.zone}"
    yield f"Spend         {money(found.spend_usd):>16}   {count(found.calls, 'call')}"
    part = share(found.saving_usd, found.spend_usd)
    shown = "" if part is None else f"   {percent(part, 1)}"
    yield f"Could be saved{money(found.saving_usd):>16}{shown}"
    for kind, title in KINDS.items():
        lines = [line for line in found.lines if line.kind == kind]
        if lines:
            yield ""
            yield title
        for line in lines[:_SHOWN]:
            calls = count(line.calls, "call")
            yield f"  {fit(line.subject, 44)} {calls:>14}{money(line.saving_usd):>18}"
            yield from textwrap.wrap(
                line.arithmetic, _WIDTH, initial_indent="    ", subsequent_indent="    "
            )
        if len(lines) > _SHOWN:
            yield f"  and {len(lines) - _SHOWN:,} more: --format json"
    if not deferrable:
        yield ""
        yield "Calls that can wait cost less in a batch: --deferrable TAG=VALUE"
    yield from _caching("Net result of caching by model", found.caching)
    yield from _caching("Net result of caching by tag", found.caching_by_tag)


def _caching(title: str, found: Sequence[tuple[str, Caching]]) -> Iterator[str]:
    if not found:
        return
    yield ""
    yield f"{title:<40}{'Reads saved':>13}{'Writes paid':>13}{'Net':>14}"
    for subject, each in found[:_SHOWN]:
        saved, paid = each.saved_usd("read"), -each.saved_usd("write")
        cells = f"{money(saved):>13}{money(paid):>13}{_signed(each):>14}"
        yield f"  {fit(subject, 37)} {cells}"


def _signed(each: Caching) -> str:
    net = each.saved_usd()
    return f"-{money(-net)}" if net < 0 else money(net)
