"""Rows of the prices page: the models in use, or the results of a search."""

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
"""Rates with their own column."""


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One model's price. Rates are USD per 1M tokens, or per unit."""

    name: str
    """The model's name in calls, or the book's key."""
    key: str | None
    """The book's key; ``None`` if no price is known."""
    source: str | None
    since: dt.datetime | None
    matched_by: str | None
    """See :attr:`.Found.matched_by`; ``None`` in a search."""
    factor: Decimal | None
    """A negotiated ``provider/*`` multiplier."""
    rates: dict[str, Decimal]
    """The known rates of :data:`SHOWN`, by name."""
    others: list[tuple[str, Decimal]]
    """Every other rate."""
    provider: str | None = None
    model: str | None = None


def in_use(
    book: PriceBook, names: Iterable[tuple[str, ...]], at: dt.datetime
) -> Iterator[PriceRow]:
    """Yield the price that the next call of each model would get."""
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
    book: PriceBook, words: str, at: dt.datetime, limit: int
) -> tuple[list[PriceRow], int]:
    """Return the first entries whose key contains every word, and how many there are."""
    wanted = words.lower().split()
    # An entry with several names can be found by any of them, and is listed once.
    found = {
        (entry.key, source): entry
        for name, (source, entry) in book.entries().items()
        if all(word in f"{name} {entry.key}".lower() for word in wanted)
    }
    rows = []
    for (key, source), entry in sorted(found.items(), key=lambda kv: kv[0])[:limit]:
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
