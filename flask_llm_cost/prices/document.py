"""Read and write a price file's document: exact numbers, never floats."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import typing as t
from collections.abc import Mapping
from decimal import Decimal

from ..money import dumps
from .entry import adjustments
from .entry import ignore
from .entry import read_price
from .meters import MIN_TIME
from .meters import parse_rate
from .meters import parse_time
from .meters import RateKey
from .meters import spellings

Amounts: t.TypeAlias = dict[RateKey | str, Decimal]
"""Rates by their keys; multipliers, and the rates of windows and variants, by names."""

ADJUSTMENTS: t.Final = ("multipliers", "windows", "variants")
"""Keys of an entry, besides its rates, that a source may set."""


def models_of(document: Mapping[str, t.Any]) -> Mapping[str, t.Any]:
    """Return the entries of a price file."""
    models = (document["models"] or {}) if "models" in document else document
    return {k: v for k, v in models.items() if k != "metadata"}


def price_in_force(entry: object, now: dt.datetime) -> Mapping[str, t.Any] | None:
    """Return an entry's current price. Sources do not contradict a future one."""
    listed = entry if isinstance(entry, list) else [entry]
    mappings = [each for each in listed if isinstance(each, Mapping)]
    begun = [each for each in mappings if valid_from_of(each) <= now]
    return max(begun, key=valid_from_of, default=None)


def valid_from_of(price: Mapping[str, t.Any]) -> dt.datetime:
    """Return when a price takes effect; the year 1 if it has no date.

    :raises Malformed: If the date is invalid.
    """
    value = price.get("valid_from")
    return MIN_TIME if value is None else parse_time(value)


def rates_of(price: Mapping[str, t.Any]) -> Amounts:
    """Return the rates of a price, in USD per 1M tokens or per unit.

    :raises Malformed: If a rate is invalid.
    """
    return {
        key: parse_rate(price[name], name) for key, name in spellings(price).items()
    }


def adjustments_of(price: Mapping[str, t.Any]) -> Amounts:
    """Return the multipliers, and the rates of windows and variants, by name.

    :raises Malformed: If one is invalid.
    """
    given = {name: price[name] for name in ADJUSTMENTS if name in price}
    # Warnings were logged when the file was read.
    found = adjustments(read_price("The entry", given, ignore))
    return dict[RateKey | str, Decimal](found.items())


def allows_jumps(price: Mapping[str, t.Any]) -> bool:
    """Whether the price itself allows its rates to change more than threefold."""
    allowed = price.get("_validator_override")
    if isinstance(allowed, str):
        return allowed == "skip_relative_change"
    return isinstance(allowed, (list, tuple, Mapping)) and (
        "skip_relative_change" in allowed
    )


def digest(models: Mapping[str, t.Any]) -> str:
    """Return a hash of entries, which shows whether someone has edited them."""
    text = json.dumps(as_text(models), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def as_text(value: t.Any) -> t.Any:
    """Convert every number to text, since a YAML file contains nothing else."""
    if isinstance(value, Mapping):
        return {str(key): as_text(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_text(each) for each in value]
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def written(value: object) -> str:
    """Return JSON in which rates keep their zeros, as in the file."""
    return dumps(value, number="{:f}".format)
