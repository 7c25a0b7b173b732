"""Sums by meter: what calls used and cost, in the terms of a bill.

A rollup says what a model cost; a bill says what each meter of it cost, at which price. So
the parts of calls are summed by UTC hour, and this by everything that a price depends on.
This module is the arithmetic; :mod:`.meter_sums` keeps the sums.
"""

from __future__ import annotations

import functools
import json
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from decimal import Decimal

from ..call import COUNTS
from ..call import REPORTED
from ..call import SILENT_OUTCOMES
from ..db.rows import clean
from ..db.tables import METER_SUM_KEY
from ..money import context
from ..money import MAX_PICO
from ..money import round_pico

CALLS: t.Final = ""
"""The meter whose lines count calls instead of what they used."""

Status: t.TypeAlias = t.Literal[
    "complete",
    "incomplete",
    "unsettled",
    "estimated",
    "unpriced",
    "no_usage",
    "failed",
]
"""What is known of the cost of a call: each has one. ``unsettled`` is ``incomplete`` because
the final usage never came, ``no_usage`` is ``unpriced`` because none came at all, and
``failed`` used nothing, as far as is known."""

_REPORTED_METER: t.Final = "reported"
_UNSETTLED_FLAGS: t.Final = frozenset(("cut", "no_usage"))

_LENGTHS: t.Final = dict(METER_SUM_KEY)

# Sums of units of any size are exact.
_exact: t.Final = context(250)


class MeterKey(t.NamedTuple):
    """What calls that are summed have in common. What is not known is ``""``."""

    scope: str
    provider: str
    model: str
    meter: str
    """:data:`CALLS`, ``reported`` (a total without a quantity), or a meter of prices."""
    mode: str
    tier: str
    rate: str
    """USD per 1M tokens or per unit, exactly; ``""`` for a meter without a price."""
    price_key: str
    source: str
    """Where the cost is from: see :class:`.Cost`."""
    status: Status


class MeterSum(t.NamedTuple):
    """What calls with the same key used and cost."""

    quantity: Decimal
    """Tokens or units; 0 on lines that count calls."""
    calls: int
    """Calls that used the meter. Only the lines of :data:`CALLS` count each call once."""
    cost: int
    """Pico-USD: of estimated calls, the estimate."""
    listed: int
    """What the price list says, in pico-USD, where the provider or a bill says the cost."""
    open_amount: int
    """How much more than their cost the calls can have cost, in pico-USD."""
    unbounded: int
    """Calls for which no one knows how much more."""

    @classmethod
    def of(cls, quantity: str, amounts: Iterable[t.Any]) -> MeterSum:
        """Make one of the values of a stored row."""
        return cls(Decimal(quantity), *map(int, amounts))

    def plus(self, other: MeterSum, sign: int = 1) -> MeterSum:
        """Add, or subtract with ``sign=-1``."""
        mine, theirs = self[1:], other[1:]
        return MeterSum(
            _exact.add(self.quantity, _exact.multiply(sign, other.quantity)),
            *(min(a + sign * b, MAX_PICO) for a, b in zip(mine, theirs, strict=True)),
        )


NOTHING: t.Final = MeterSum(Decimal(0), 0, 0, 0, 0, 0)

MeterSums: t.TypeAlias = Mapping[MeterKey, MeterSum]

_K = t.TypeVar("_K")


def add_up(parts: Iterable[Mapping[_K, MeterSum]]) -> dict[_K, MeterSum]:
    """Add the sums of disjoint sets of calls."""
    found: dict[_K, MeterSum] = {}
    for part in parts:
        for key, more in part.items():
            known = found.get(key)
            found[key] = more if known is None else known.plus(more)
    return found


def difference(
    stored: Mapping[_K, MeterSum], less: Mapping[_K, MeterSum]
) -> tuple[dict[_K, MeterSum], list[_K]]:
    """Subtract sums; return the rest, and the keys that have too little."""
    left, missing = dict(stored), []
    for key, part in less.items():
        rest = left.get(key, NOTHING).plus(part, -1)
        if any(value < 0 for value in rest):
            missing.append(key)
        left[key] = rest
        if not any(rest):
            del left[key]
    return left, missing


Line: t.TypeAlias = tuple[MeterKey, Decimal | int, int, int, int, int, int]
"""A key, and the values of a :class:`MeterSum`."""


class Adder:
    """Sums calls, given as rows of their table."""

    def __init__(self) -> None:
        self._found: dict[MeterKey, list[t.Any]] = {}

    def add(self, row: t.Any) -> None:
        """Add one call."""
        self.add_lines(lines_of(row))

    def add_lines(self, lines: Iterable[Line]) -> None:
        """Add what :func:`lines_of` returned for one call."""
        for key, quantity, *amounts in lines:
            sums = self._found.get(key)
            if sums is None:
                self._found[key] = [quantity, *amounts]
                continue
            sums[0] = _exact.add(sums[0], quantity)
            for n, amount in enumerate(amounts, 1):
                sums[n] += amount

    @property
    def sums(self) -> dict[MeterKey, MeterSum]:
        """What was added, no more than columns can hold."""
        return {
            key: MeterSum(_exact.add(quantity, 0), *(min(n, MAX_PICO) for n in amounts))
            for key, (quantity, *amounts) in self._found.items()
        }


def lines_of(row: t.Any) -> Iterator[Line]:
    """Return what one call adds."""
    details = json.loads(row.details) if row.details else {}
    status = status_of(row)
    mode, tier, price_key = (
        _fitting(name, details.get(name) or "")
        for name in ("mode", "tier", "price_key")
    )
    source = row.cost_source or ""
    key = MeterKey(
        row.scope or "",
        row.provider,
        row.model,
        CALLS,
        mode,
        tier,
        "",
        price_key,
        source,
        status,
    )
    more, unbounded = _open(row)
    yield key, 0, 1, 0, 0, more, unbounded
    used = dict(_used(row, details))
    rest = row.cost_total or 0
    for name, (quantity, rate, pico) in details.get("parts", {}).items():
        rest -= pico
        meter, _, model = name.partition("@")
        yield _part(key, details, meter, model, Decimal(quantity), rate, pico)
        bucket = "output" if meter == "reasoning" else meter
        if bucket in used:
            used[bucket] = _exact.subtract(used[bucket], Decimal(quantity))
    for name, left in used.items():
        if left > 0:
            meter = _fitting("meter", name)
            yield key._replace(meter=meter, price_key=""), left, 1, 0, 0, 0, 0
    if rest:  # only foreign rows have parts that are not all of the cost
        yield key._replace(meter=_REPORTED_METER), 0, 1, rest, rest, 0, 0


def _part(
    key: MeterKey,
    details: Mapping[str, t.Any],
    meter: str,
    model: str,
    quantity: Decimal,
    rate: str,
    pico: int,
) -> Line:
    listed = pico
    if meter == _REPORTED_METER:
        # Its quantity is 1 and its rate the amount: neither is a price.
        quantity, rate = Decimal(0), ""
        if "estimate" in details:
            listed = min(round_pico(Decimal(details["estimate"])), MAX_PICO)
    else:
        rate = _plain(rate)
    model = _fitting("model", model) if model else key.model
    key = key._replace(meter=_fitting("meter", meter), rate=rate, model=model)
    return key, quantity, 1, pico, listed, 0, 0


@functools.lru_cache(maxsize=4096)
def _fitting(name: str, text: str) -> str:
    """Cut text to its column: what is longer would keep an hour from being built."""
    return clean(text)[: _LENGTHS[name]]


@functools.lru_cache(maxsize=4096)
def _plain(rate: str) -> str:
    """Write equal rates the same: prices differ in their zeros."""
    text = f"{Decimal(rate):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def status_of(row: t.Any) -> Status:
    """Return what is known of the cost of a call."""
    if row.cost_total is None:
        if row.total_input_tokens is not None:
            return "unpriced"
        return "failed" if row.outcome in SILENT_OUTCOMES else "no_usage"
    if row.usage_source == "estimated" and row.cost_source not in REPORTED:
        return "estimated"
    if row.cost_complete:
        return "complete"
    # As in Call.unsettled.
    if not _UNSETTLED_FLAGS.isdisjoint(row.flags.split()):
        return "unsettled"
    bounded = row.details and '"bound":{' in row.details
    return "unsettled" if bounded else "incomplete"


def _open(row: t.Any) -> tuple[int, int]:
    """How much more a call can have cost, and whether no one knows."""
    if row.cost_total is None or row.cost_complete:
        return 0, 0
    if row.cost_ceiling is None:
        return 0, 1
    return row.cost_ceiling - row.cost_total, 0


_BUCKETS: t.Final = {
    name: name.removesuffix("_tokens") for name in COUNTS if name != "reasoning_tokens"
}
"""Meters by their columns."""


def _used(
    row: t.Any, details: Mapping[str, t.Any]
) -> Iterator[tuple[str, Decimal | int]]:
    if row.input_tokens is None:
        return
    for name, meter in _BUCKETS.items():
        count = getattr(row, name)
        if count:
            yield meter, count
    yield from details.get("other_tokens", {}).items()
    for name, quantity in details.get("units", {}).items():
        yield name, Decimal(quantity)
