"""Parts of a call as JSON text, for lines and rows.

They are written by hand: a dict and an encoder take twice as long, and this runs for each
call, in the app's request. What many calls have in common is written once.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import json
import typing as t
from operator import attrgetter

from .bound import Bound
from .call import Cost
from .call import COUNTS
from .call import Usage

_counts: t.Final = attrgetter(*COUNTS)

encode_json: t.Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, separators=(",", ":")
).encode
"""Write JSON without spaces. It may contain lone surrogates."""


def usage_text(usage: Usage) -> str:
    """Return the fields of a usage in JSON."""
    if usage.other_tokens or usage.units:
        return encode_json(usage_fields(usage))
    counts = zip(COUNTS, _counts(usage), strict=True)
    return "{" + ",".join([f'"{name}":{n}' for name, n in counts if n]) + "}"


def cost_text(cost: Cost) -> str:
    """Return the fields of a cost in JSON."""
    parts = [
        f'{json_key(meter)}["{part.quantity!s}","{part.rate!s}","{part.amount_usd!s}"]'
        for meter, part in cost.parts.items()
    ]
    fields = [
        f'"total_usd":"{cost.total_usd!s}","parts":{{{",".join(parts)}}}',
        f'"source":"{cost.source}"',
        *provenance(cost),
    ]
    if not cost.complete:
        fields.append('"complete":false')
        if cost.ceiling_usd is not None:
            fields.append(f'"ceiling_usd":"{cost.ceiling_usd!s}"')
    if cost.flags:
        fields.append(f'"flags":{encode_json(sorted(cost.flags))}')
    if cost.estimate_usd is not None:
        fields.append(f'"estimate_usd":"{cost.estimate_usd!s}"')
    return f"{{{','.join(fields)}}}"


@functools.lru_cache(maxsize=1024)
def json_key(name: str) -> str:
    """Return a name as a key in JSON, with its colon."""
    return f"{encode_json(name)}:"


def provenance(cost: Cost) -> tuple[str, ...]:
    """Return the members in JSON that say where a cost's price comes from."""
    since = cost.valid_from
    # Equal moments in two zones would be one key in the cache, but are different texts.
    moment = since if since is None or since.tzinfo is dt.UTC else since.isoformat()
    return _provenance(cost.price_key, moment, cost.tier, cost.mode)


@functools.lru_cache(maxsize=1024)
def _provenance(
    price_key: str | None,
    since: dt.datetime | str | None,
    tier: str | None,
    mode: str | None,
) -> tuple[str, ...]:
    texts = {
        "price_key": price_key,
        "valid_from": since.isoformat() if isinstance(since, dt.datetime) else since,
        "tier": tier,
        "mode": mode,
    }
    return tuple(
        f'"{name}":{encode_json(text)}'
        for name, text in texts.items()
        if text is not None
    )


@functools.lru_cache(maxsize=1024)
def tags_text(tags: tuple[tuple[str, str], ...]) -> str:
    """Return tags in JSON."""
    return encode_json(dict(tags))


def usage_fields(usage: Usage) -> dict[str, t.Any]:
    """Return the fields of a usage that differ from their defaults."""
    fields: dict[str, t.Any] = {
        name: count for name, count in zip(COUNTS, _counts(usage), strict=True) if count
    }
    if usage.other_tokens:
        fields["other_tokens"] = dict(usage.other_tokens)
    if usage.units:
        fields["units"] = {name: str(n) for name, n in usage.units.items()}
    return fields


def bound_fields(bound: Bound) -> dict[str, t.Any]:
    """Return the fields of a bound that differ from their defaults."""
    fields: dict[str, t.Any] = {}
    for each in dataclasses.fields(Bound):
        value = getattr(bound, each.name)
        if each.name == "units":
            value = {name: str(n) for name, n in value.items()}
        if isinstance(value, frozenset):
            value = sorted(value)
        if value != each.default and value not in ({}, []):
            fields[each.name] = value
    return fields
