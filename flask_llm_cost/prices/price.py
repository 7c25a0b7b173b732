"""What does so much usage cost at these rates? Exact, in whole pico-dollars.

Tokens are priced in USD per 1M, units per piece.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from decimal import Context
from decimal import Decimal
from decimal import ROUND_HALF_EVEN
from operator import attrgetter

from ..call import Part
from ..call import Usage
from ..money import divide
from ..money import from_pico
from ..money import PICO_PER_USD
from .meters import CORE
from .meters import IS_TOKENS
from .meters import RateKey
from .meters import TOKENS

EXACT: t.Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_RATIO: t.Final = Context(prec=28, rounding=ROUND_HALF_EVEN)
"""For a rate that is a ratio of others, which may have no end."""
_MILLION: t.Final = 10**6
_DAY: t.Final = dt.timedelta(days=1)
_MINUTE: t.Final = dt.timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Window:
    """Rates that hold at some times of the day."""

    spans: tuple[tuple[int, int], ...]
    """Minutes of the UTC day: from, until (excluded)."""
    weekdays: frozenset[int]
    """ISO weekdays, 1 is Monday; empty for all."""
    rates: Mapping[RateKey, Decimal]

    def holds(self, at: dt.datetime) -> bool:
        """Is that time in the window?"""
        # By hand: near the years 1 and 9999 there may be no such time in UTC.
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


class Rate(t.NamedTuple):
    """A resolved rate, ready to multiply: ``quantity * top / bottom`` pico-USD."""

    meter: str
    usd: Decimal
    top: int
    bottom: int
    flag: str | None = None
    """Set where it is not the meter's own rate."""


def make_rate(meter: str, usd: Decimal, flag: str | None = None) -> Rate:
    """Compile a rate to integers. A rate per 1M with up to 6 decimals needs no division."""
    top, bottom = usd.as_integer_ratio()
    top *= _MILLION if meter in IS_TOKENS else PICO_PER_USD
    if top % bottom == 0:
        return Rate(meter, usd, top // bottom, 1, flag)
    return Rate(meter, usd, top, bottom, flag)


class Table(t.NamedTuple):
    """Every rate of one price for one mode and tier, fallbacks resolved."""

    core: tuple[Rate | None, ...]
    reasoning: Rate | None
    rest: Mapping[str, Rate]
    request: Rate | None
    tier: str | None
    mode: str | None
    special: bool
    """Is there more to it than multiplying counts by rates?"""


Line: t.TypeAlias = tuple[Rate, int | Decimal, int]
"""One line of a cost, still in integers: its rate, the quantity, pico-USD."""


def parts_of(lines: Sequence[Line]) -> dict[str, Part]:
    """The parts of a cost by meter, in decimals."""
    return {
        rate.meter: Part(Decimal(quantity), rate.usd, from_pico(pico))
        for rate, quantity, pico in lines
    }


Sums: t.TypeAlias = tuple[int, Sequence[Line], Sequence[str], frozenset[str]]
"""The total in pico-USD, its lines, used meters without a rate, and flags."""


_NO_FLAGS: t.Final[frozenset[str]] = frozenset()
_counts: t.Final = attrgetter(*CORE.values())
_CORE_METERS: t.Final = tuple(CORE)
_OUTPUT: t.Final = _CORE_METERS.index("output")


@dataclass(frozen=True, slots=True)
class Price:
    """The rates of one model since one date."""

    rates: Mapping[RateKey, Decimal]
    valid_from: dt.datetime | None = None
    multipliers: Mapping[str, Decimal] = field(default_factory=dict)
    """Factors of all rates by condition, such as ``region.us``."""
    multiplier: Decimal | None = None
    """The factor of a ``provider/*`` entry."""
    windows: tuple[Window, ...] = ()
    metadata: Mapping[str, t.Any] = field(default_factory=dict)
    thresholds: tuple[int, ...] = ()
    """The tiers there are, ascending."""
    _tables: dict[t.Any, Table] = field(default_factory=dict, compare=False, repr=False)

    @property
    def modes(self) -> frozenset[str]:
        """The modes that have a rate of their own."""
        return frozenset(key.mode for key in self.rates if key.mode is not None)

    @property
    def has_tokens(self) -> bool:
        """Is there a rate for tokens?"""
        return any(key.meter in IS_TOKENS for key in self.rates)

    def with_fees(self, other: Price) -> Price:
        """With the fees by the piece that another says and this does not."""
        fees = {
            key: rate
            for key, rate in other.rates.items()
            if key.meter not in IS_TOKENS and key not in self.rates
        }
        if not fees:
            return self
        return dataclasses.replace(self, rates={**self.rates, **fees}, _tables={})

    def tier(self, usage: Usage) -> int:
        """The highest threshold that the whole request exceeds; 0 for the base rates."""
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
    ) -> Table:
        """The rates of one tier, as they hold for one call.

        :param at: When it was sent, for :attr:`windows`.
        :param conditions: What holds of the call, for :attr:`multipliers`.
        :param factor: A negotiated multiplier of everything.
        :param claude: Caching is billed as Anthropic does.
        """
        window = None
        if self.windows and at is not None:
            for number, each in enumerate(self.windows):
                if each.holds(at):
                    window = number
        if self.multipliers and conditions:
            factor = self._factor(conditions, factor)
        key = (mode, above, window, factor, claude)
        table = self._tables.get(key)
        if table is None:
            table = self._compile(mode, above, window, factor, claude)
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
                factor = times if factor is None else EXACT.multiply(factor, times)
        return factor

    def _compile(
        self,
        mode: str | None,
        above: int,
        window: int | None,
        factor: Decimal | None,
        claude: bool,
    ) -> Table:
        rates = self.rates
        if window is not None:
            rates = {**rates, **self.windows[window].rates}
        sheet = _Sheet(rates, mode, above, factor, claude)
        others = {
            key.meter
            for key in rates
            if key.meter not in CORE and key.meter not in IS_TOKENS
        }
        others.update(name for name in TOKENS if name not in CORE)
        others.discard("reasoning")
        resolved = {name: sheet.resolve(name) for name in sorted(others)}
        reasoning, request = sheet.reasoning(), resolved.get("request")
        return Table(
            core=tuple(sheet.resolve(name) for name in _CORE_METERS),
            reasoning=reasoning,
            rest={name: rate for name, rate in resolved.items() if rate is not None},
            request=request,
            tier=f"above_{above // 1000}k" if above else None,
            mode=mode,
            special=reasoning is not None or request is not None,
        )


class _Found(t.NamedTuple):
    usd: Decimal
    own_mode: bool
    above: int
    flag: str | None = None

    @property
    def nearness(self) -> tuple[bool, int, bool]:
        """How near it is to the mode and the tier that were asked for."""
        return self.own_mode, self.above, self.flag is None


_CLAUDE_WRITES: t.Final = {
    "cache_write": Decimal("1.25"),
    "cache_write_1h": Decimal(2),
}
"""https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching#pricing: by input."""

_MODALITIES: t.Final = ("_audio", "_image", "_video", "_document", "_citation")


class _Sheet:
    """Rates of one mode and tier, and what stands in for those that are missing."""

    def __init__(
        self,
        rates: Mapping[RateKey, Decimal],
        mode: str | None,
        above: int,
        factor: Decimal | None,
        claude: bool,
    ) -> None:
        self._rates = rates
        self._mode = mode
        self._factor = factor
        self._claude = claude
        known = {key.above for key in rates if key.above <= above}
        self._tiers = sorted(known | {0}, reverse=True)

    def _find(self, meter: str) -> _Found | None:
        """The meter's own rate: the mode's goes before the standard one."""
        standard = self._of_mode(None, meter)
        if self._mode is None:
            return standard
        own = self._of_mode(self._mode, meter)
        if own is None or standard is None or own.above >= standard.above:
            return own or standard
        return self._raised(meter, own, standard)

    def _of_mode(self, mode: str | None, meter: str) -> _Found | None:
        for above in self._tiers:
            usd = self._rates.get(RateKey(mode, meter, above))
            if usd is not None:
                return _Found(usd, mode == self._mode, above)
        return None

    def _raised(self, meter: str, own: _Found, standard: _Found) -> _Found:
        """A mode's rate of a lower tier, raised as the standard rate is from there on.

        The whole request is of one tier, in any mode, and a discount is one in each.
        """
        lower = self._rates.get(RateKey(None, meter, own.above))
        if not lower:
            return standard
        raised = _RATIO.divide(EXACT.multiply(own.usd, standard.usd), lower)
        return _Found(raised, True, standard.above, "derived")

    def _make(
        self,
        meter: str,
        found: _Found,
        flag: str | None = None,
        times: Decimal | None = None,
    ) -> Rate:
        usd = found.usd
        if times is not None:
            usd = EXACT.multiply(usd, times)
        if self._factor is not None:
            usd = EXACT.multiply(usd, self._factor)
        flag = flag or found.flag
        if flag is None and not found.own_mode and meter in IS_TOKENS:
            flag = "mode_fallback"
        return make_rate(meter, usd, flag)

    def resolve(self, meter: str) -> Rate | None:
        """The meter's rate, or what stands in for it, flagged; ``None`` if nothing may."""
        found = self._find(meter)
        if found is not None:
            return self._closer(meter, found) or self._make(meter, found)
        if meter not in IS_TOKENS:
            return None
        for modality in _MODALITIES:
            if meter.endswith(modality):
                text = self.resolve(meter.removesuffix(modality))
                return (
                    None
                    if text is None
                    else text._replace(meter=meter, flag="modality_fallback")
                )
        return self._stand_in(meter)

    def _closer(self, meter: str, found: _Found) -> Rate | None:
        """What stands in for a rate of another mode or tier than that of the input.

        Claude's cache writes are a multiple of the input of the same mode and tier. All
        else has no such rule: a standard rate is then nearer than none.
        """
        if not self._claude or meter not in _CLAUDE_WRITES:
            return None
        base = self._find("input")
        if base is None or base.nearness <= found.nearness:
            return None
        return self._make(meter, base, "derived", _CLAUDE_WRITES[meter])

    def _stand_in(self, meter: str) -> Rate | None:
        if meter == "cache_write_30m":
            text = self.resolve("cache_write")
            return None if text is None else text._replace(meter=meter, flag="derived")
        base = self._find("input")
        if base is None:
            return None
        if self._claude and meter in _CLAUDE_WRITES:
            return self._make(meter, base, "derived", _CLAUDE_WRITES[meter])
        if meter in ("cache_read", "cache_write"):
            return self._make(meter, base, "derived")
        return None

    def reasoning(self) -> Rate | None:
        """A rate for reasoning, where one stands beside that of output.

        A standard reasoning rate says nothing of a mode or a tier that has an output
        rate of its own.
        """
        found, output = self._find("reasoning"), self._find("output")
        if found is None:
            return None
        if output is not None and found.nearness != output.nearness:
            return None
        return self._make("reasoning", found)


def add_up(table: Table, usage: Usage) -> Sums:
    """Multiply and add: the short way of most calls, or else the whole one."""
    if table.special or usage.other_tokens or usage.units:
        return _add_up_all(table, usage)
    core = table.core
    pico = 0
    lines: list[Line] = []
    for number, count in enumerate(_counts(usage)):
        if count:
            rate = core[number]
            if rate is None:
                return _add_up_all(table, usage)
            _, _, top, bottom, flag = rate
            if bottom != 1 or flag is not None:
                return _add_up_all(table, usage)
            amount = count * top
            pico += amount
            lines.append((rate, count, amount))
    return pico, lines, (), _NO_FLAGS


def _add_up_all(table: Table, usage: Usage) -> Sums:
    counts = _counts(usage)
    pico = 0
    lines: list[Line] = []
    missing: list[str] = []
    flags = _NO_FLAGS
    if table.reasoning is not None and usage.reasoning_tokens:
        thought, counts = _without_thought(usage, counts)
        if thought:
            pico = _add(lines, thought, table.reasoning)
            flags |= _flag(table.reasoning)
    used = zip(_CORE_METERS, counts, table.core, strict=True)
    for meter, quantity, rate in (*used, *_rarer(table, usage)):
        if not quantity:
            continue
        if rate is None:
            missing.append(meter)
        else:
            pico += _add(lines, quantity, rate)
            flags |= _flag(rate)
    return pico, lines, missing, flags


def _flag(rate: Rate) -> frozenset[str]:
    return _NO_FLAGS if rate.flag is None else frozenset((rate.flag,))


def _without_thought(
    usage: Usage, counts: tuple[int, ...]
) -> tuple[int, tuple[int, ...]]:
    thought = min(usage.reasoning_tokens, usage.output_tokens)
    held = list(counts)
    held[_OUTPUT] -= thought
    return thought, tuple(held)


def _add(lines: list[Line], quantity: int | Decimal, rate: Rate) -> int:
    top, bottom = quantity.as_integer_ratio()
    pico = divide(top * rate.top, bottom * rate.bottom)
    lines.append((rate, quantity, pico))
    return pico


def _rarer(
    table: Table, usage: Usage
) -> t.Iterator[tuple[str, int | Decimal, Rate | None]]:
    for meter, count in usage.other_tokens.items():
        yield meter, count, table.rest.get(meter) or _foreign(table, meter)
    for meter, quantity in usage.units.items():
        yield meter, quantity, table.rest.get(meter)
    if table.request is not None and "request" not in usage.units:
        yield "request", 1, table.request


def _foreign(table: Table, meter: str) -> Rate | None:
    """The text rate, for a kind of token that no price list knows."""
    if meter in IS_TOKENS:
        return None
    for text in ("cache_read", "input", "output"):
        if meter.startswith(f"{text}_"):
            rate = table.core[_CORE_METERS.index(text)]
            if rate is None:
                return None
            return rate._replace(meter=meter, flag="modality_fallback")
    return None
