"""``prices reprice``: give calls the cost of current prices, or restore an old cost."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import click
from flask import current_app
from flask.cli import with_appcontext

from ..money import digits
from ..money import from_pico
from ..storage import NO_REPRICING
from ..storage import required
from .drain import drain_first
from .period import chosen
from .text import count
from .text import plain
from .text import progress

if t.TYPE_CHECKING:
    from ..call import Call
    from ..call import Cost
    from ..query.host import Host
    from ..storage import Repriced

_NAMED: t.Final = 20


@click.command()
@click.option("--from", "from_", metavar="DAY", help="First day: YYYY-MM-DD.")
@click.option("--to", metavar="DAY", help="Last day. Default: today.")
@click.option(
    "--model",
    "models",
    metavar="MODEL",
    multiple=True,
    help="Only calls of this MODEL or PROVIDER/MODEL. Repeatable.",
)
@click.option(
    "--all",
    "priced",
    is_flag=True,
    help="Include calls whose cost is known and complete.",
)
@click.option(
    "--dry-run", is_flag=True, help="Show what would change and write nothing."
)
@click.option(
    "--undo",
    metavar="RUN",
    help="Restore the costs from before a run: its id, or `last`.",
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
    """Reprice calls, each at the price in force at its own time.

    Without --all, only calls without a cost or with an incomplete one are repriced.
    Costs reported by the provider are not changed. Previous costs are stored: each run
    has an id for --undo, and an undo can itself be undone. A run works in short steps,
    and can be interrupted and repeated.

    \b
    flask llm-cost prices reprice --from 2026-11-01 --dry-run
    flask llm-cost prices reprice --from 2026-11-01 --model openai/my-model
    flask llm-cost prices reprice --undo last
    """
    from ..query.repricing import scope_of

    host: Host = current_app.extensions["llm_cost"]
    repricing = required(host.ledger.repricing, NO_REPRICING)
    if undo is not None:
        if from_ is not None or to is not None or models or priced:
            raise click.UsageError("--undo applies to a whole run; use it alone.")
        done = repricing.undo(undo, now=host.clock(), dry_run=dry_run)
    elif from_ is None:
        raise click.UsageError(
            "Give a first day with --from YYYY-MM-DD, or --undo RUN."
        )
    else:
        scope = scope_of(chosen(host, None, from_, to), models, priced=priced)
        drain_first(host)
        with progress(repricing.count(scope), "Pricing") as step:
            done = repricing.reprice(
                scope, _quote(host), now=host.clock(), dry_run=dry_run, progress=step
            )
    for line in _lines(done, dry_run=dry_run, undone=undo is not None):
        click.echo(plain(line))
    if not dry_run and host.ledger.rollups is not None:
        host.ledger.rollups.build()


def _quote(host: Host) -> Callable[[Call], tuple[Cost | None, frozenset[str]]]:
    from ..prices.requote import requote

    book = host.book
    return lambda call: requote(book, call)


def _lines(done: Repriced, *, dry_run: bool, undone: bool) -> t.Iterator[str]:
    would = "would be " if dry_run else ""
    yield f"{count(done.seen, 'call')} checked."
    if undone:
        yield f"{count(done.priced + done.changed, 'call')} {would}restored."
    else:
        yield f"{count(done.priced, 'call')} without a cost {would}priced."
        yield f"{count(done.changed, 'call')} with a cost {would}repriced."
    for why, number in sorted(done.unchanged.items()):
        yield f"{count(number, 'call')} not changed: {why}."
    names = done.unpriced.most_common(_NAMED)
    for (provider, model), number in names:
        yield f"{count(number, 'call')} of {provider}/{model} still unpriced."
    if len(done.unpriced) > _NAMED:
        yield f"... and calls of {len(done.unpriced) - _NAMED} more models."
    if done.priced or done.changed:
        yield f"Total: ${_usd(done.before)} before, ${_usd(done.after)} after."
        if not dry_run:
            yield f"Undo with: prices reprice --undo {done.run}"


def _usd(pico: int) -> str:
    return digits(from_pico(pico))
