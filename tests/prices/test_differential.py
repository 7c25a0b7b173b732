"""Compare our arithmetic and prices with genai-prices', call by call.

Twenty thousand random usages: first at their own prices, where only the arithmetic can differ,
then at the bundled prices, which have other sources as well. Every difference is printed
(``pytest -s``) with its explanation; one without an explanation fails.
"""

from __future__ import annotations

import datetime as dt
import random
import sys
import typing as t
from collections import Counter
from decimal import Decimal

from genai_prices import Usage as TheirUsage
from genai_prices.data import providers
from genai_prices.types import ConditionalPrice
from genai_prices.types import ModelInfo
from genai_prices.types import ModelPrice
from genai_prices.types import Provider
from genai_prices.types import StartDateConstraint
from genai_prices.types import TieredPrices

from flask_llm_cost import Usage
from flask_llm_cost.call import Cost
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.layers import make_layer
from flask_llm_cost.prices.meters import parse_key
from flask_llm_cost.prices.sources import genai_prices as reader

ROUNDS = 20_000
PICO = Decimal("1e-12")

Model: t.TypeAlias = tuple[Provider, ModelInfo, str]


def document() -> list[dict[str, t.Any]]:
    """Return their data as the JSON that they publish."""
    return [
        {
            "id": provider.id,
            "models": [
                {"id": model.id, "prices": _listed(model)} for model in provider.models
            ],
        }
        for provider in providers
    ]


def _listed(model: ModelInfo) -> t.Any:
    if isinstance(model.prices, ModelPrice):
        return _rates(model.prices)
    return [_conditional(each) for each in model.prices]


def _conditional(price: ConditionalPrice) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {"prices": _rates(price.prices)}
    if isinstance(price.constraint, StartDateConstraint):
        found["constraint"] = {"start_date": price.constraint.start_date.isoformat()}
    elif price.constraint is not None:
        found["constraint"] = {
            "start_time": price.constraint.start_time.isoformat(),
            "end_time": price.constraint.end_time.isoformat(),
        }
    return found


def _rates(price: ModelPrice) -> dict[str, t.Any]:
    rates: dict[str, t.Any] = {}
    for name, value in vars(price).items():
        if isinstance(value, TieredPrices):
            tiers = [{"start": tier.start, "price": tier.price} for tier in value.tiers]
            rates[name] = {"base": value.base, "tiers": tiers}
        elif value is not None:
            rates[name] = value
    return rates


def models(book: PriceBook) -> list[Model]:
    """Return the models that both know by the same name, with that name."""
    held = book.entries()
    found = []
    for provider in providers:
        for model in provider.models:
            name = f"{reader._provider(provider.id, model.id)}/{model.id}"
            if name in held:
                found.append((provider, model, name))
    # Two of their providers may be one of ours, such as Z.AI at home and abroad.
    counts = Counter(name for _, _, name in found)
    return [each for each in found if counts[each[2]] == 1]


def usage_of(dice: random.Random) -> Usage:
    """Return a typical usage, sometimes large enough for a long-context tier."""
    most = dice.choice((1_000, 50_000, 400_000))
    rare = dice.random() < 0.2
    return Usage(
        input_tokens=dice.randrange(most),
        cache_read_tokens=dice.choice((0, dice.randrange(most))),
        cache_write_tokens=dice.choice((0, dice.randrange(most))),
        cache_write_1h_tokens=dice.randrange(most) if rare else 0,
        input_audio_tokens=dice.randrange(most) if rare else 0,
        output_tokens=dice.randrange(10_000),
        output_audio_tokens=dice.randrange(1_000) if rare else 0,
    )


def theirs_of(usage: Usage) -> TheirUsage:
    """Return the same usage in their terms, where a total includes its parts."""
    counts = {
        "input_tokens": usage.total_input_tokens,
        "output_tokens": usage.total_output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
    }
    if usage.input_audio_tokens:
        counts["input_audio_tokens"] = usage.input_audio_tokens
        counts["cache_audio_read_tokens"] = 0
        counts["cache_audio_write_tokens"] = 0
        counts["cache_audio_write_1h_tokens"] = 0
    if usage.output_audio_tokens:
        counts["output_audio_tokens"] = usage.output_audio_tokens
    return TheirUsage(**counts)


def random_time(dice: random.Random) -> dt.datetime:
    start = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)
    return start + dt.timedelta(minutes=dice.randrange(900 * 24 * 60))


def _same(cost: Cost, total: Decimal) -> bool:
    # We round each part to a pico-dollar; they do not round.
    return abs(cost.total_usd - total) <= PICO * max(1, len(cost.parts))


def _starts(price: ModelPrice) -> list[int]:
    tiered = [v for v in vars(price).values() if isinstance(v, TieredPrices)]
    return [tier.start for each in tiered for tier in each.tiers]


def _windows_before_their_date(model: ModelInfo, at: dt.datetime) -> bool:
    """Whether a window applies whose price is not in force yet."""
    if isinstance(model.prices, ModelPrice):
        return False
    rules = [each.constraint for each in model.prices if each.constraint is not None]
    dates = [r.start_date for r in rules if isinstance(r, StartDateConstraint)]
    hours = [r for r in rules if not isinstance(r, StartDateConstraint)]
    return any(r.active(at) for r in hours) and at.date() < max(
        dates, default=at.date()
    )


_ODD_TIERS = {("novita/minimax/minimax-m3", 524288)}


_FALLBACKS = {"derived", "modality_fallback", "cache_fallback", "cache_write_fallback"}


def _by_rule(cost: Cost | None) -> str | None:
    """Return which of our rules explains a difference at equal prices."""
    if cost is None:
        return "no used meter has a rate: unknown for us, 0 for them"
    if cost.flags & _FALLBACKS:
        return "a fallback for a missing rate, which we flag"
    if not cost.complete:
        return "a used meter has no rate: a floor for us, other input for them"
    return None


def _report(title: str, found: Counter[str], examples: dict[str, str]) -> None:
    lines = (
        f"{number:6,}  {why}" + (f"  ({examples[why]})" if why in examples else "")
        for why, number in found.most_common()
    )
    _say(f"\n{title}", *lines)


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def test_at_their_own_prices_only_flagged_rules_differ() -> None:
    sheet = reader.read(document())
    book = PriceBook([make_layer("file", sheet.models, "genai-prices")])
    known = models(book)
    dice = random.Random(20261122)
    found: Counter[str] = Counter()
    examples: dict[str, str] = {}
    unexplained = []
    for _ in range(ROUNDS):
        provider, model, name = dice.choice(known)
        usage, at = usage_of(dice), random_time(dice)
        ours = book.cost("", name, usage, at=at)
        price = model.get_prices(at)
        total = model.calc_price(
            theirs_of(usage), provider, genai_request_timestamp=at
        ).total_price
        if ours is not None and _same(ours, total):
            found["the same" if ours.complete else "the same, and not complete"] += 1
            continue
        why = _by_rule(ours)
        if why is None and (name, max(_starts(price), default=0)) in _ODD_TIERS:
            why = "a tier that begins at no whole thousand of tokens: not read"
        if why is None and _windows_before_their_date(model, at):
            why = "rates by the hour of a later price: theirs hold at all times"
        if why is None:
            unexplained.append((name, at, usage, ours and ours.total_usd, total))
            continue
        found[why] += 1
        said = "none" if ours is None else f"{ours.total_usd.normalize():f}"
        examples.setdefault(why, f"{name}: {said} here, {total.normalize():f} there")
    _report("By genai-prices' own prices", found, examples)
    assert unexplained == [], unexplained
    # They have no rate for the caches of many models, and price them as input, as we do.
    assert found["the same"] + found["the same, and not complete"] > ROUNDS / 2
    assert found["the same"] > ROUNDS / 4


def test_of_the_bundled_prices_only_the_lists_differ() -> None:
    book, sheet = PriceBook.bundled(), reader.read(document())
    known = models(book)
    twin = PriceBook([make_layer("file", sheet.models, "genai-prices")])
    dice = random.Random(20261123)
    found: Counter[str] = Counter()
    examples: dict[str, str] = {}
    unexplained = []
    for _ in range(ROUNDS):
        provider, model, name = dice.choice(known)
        usage, at = usage_of(dice), random_time(dice)
        ours = book.cost("", name, usage, at=at)
        by_theirs = twin.cost("", name, usage, at=at)
        if ours is None or by_theirs is None:
            found["one of the lists has no price at that time"] += 1
            continue
        if abs(ours.total_usd - by_theirs.total_usd) <= PICO * 9:
            found["the same"] += 1
            continue
        other = _other_rates(ours, by_theirs)
        if not other:
            unexplained.append((name, at, usage, ours, by_theirs))
            continue
        found["the lists have different rates"] += 1
        examples.setdefault(name, f"{name}: {other}")
    _report("At the bundled prices", found, {})
    _say(*(f"  {line}" for line in sorted(examples.values())))
    assert unexplained == [], unexplained
    assert found["the same"] > ROUNDS / 4


def _other_rates(ours: Cost, theirs: Cost) -> str:
    """Return where the two lists have different rates, if that explains the difference."""
    differences = []
    for meter in sorted({*ours.parts, *theirs.parts}):
        mine, other = ours.parts.get(meter), theirs.parts.get(meter)
        if mine is None or other is None:
            differences.append(f"{meter} is priced by one of them")
        elif mine.rate != other.rate:
            differences.append(f"{meter} {mine.rate:f} here, {other.rate:f} there")
        elif mine.amount_usd != other.amount_usd:
            return ""
    if ours.tier != theirs.tier:
        differences.append(f"tier {ours.tier} here, {theirs.tier} there")
    return "; ".join(differences)


def test_every_rate_of_theirs_is_read_or_counted_as_unread() -> None:
    sheet = reader.read(document())
    keys = {
        key
        for prices in sheet.models.values()
        for price in prices
        for key in price
        if key not in ("valid_from", "windows")
    }
    assert all(parse_key(key) is not None for key in keys)
    _say(f"\nNot read of genai-prices: {dict(sheet.unread)}")
    assert set(sheet.unread) <= _NOT_READ


_NOT_READ = {
    # The one tier at 524,288 tokens
    "input_mtok",
    "cache_read_mtok",
    "output_mtok",
    "storage_searches_kcount",
    "audio_hours",
    "input_audio_hours",
    "input_document_kpages",
    "input_annotated_document_kpages",
    "input_mchars",
    "input_text_messages_kcount",
}
