"""From answers to what a template prints: points of charts, badges, words."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..call import Call
from ..money import from_pico
from ..query.detail import Slice as Part
from ..query.overview import Day
from ..query.totals import sum_up
from ..query.totals import Totals
from . import format
from .charts import Point
from .forms import Slice

MOST_BARS: t.Final = 92

OUTCOMES: t.Final = {
    "ok": ("ok", "good"),
    "http_error": ("refused", "bad"),
    "interrupted": ("interrupted", "warn"),
    "failed": ("broke off", "bad"),
    "no_response": ("no answer", "bad"),
    "unfinished": ("unfinished", "warn"),
}
"""A word and a tone for each outcome."""

METERS: t.Final = {
    "input": "Input",
    "input_audio": "Input, audio",
    "input_image": "Input, images",
    "cache_read": "Read from cache",
    "cache_write": "Written to cache",
    "cache_write_1h": "Written to cache, 1 hour",
    "output": "Output",
    "output_audio": "Output, audio",
    "output_image": "Output, images",
    "reasoning": "Reasoning",
    "reported": "Reported by the provider",
}

SOURCES: t.Final = {
    "provider": "reported by the provider",
    "override": "LLM_COST_PRICE_OVERRIDES",
    "file": "the price file",
    "bundled": "the bundled prices",
}

LAYERS: t.Final = {"override": "override", "file": "price file", "bundled": "bundled"}

USAGE: t.Final = {
    "response": "the response",
    "stream_final": "the end of the stream",
    "stream_partial": "a stream that broke off",
    "manual": "the app, by hand",
    "estimated": "an estimate",
    "unknown": "unknown",
}

FLAGS: t.Final = {
    "unpriced": "no price is known",
    "borrowed_price": "the price of another provider's model of that name",
    "derived": "a missing rate was derived from another",
    "modality_fallback": "audio or images at the rate of text",
    "mode_fallback": "no price of its mode; priced as standard",
    "prepaid": "reserved capacity, paid elsewhere",
    "unknown_tier": "the service tier is unknown; priced as standard",
    "usage_conflict": "counts contradict each other or are missing",
    "no_usage": "the answer brought no usage",
    "estimated": "the usage was estimated",
    "results_dropped": "results of a batch were not taken: there were too many at once",
    "repeated": "a repeated look at an answer that may be counted already",
    "broken_frames": "parts of the stream could not be read",
    "unreadable_encoding": "the answer's content encoding could not be undone",
    "unreadable_event": "an event of the stream could not be read",
    "reader_error": "the answer could not be read",
    "tags_dropped": "some tags were refused",
    "tag_error": "a tag source failed",
    "truncated_text": "a text was too long and was cut",
}

ADVICE: t.Final = {
    "unpriced": "Give it a price in LLM_COST_PRICE_OVERRIDES; free is a price of 0.",
    "borrowed_price": "If that is not its price, give it one of its own.",
    "derived": "If that is not what you pay, add the rate to your price file.",
    "modality_fallback": "Add a rate such as input_audio to your price file.",
    "mode_fallback": "Add a rate such as batch_input to your price file.",
    "prepaid": "Give the deployment a rate, if its calls should have a cost.",
    "unknown_tier": "Alias or price the tier, if it does not cost the same.",
    "usage_conflict": "Compare a few with the provider's bill.",
    "no_usage": "Ask streams for usage, and read them to their end.",
    "estimated": "Ask the provider for usage: LLM_COST_INJECT_STREAM_USAGE.",
    "results_dropped": "Read the results of a batch in smaller parts, or track them.",
    "repeated": "Look whether its response id is there twice.",
    "broken_frames": "If it goes on, a proxy in between may change answers.",
    "unreadable_encoding": "Install what decodes it (brotli, zstandard), or refuse it.",
    "unreadable_event": "If it goes on, a newer version may read it.",
    "reader_error": "The app's log has the traceback: it is a fault of this package.",
    "tags_dropped": "Send fewer or shorter ones: LLM_COST_MAX_TAGS, and letters in keys.",
    "tag_error": "The app's log says which source, and why.",
    "truncated_text": "Shorten the name at its source, if it matters.",
}
"""What to do about a flag."""


COVERAGE: t.Final = {
    "cost": ("Cost", "Give these models a price, below."),
    "usage": ("Usage", "Their answers did not say what they used, below."),
    "stream_usage": (
        "Usage of streams",
        "Ask for it with include_usage, and read streams to their end.",
    ),
    "tags": ("Tags", "Add a tag provider, or LLM_COST_DEFAULT_TAGS."),
    "latency": ("Latency", "Pass latency_ms where calls are tracked by hand."),
    "response_id": ("Response id", "Not every API gives one; it finds double counts."),
}
"""What a call should have, and what to do where it has not."""

COVERAGE_LINKS: t.Final[Mapping[str, Mapping[str, str]]] = {
    "cost": {"sort": "unknown_pricing"},
    "usage": {"usage_source": "unknown"},
    "stream_usage": {"usage_source": "unknown", "stream": "yes"},
}
"""The conditions on a page of calls that find those where it is missing."""

FLAG_LINKS: t.Final[Mapping[str, Mapping[str, str]]] = {
    "unpriced": {"sort": "unknown_pricing"},
    "no_usage": {"usage_source": "unknown"},
    "estimated": {"usage_source": "estimated"},
}
"""The conditions that find the calls of a flag, where there are such."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """One bar's days, beside as many days before."""

    first: dt.date
    last: dt.date
    totals: Totals
    previous: Totals


def stretches(days: Sequence[Day]) -> Iterator[Stretch]:
    """The days themselves, or of a long range so many together that bars stay bars."""
    size = -(-len(days) // MOST_BARS)
    if size > 1:
        size = next((s for s in (7, 28) if s >= size), size)
    for i in range(0, len(days), size or 1):
        part = days[i : i + size]
        yield Stretch(
            part[0].day,
            part[-1].day,
            sum_up(day.totals for day in part),
            sum_up(day.previous for day in part),
        )


def days(slice_: Slice[t.Any], found: Sequence[Day]) -> Iterator[Point]:
    """The bars of a chart by day, or by a few days together."""
    for part in stretches(found):
        yield Point(
            label=format.day(part.first),
            when=format.span(part.first, part.last),
            said=_said(part.totals),
            amount=part.totals.spend_usd,
            before=part.previous.spend_usd,
            href=slice_.day(".calls", part.first, part.last),
        )


def hours(
    slice_: Slice[t.Any], edges: Sequence[dt.datetime], sums: Sequence[Sequence[Totals]]
) -> Iterator[Point]:
    """The bars of a chart by hour."""
    now, before = sums
    for i, totals in enumerate(now):
        start, end = (at.astimezone(slice_.where.zone) for at in edges[i : i + 2])
        yield Point(
            label=f"{start:%H:%M}",
            when=f"{format.full_day(start.date())}, {start:%H:%M}\N{EN DASH}{end:%H:%M}",
            said=_said(totals),
            amount=totals.spend_usd,
            # A day of 25 hours has no twin for the last one.
            before=before[i].spend_usd if i < len(before) else None,
            href=slice_.day(".calls", start.date(), start.date()),
        )


def _said(totals: Totals) -> str:
    return f"{known(totals)}, {format.count(totals.calls, 'call')}"


def known(totals: Totals) -> str:
    """The spend, and what it leaves out: ``$4.21 +2 unpriced``."""
    return " ".join([format.money(totals.cost_usd), *gaps(totals)])


@dataclass(frozen=True, slots=True)
class Kind:
    """What money went for, beside how many tokens that were."""

    name: str
    label: str
    amount: Decimal
    tokens: int | None
    share: Decimal

    @property
    def pair(self) -> tuple[str, Decimal]:
        return self.name, self.amount


def kinds(totals: Totals) -> list[Kind]:
    """The spend by side: fresh input, cache, output, and what is not a token."""
    fresh = totals.input_tokens - totals.cache_read_tokens - totals.cache_write_tokens
    found = (
        ("input", "Fresh input", totals.cost_input_pico, fresh),
        (
            "cache_read",
            "Read from cache",
            totals.cost_cache_read_pico,
            totals.cache_read_tokens,
        ),
        (
            "cache_write",
            "Written to cache",
            totals.cost_cache_write_pico,
            totals.cache_write_tokens,
        ),
        ("output", "Output", totals.cost_output_pico, totals.output_tokens),
        ("units", "Tools and other units", totals.cost_units_pico, None),
    )
    whole = sum(pico for _, _, pico, _ in found)
    return [
        Kind(name, label, from_pico(pico), tokens, Decimal(pico) / whole)
        for name, label, pico, tokens in found
        if pico > 0
    ]


def pairs(slices: t.Iterable[Part]) -> list[tuple[str, Decimal]]:
    """The parts of a mix, to be laid out."""
    return [(part.name, part.amount) for part in slices]


def per(rate: str) -> str:
    """What a rate is for: a million tokens, or one unit."""
    tokens = any(side in rate for side in ("input", "output", "cache_", "reasoning"))
    return "per 1M" if tokens else f"per {rate.replace('_', ' ')}"


def why_unpriced(call: Call) -> str:
    """Why a call has no cost."""
    if call.used_nothing:
        return "It was refused or never answered: nothing was used."
    if call.usage is None:
        return "The answer did not say what was used, so its cost is unknown."
    return "No price is known for this model."


def why_failed(status: str) -> str:
    """``429`` as ``refused with 429``, an outcome as its word."""
    return f"refused with {status}" if status.isdigit() else outcome(status)[0]


def failed_as(status: str) -> str:
    """The outcome of attempts that :func:`why_failed` names."""
    return "http_error" if status.isdigit() else status


def explain(call: Call) -> str:
    """The command that says how a call's price was looked for."""
    return f"flask llm-cost prices explain --call {call.event_id}"


def gaps(totals: Totals) -> list[str]:
    """What a total does not know, in words."""
    found = []
    if totals.unpriced:
        found.append(f"+{totals.unpriced:,} unpriced")
    if totals.incomplete:
        found.append(f"+{totals.incomplete:,} incomplete")
    if totals.estimated:
        found.append(f"+{format.money(totals.estimated_usd)} estimated")
    return found


def meter(name: str) -> str:
    """``cache_read_audio`` as words."""
    return METERS.get(name) or name.replace("_", " ").capitalize()


def tone(name: str) -> str:
    """The color of a meter: that of its side."""
    for side in ("cache_read", "cache_write", "input", "output"):
        if name == side or name.startswith(f"{side}_"):
            return f"t-{side.replace('_', '-')}"
    return "t-output" if name == "reasoning" else "t-units"


def remark(flag: str) -> tuple[str, str]:
    """What a flag means, and its tone."""
    if "." in flag:
        return "a condition that prices may depend on", ""
    return FLAGS.get(flag, ""), "warn"


def outcome(name: str, status: int | None = None) -> tuple[str, str]:
    """A word and a tone: ``("refused 429", "bad")``."""
    word, tone_ = OUTCOMES.get(name, (name.replace("_", " "), "warn"))
    if status is not None and name == "http_error":
        word = f"{word} {status}"
    return word, tone_
