"""``tags``: what the ledger keeps of tags."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from .text import count

if t.TYPE_CHECKING:
    from ..query.host import Host
    from ..rollups.erase import Erased

_EVERY: t.Final = 1000
"""Sets between two signs of life."""


@click.group()
def tags() -> None:
    """Take tags out of the ledger."""


@tags.command()
@click.argument("key")
@click.argument("value")
@with_appcontext
def erase(key: str, value: str) -> None:
    """Take a value of a tag, such as a person's id, out of everything.

    Calls, costs and totals stay; the calls are then without that tag, in the tables, in the
    sums, in lines that wait or were set aside, and in monthly files. Let the app stop to
    give calls this value first. It may be interrupted and run again. Ends with 1 if
    something still has the value.

    \b
    flask llm-cost tags erase user_id 4711
    """
    host: Host = current_app.extensions["llm_cost"]
    last = 0

    def tell(erased: Erased) -> None:
        nonlocal last
        if erased.sets >= last + _EVERY:
            last = erased.sets
            click.echo(f"{erased.calls:,} calls so far ...", err=True)

    erased = host.ledger.erase_tag(key, value, progress=tell)
    click.echo(
        f"Erased from {count(erased.calls, 'call')}, {count(erased.sets, 'set')} of tags,"
        f" {count(erased.sums, 'daily sum')} and {count(erased.lines, 'line')}."
    )
    if erased.waiting:
        raise click.ClickException(
            f"{count(erased.waiting, 'line')} of other processes still have it: run this"
            " again when they are stored."
        )
    if erased.unreadable:
        raise click.ClickException(
            f"{count(erased.unreadable, 'line')} that cannot be read seem to have it: see"
            f" {host.ledger.folder}."
        )


@tags.command()
@click.argument("key")
@with_appcontext
def forget(key: str) -> None:
    """Add calls up by a tag no more, and drop its sums.

    Take it out of LLM_COST_ROLLUP_TAGS first. Calls keep the tag; what was pruned of it is
    not known any more. Ends with 1 if calls are not added up by it.
    """
    host: Host = current_app.extensions["llm_cost"]
    if key in host.settings.rollup_tags:
        raise click.UsageError(
            f"{key} is in LLM_COST_ROLLUP_TAGS: it would be declared again at once."
        )
    if not host.ledger.forget_tag(key):
        raise click.ClickException(f"Calls are not added up by {key}.")
    click.echo(f"Calls are not added up by {key} any more.")
