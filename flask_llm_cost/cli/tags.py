"""``tags``: erase tags, and stop aggregating by them."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from ..storage import NO_ROLLUPS
from ..storage import required
from .text import count

if t.TYPE_CHECKING:
    from ..query.host import Host
    from ..storage import Erased

_EVERY: t.Final = 1000
"""Sets of tags between two lines of progress."""


@click.group()
def tags() -> None:
    """Erase tags, and stop aggregating by them."""


@tags.command()
@click.argument("key")
@click.argument("value")
@with_appcontext
def erase(key: str, value: str) -> None:
    """Erase one value of a tag, such as a person's id, everywhere.

    Calls, costs and totals are kept. The tag is removed from all calls with this value:
    in tables, rollups, queued and rejected lines, and monthly files. Make sure first
    that the app no longer records the value. The command can be interrupted and run
    again. Exits with status 1 if the value is still stored anywhere.

    \b
    flask llm-cost tags erase user_id 4711
    """
    host: Host = current_app.extensions["llm_cost"]
    last = 0

    def report(erased: Erased) -> None:
        nonlocal last
        if erased.sets >= last + _EVERY:
            last = erased.sets
            click.echo(f"{erased.calls:,} calls so far ...", err=True)

    erased = host.ledger.erase_tag(key, value, progress=report)
    click.echo(
        f"Erased from {count(erased.calls, 'call')}, {count(erased.sets, 'set')} of tags,"
        f" {count(erased.rollups, 'daily total')} and {count(erased.lines, 'line')}."
    )
    if erased.queued:
        raise click.ClickException(
            f"{count(erased.queued, 'line')} queued by other processes still have the"
            " value. Run this again once they are stored."
        )
    if erased.unreadable:
        raise click.ClickException(
            f"{count(erased.unreadable, 'line')} that cannot be read may have the value."
            f" Check the files in {host.ledger.folder}."
        )


@tags.command()
@click.argument("key")
@with_appcontext
def forget(key: str) -> None:
    """Stop aggregating by a tag and drop its rollups.

    Remove it from LLM_COST_ROLLUP_TAGS first. Calls keep the tag, but its totals of
    pruned calls are lost. Exits with status 1 if calls are not aggregated by it.
    """
    host: Host = current_app.extensions["llm_cost"]
    rollups = required(host.ledger.rollups, NO_ROLLUPS)
    if key in host.settings.rollup_tags:
        raise click.UsageError(
            f"{key} is in LLM_COST_ROLLUP_TAGS and would be declared again at once."
            " Remove it there first."
        )
    if not rollups.forget_tag(key):
        raise click.ClickException(f"Calls are not aggregated by {key}.")
    click.echo(f"Calls are no longer aggregated by {key}.")
