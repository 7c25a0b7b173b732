"""``prices whatif``: recent calls at other models' prices."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from ..money import digits
from ..money import dumps
from .drain import drain_first
from .period import chosen
from .pricefile import prices
from .text import count
from .text import money
from .text import plain
from .text import text_or_json

if t.TYPE_CHECKING:
    from ..query.host import Host
    from ..query.whatif import WhatIf

__all__ = ["prices"]


def _pair(text: str) -> tuple[str, str]:
    model, _, other = text.partition("=")
    if all("/" in name.strip("/") for name in (model, other)):
        return model, other
    raise click.BadParameter(
        f"{text!r} is not a pair of models; use MODEL=OTHER, e.g."
        " openai/gpt-4o=anthropic/claude-sonnet-4-5."
    )


def _pairs(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> list[tuple[str, str]]:
    return [_pair(text) for text in value]


@prices.command()
@click.argument(
    "pairs", metavar="MODEL=OTHER...", nargs=-1, required=True, callback=_pairs
)
@click.option(
    "--days",
    type=click.IntRange(1, 3660),
    default=30,
    show_default=True,
    help="Price the calls of the last N days.",
)
@text_or_json
@with_appcontext
def whatif(pairs: list[tuple[str, str]], days: int, form: str) -> None:
    """Show what recent calls would have cost with another model.

    Today's prices apply. The recorded tokens are priced as they are, although another
    model may count the same text differently.

    \b
    flask llm-cost prices whatif openai/gpt-4o=openai/gpt-4o-mini --days 7
    """
    from ..query.whatif import whatif as ask

    host: Host = current_app.extensions["llm_cost"]
    drain_first(host)
    where = chosen(host, days, None, None)
    found = ask(host.ledger.reading, where, host.book, pairs, host.clock())
    if form == "json":
        click.echo(dumps([_json(each) for each in found]))
        return
    for each in found:
        for line in _lines(each):
            click.echo(plain(line))


def _json(found: WhatIf) -> dict[str, t.Any]:
    return {
        "model": found.model,
        "other": found.other,
        "price_key": found.price_key,
        "calls": found.calls,
        "before_usd": digits(found.before_usd),
        "after_usd": digits(found.after_usd),
        "difference_usd": digits(found.difference_usd),
        "incomplete": found.incomplete,
        "skipped": found.skipped,
    }


def _lines(found: WhatIf) -> t.Iterator[str]:
    yield f"{found.model} with the prices of {found.other} ({found.price_key})"
    yield f"  {count(found.calls, 'call'):<28}{money(found.before_usd):>18}"
    yield f"  {'with the other model':<28}{money(found.after_usd):>18}"
    difference = found.difference_usd
    word = "more" if difference > 0 else "less"
    yield f"  {word:<28}{money(abs(difference)):>18}"
    if found.incomplete:
        yield (
            f"  {count(found.incomplete, 'call')} used a meter that {found.other} has no"
            " price for."
        )
    if found.skipped:
        yield f"  {count(found.skipped, 'call')} without a known cost excluded."
