"""Convert a price file that states another currency or unit to USD per 1M tokens."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from ..money import WIDE
from .document import models_of
from .meters import Malformed
from .meters import parse_key
from .meters import parse_rate
from .meters import parse_time
from .meters import TOKENS
from .statement import refuse_statements
from .statement import stated_scale

_CURRENCY: t.Final = re.compile(r"[A-Z]{3}\Z")
_SETTINGS: t.Final = ("currency", "unit", "usd_per_unit", "rate_date")
_READ: t.Final = frozenset(f"metadata.{name}" for name in _SETTINGS)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What to multiply a file's rates by."""

    tokens: Decimal
    units: Decimal
    stated: str
    """What the file says, for ``prices explain``."""

    def convert(self, value: t.Any, name: str = "") -> t.Any:
        """Return an entry, or what it has under a name, in USD per 1M tokens or per unit.

        An invalid rate is not changed, and is rejected when the entry is read.
        """
        if isinstance(value, (list, tuple)):
            return [self.convert(each, name) for each in value]
        if isinstance(value, Mapping):
            # Custom units may have any name.
            of_unit = "request" if name == "units" else None
            return {k: self.convert(v, of_unit or str(k)) for k, v in value.items()}
        key = parse_key(name)
        if key is None:
            return value
        try:
            rate = parse_rate(value, name)
        except Malformed:
            return value
        return WIDE.multiply(rate, self.tokens if key.meter in TOKENS else self.units)


def stated_conversion(metadata: Mapping[str, t.Any]) -> Conversion | None:
    """Return how to convert the rates of a file; ``None`` if they are as they should be.

    :raises Malformed: If the file does not say it unambiguously.
    """
    currency = str(metadata.get("currency") or "USD").strip().upper()
    scale = _scale(metadata.get("unit"), currency)
    factor, at = _exchange(currency, metadata)
    if factor == scale == 1:
        return None
    terms = [f"from {currency}{at}"] if at else []
    if scale != 1:
        terms.append(f"from {metadata['unit']!r}")
    tokens = WIDE.multiply(factor, scale)
    return Conversion(tokens, factor, ", ".join(terms))


def _exchange(currency: str, metadata: Mapping[str, t.Any]) -> tuple[Decimal, str]:
    given = metadata.get("usd_per_unit")
    if currency == "USD":
        if given is not None:
            raise Malformed(
                f"metadata.usd_per_unit is {given!r}, but metadata.currency does not name"
                " a currency other than USD; add one, or remove usd_per_unit"
            )
        return Decimal(1), ""
    if not _CURRENCY.match(currency) or given is None or "rate_date" not in metadata:
        raise Malformed(
            f"metadata.currency is {metadata['currency']!r}, but rates must be in USD; give"
            " metadata.currency as a code such as EUR, with metadata.usd_per_unit (what one"
            ' of it costs in USD, such as "1.08") and metadata.rate_date (the day of that'
            " rate), or convert the rates and remove metadata.currency"
        )
    factor = parse_rate(given, "metadata.usd_per_unit")
    if not factor:
        raise Malformed(f"metadata.usd_per_unit must be above 0, not {given!r}")
    day = parse_time(metadata["rate_date"], "metadata.rate_date")
    return factor, f" at {factor:f} USD ({day:%Y-%m-%d})"


def _scale(unit: object, currency: str) -> Decimal:
    scale = Decimal(1) if unit is None else stated_scale(unit, currency)
    if scale is None:
        raise Malformed(
            f"metadata.unit is {unit!r}, but rates must be per 1M tokens; use 1M tokens,"
            " 1K tokens or token, or convert the rates and remove metadata.unit"
        )
    return scale


def in_usd(document: Mapping[str, t.Any]) -> Mapping[str, t.Any]:
    """Return a price file's document with rates in USD per 1M tokens.

    :raises Malformed: If it states a currency or unit that cannot be converted.
    """
    metadata = document.get("metadata")
    if "models" in document:
        around = {k: v for k, v in document.items() if k not in ("metadata", "models")}
        refuse_statements(around)
    if not isinstance(metadata, Mapping):
        return document
    refuse_statements(metadata, "metadata.", known=_READ)
    conversion = stated_conversion(metadata)
    if conversion is None:
        return document
    kept = {k: v for k, v in metadata.items() if k not in _SETTINGS}
    models = {k: conversion.convert(entry) for k, entry in models_of(document).items()}
    for entry in models.values():
        for price in entry if isinstance(entry, list) else [entry]:
            if isinstance(price, dict) and price:
                price["_converted"] = conversion.stated
    return {"metadata": kept, "models": models}
