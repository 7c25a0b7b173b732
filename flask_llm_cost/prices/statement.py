"""What a price file says that its rates are in: a currency, and a number of tokens."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from decimal import Decimal

from .meters import Malformed

_UNITS: t.Final = (
    (r"1m|1[, ]?000[, ]?000|1e6|(?:a |one )?million|mtok", Decimal(1)),
    (r"1k|1[, ]?000|1e3|(?:a |one )?thousand|ktok", Decimal(1000)),
    (r"(?:(?:1|a|one) )?token", Decimal(10**6)),
)

_NAMES: t.Final = frozenset(("currency", "currencies", "unit", "units", "per"))
_WITH: t.Final = frozenset(
    ("price", "prices", "pricing", "rate", "rates", "token", "tokens", "cost", "costs")
    + ("base", "default", "usd", "of", "in")
)
_WORD: t.Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def stated_scale(unit: object, currency: str) -> Decimal | None:
    """Return what to multiply rates of a unit by, for those of 1M tokens, if it is known."""
    words = " ".join(str(unit).lower().replace("_", " ").split())
    money = r"usd|\$" if currency == "USD" else re.escape(currency.lower())
    prefix = rf"(?:(?:{money}) ?)?(?:(?:per|/) ?)?"
    for amount, scale in _UNITS:
        if re.fullmatch(rf"{prefix}(?:{amount})(?: tokens?)?", words):
            return scale
    return None


def statements(
    place: Mapping[t.Any, t.Any], within: str = "", depth: int = 3
) -> Iterator[tuple[str, object]]:
    """Yield what states a currency or a unit, by its dotted name, at any depth."""
    for key, value in place.items():
        name = f"{within}{key}"
        if isinstance(value, Mapping):
            if depth:
                yield from statements(value, f"{name}.", depth - 1)
        elif states(key):
            yield name, value


def states(name: object) -> bool:
    """Whether a key's name says that it states a currency or a unit."""
    words = {word.lower() for word in _WORD.findall(str(name))}
    return not words.isdisjoint(_NAMES) and words <= _NAMES | _WITH


def refuse_statements(
    place: Mapping[t.Any, t.Any], within: str = "", *, known: t.Container[str] = ()
) -> None:
    """Refuse a statement of a currency or a unit where it would have no effect.

    :param known: The names that are read there.
    :raises Malformed: If there is one, and its rates are not in USD per 1M tokens.
    """
    for name, value in statements(place, within):
        if name in known or isinstance(value, list):
            continue
        text = str(value).strip().upper()
        if text in ("USD", "$") or stated_scale(value, "USD") == 1:
            continue
        raise Malformed(
            f"{name} is {value!r}, but currency and unit are stated for the whole file,"
            " in metadata.currency and metadata.unit; use these, or remove it"
        )
