"""Revise an entry of a price file: what its sources change, and whether it is plausible."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..money import own_context
from .document import adjustments_of
from .document import Amounts
from .document import rates_of
from .fetch import FetchResult
from .meters import parse_key
from .meters import RateKey
from .offers import merged_adjustments
from .offers import merged_rates
from .offers import Offer
from .plausibility import Doubt
from .plausibility import doubts

Names: t.TypeAlias = frozenset[RateKey | str]

_JUMP: t.Final = 3
_TOLERANCE: t.Final = Decimal("1e-9")
_ABSURD: t.Final = Decimal(5000)
"""USD per 1M tokens; the most expensive model so far cost 600."""
_REPLACED: t.Final = ("windows", "variants")
"""What a source gives as a whole. Of multipliers, a file may have some of its own."""


@dataclass(frozen=True, slots=True)
class Revision:
    """What the sources make of a price in force."""

    before: Amounts
    changed: Amounts
    """New rates, and new values of rates."""
    removed: Names
    """Rates that the new price does not have."""
    withdrawn: Names
    """Those that are no longer listed by any source. Alone, they make no new price."""
    fallen: str | None
    """A rate that the sources list as 0, which may mean unknown."""
    price: Mapping[str, t.Any]
    """The entry as it becomes."""

    @property
    def is_new_price(self) -> bool:
        """Whether a rate changes.

        Filling in a missing rate is no change: nothing was known before. A missing
        multiplier or window meant that another rate applied.
        """
        return bool(self.removed) or any(
            key in self.before or isinstance(key, str) for key in self.changed
        )

    @property
    def invalid(self) -> str | None:
        """Why it cannot be true, if it cannot."""
        return invalid({**self.before, **self.changed}, self.changed.keys())

    @property
    @own_context
    def jump(self) -> str | None:
        """The rate that changes more than threefold, if one does."""
        for key, rate in self.changed.items():
            old = self.before.get(key)
            if old and rate and max(old, rate) > min(old, rate) * _JUMP:
                return f"{key} changes from {old:f} to {rate:f}, more than threefold"
        return None


def revise(
    current: Mapping[str, t.Any], offers: Sequence[Offer], *, follows: bool
) -> Revision:
    """Revise the price in force.

    :param offers: What the sources say, the most trusted first.
    :param follows: Whether the price is a source's, and all of them have answered: then
        what none lists was withdrawn. Otherwise, it may be someone's own.
    """
    offer = offers[0]
    before = {**rates_of(current), **adjustments_of(current)}
    after = {**merged_rates(offers), **adjustments_of(offer.adjustments)}
    zeros = offer.zeros | {key for key, rate in after.items() if not rate}
    changed = _changed(before, after)
    missing = before.keys() - after.keys() - zeros
    replaced = {
        key
        for name in _REPLACED
        if name in offer.adjustments and current.get(name)
        for key in missing.intersection(adjustments_of({name: current[name]}))
    }
    own = {key for key in missing if str(key).startswith("multipliers.")}
    withdrawn = missing - replaced - own if follows else set()
    removed = replaced | withdrawn if changed or replaced else set()
    price = _new_price(current, changed, removed, offer)
    # Its stamp must not say that a source lists someone's own rates.
    if rates_of(price).keys() <= after.keys():
        price |= provenance(offer.result)
    return Revision(
        before,
        changed,
        frozenset(removed),
        frozenset(withdrawn),
        min((str(key) for key in zeros if before.get(key)), default=None),
        price,
    )


def _changed(before: Amounts, after: Amounts) -> Amounts:
    # A gap is not filled with what cannot be true, such as a read among the writes.
    doubtful = {
        each.key for each in _doubts({**before, **after}) if each.rule != "cheaper"
    }
    return {
        key: rate
        for key, rate in after.items()
        if (key not in before and key not in doubtful)
        or (key in before and not _same(before[key], rate))
    }


def _new_price(
    current: Mapping[str, t.Any],
    changed: Amounts,
    removed: Collection[RateKey | str],
    offer: Offer,
) -> dict[str, t.Any]:
    price = {
        name: value
        for name, value in current.items()
        if parse_key(name) not in removed
        and (name not in _REPLACED or adjustments_of({name: value}).keys() - removed)
    }
    for key, rate in changed.items():
        if isinstance(key, RateKey):
            names = [name for name in current if parse_key(name) == key]
            price.update(dict.fromkeys(names or [str(key)], rate))
    return {**price, **merged_adjustments(current, offer)}


def provenance(result: FetchResult) -> dict[str, str]:
    """Return the stamp of an entry that follows a source."""
    return {
        "_source": result.name,
        "_source_version": result.version or "",
        "_fetched_at": iso(result.fetched_at),
    }


def iso(moment: dt.datetime) -> str:
    """Write a UTC time as price files have it."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@own_context
def _same(one: Decimal, other: Decimal) -> bool:
    """Compare two rates, ignoring what a float adds or loses."""
    return abs(one - other) <= max(abs(one), abs(other)) * _TOLERANCE


def invalid(rates: Amounts, changed: Collection[RateKey | str]) -> str | None:
    """Return what cannot be true of new rates: a slip of unit or scale.

    :param changed: The new ones. The others are the file's own.
    """
    for key in changed:
        if rates[key] > _ABSURD:
            return f"{key} is {rates[key]:f}, more than {_ABSURD} USD"
    for doubt in _doubts(rates):
        standard = doubt.key._replace(mode=None)
        if doubt.rule == "cheaper" and not {doubt.key, standard}.isdisjoint(changed):
            return f"{doubt.key} is {doubt.rate:f}, {doubt.reason}"
        if doubt.rule == "range" and doubt.key in changed:
            return f"{doubt.key} is {doubt.rate:f}, {doubt.reason}"
    return None


def _doubts(rates: Amounts) -> list[Doubt]:
    return [*doubts({k: rate for k, rate in rates.items() if isinstance(k, RateKey)})]
