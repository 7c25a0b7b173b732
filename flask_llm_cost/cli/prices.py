"""``prices explain`` and ``prices list``: what models cost, and why."""

from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

import click
from flask import current_app
from flask.cli import with_appcontext

from ..money import digits
from ..money import dumps
from .drain import drain_first
from .text import fit
from .text import plain

if t.TYPE_CHECKING:
    from ..call import Usage
    from ..prices import Explanation
    from ..query.host import Host

_SHOWN: t.Final = ("input", "cache_read", "output")
_TOKENS: t.Final = click.IntRange(0, 2**53)


@click.group()
def prices() -> None:
    """Explain, list and maintain prices.

    Overrides take precedence over the price file, which takes precedence over the
    bundled prices.
    """


def _at(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> dt.datetime | None:
    if value is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not a valid time; use 2026-11-22 or 2026-11-22T13:00+01:00."
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)


@prices.command()
@click.argument("provider", required=False)
@click.argument("model", required=False)
@click.option("--input-tokens", type=_TOKENS, help="Input tokens of a call to price.")
@click.option("--output-tokens", type=_TOKENS, help="Output tokens of a call to price.")
@click.option("--mode", help="A pricing mode, e.g. batch, flex or priority.")
@click.option(
    "--at",
    metavar="TIME",
    callback=_at,
    help="Use the price at this time: YYYY-MM-DD, or with time and zone. Default: now.",
)
@click.option(
    "--call",
    "event_id",
    metavar="EVENT_ID",
    help="Explain the cost recorded for a call instead.",
)
@with_appcontext
def explain(
    provider: str | None,
    model: str | None,
    input_tokens: int | None,
    output_tokens: int | None,
    mode: str | None,
    at: dt.datetime | None,
    event_id: str | None,
) -> None:
    """Explain which price a model has, and what a call costs.

    Exits with status 1 if no price is known, and suggests similar models. With --call, the
    cost recorded for a call is recomputed from its parts; status 1 means that it has no
    cost, that a rate was missing, or that the cost does not match its parts.

    \b
    flask llm-cost prices explain openai gpt-4o
    flask llm-cost prices explain openai/gpt-4o
    flask llm-cost prices explain anthropic claude-sonnet-4-5 \\
        --input-tokens 250000 --output-tokens 900 --mode batch
    flask llm-cost prices explain --call 01a1f416-bdf9-72e5-acdf-74e949befff4
    """
    host: Host = current_app.extensions["llm_cost"]
    if event_id is not None:
        if provider is not None:
            raise click.UsageError("Give PROVIDER and MODEL, or --call, not both.")
        ok = _explain_call(host, event_id)
        click.get_current_context().exit(0 if ok else 1)
    if provider is not None and model is None:
        # As printed everywhere: the model's name may have slashes, too.
        provider, _, model = provider.partition("/")
    if not provider or not model:
        raise click.UsageError(
            "Give PROVIDER and MODEL, PROVIDER/MODEL, or --call EVENT_ID."
        )
    used = _usage(input_tokens, output_tokens)
    found = _explained(host, provider, model, used, at, mode)
    click.echo("\n".join(plain(line) for line in str(found).splitlines()))
    if not found.ok:
        click.get_current_context().exit(1)


def _usage(input_tokens: int | None, output_tokens: int | None) -> Usage | None:
    from ..call import Usage

    if input_tokens is None and output_tokens is None:
        return None
    return Usage(input_tokens=input_tokens or 0, output_tokens=output_tokens or 0)


def _explained(
    host: Host,
    provider: str,
    model: str,
    usage: Usage | None,
    at: dt.datetime | None,
    mode: str | None,
) -> Explanation:
    from ..prices import explain

    try:
        return explain(host.book, provider, model, usage, at or host.clock(), mode)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _explain_call(host: Host, event_id: str) -> bool:
    """Recompute a call's recorded cost, then explain the price in force."""
    from ..prices import explain
    from ..prices.explain import explain_call
    from ..prices.requote import pricing_mode_of
    from ..query.detail import call_detail
    from ..query.detail import revisions_of

    drain_first(host)
    with host.ledger.reading() as connection:
        detail = call_detail(connection, event_id)
        revised = revisions_of(connection, event_id)
    if detail is None:
        raise click.ClickException(f"No call {event_id!r} in the ledger.")
    call = detail.call
    found = explain_call(host.book, call)
    lines = str(found).splitlines()
    for each in revised:
        before = "unknown" if each.before is None else f"${digits(each.before)}"
        lines.append(
            f"Repriced {each.at:%Y-%m-%d %H:%M} UTC, run {each.run}: {before} before"
        )
    lines += ["", "Current price book:"]
    lines += str(
        explain(
            host.book,
            call.provider,
            call.model,
            call.usage,
            call.started_at,
            pricing_mode_of(call),
            flags=call.flags,
        )
    ).splitlines()
    for line in lines:
        click.echo(plain(line))
    return found.ok


@prices.command("list")
@click.argument("search", required=False)
@click.option("--provider", metavar="NAME", help="Only list prices of this provider.")
@click.option(
    "--source",
    type=click.Choice(["override", "file", "bundled"]),
    help="Only list prices from this source.",
)
@click.option(
    "--sort",
    type=click.Choice(["name", *_SHOWN]),
    default="name",
    show_default=True,
    help="Sort by name, or by a rate, most expensive first; models without it come last.",
)
@click.option(
    "--at",
    metavar="TIME",
    callback=_at,
    help="List the prices at this time: YYYY-MM-DD, or with time and zone. Default: now.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    show_default=True,
)
@with_appcontext
def list_(
    search: str | None,
    provider: str | None,
    source: str | None,
    sort: str,
    at: dt.datetime | None,
    form: str,
) -> None:
    """List the prices in force, in USD per 1M tokens.

    With SEARCH, only models whose name contains it. JSON includes every rate. Exits with
    status 1 if nothing is found.
    """
    host: Host = current_app.extensions["llm_cost"]
    rows = [
        row
        for row in in_force(host, at or host.clock(), search or "")
        if source in (None, row["source"])
        and (provider is None or _is_of(row["key"], provider))
    ]
    if sort != "name":
        rows.sort(key=lambda row: row["rates"].get(sort, Decimal(-1)), reverse=True)
    if form == "json":
        click.echo(dumps(rows))
    elif form == "csv":
        for line in _csv(rows):
            click.echo(line, nl=False)
    elif rows:
        heads = "".join(f"{name:>12}" for name in _SHOWN)
        click.echo(f"{'Model':<34}{heads}  Source")
        for row in rows:
            rates = (row["rates"].get(name) for name in _SHOWN)
            cells = "".join(f"{'' if r is None else digits(r):>12}" for r in rates)
            click.echo(f"{fit(row['key'], 33)} {cells}  {row['source']}")
    if not rows:
        what = f"No model name contains {search!r}." if search else "No prices found."
        click.echo(what, err=True)
        click.get_current_context().exit(1)


def _is_of(key: str, provider: str) -> bool:
    from ..provider_names import provider_name

    head, slash, _ = key.partition("/")
    return bool(slash) and provider_name(head) == provider_name(provider)


def in_force(host: Host, at: dt.datetime, search: str) -> list[dict[str, t.Any]]:
    """Return the prices in force at a time, by name."""
    from ..prices.explain import all_rates

    found = []
    # An entry with several names is listed once.
    unique = {
        id(entry): (source, entry) for source, entry in host.book.entries().values()
    }
    for source, entry in unique.values():
        price = entry.at(at)
        if price is None or search.lower() not in entry.key.lower():
            continue
        since = price.valid_from
        found.append(
            {
                "key": entry.key,
                "source": source,
                "valid_from": None if since is None else since.isoformat(),
                "rates": all_rates(price),
            }
        )
    return sorted(found, key=lambda row: t.cast(str, row["key"]))


def _csv(rows: list[dict[str, t.Any]]) -> t.Iterator[str]:
    from ..query.export import csv_line

    yield csv_line(("key", "source", "valid_from", *_SHOWN))
    for row in rows:
        rates: list[Decimal | None] = [row["rates"].get(name) for name in _SHOWN]
        yield csv_line((row["key"], row["source"], row["valid_from"], *rates))
