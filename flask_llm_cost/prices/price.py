"""What does so much usage cost at these rates? Exact, in whole pico-dollars.

A rate key is ``[mode_]meter[_above_Nk]``: ``input``, ``batch_output``,
``priority_cache_read_above_272k``. Tokens are priced in USD per 1M, units per piece.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from decimal import Context
from decimal import Decimal
from decimal import DecimalException
from decimal import ROUND_HALF_EVEN
from operator import attrgetter

from ..call import Part
from ..call import Usage

MODES: t.Final = (
    "batch",
    "flex",
    "priority",
    "fast",
    "ultrafast",
    "balanced",
    "scale",
    "optimized",
    "off_peak",
    "provisioned",
    "reserved",
)
"""The ways to be served that have prices of their own."""

PREPAID: t.Final = frozenset(("provisioned", "reserved", "scale"))
"""Capacity that is paid by the hour or in advance: without a rate, a call's share of it
is not known."""

CORE: t.Final = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "output": "output_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "input_audio": "input_audio_tokens",
    "input_image": "input_image_tokens",
    "output_audio": "output_audio_tokens",
    "output_image": "output_image_tokens",
}
"""The meters of the buckets that :class:`.Usage` has, and what it calls them."""

TOKENS: t.Final = (
    *CORE,
    "reasoning",
    "input_video",
    "input_document",
    "cache_read_audio",
    "cache_read_image",
    "cache_read_video",
    "cache_write_audio",
    "cache_write_image",
    "cache_write_30m",
    "cache_write_12h",
    "output_video",
    "output_citation",
)
"""The meters that count tokens: their rates are USD per 1M."""

UNITS: t.Final = (
    "web_search",
    "web_search_premium",
    "x_search",
    "gateway_search",
    "file_search",
    "grounding",
    "maps_grounding",
    "code_interpreter",
    "computer_use",
    "image_generation",
    "image",
    "input_image_piece",
    "audio_second",
    "input_audio_second",
    "output_audio_second",
    "video_second",
    "input_video_second",
    "page",
    "annotated_page",
    "search_unit",
    "classification",
    "character",
    "output_character",
    "pixel",
    "output_pixel",
    "session",
    "request",
)
"""The meters that count pieces: their rates are USD each. ``units:`` names others."""

_NAMES: t.Final = {
    "cached_input": "cache_read",
    "cache_read_input": "cache_read",
    "cache_write_input": "cache_write",
    "cache_creation_input": "cache_write",
}
"""As the price files of llm_cost_tracker say it."""

_METERS: t.Final = {
    **{name: name for name in (*TOKENS, *UNITS)},
    **_NAMES,
}
_IS_TOKENS: t.Final = frozenset(TOKENS)
_ABOVE: t.Final = re.compile(r"(.+)_above_([1-9][0-9]{0,6})k\Z")

METADATA: t.Final = frozenset(
    ("_source", "_source_version", "_fetched_at", "_updated", "_notes")
    + ("_validator_override",)
)
"""Keys of an entry that say where it comes from, and are no rates."""

_EXACT: t.Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_MILLION: t.Final = 10**6
_PICO: t.Final = 10**12
_ONE_PICO: t.Final = Decimal("1e-12")
_LARGEST: t.Final = Decimal(10) ** 9


class RateKey(t.NamedTuple):
    """Where a rate stands: for which way of being served, which meter, which tier."""

    mode: str | None
    meter: str
    above: int
    """Input tokens that a request must exceed; 0 for the base rate."""

    def __str__(self) -> str:
        mode = "" if self.mode is None else f"{self.mode}_"
        above = f"_above_{self.above // 1000}k" if self.above else ""
        return f"{mode}{self.meter}{above}"


def parse_key(key: str) -> RateKey | None:
    """Read a rate key; ``None`` if it is none. The longest known meter wins."""
    above = 0
    tail = _ABOVE.match(key)
    if tail is not None:
        key, above = tail[1], int(tail[2]) * 1000
    meter = _METERS.get(key)
    if meter is not None:
        return RateKey(None, meter, above)
    # From the left, so that the longest rest is tried first.
    for mode in sorted(MODES, key=len):
        if key.startswith(f"{mode}_"):
            meter = _METERS.get(key[len(mode) + 1 :])
            if meter is not None:
                return RateKey(mode, meter, above)
    return None


class Malformed(ValueError):
    """A price entry is wrong: the message names key, value and way out."""


def decimal_rate(value: object, key: str) -> Decimal:
    """A rate from a number or its text, exactly as written.

    :raises Malformed: If it is no number, negative, infinite or absurdly large.
    """
    number: Decimal | None = None
    if isinstance(value, (int, Decimal, str, float)) and not isinstance(value, bool):
        try:
            # A float of a Python config is taken as it prints, not as it is stored.
            number = Decimal(str(value).strip())
        except DecimalException:
            number = None
    if number is None or not number.is_finite():
        raise Malformed(f"{key} must be a number, not {value!r}")
    if number < 0:
        raise Malformed(f"{key} must be 0 or more, not {value!r}")
    if number > _LARGEST or (number and number.adjusted() < -18):
        raise Malformed(f"{key} must lie between 1e-18 and {_LARGEST}, not {value!r}")
    return number


def instant(value: object, key: str = "valid_from") -> dt.datetime:
    """A UTC time from a date, a time or the ISO text of one; naive means UTC.

    :raises Malformed: If it is none.
    """
    found: dt.datetime | None = None
    if isinstance(value, dt.datetime):
        found = value
    elif isinstance(value, dt.date):
        found = dt.datetime.combine(value, dt.time(), dt.UTC)
    elif isinstance(value, str):
        try:
            found = dt.datetime.fromisoformat(value.strip())
        except ValueError:
            found = None
    if found is None:
        raise Malformed(f"{key} must be a date such as 2026-09-01, not {value!r}")
    if found.tzinfo is None:
        return found.replace(tzinfo=dt.UTC)
    return found.astimezone(dt.UTC)


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
        if at.tzinfo is not None:
            at = at.astimezone(dt.UTC)
        if self.weekdays and at.isoweekday() not in self.weekdays:
            return False
        minute = at.hour * 60 + at.minute
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
    top *= _MILLION if meter in _IS_TOKENS else _PICO
    if top % bottom == 0:
        return Rate(meter, usd, top // bottom, 1, flag)
    return Rate(meter, usd, top, bottom, flag)


def divide(top: int, bottom: int) -> int:
    """Divide integers >= 0, half to even."""
    quotient, rest = divmod(top, bottom)
    if rest * 2 > bottom or (rest * 2 == bottom and quotient & 1):
        return quotient + 1
    return quotient


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


class Parts(Mapping[str, Part]):
    """The parts of a cost by meter. Each becomes decimal when it is looked at."""

    __slots__ = ("_lines",)

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines

    def __getitem__(self, meter: str) -> Part:
        for rate, quantity, pico in self._lines:
            if rate.meter == meter:
                return Part(Decimal(quantity), rate.usd, to_usd(pico))
        raise KeyError(meter)

    def __iter__(self) -> t.Iterator[str]:
        return (rate.meter for rate, _, _ in self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __repr__(self) -> str:
        return repr(dict(self))


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
        return any(key.meter in _IS_TOKENS for key in self.rates)

    def with_fees(self, other: Price) -> Price:
        """With the fees by the piece that another says and this does not."""
        fees = {
            key: rate
            for key, rate in other.rates.items()
            if key.meter not in _IS_TOKENS and key not in self.rates
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
                factor = times if factor is None else _EXACT.multiply(factor, times)
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
            if key.meter not in CORE and key.meter not in _IS_TOKENS
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
        modes = (None,) if self._mode is None else (self._mode, None)
        for mode in modes:
            for above in self._tiers:
                usd = self._rates.get(RateKey(mode, meter, above))
                if usd is not None:
                    return _Found(usd, mode == self._mode, above)
        return None

    def _make(
        self,
        meter: str,
        found: _Found,
        flag: str | None = None,
        times: Decimal | None = None,
    ) -> Rate:
        usd = found.usd
        if times is not None:
            usd = _EXACT.multiply(usd, times)
        if self._factor is not None:
            usd = _EXACT.multiply(usd, self._factor)
        if flag is None and not found.own_mode and meter in _IS_TOKENS:
            flag = "mode_fallback"
        return make_rate(meter, usd, flag)

    def resolve(self, meter: str) -> Rate | None:
        """The meter's rate, or what stands in for it, flagged; ``None`` if nothing may."""
        found = self._find(meter)
        if found is not None:
            return self._closer(meter, found) or self._make(meter, found)
        if meter not in _IS_TOKENS:
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
        if base is None or base[1:] <= found[1:]:
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
        if output is not None and found[1:] != output[1:]:
            return None
        return self._make("reasoning", found)


_times: t.Final = _EXACT.multiply


def to_usd(pico: int) -> Decimal:
    """Pico-USD as exact decimal USD."""
    return _times(pico, _ONE_PICO)


def to_pico(usd: Decimal) -> int:
    """USD in whole pico-USD, half to even."""
    top, bottom = usd.as_integer_ratio()
    return divide(top * _PICO, bottom)


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
    if meter in _IS_TOKENS:
        return None
    for text in ("cache_read", "input", "output"):
        if meter.startswith(f"{text}_"):
            rate = table.core[_CORE_METERS.index(text)]
            if rate is None:
                return None
            return rate._replace(meter=meter, flag="modality_fallback")
    return None


# Reading entries


class Entry:
    """What a book holds for one key: prices, the earliest first."""

    __slots__ = ("_prices", "_raw", "key")

    def __init__(
        self, key: str, prices: tuple[Price, ...] | None = None, *, raw: object = None
    ) -> None:
        """Make an entry.

        :param raw: What :func:`read_entry` would read, when it is first asked for.
        """
        self.key = key
        self._prices = prices
        self._raw = raw

    @property
    def prices(self) -> tuple[Price, ...]:
        """Every price of this model, by date; the first may have none."""
        if self._prices is None:
            self._prices = read_prices(self.key, self._raw, _ignore)
            self._raw = None
        return self._prices

    def at(self, moment: dt.datetime | None) -> Price | None:
        """The price that holds at a time, now if left out; ``None`` before the first."""
        prices = self._prices or self.prices
        first = prices[0]
        if len(prices) == 1 and first.valid_from is None:
            return first
        if moment is None:
            moment = dt.datetime.now(dt.UTC)
        elif moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        held = None
        for price in prices:
            if price.valid_from is not None and price.valid_from > moment:
                break
            held = price
        return held


def read_entry(key: str, value: object, warn: t.Callable[[str], None]) -> Entry:
    """Read a book entry: a mapping of rates, or a list of such with ``valid_from``.

    :param warn: Told of each key that is not known.
    :raises Malformed: If it is wrong.
    """
    prices = read_prices(key, value, warn)
    for price in prices:
        if price.rates or price.windows or price.multiplier is not None:
            continue
        if price.metadata or price.multipliers or price.valid_from is not None:
            raise Malformed(
                f"{key} has no rates: give it input and output in USD per 1M tokens,"
                " 0 if it is free, or leave it out"
            )
        warn(
            f"{key} has no rates, so that its calls have no cost: give it input and"
            " output in USD per 1M tokens, or leave it out"
        )
    return Entry(key, prices)


def _ignore(note: str) -> None:
    """For the bundled entries, which a test has read."""


def read_prices(
    key: str, value: object, warn: t.Callable[[str], None]
) -> tuple[Price, ...]:
    """The prices of an entry, the earliest first.

    :raises Malformed: If it is wrong.
    """
    dated = value if isinstance(value, (list, tuple)) else [value]
    if not dated:
        raise Malformed(f"{key} must have rates, not an empty list")
    prices = sorted(
        (read_price(key, each, warn) for each in dated),
        key=lambda price: price.valid_from or _EVER,
    )
    for earlier, later in zip(prices, prices[1:], strict=False):
        if earlier.valid_from == later.valid_from:
            raise Malformed(
                f"{key} has two prices from"
                f" {'the beginning' if later.valid_from is None else later.valid_from}:"
                " give each its own valid_from"
            )
    return tuple(prices)


_EVER: t.Final = dt.datetime.min.replace(tzinfo=dt.UTC)


def read_price(key: str, value: object, warn: t.Callable[[str], None]) -> Price:
    """Read one mapping of rates.

    :raises Malformed: If it is wrong.
    """
    if not isinstance(value, Mapping):
        raise Malformed(f"{key} must be a mapping of rates, not {value!r}")
    rates: dict[RateKey, Decimal] = {}
    plain: dict[str, t.Any] = {}
    for name, given in value.items():
        rate_key = parse_key(str(name))
        if rate_key is not None:
            rates[rate_key] = decimal_rate(given, f"{key}: {name}")
        elif name in _PLAIN or name in METADATA:
            plain[name] = given
        else:
            warn(f"{key}: {name!r} is no rate and is ignored")
    rates.update(_custom_units(key, plain.pop("units", {})))
    windows = _windows(key, plain.pop("windows", ()), warn)
    from_, factor = plain.pop("valid_from", None), plain.pop("multiplier", None)
    if factor is not None and not key.endswith("/*"):
        raise Malformed(
            f"{key}: multiplier is for all models of a provider:"
            f" write it at {key.partition('/')[0]}/*"
        )
    known = [*rates, *(k for window in windows for k in window.rates)]
    return Price(
        rates,
        valid_from=None if from_ is None else instant(from_, f"{key}: valid_from"),
        multipliers=_factors(key, plain.pop("multipliers", {})),
        multiplier=None
        if factor is None
        else decimal_rate(factor, f"{key}: multiplier"),
        windows=windows,
        metadata=plain,
        thresholds=tuple(sorted({k.above for k in known if k.above})),
    )


_PLAIN: t.Final = frozenset(
    ("valid_from", "multiplier", "multipliers", "windows", "units")
)


def _custom_units(key: str, value: object) -> dict[RateKey, Decimal]:
    if not isinstance(value, Mapping):
        raise Malformed(f"{key}: units must map names to USD each, not {value!r}")
    return {
        RateKey(None, str(name), 0): decimal_rate(rate, f"{key}: units.{name}")
        for name, rate in value.items()
        if str(name) not in _IS_TOKENS
    }


def _factors(key: str, value: object) -> dict[str, Decimal]:
    if not isinstance(value, Mapping):
        raise Malformed(
            f"{key}: multipliers must map conditions such as region.us to factors,"
            f" not {value!r}"
        )
    return {
        str(name): decimal_rate(factor, f"{key}: multipliers.{name}")
        for name, factor in value.items()
    }


def _windows(
    key: str, value: object, warn: t.Callable[[str], None]
) -> tuple[Window, ...]:
    if not isinstance(value, (list, tuple)):
        raise Malformed(f"{key}: windows must be a list, not {value!r}")
    return tuple(_window(f"{key}: windows", each, warn) for each in value)


def _window(key: str, value: object, warn: t.Callable[[str], None]) -> Window:
    if not isinstance(value, Mapping) or "hours" not in value:
        raise Malformed(
            f'{key}: a window is a mapping with hours: "16:30-00:30" and rates,'
            f" not {value!r}"
        )
    hours = value["hours"]
    spans = [hours] if isinstance(hours, str) else hours
    days = value.get("weekdays", ())
    rates = {k: v for k, v in value.items() if k not in ("hours", "weekdays")}
    try:
        return Window(
            tuple(_span(span) for span in spans),
            frozenset(_weekday(day) for day in days),
            read_price(key, rates, warn).rates,
        )
    except TypeError:
        raise Malformed(f"{key}: hours and weekdays must be lists") from None
    except ValueError as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed(f"{key}: {error}") from None


def _weekday(value: object) -> int:
    day = str(value)
    if day not in "1234567" or len(day) != 1:
        raise ValueError(f"weekdays count from 1, Monday, to 7, not {value!r}")
    return int(day)


_SPAN: t.Final = re.compile(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)\Z")


def _span(value: object) -> tuple[int, int]:
    found = _SPAN.match(str(value))
    if found is None:
        raise ValueError(f"hours must look like 16:30-00:30, not {value!r}")
    start, end = (
        int(found[1]) * 60 + int(found[2]),
        int(found[3]) * 60 + int(found[4]),
    )
    if max(start, end) > 1440:
        raise ValueError(f"hours must lie between 00:00 and 24:00, not {value!r}")
    return start, end
