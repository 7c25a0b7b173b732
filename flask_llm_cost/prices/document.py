"""What does a price file's document say, and how is it written? Exact, without floats."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import typing as t
from collections.abc import Mapping
from decimal import Decimal

from .entry import beside
from .entry import read_price
from .meters import decimal_rate
from .meters import instant
from .meters import RateKey
from .meters import spellings

Amounts: t.TypeAlias = dict[RateKey | str, Decimal]
"""Rates by their keys; multipliers and the rates of windows by names."""


def models_of(document: Mapping[str, t.Any]) -> Mapping[str, t.Any]:
    """The entries of a price file."""
    models = (document["models"] or {}) if "models" in document else document
    return {k: v for k, v in models.items() if k != "metadata"}


def latest_of(entry: object, now: dt.datetime) -> Mapping[str, t.Any] | None:
    """The price in force. One that is to hold later is nothing that a source contradicts."""
    listed = entry if isinstance(entry, list) else [entry]
    mappings = [each for each in listed if isinstance(each, Mapping)]
    begun = [each for each in mappings if since_of(each) <= now]
    return max(begun, key=since_of, default=None)


_EVER: t.Final = dt.datetime.min.replace(tzinfo=dt.UTC)


def since_of(entry: Mapping[str, t.Any]) -> dt.datetime:
    """From when an entry holds; the year 1 where it does not say.

    :raises Malformed: If it says something else.
    """
    value = entry.get("valid_from")
    return _EVER if value is None else instant(value)


def rates_of(entry: Mapping[str, t.Any]) -> Amounts:
    """The rates of an entry, in USD per 1M tokens or each.

    :raises Malformed: If one is no rate.
    """
    return {
        key: decimal_rate(entry[name], name) for key, name in spellings(entry).items()
    }


BESIDE: t.Final = ("multipliers", "windows")
"""What else of an entry a source may say."""


def beside_of(entry: Mapping[str, t.Any]) -> Amounts:
    """Its multipliers and the rates of its windows, each by a name.

    :raises Malformed: If one is none.
    """
    said = {name: entry[name] for name in BESIDE if name in entry}
    return dict[RateKey | str, Decimal](
        beside(read_price("The entry", said, _ignore)).items()
    )


def _ignore(note: str) -> None:
    """What is no rate has been told of when the file was read."""


def may_leap(entry: Mapping[str, t.Any]) -> bool:
    """Does the entry itself say that its rates may move more than threefold?"""
    allowed = entry.get("_validator_override")
    if isinstance(allowed, str):
        return allowed == "skip_relative_change"
    return isinstance(allowed, (list, tuple, Mapping)) and (
        "skip_relative_change" in allowed
    )


def digest(models: Mapping[str, t.Any]) -> str:
    """What entries are told apart by from what someone edited since."""
    text = json.dumps(texts(models), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def texts(value: t.Any) -> t.Any:
    """The same with every number as text: a file of YAML has nothing else."""
    if isinstance(value, Mapping):
        return {str(key): texts(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [texts(each) for each in value]
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def dumps(value: object, indent: str = "") -> str:
    """JSON with exact decimals, a line for each key."""

    if isinstance(value, Mapping):
        if not value:
            return "{}"
        deeper = f"{indent}  "
        lines = (
            f"{deeper}{json.dumps(str(key), ensure_ascii=False)}: {dumps(each, deeper)}"
            for key, each in value.items()
        )
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)):
        if not value:
            return "[]"
        deeper = f"{indent}  "
        inner = ",\n".join(f"{deeper}{dumps(each, deeper)}" for each in value)
        return f"[\n{inner}\n{indent}]"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return json.dumps(value, ensure_ascii=False)
