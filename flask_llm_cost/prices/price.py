"""One model's rates since one date: USD per 1M tokens, or per unit."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

from ..call import Usage
from ..completeness import EXPLICIT_CACHE
from ..completeness import IMPLICIT_CACHE
from ..completeness import THINKING
from ..money import WIDE
from .meters import LIMITS
from .meters import RateKey
from .meters import TOKENS
from .rate_table import compile_table
from .rate_table import RateTable

_DAY: t.Final = dt.timedelta(days=1)
_MINUTE: t.Final = dt.timedelta(minutes=1)
_NO_CONDITIONS: t.Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """Rates that apply at certain times of the day."""

    spans: tuple[tuple[int, int], ...]
    """Minutes of the UTC day: from, until (exclusive)."""
    weekdays: frozenset[int]
    """ISO weekdays, 1 is Monday; empty for all."""
    rates: Mapping[RateKey, Decimal]

    def contains(self, at: dt.datetime) -> bool:
        """Whether a time is inside the window."""
        # Not astimezone(): near the years 1 and 9999 the time may not exist in UTC.
        shift = at.utcoffset() or dt.timedelta()
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        days, into = divmod(at - midnight - shift, _DAY)
        if self.weekdays and (at.weekday() + days) % 7 + 1 not in self.weekdays:
            return False
        minute = into // _MINUTE
        return any(
            start <= minute < end if start < end else minute >= start or minute < end
            for start, end in self.spans
        )


@dataclass(frozen=True, slots=True)
class Price:
    """The rates of one model since one date."""

    rates: Mapping[RateKey, Decimal]
    valid_from: dt.datetime | None = None
    multipliers: Mapping[str, Decimal] = field(default_factory=dict)
    """Factors of all rates but the fees of tools by condition, such as ``region.us``."""
    multiplier: Decimal | None = None
    """The factor of a ``provider/*`` entry."""
    windows: tuple[DailyWindow, ...] = ()
    variants: Mapping[frozenset[str], Mapping[RateKey, Decimal]] = field(
        default_factory=dict
    )
    """Rates by the conditions that they apply under, such as a size and a quality."""
    metadata: Mapping[str, t.Any] = field(default_factory=dict)
    thresholds: tuple[int, ...] = ()
    """The thresholds of the long-context tiers, ascending."""
    max_input_tokens: int | None = None
    """The most input that a request can have, if it is known."""
    max_output_tokens: int | None = None
    _tables: dict[t.Any, RateTable] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def modes(self) -> frozenset[str]:
        """The modes that have their own rates."""
        return frozenset(key.mode for key in self.rates if key.mode is not None)

    @property
    def empty(self) -> bool:
        """Whether it has no rate at all."""
        return self.multiplier is None and not (
            self.rates or self.windows or self.variants
        )

    @property
    def has_tokens(self) -> bool:
        """Whether there is a rate for tokens."""
        return any(key.meter in TOKENS for key in self.rates)

    @property
    def limits(self) -> dict[str, int]:
        """The limits that are known, by name."""
        limits = zip(
            LIMITS, (self.max_input_tokens, self.max_output_tokens), strict=True
        )
        return {name: limit for name, limit in limits if limit is not None}

    @property
    def conditions(self) -> frozenset[str]:
        """The conditions that it provides for, by a multiplier, a variant or a rate."""
        thinks = (THINKING,) if self._thinks else ()
        caches = _CACHE_SHARES if self._has_two_caches else ()
        return frozenset(self.multipliers).union(thinks, caches, *self.variants)

    @property
    def _thinks(self) -> bool:
        return any(key.meter == "reasoning" for key in self.rates)

    @property
    def _has_two_caches(self) -> bool:
        return bool(_of_cache(self.rates, EXPLICIT_CACHE))

    def depends_on(self, conditions: frozenset[str]) -> bool:
        """Whether what is true of a call changes the rates."""
        return (
            not conditions.isdisjoint(self.multipliers)
            or (THINKING in conditions and self._thinks)
            or (not conditions.isdisjoint(_CACHE_SHARES) and self._has_two_caches)
            or bool(self.variants and self._relevant(conditions))
        )

    def _relevant(self, conditions: Iterable[str]) -> frozenset[str]:
        """Return the conditions that are of a kind which :attr:`variants` tell apart."""
        kinds = {_kind(term) for terms in self.variants for term in terms}
        return frozenset(term for term in conditions if _kind(term) in kinds)

    def _rates_under(self, relevant: frozenset[str]) -> Mapping[RateKey, Decimal]:
        """Return the rates under conditions of the call.

        Conditions that no variant names leave the meters that depend on them without a
        rate: what another size costs is not known.
        """
        if not relevant:
            return self.rates
        depending = {key.meter for rates in self.variants.values() for key in rates}
        kept = {k: v for k, v in self.rates.items() if k.meter not in depending}
        return {**kept, **self.variants.get(relevant, {})}

    def with_fees(self, other: Price) -> Price:
        """Add the other price's rates for units that this one lacks."""
        fees = {
            key: rate
            for key, rate in other.rates.items()
            if key.meter not in TOKENS and key not in self.rates
        }
        if not fees:
            return self
        return dataclasses.replace(self, rates={**self.rates, **fees}, _tables={})

    def with_limits(self, other: Price) -> Price:
        """Add the limits of the other price that this one lacks."""
        if other.limits.keys() <= self.limits.keys():
            return self
        return dataclasses.replace(
            self,
            max_input_tokens=self.max_input_tokens or other.max_input_tokens,
            max_output_tokens=self.max_output_tokens or other.max_output_tokens,
        )

    def tier(self, usage: Usage) -> int:
        """Return the highest threshold that the request exceeds; 0 for the base rates."""
        above = 0
        if self.thresholds:
            total = usage.total_input_tokens
            for threshold in self.thresholds:
                if total > threshold:
                    above = threshold
        return above

    def table(
        self,
        above: int = 0,
        *,
        mode: str | None = None,
        at: dt.datetime | None = None,
        conditions: Iterable[str] = (),
        factor: Decimal | None = None,
        claude: bool = False,
        seen_as_text: bool = False,
    ) -> RateTable:
        """Return the rates of one tier as they apply to a call.

        :param at: When the call was sent, for :attr:`windows`.
        :param conditions: What is true of the call, for :attr:`multipliers` and
            :attr:`variants`.
        :param factor: A negotiated multiplier of all rates.
        :param claude: Whether Anthropic's rules for cache prices apply.
        :param seen_as_text: Whether what the model sees has the rate of text.
        """
        window = None
        if self.windows and at is not None:
            for number, each in enumerate(self.windows):
                if each.contains(at):
                    window = number
        regional = factor
        if self.multipliers and conditions:
            regional = self._factor(conditions, factor)
        relevant = self._relevant(conditions) if self.variants else _NO_CONDITIONS
        special = frozenset(conditions) & _SPECIAL
        factors = (factor, regional)
        key = (mode, above, window, factors, claude, seen_as_text, relevant, special)
        table = self._tables.get(key)
        if table is None:
            rates = self._rates_under(relevant)
            if THINKING in special:
                rates = {**rates, **_of_thinking(rates)}
            for cache in special & _CACHE_SHARES.keys():
                rates = {**rates, **_of_cache(rates, cache)}
            if window is not None:
                rates = {**rates, **self.windows[window].rates}
            table = compile_table(
                rates,
                mode=mode,
                above=above,
                factor=regional,
                fee_factor=factor,
                claude=claude,
                seen_as_text=seen_as_text,
            )
            if len(self._tables) >= 256:
                self._tables.clear()
            self._tables[key] = table
        return table

    def _factor(
        self, conditions: Iterable[str], factor: Decimal | None
    ) -> Decimal | None:
        for condition in sorted(conditions):
            times = self.multipliers.get(condition)
            if times is not None:
                factor = times if factor is None else WIDE.multiply(factor, times)
        return factor


def _of_thinking(rates: Mapping[RateKey, Decimal]) -> dict[RateKey, Decimal]:
    """Return the rates of output where those of reasoning apply to all of it."""
    return {
        key._replace(meter="output"): rate
        for key, rate in rates.items()
        if key.meter == "reasoning"
    }


_CACHE_SHARES: t.Final = {
    EXPLICIT_CACHE: {"cache_read": Decimal("0.1"), "cache_write": Decimal("1.25")},
    IMPLICIT_CACHE: {"cache_read": Decimal("0.2")},
}
"""Rates of Alibaba's caches as shares of the input rate. Price lists have one or the other
rate for reads: https://www.alibabacloud.com/help/en/model-studio/context-cache."""

_SPECIAL: t.Final = frozenset((THINKING, *_CACHE_SHARES))


def _of_cache(rates: Mapping[RateKey, Decimal], cache: str) -> dict[RateKey, Decimal]:
    """Return the rates of one of the caches, if the listed one is that of either.

    Where a model's rate is another share of its input rate, the shares do not apply to it.
    """
    usual = [shares["cache_read"] for shares in _CACHE_SHARES.values()]
    found: dict[RateKey, Decimal] = {}
    for key, rate in rates.items():
        if key.meter == "input":
            listed = rates.get(key._replace(meter="cache_read"))
            if listed is not None and any(listed == share * rate for share in usual):
                for meter, share in _CACHE_SHARES[cache].items():
                    own = key._replace(meter=meter)
                    derived = share * rate
                    # A write has one rate, so the listed one is right.
                    keep = own in rates and (
                        meter == "cache_write" or rates[own] == derived
                    )
                    found[own] = rates[own] if keep else derived
    return found


def _kind(condition: str) -> str:
    """Return the kind of a condition: ``size`` of ``size.1024x1024``."""
    return condition.partition(".")[0]
