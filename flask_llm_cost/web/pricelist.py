"""The prices in force, as a page lists them: of the models in use, or by a search."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

if t.TYPE_CHECKING:
    from ..prices import PriceBook
    from ..prices.price import Price

SHOWN: t.Final[tuple[str, ...]] = ("input", "cache_read", "cache_write", "output")
"""The rates that have a column."""


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One model's price. Rates are USD per 1M tokens, other ones per unit."""

    name: str
    """The model as it was called, or the book's key."""
    key: str | None
    """The book's key, ``None`` if no price is known."""
    source: str | None
    since: dt.datetime | None
    matched_by: str | None
    """How the book found it; ``None`` in a search."""
    factor: Decimal | None
    """What a negotiated ``provider/*`` makes of each rate."""
    rates: dict[str, Decimal]
    """Of :data:`SHOWN`, by name; a rate that is not there is not known."""
    others: list[tuple[str, Decimal]]
    """Every other rate."""
    provider: str | None = None
    model: str | None = None


def in_use(
    book: PriceBook, names: Iterable[tuple[str, ...]], at: dt.datetime
) -> Iterator[PriceRow]:
    """The price of each model that was called, as the next call would find it."""
    for provider, model in names:
        found = book.find(provider, model, at)
        name = f"{provider}/{model}"
        if found is None:
            yield PriceRow(name, None, None, None, None, None, {}, [], provider, model)
            continue
        yield PriceRow(
            name,
            found.key,
            found.source,
            found.price.valid_from,
            found.matched_by,
            found.factor,
            *_rates(found.price),
            provider,
            model,
        )


def search(
    book: PriceBook, words: str, at: dt.datetime, most: int
) -> tuple[list[PriceRow], int]:
    """The first entries whose key has every word in it, and how many there are."""
    wanted = words.lower().split()
    # An entry goes by several names: it is found by any of them, and listed once.
    found = {
        (entry.key, source): entry
        for name, (source, entry) in book.entries().items()
        if all(word in f"{name} {entry.key}".lower() for word in wanted)
    }
    rows = []
    for (key, source), entry in sorted(found.items(), key=lambda kv: kv[0])[:most]:
        price = entry.at(at)
        if price is not None:
            since = price.valid_from
            rows.append(PriceRow(key, key, source, since, None, None, *_rates(price)))
    return rows, len(found)


def _rates(price: Price) -> tuple[dict[str, Decimal], list[tuple[str, Decimal]]]:
    rates = {str(key): rate for key, rate in price.rates.items()}
    shown: dict[str, Decimal] = {
        name: rates.pop(name) for name in SHOWN if name in rates
    }
    return shown, sorted(rates.items())
