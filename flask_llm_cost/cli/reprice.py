"""``prices reprice``: calls get the cost that the prices of now say, or an old one back."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import click
from flask import current_app
from flask.cli import with_appcontext

from ..money import digits
from ..money import from_pico
from .drain import drain_first
from .period import chosen
from .text import count
from .text import plain
from .text import progress

if t.TYPE_CHECKING:
    from ..call import Call
    from ..call import Cost
    from ..ledger.reprice import Repriced
    from ..ledger.reprice import Scope
    from ..query.host import Host

_NAMED: t.Final = 20


@click.command()
@click.option("--from", "from_", metavar="DAY", help="The first day: YYYY-MM-DD.")
@click.option("--to", metavar="DAY", help="The last day; today if left out.")
@click.option(
    "--model",
    "models",
    metavar="MODEL",
    multiple=True,
    help="Only calls of this model, or PROVIDER/MODEL. May be given again.",
)
@click.option(
    "--all",
    "priced",
    is_flag=True,
    help="Also calls whose cost is known and complete.",
)
@click.option(
    "--dry-run", is_flag=True, help="Say what would change, and change nothing."
)
@click.option(
    "--undo",
    metavar="RUN",
    help="Give the calls of that run their old cost back: its id, or `last`.",
)
@with_appcontext
def reprice(
    from_: str | None,
    to: str | None,
    models: tuple[str, ...],
    priced: bool,
    dry_run: bool,
    undo: str | None,
) -> None:
    """Price calls again, each by the price that holds for its own time.

    Without --all, those are priced that have no cost yet, or an incomplete one. A cost
    that the provider itself reported stays. What a call had cost before is kept: each run
    has an id, by which --undo takes it back, and that can be taken back as well. It works
    in short steps, and may be interrupted and started again.

    \b
    flask llm-cost prices reprice --from 2026-11-01 --dry-run
    flask llm-cost prices reprice --from 2026-11-01 --model openai/my-model
    flask llm-cost prices reprice --undo last
    """
    host: Host = current_app.extensions["llm_cost"]
    if undo is not None:
        if from_ is not None or to is not None or models or priced:
            raise click.UsageError("--undo is about a whole run: give it alone.")
        done = host.ledger.undo_reprice(undo, now=host.clock(), dry_run=dry_run)
    elif from_ is None:
        raise click.UsageError(
            "Say from which day on: --from YYYY-MM-DD, or --undo RUN."
        )
    else:
        done = _reprice(host, _scope(host, from_, to, models, priced), dry_run)
    for line in _lines(done, dry_run=dry_run, undone=undo is not None):
        click.echo(plain(line))
    if not dry_run:
        host.ledger.roll()


def _scope(
    host: Host, from_: str, to: str | None, models: tuple[str, ...], priced: bool
) -> Scope:
    from ..ledger.reprice import Scope

    days = chosen(host, None, from_, to)
    assert days.start is not None
    assert days.end is not None
    return Scope(days.start, days.end, models, priced)


def _reprice(host: Host, scope: Scope, dry_run: bool) -> Repriced:
    drain_first(host)
    length = host.ledger.repriceable(scope)
    with progress(length, "Pricing") as step:
        return host.ledger.reprice(
            scope, _quote(host), now=host.clock(), dry_run=dry_run, progress=step
        )


def _quote(host: Host) -> Callable[[Call], tuple[Cost | None, frozenset[str]]]:
    from ..prices.again import again

    book = host.book
    return lambda call: again(book, call)


def _lines(done: Repriced, *, dry_run: bool, undone: bool) -> t.Iterator[str]:
    would = "would be " if dry_run else ""
    yield f"{count(done.seen, 'call')} looked at."
    if undone:
        yield f"{count(done.priced + done.changed, 'call')} {would}given the old cost back."
    else:
        yield f"{count(done.priced, 'call')} without a cost {would}priced."
        yield f"{count(done.changed, 'call')} with a cost {would}priced otherwise."
    for why, number in sorted(done.kept.items()):
        yield f"{count(number, 'call')} left as they are: {why}."
    names = done.unpriced.most_common(_NAMED)
    for (provider, model), number in names:
        yield f"{count(number, 'call')} of {provider}/{model}: a price is missing still."
    if len(done.unpriced) > _NAMED:
        yield f"... and of {len(done.unpriced) - _NAMED} more models."
    if done.priced or done.changed:
        yield f"Together ${_usd(done.before)} before, ${_usd(done.after)} after."
        if not dry_run:
            yield f"Take it back with: prices reprice --undo {done.run}"


def _usd(pico: int) -> str:
    return digits(from_pico(pico))
