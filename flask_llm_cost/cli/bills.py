"""``bills``: the providers' bills that were compared to the ledger."""

from __future__ import annotations

import json
import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from ..money import digits
from .text import count
from .text import plain
from .text import text_or_json

if t.TYPE_CHECKING:
    from ..bills import StoredBill
    from ..bills import StoredBills
    from ..query.host import Host


@click.group()
def bills() -> None:
    """List, show and forget the bills that `reconcile` stored."""


def _stored() -> StoredBills:
    from ..bills import StoredBills

    host: Host = current_app.extensions["llm_cost"]
    return StoredBills(host.ledger.bills)


def _known(stored: StoredBills, key: str) -> StoredBill:
    found = stored.find(key)
    if len(found) == 1:
        return found[0]
    known = found or stored.all()
    names = ", ".join(each.key for each in known[:5]) or "none"
    if found:
        message = f"{count(len(found), 'bill')} begin with {key!r}: {names}."
    else:
        message = f"No bill has the key {key!r}. Known bills: {names}."
    raise click.UsageError(f"{message} See `flask llm-cost bills list`.")


@bills.command("list")
@with_appcontext
def list_() -> None:
    """List the bills, latest first, each with its last verdict."""
    found = _stored().all()
    for each in found:
        verdicts = sorted({str(result["verdict"]) for result in each.results})
        note = ", replaced by a later one" if each.replaced else ""
        click.echo(
            plain(
                f"{each.key}  {each.start} to {each.end}  {count(each.lines, 'line')}"
                f"  {', '.join(verdicts) or 'not compared'}{note}"
            )
        )
    if not found:
        click.echo("No bills are stored. Compare one with `flask llm-cost reconcile`.")


@bills.command()
@click.argument("key")
@text_or_json
@with_appcontext
def show(key: str, form: str) -> None:
    """Show the lines of a bill, or its last comparison as JSON.

    KEY is the first column of `bills list`, or its beginning.
    """
    stored = _stored()
    kept = _known(stored, key)
    if form == "json":
        value = {"schema": 1, "reports": list(kept.results)}
        click.echo(json.dumps(value, ensure_ascii=False, indent=2))
        return
    statement = stored.read(kept.key)
    for line in () if statement is None else statement.lines:
        quantity = "" if line.quantity is None else f"  {digits(line.quantity)}"
        click.echo(
            plain(
                f"{line.start:%Y-%m-%d}  {line.billed_text} {line.currency}"
                f"  {line.kind}  {line.name}{quantity}"
            )
        )


@bills.command()
@click.argument("key")
@with_appcontext
def forget(key: str) -> None:
    """Delete a bill and its last comparison. The ledger's calls are not changed."""
    stored = _stored()
    # Its whole key deletes also one that cannot be read.
    if not stored.forget(key):
        key = _known(stored, key).key
        stored.forget(key)
    click.echo(f"Deleted {key}.")
