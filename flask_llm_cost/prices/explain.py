"""Explain a model's price and a recorded call's cost, for ``prices explain``."""

from __future__ import annotations

import datetime as dt
import difflib
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from ..call import Call
from ..call import Cost
from ..call import OTHER_SIDES
from ..call import Part
from ..call import REPORTED
from ..call import Usage
from ..completeness import INCOMPLETE
from ..completeness import incomplete
from ..money import digits
from ..money import divide
from ..money import from_pico
from ..money import total
from .book import PriceBook
from .entry import adjustments
from .lookup import Found
from .meters import aware
from .meters import CORE
from .meters import PER_PROMPT
from .meters import PREPAID
from .meters import TOKENS
from .meters import UNITS
from .names import check_mode
from .price import Price
from .rate_table import make_rate
from .requote import requote

_MATCHED_BY: t.Final = {
    "exact": "exact match",
    "alias": "alias",
    "snapshot": "dated snapshot",
    "borrowed": "only model with this name, at another provider",
    "wildcard": "default for the provider",
    "free": "free variant",
}
_SOURCES: t.Final = {
    "override": "the overrides",
    "file": "the price file",
    "bundled": "the bundled prices",
    "provider": "the provider's own report",
    "bill": "a bill",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a price was found, and what a usage costs. ``str()`` gives the full text."""

    provider: str
    model: str
    mode: str | None
    found: Found | None
    """The price, if one is known."""
    cost: Cost | None = None
    missing: tuple[str, ...] = ()
    """Used meters without a rate."""
    flags: frozenset[str] = frozenset()
    updated_at: str | None = None
    """When the layer of the price says it was updated."""
    similar: tuple[str, ...] = ()
    """Keys similar to the model, if no price is known."""

    @property
    def ok(self) -> bool:
        """Whether there is a price with a rate for every used meter."""
        return self.found is not None and not (self.missing or "prepaid" in self.flags)

    @property
    def message(self) -> str:
        """The outcome in one line."""
        name, found = f"{self.provider}/{self.model}", self.found
        if found is None:
            return f"No price is known for {name}."
        source, how = _SOURCES[found.source], _MATCHED_BY[found.matched_by]
        matched = f"{name} is priced as {found.key}, from {source} ({how})"
        if "prepaid" in self.flags:
            return f"{matched}, but there is no rate for {self.mode} capacity."
        if self.missing:
            return f"{matched}, but a rate is missing for {', '.join(self.missing)}."
        return f"{matched}."

    def __str__(self) -> str:
        return "\n".join((self.message, *self._lines()))

    def _lines(self) -> Iterator[str]:
        found = self.found
        if found is None:
            if self.similar:
                yield f"Similar models: {', '.join(self.similar)}"
            yield (
                "Add it to LLM_COST_PRICES_FILE or LLM_COST_PRICE_OVERRIDES, or alias it"
                " in LLM_COST_MODEL_ALIASES."
            )
            return
        yield f"Valid from: {_date(found.price.valid_from)}"
        if self.updated_at is not None:
            yield f"Prices updated: {self.updated_at}"
        for key, value in (*found.price.limits.items(), *found.price.metadata.items()):
            yield f"{key}: {value}"
        if found.factor is not None:
            yield f"Negotiated multiplier: {found.factor}"
        yield "Rates (USD per 1M tokens, or per unit):"
        for key, rate in all_rates(found.price).items():
            yield f"  {key}: {digits(rate)}"
        if self.cost is not None:
            yield f"Mode: {self.cost.mode or 'standard'}; tier: {self.cost.tier or 'base'}"
            yield from map(_part_line, self.cost.parts, self.cost.parts.values())
            yield f"Total: {_total(self.cost)}"
        if self.flags:
            yield f"Flags: {', '.join(sorted(self.flags))}"
            yield from _doubts(self.flags)


@dataclass(frozen=True, slots=True)
class CallExplanation:
    """A call's recorded cost, recomputed from its parts. ``str()`` gives the full text."""

    call: Call
    amounts: Mapping[str, Decimal]
    """Each part's quantity times its rate."""
    missing: tuple[str, ...]
    """Used meters without a rate."""
    current: Cost | None
    """What the call would cost by the current book, at its own time."""
    not_requoted: str | None
    """Why ``current`` cannot be computed, if it cannot."""

    @property
    def matches(self) -> bool:
        """Whether parts and total follow from quantities and rates, exactly."""
        cost = self.call.cost
        return (
            cost is not None
            and all(self.amounts[m] == p.amount_usd for m, p in cost.parts.items())
            and total(self.amounts.values()) == cost.total_usd
        )

    @property
    def ok(self) -> bool:
        """Whether the cost is complete and follows from its parts."""
        cost = self.call.cost
        return cost is not None and cost.complete and self.matches

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        call = self.call
        yield f"Call {call.event_id}, {call.started_at:%Y-%m-%d %H:%M:%S} UTC"
        yield f"{call.provider}/{call.model}, {call.operation}, {call.outcome}"
        if call.cost is None:
            yield f"Cost: unknown. {_why_unknown(call)}"
        else:
            yield from self._cost_lines(call.cost)
        if self.missing:
            yield f"No rate for: {', '.join(self.missing)}"
        yield from self._current_lines()

    def _cost_lines(self, cost: Cost) -> Iterator[str]:
        key = "" if cost.price_key is None else f", key {cost.price_key}"
        yield f"Cost: {_total(cost)}, from {_SOURCES[cost.source]}{key}"
        yield (
            f"Valid from: {_date(cost.valid_from)};"
            f" mode: {cost.mode or 'standard'}; tier: {cost.tier or 'base'}"
        )
        for meter, part in cost.parts.items():
            line, amount = _part_line(meter, part), self.amounts[meter]
            if amount != part.amount_usd:
                line += f", but quantity times rate is ${digits(amount)}"
            yield line
        if cost.flags:
            yield f"Flags: {', '.join(sorted(cost.flags))}"
        if not cost.complete:
            yield from _doubts(cost.flags)
        recomputed = digits(total(self.amounts.values()))
        yield (
            f"Recomputed: ${recomputed}, matches to the pico-dollar."
            if self.matches
            else f"Recomputed: ${recomputed}, which does not match the recorded cost."
        )

    def _current_lines(self) -> Iterator[str]:
        cost = self.call.cost
        if self.not_requoted is not None:
            yield f"At current prices: cannot be computed ({self.not_requoted})."
        elif self.current is None:
            yield "At current prices: unknown."
        elif cost is not None and self.current.total_usd == cost.total_usd:
            yield "At current prices: unchanged."
        elif cost is None or cost.source not in REPORTED:
            yield f"At current prices: ${digits(self.current.total_usd)}."


def _total(cost: Cost) -> str:
    known, most = f"${digits(cost.total_usd)}", cost.ceiling_usd
    if cost.complete:
        return known
    limit = "without a known limit" if most is None else f"at most ${digits(most)}"
    likely = cost.estimate_usd
    return f"at least {known}, {limit}" + (
        "" if likely is None else f", probably ${digits(likely)}"
    )


def _doubts(flags: frozenset[str]) -> Iterator[str]:
    for flag in sorted(incomplete(flags)):
        yield f"Incomplete: {INCOMPLETE[flag]}."


def _date(since: dt.datetime | None) -> str:
    return "no date" if since is None else f"{since:%Y-%m-%d}"


def _part_line(meter: str, part: Part) -> str:
    return (
        f"  {meter}: {digits(part.quantity)} at {digits(part.rate)}"
        f" = ${digits(part.amount_usd)}"
    )


def explain(
    book: PriceBook,
    provider: str,
    model: str,
    usage: Usage | None = None,
    at: dt.datetime | None = None,
    mode: str | None = None,
    *,
    flags: frozenset[str] = frozenset(),
) -> Explanation:
    """Explain how a model's price is found, and what a usage costs.

    :param usage: One token in and one out if ``None``.
    :param flags: The call's flags; ``region.us`` selects a multiplier.
    :raises ValueError: If the mode is unknown.
    """
    moment = aware(at)
    name = check_mode(mode)
    used = usage or Usage(input_tokens=1, output_tokens=1)
    found = book.find(provider, model, moment)
    if found is None:
        flags = frozenset(("unpriced",))
        similar = similar_keys(book, provider, model)
        return Explanation(provider, model, name, None, flags=flags, similar=similar)
    cost = book.quote(
        provider, model, used, at=moment, mode=name or "standard", flags=flags
    ).cost
    price_flags = found.flags if cost is None else cost.flags
    if name in PREPAID and name not in found.price.modes:
        price_flags |= {"prepaid"}
    updated = book.metadata(found.source).get("updated_at")
    return Explanation(
        provider,
        model,
        name,
        found,
        cost,
        _missing(used, cost),
        price_flags,
        None if updated is None else str(updated),
    )


def explain_call(book: PriceBook, call: Call) -> CallExplanation:
    """Recompute a recorded call's cost from its parts, and by the current book."""
    cost, current, reason = call.cost, None, None
    try:
        current = requote(book, call).cost
    except ValueError as error:
        reason = str(error)
    parts = {} if cost is None else cost.parts
    missing: tuple[str, ...] = ()
    if call.usage is not None and (cost is None or not cost.complete):
        missing = _missing(call.usage, cost)
    amounts = {meter: _amount(meter, part) for meter, part in parts.items()}
    return CallExplanation(call, amounts, missing, current, reason)


def _why_unknown(call: Call) -> str:
    if call.used_nothing:
        return "The attempt got an HTTP error or no response, so nothing was used."
    if call.usage is None:
        return "The response reported no usage; a price would not help."
    return "No price is known for the model."


def _amount(name: str, part: Part) -> Decimal:
    meter = name.partition("@")[0]
    tokens = meter in TOKENS or (meter.startswith(OTHER_SIDES) and meter not in UNITS)
    # All token meters share one scale, and so do all units.
    rate = make_rate("input" if tokens else "request", part.rate)
    top, bottom = part.quantity.as_integer_ratio()
    return from_pico(divide(top * rate.top, bottom * rate.bottom))


def all_rates(price: Price) -> dict[str, Decimal]:
    """Return every rate in order, then multipliers, windows and variants."""
    rates = price.rates
    keys = sorted(rates, key=lambda key: (key.mode or "", key.above, key.meter))
    return {**{str(key): rates[key] for key in keys}, **adjustments(price)}


def _missing(usage: Usage, cost: Cost | None) -> tuple[str, ...]:
    """Return the meters that were used but have no part in the cost."""
    used: dict[str, int | Decimal] = {
        **{meter: getattr(usage, name) for meter, name in CORE.items()},
        **usage.other_tokens,
        **usage.units,
    }
    # If several models took part, each has parts of its own.
    parts = {meter.partition("@")[0] for meter in ({} if cost is None else cost.parts)}
    if "reasoning" in parts:
        parts.add("output")
    parts |= {unit for unit, once in PER_PROMPT.items() if once in parts}
    return tuple(name for name, count in used.items() if count and name not in parts)


def similar_keys(book: PriceBook, provider: str, model: str) -> tuple[str, ...]:
    """Return up to five keys of the book that are similar to this model."""
    # An entry may be listed under several names.
    keys = dict.fromkeys(entry.key for _, entry in book.entries().values())
    return tuple(
        difflib.get_close_matches(f"{provider}/{model}", keys, n=5, cutoff=0.6)
    )
