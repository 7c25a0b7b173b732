"""Find prices that cannot be true in what the sources list, and decide by rule.

The rules, in this order. The first that applies decides, and the report names it:

1. A price in ``price_corrections.json`` is used. It names where it is published, and what
   the source had: if that changes, the correction must be looked at again.
2. A deviation that the file lists as published is kept.
3. A rate in the wrong column is moved: what is below the price of uncached tokens is the
   price of a read, not of a write.
4. A rate that is off beside the maker's, where input and output agree with the maker's, is
   replaced by the maker's, in proportion. So is a batch rate.
5. If two keys of a source mean one model, the key that cites a price list is used, then
   the provider's own rather than that of a part of it.
6. If the sources differ, LiteLLM's rate is used, which is the current one.
7. A rate that cannot be true is dropped: no price is better than a wrong one.
"""

from __future__ import annotations

import fnmatch
import json
import re
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from flask_llm_cost.prices.meters import parse_key
from flask_llm_cost.prices.meters import RateKey
from flask_llm_cost.prices.meters import TOKENS
from flask_llm_cost.prices.plausibility import Doubt
from flask_llm_cost.prices.plausibility import doubts
from flask_llm_cost.prices.plausibility import implausible_limits

Prices: t.TypeAlias = dict[str, t.Any]
Models: t.TypeAlias = dict[str, list[Prices]]

REPORT: t.Final = Path(__file__).with_name("price_conflicts.json")
CORRECTIONS: t.Final = Path(__file__).with_name("price_corrections.json")

_DIFFER: t.Final = Decimal("1.05")
"""Sources that differ by less have rounded."""
_BEYOND_REASON: t.Final = Decimal(2)
"""A cloud charges its makers' prices, give or take a region."""
_AGREE: t.Final = Decimal("1.25")
_DIGIT: t.Final = 8


@dataclass(frozen=True, slots=True)
class Conflict:
    """A rate that was in doubt, and what came of it."""

    model: str
    rate: str
    rule: str
    """What is wrong with it."""
    found: str
    used: str | None
    """``None`` if it was dropped."""
    how: str
    """``corrected``, ``kept``, ``moved``, ``replaced``, ``chosen`` or ``dropped``."""
    why: str

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What makes it the same conflict in another report."""
        return self.model, self.rate, self.rule, self.found


@dataclass(frozen=True, slots=True)
class Published:
    """A deviation that a provider publishes."""

    models: str
    rates: str
    why: str

    def covers(self, model: str, key: str) -> bool:
        """Whether it is about this rate. Both are globs."""
        return fnmatch.fnmatchcase(model, self.models) and any(
            fnmatch.fnmatchcase(key, rates) for rates in self.rates.split()
        )


@dataclass(frozen=True, slots=True)
class Corrections:
    """What people have looked up: the file of corrections."""

    prices: Mapping[str, Mapping[str, t.Any]]
    """Entries by name, with ``instead_of`` or without, and where they are published."""
    published: tuple[Published, ...]
    removed: Mapping[str, str]
    """Globs of entries that are not what the provider sells, and why."""

    @classmethod
    def read(cls, path: Path = CORRECTIONS) -> Corrections:
        """Read the file."""
        document = json.loads(path.read_bytes(), parse_float=Decimal)
        return cls(
            document["prices"],
            tuple(Published(**each) for each in document["published"]),
            document["removed"],
        )


class Outdated(Exception):
    """A correction does not fit what the source has now."""


def correct(models: Models, corrections: Corrections) -> Iterator[Conflict]:
    """Apply the corrections.

    :raises Outdated: If a source no longer has what a correction replaces.
    """
    for glob, why in corrections.removed.items():
        names = fnmatch.filter(models, glob)
        if not names:
            raise Outdated(f"{glob} is removed, but no source lists it")
        for name in names:
            rates = models.pop(name)[-1]
            found = _text(rates.get("input"))
            yield Conflict(name, "", "reseller", found, None, "dropped", why)
    for name, each in corrections.prices.items():
        prices = models.get(name, [])
        yield from _correct_one(name, prices, each)
        entries = each.get("prices") or [{**_base(prices, each), **each["rates"]}]
        before = each.get("instead_of", {})
        # A correction of history alone leaves the current price to the source.
        same = before and all(entries[-1].get(k) == rate for k, rate in before.items())
        source = {} if same else {"_source": "manual"}
        models[name] = [
            {**entry, **source, "_notes": each["published"]} for entry in entries
        ]


def _correct_one(
    name: str, prices: list[Prices], each: Mapping[str, t.Any]
) -> Iterator[Conflict]:
    current = prices[-1] if prices else {}
    before = each.get("instead_of", {})
    if bool(prices) != bool(before):
        raise Outdated(f"{name} is corrected, but the sources have {current or 'none'}")
    after = each["prices"][-1] if "prices" in each else each["rates"]
    for key, value in before.items():
        if current.get(key) != value:
            raise Outdated(f"{name}: {key} is now {current.get(key)}, not {value}")
        new = _text(after.get(key))
        yield Conflict(
            name, key, each["rule"], _text(value), new, "corrected", each["published"]
        )


def _base(prices: list[Prices], each: Mapping[str, t.Any]) -> Prices:
    return {
        key: value
        for key, value in (prices[-1] if prices else {}).items()
        if key not in each.get("instead_of", {})
    }


def settle(models: Models, corrections: Corrections) -> Iterator[Conflict]:
    """Decide on every rate that cannot be true, alone, beside others or the maker's."""
    for name in sorted(models):
        for price in models[name]:
            if name not in corrections.prices:
                # The maker's price is the current one.
                latest = price is models[name][-1]
                maker = _maker_price(models, name) if latest else {}
                yield from _settle_one(name, price, maker, corrections)
        models[name] = [price for price in models[name] if _has_rates(price)]
        if not models[name]:
            del models[name]


def _has_rates(price: Prices) -> bool:
    return any(
        parse_key(key) is not None or key in ("variants", "windows", "multiplier")
        for key in price
    )


def rates_of(price: Mapping[str, t.Any]) -> dict[RateKey, Decimal]:
    """Return the rates of a price, without windows and variants."""
    parsed = ((parse_key(key), rate) for key, rate in price.items())
    return {key: Decimal(rate) for key, rate in parsed if key is not None}


def _settle_one(
    name: str,
    price: Prices,
    maker: Mapping[RateKey, Decimal],
    corrections: Corrections,
) -> Iterator[Conflict]:
    for key, reason in [*implausible_limits(price)]:
        found = str(price.pop(key))
        yield Conflict(name, key, "limit", found, None, "dropped", reason)
    for doubt in [*doubts(rates_of(price))]:
        yield _decide(name, price, doubt, maker, corrections)
    for part in (*price.get("variants", {}).values(), *price.get("windows", ())):
        own = rates_of(part)
        for doubt in [*doubts({**rates_of(price), **own})]:
            if doubt.key in own:
                yield _decide(name, part, doubt, {}, corrections)
    if "variants" in price:
        price["variants"] = {k: v for k, v in price["variants"].items() if v}
        if not price["variants"]:
            del price["variants"]
    for doubt in [*_beside_maker(rates_of(price), maker)]:
        yield _decide(name, price, doubt, maker, corrections)


def _decide(
    name: str,
    price: Prices,
    doubt: Doubt,
    maker: Mapping[RateKey, Decimal],
    corrections: Corrections,
) -> Conflict:
    key, found = str(doubt.key), _text(doubt.rate)
    for each in corrections.published:
        if each.covers(name, key):
            # One line for all of them, and for models that come later
            rates = each.rates
            return Conflict(each.models, rates, doubt.rule, "", "", "kept", each.why)
    moved = _moved(price, doubt)
    if moved is not None:
        return Conflict(name, key, doubt.rule, found, moved, "moved", doubt.reason)
    instead = _from_maker(rates_of(price), doubt, maker)
    if doubt.rule == "maker" and not _is_slip(doubt.rate, maker[doubt.key]):
        instead = None
    if instead is not None:
        price.update({key: instead, "_source": "manual"})
        why = f"{doubt.reason}; in proportion to the maker's"
        return Conflict(name, key, doubt.rule, found, _text(instead), "replaced", why)
    if doubt.rule == "maker":
        why = f"{doubt.reason}; what the cloud lists"
        return Conflict(name, key, doubt.rule, found, found, "kept", why)
    for each_key in _suspects(price, doubt):
        price.pop(each_key, None)
    return Conflict(name, key, doubt.rule, found, None, "dropped", doubt.reason)


def _suspects(price: Prices, doubt: Doubt) -> list[str]:
    """Return the rates of which one is wrong."""
    keys = [str(doubt.key)]
    if doubt.rule == "output":
        keys.append(str(doubt.key._replace(meter="input")))
    whole = price.get(str(doubt.key._replace(meter="input")))
    if doubt.rule == "cache_write" and whole is not None and doubt.rate > whole:
        keys.append(str(doubt.key._replace(meter="input")))
    return keys


def _moved(price: Prices, doubt: Doubt) -> str | None:
    """Move the price of a read out of the column of writes."""
    if doubt.rule != "cache_write" or doubt.key.meter not in (
        "cache_write",
        "cache_write_audio",
        "cache_write_image",
    ):
        return None
    key = doubt.key._replace(meter=doubt.key.meter.replace("write", "read"))
    below = {**rates_of(price), key: doubt.rate}
    if any(each.key == key for each in doubts(below)) or _whole(below, key) is None:
        return None
    known = price.get(str(key))
    if known is None:
        price[str(key)] = price.pop(str(doubt.key))
        return f"{key} {_text(doubt.rate)}"
    if abs(known - doubt.rate) <= known / 100:
        del price[str(doubt.key)]
        return f"{key} {_text(known)}"
    return None


def _whole(rates: Mapping[RateKey, Decimal], key: RateKey) -> Decimal | None:
    whole = rates.get(key._replace(meter=key.meter.replace("cache_read", "input")))
    return whole if whole and whole > rates[key] else None


def _from_maker(
    rates: Mapping[RateKey, Decimal], doubt: Doubt, maker: Mapping[RateKey, Decimal]
) -> Decimal | None:
    """Return the maker's rate, scaled to this provider's, if the two agree otherwise."""
    base = RateKey(None, "input", 0)
    theirs, ours, output = (
        maker.get(doubt.key),
        rates.get(base),
        base._replace(meter="output"),
    )
    if theirs is None or not ours or not maker.get(base) or doubt.key in (base, output):
        return None
    if any(each.key == doubt.key for each in doubts(maker)):
        return None
    factor = ours / maker[base]
    spread = [
        rates[k] / maker[k] for k in (base, output) if k in rates and maker.get(k)
    ]
    if any(not 1 / _AGREE <= each / factor <= _AGREE for each in spread):
        return None
    if not 1 / _AGREE <= factor <= _AGREE:
        return None
    return (theirs * factor).normalize() + 0


def _is_slip(ours: Decimal, theirs: Decimal) -> bool:
    """Whether two rates differ by a digit, rather than by what a cloud charges."""
    return max(ours, theirs) >= min(ours, theirs) * _DIGIT


def _beside_maker(
    rates: Mapping[RateKey, Decimal], maker: Mapping[RateKey, Decimal]
) -> Iterator[Doubt]:
    """Yield the rates of a cloud that are far from those of the model's maker."""
    for key, theirs in maker.items():
        ours = rates.get(key)
        if not ours or not theirs or key.meter not in TOKENS:
            continue
        if not 1 / _BEYOND_REASON <= ours / theirs <= _BEYOND_REASON:
            yield Doubt(key, ours, "maker", f"the maker charges {theirs:f}")


_VENDORS: t.Final = {"google": "gemini", "moonshotai": "moonshot", "x-ai": "xai"}
_PLACES: t.Final = re.compile(
    r"(?:(?:eu|us|global|global-standard|[a-z]+(?:-[a-z]+)+-\d)/)*"
    r"(?:(?:us|eu|apac|jp|au|ca|global|us-gov)\.)?"
)
_VERSION: t.Final = re.compile(r"(?:@.*|-v\d+(?::\d+)?|-\d{8})\Z")
_SOLD_BY: t.Final = {
    "azure": ("openai", "anthropic", "mistral", "xai", "cohere"),
    "vertex": ("gemini", "anthropic", "mistral"),
}


def maker_names(name: str) -> Iterator[str]:
    """Yield what a model of a cloud may be called at its maker."""
    provider, _, model = name.partition("/")
    model = model[_PLACES.match(model).end() :]  # type: ignore[union-attr]
    if provider == "bedrock":
        vendor, _, model = model.partition(".")
        vendors: tuple[str, ...] = (_VENDORS.get(vendor, vendor),)
    else:
        vendors = _SOLD_BY.get(provider, ())
    for vendor in vendors:
        base = model
        yield f"{vendor}/{base}"
        while (shorter := _VERSION.sub("", base)) != base:
            base = shorter
            yield f"{vendor}/{base}"


def _maker_price(models: Models, name: str) -> Mapping[RateKey, Decimal]:
    """Return the current rates of a model at its maker."""
    for maker in maker_names(name):
        if maker in models and maker != name:
            return rates_of(models[maker][-1])
    return {}


def compare(current: Models, past: Models, used: Models) -> Iterator[Conflict]:
    """Yield where the sources differ on what a model costs.

    :param past: The prices in force when that copy was made.
    """
    for name in sorted(current.keys() & past.keys()):
        if len(used.get(name, ())) > 1:
            # The price has changed in between.
            continue
        now, before = rates_of(current[name][0]), rates_of(past[name][-1])
        for key in sorted(now.keys() & before.keys(), key=str):
            low, high = sorted((now[key], before[key]))
            if high <= low * _DIFFER:
                continue
            found = f"{_text(before[key])} in genai-prices"
            why = "LiteLLM's is the current one"
            used_rate = _text(now[key])
            yield Conflict(name, str(key), "sources", found, used_rate, "chosen", why)


def contradicted(
    rejected: Mapping[str, list[Prices]], used: Models
) -> Iterator[Conflict]:
    """Yield where two keys of LiteLLM for one model differ."""
    for name, others in sorted(rejected.items()):
        rates = rates_of(used[name][-1]) if name in used else {}
        for other in others:
            for key, rate in rates_of(other).items():
                if key in rates and rates[key] != rate:
                    why = "another key cites a price list, or is the provider's own"
                    found, chosen = _text(rate), _text(rates[key])
                    yield Conflict(
                        name, str(key), "two keys", found, chosen, "chosen", why
                    )


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return json.dumps(value, default=_text)
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


def render(conflicts: Iterable[Conflict]) -> bytes:
    """Write the report: sorted, one conflict a line."""
    ordered = sorted(conflicts, key=lambda each: (each.identity, each.how))
    rows = [json.dumps(asdict(each), ensure_ascii=False) for each in ordered]
    return ("[\n" + ",\n".join(rows) + "\n]\n").encode()


def read_report(path: Path = REPORT) -> frozenset[tuple[str, str, str, str]]:
    """Return the identities of the conflicts that are known."""
    rows = json.loads(path.read_bytes()) if path.exists() else []
    return frozenset(Conflict(**row).identity for row in rows)
