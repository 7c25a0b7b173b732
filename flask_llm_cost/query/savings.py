"""Where money could be saved: lines that no call is in twice, each with its arithmetic."""

from __future__ import annotations

import datetime as dt
import statistics
import typing as t
from collections import Counter
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal
from fractions import Fraction

from ..call import Call
from ..call import REPORTED
from ..call import Usage
from ..money import add
from ..money import digits
from ..money import multiply
from ..money import total
from ..prices import PriceBook
from .detail import stream_calls
from .filters import CallFilter
from .listing import Reader

Kind: t.TypeAlias = t.Literal["failed", "batch", "cache_writes", "hit_rate"]

KINDS: t.Final[dict[Kind, str]] = {
    "failed": "Failed or interrupted calls that were billed",
    "batch": "Calls that can wait, at batch prices",
    "cache_writes": "Cache writes that cost more than the reads saved",
    "hit_rate": "Days with fewer cache reads than usual",
}
"""The kinds of lines. A call is in the first that it fits."""

_FELL: t.Final = Fraction(4, 5)
"""A hit rate that is lower than this share of the usual one has fallen."""

_NOTHING: t.Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Line:
    """Something that could be saved."""

    kind: Kind
    subject: str
    """Provider and model, and what else the line is about."""
    calls: int
    spend_usd: Decimal
    """What these calls cost."""
    saving_usd: Decimal
    arithmetic: str


class Rates(t.NamedTuple):
    """The rate of a meter of cached tokens, and that of uncached ones."""

    meter: t.Literal["read", "write"]
    rate: Decimal
    input_rate: Decimal

    @property
    def saved(self) -> Decimal:
        """What a million tokens save; negative if they cost more."""
        return add(self.input_rate, -self.rate)


@dataclass(slots=True)
class Caching:
    """What caching saved and cost."""

    calls: int = 0
    spend_usd: Decimal = _NOTHING
    tokens: Counter[Rates] = field(default_factory=Counter)

    def of(self, meter: str) -> int:
        """Return the tokens that were read or written."""
        return sum(n for rates, n in self.tokens.items() if rates.meter == meter)

    def saved_usd(self, meter: str | None = None) -> Decimal:
        """Return what reads or writes saved, or both: the net result."""
        return total(
            multiply(rates.saved, Decimal(tokens).scaleb(-6))
            for rates, tokens in self.tokens.items()
            if meter in (None, rates.meter)
        )

    @property
    def arithmetic(self) -> str:
        """The net result as a sum of products."""
        terms = [
            f"{tokens:,} {rates.meter} x ({digits(rates.input_rate)}"
            f" - {digits(rates.rate)}) / 1M"
            for rates, tokens in sorted(self.tokens.items())
        ]
        return " + ".join(terms)


@dataclass(frozen=True, slots=True)
class Savings:
    """What calls cost, what caching saved, and what else could be saved."""

    where: CallFilter
    calls: int
    spend_usd: Decimal
    lines: Sequence[Line]
    """Highest saving first. No call is in two of them."""
    caching: Sequence[tuple[str, Caching]]
    """By model, highest spend first."""
    caching_by_tag: Sequence[tuple[str, Caching]]
    """By value of a declared tag."""

    @property
    def saving_usd(self) -> Decimal:
        """The sum of all lines."""
        return total(line.saving_usd for line in self.lines)


def savings(
    reading: Reader,
    where: CallFilter,
    book: PriceBook,
    *,
    tags: Sequence[str] = (),
    deferrable: Iterable[tuple[str, str]] = (),
) -> Savings:
    """Look for savings among calls with a known cost; estimates are excluded.

    :param tags: Keys to show caching by.
    :param deferrable: Tags of calls that can wait for a batch.
    """
    found = _Search(where.zone, book, tags, frozenset(deferrable))
    for call in stream_calls(reading, where):
        if call.cost is not None and not _is_estimate(call):
            found.add(call, call.cost.total_usd)
    lines = [line for line in found.lines() if line.saving_usd > 0]
    return Savings(
        where,
        found.calls,
        found.spend,
        sorted(lines, key=lambda line: (-line.saving_usd, line.kind, line.subject)),
        _sorted(found.models),
        _sorted(found.values),
    )


def _is_estimate(call: Call) -> bool:
    return (
        call.usage_source == "estimated"
        and call.cost is not None
        and call.cost.source not in REPORTED
    )


def _sorted(found: dict[str, Caching]) -> list[tuple[str, Caching]]:
    return sorted(found.items(), key=lambda item: (-item[1].spend_usd, item[0]))


@dataclass(slots=True)
class _Simple:
    """A line whose saving is known call by call."""

    calls: int = 0
    spend: Decimal = _NOTHING
    left: Decimal = _NOTHING
    """What the calls would have cost."""


@dataclass(slots=True)
class _Day:
    """A model's calls of a day that are in no other line."""

    calls: int = 0
    spend: Decimal = _NOTHING
    input: int = 0
    read: int = 0
    uncached: int = 0
    rate: Decimal | None = None
    """The lowest rate of uncached input."""

    @property
    def hit_rate(self) -> Fraction:
        return Fraction(self.read, self.input)


class _Search:
    def __init__(
        self,
        zone: dt.tzinfo,
        book: PriceBook,
        tags: Sequence[str],
        deferrable: frozenset[tuple[str, str]],
    ) -> None:
        self.calls = 0
        self.spend = _NOTHING
        self.models: defaultdict[str, Caching] = defaultdict(Caching)
        self.values: defaultdict[str, Caching] = defaultdict(Caching)
        self._zone = zone
        self._book = book
        self._tags = tags
        self._deferrable = deferrable
        self._simple: defaultdict[tuple[Kind, str], _Simple] = defaultdict(_Simple)
        self._rest: defaultdict[str, Caching] = defaultdict(Caching)
        self._days: defaultdict[str, defaultdict[dt.date, _Day]] = defaultdict(
            lambda: defaultdict(_Day)
        )

    def add(self, call: Call, cost: Decimal) -> None:
        self.calls += 1
        self.spend = add(self.spend, cost)
        model = f"{call.provider}/{call.model}"
        tokens = Counter(dict(self._cached(call)))
        into = [self.models[model]] if tokens else []
        if tokens:
            for key in self._tags:
                value = call.tags.get(key) or "(untagged)"
                into.append(self.values[f"{key}={value}: {model}"])
        if not self._is_simple(call, cost, model):
            if tokens:
                into.append(self._rest[model])
            self._add_day(call, cost, model)
        for each in into:
            each.calls += 1
            each.spend_usd = add(each.spend_usd, cost)
            each.tokens.update(tokens)

    def _is_simple(self, call: Call, cost: Decimal, model: str) -> bool:
        kind: Kind = "failed"
        subject, left = f"{model}, {call.outcome}", _NOTHING
        if call.outcome == "ok":
            batch = self._batch(call) if self._can_wait(call) else None
            if batch is None or batch >= cost:
                return False
            kind, subject, left = "batch", model, batch
        elif not cost:
            return False
        line = self._simple[kind, subject]
        line.calls += 1
        line.spend, line.left = add(line.spend, cost), add(line.left, left)
        return True

    def _can_wait(self, call: Call) -> bool:
        return not self._deferrable.isdisjoint(call.tags.items())

    def _batch(self, call: Call) -> Decimal | None:
        """What a call would have cost in a batch; ``None`` if there is no such price."""
        cost = call.cost
        if cost is None or cost.source in REPORTED or cost.mode is not None:
            return None
        found = self._book.find(call.provider, call.model, call.started_at)
        if found is None or "batch" not in found.price.modes or not cost.complete:
            return None
        quoted = self._book.quote(
            call.provider,
            call.model,
            call.usage,
            at=call.started_at,
            mode="batch",
            flags=call.flags,
        ).cost
        return None if quoted is None or not quoted.complete else quoted.total_usd

    def _cached(self, call: Call) -> Iterator[tuple[Rates, int]]:
        parts = {} if call.cost is None else call.cost.parts
        for name, part in parts.items():
            meter = next((m for m in ("read", "write") if f"cache_{m}" in name), None)
            if meter is None or "@" in name:
                continue
            kind: t.Literal["read", "write"] = "read" if meter == "read" else "write"
            rate = self._input_rate(call, audio="audio" in name)
            if rate is not None:
                yield Rates(kind, part.rate, rate), int(part.quantity)

    def _input_rate(self, call: Call, *, audio: bool) -> Decimal | None:
        """The rate of a call's tokens if they are not cached."""
        cost, meter = call.cost, "input_audio" if audio else "input"
        if cost is None or call.usage is None:
            return None
        if meter in cost.parts:
            return cost.parts[meter].rate
        # All of its input was cached. As much input is in the same tier of prices.
        size = call.usage.total_input_tokens
        usage = Usage(input_audio_tokens=size) if audio else Usage(input_tokens=size)
        quoted = self._book.quote(
            call.provider,
            call.model,
            usage,
            at=call.started_at,
            mode=cost.mode,
            flags=call.flags,
        ).cost
        part = None if quoted is None else quoted.parts.get(meter)
        return None if part is None else part.rate

    def _add_day(self, call: Call, cost: Decimal, model: str) -> None:
        if call.usage is None or call.cost is None or not call.cost.parts.get("input"):
            return
        day = self._days[model][call.started_at.astimezone(self._zone).date()]
        day.calls += 1
        day.spend = add(day.spend, cost)
        day.input += call.usage.total_input_tokens
        day.read += call.usage.cache_read_tokens
        part = call.cost.parts["input"]
        day.uncached += int(part.quantity)
        day.rate = part.rate if day.rate is None else min(day.rate, part.rate)

    def lines(self) -> Iterator[Line]:
        for (kind, subject), each in self._simple.items():
            saving = add(each.spend, -each.left)
            left = f" - {digits(each.left)}" if each.left else ""
            text = f"{digits(each.spend)}{left}"
            yield Line(kind, subject, each.calls, each.spend, saving, text)
        for model, days in self._days.items():
            caching = self._rest[model]
            if caching.saved_usd() >= 0:
                yield from _fallen(model, caching, days)
        for model, caching in self._rest.items():
            net, text = caching.saved_usd(), f"-({caching.arithmetic})"
            spend = caching.spend_usd
            yield Line(
                "cache_writes", model, caching.calls, spend, min(-net, spend), text
            )


def _fallen(model: str, caching: Caching, days: dict[dt.date, _Day]) -> Iterator[Line]:
    """The days on which a model's hit rate was lower than usual."""
    reads = [rates for rates in caching.tokens if rates.meter == "read"]
    known = {day: each for day, each in days.items() if each.input}
    if not reads or len(known) < 3:
        return
    usual = statistics.median(each.hit_rate for each in known.values())
    for day, each in sorted(known.items()):
        if each.hit_rate >= usual * _FELL:
            continue
        missed = min(int(usual * each.input) - each.read, each.uncached)
        # The least that a token saves: a price may have changed meanwhile.
        least = min(rates.saved for rates in reads)
        least = least if each.rate is None else min(least, each.rate)
        saving = min(multiply(least, Decimal(missed).scaleb(-6)), each.spend)
        share = f"{float(each.hit_rate):.0%} instead of {float(usual):.0%}"
        text = f"{missed:,} tokens x {digits(least)} / 1M ({share} read from the cache)"
        subject = f"{model}, {day}"
        yield Line("hit_rate", subject, each.calls, each.spend, saving, text)
