"""Combine the current prices with history, and decide where the two contradict each other."""

from __future__ import annotations

import datetime as dt
import re
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

from flask_llm_cost.prices.meters import LIMITS
from flask_llm_cost.prices.names import spelling
from flask_llm_cost.prices.sources import Sheet

from .conflicts import compare
from .conflicts import Conflict
from .conflicts import contradicted
from .conflicts import correct
from .conflicts import Corrections
from .conflicts import rates_of
from .conflicts import settle
from .twins import in_yuan
from .twins import outdated
from .twins import regional

Rates: t.TypeAlias = dict[str, t.Any]

_LISTED: t.Final = frozenset(
    ("openai", "anthropic", "gemini", "deepseek", "xai", "mistral")
)
"""Providers whose list prices both sources follow: if the sources differ, the price has
changed in between. For others, they mean different regions or currencies."""


@dataclass(slots=True)
class Bundle:
    """What becomes the file, and what was decided on the way."""

    models: dict[str, list[Rates]]
    aliases: dict[str, str]
    conflicts: list[Conflict] = field(default_factory=list)


def combine(
    current: Sheet,
    past: Sheet,
    corrections: Corrections,
    *,
    current_date: dt.date,
    past_date: dt.date,
) -> Bundle:
    """Combine the sources, and decide where they contradict each other or reason.

    :raises Outdated: If a correction does not fit the sources.
    """
    spellings = fold_spellings(current, past)
    conflicts = [*_rejected(current), *outdated(current, corrections)]
    conflicts += [*regional(current.replaced), *in_yuan(current.models)]
    conflicts += settle(current.models, corrections)
    retired = settle(past.models, corrections)
    conflicts += [each for each in retired if each.model not in current.models]
    models, aliases = merge(
        current, past, current_date=current_date, past_date=past_date
    )
    conflicts += withdraw(models, current, past, past_date, current_date)
    known = {
        name: prices
        for name, prices in _in_force(past.models, past_date).items()
        if prices and name not in corrections.prices
    }
    conflicts += compare(current.models, known, models)
    conflicts += contradicted(current.contradicted, models)
    conflicts += correct(models, corrections)
    conflicts += settle(models, corrections)
    _limit(models, current)
    aliases = {
        alias: name
        for alias, name in {**aliases, **spellings}.items()
        if name in models and alias not in models
    }
    # What both sources have, or what is settled again, is the same conflict.
    unique = {each.identity: each for each in reversed(conflicts)}
    return Bundle(models, aliases, [*unique.values()])


def _in_force(
    models: Mapping[str, list[Rates]], date: dt.date
) -> dict[str, list[Rates]]:
    return {
        name: [each for each in prices if _since(each) <= date.isoformat()]
        for name, prices in models.items()
    }


def _limit(models: dict[str, list[Rates]], current: Sheet) -> None:
    """Give all prices of a model its limits, which have not changed as far as is known."""
    for name in current.models.keys() & models.keys():
        limits = {k: v for k, v in current.models[name][0].items() if k in LIMITS}
        models[name] = [{**limits, **price} for price in models[name]]


def fold_spellings(current: Sheet, past: Sheet) -> dict[str, str]:
    """Give a model one name in both sources: the current one's.

    :return: The other names.
    """
    names: dict[str, str] = {}
    others: dict[str, str] = {}
    for name in sorted(current.models):
        first = names.setdefault(spelling(name), name)
        if first != name:
            others[name] = first
            one, other = current.models[first][0], current.models.pop(name)[0]
            current.models[first] = [{**other, **one}]
    undated: dict[str, set[str]] = {}
    for spelled, name in names.items():
        undated.setdefault(_DATE.sub("", spelled), set()).add(name)
    for name in sorted(past.models):
        if name in current.models:
            continue
        known = names.get(spelling(name))
        candidates = undated.get(spelling(name), set())
        if known is None and name.startswith("bedrock/") and len(candidates) == 1:
            (known,) = candidates
        if known is not None:
            others[name] = known
            past.models.setdefault(known, past.models.pop(name))
    past.aliases = {k: others.get(name, name) for k, name in past.aliases.items()}
    return others


_DATE: t.Final = re.compile(r"-\d{8}\Z")


def _rejected(current: Sheet) -> Iterator[Conflict]:
    for name, reason in current.rejected.items():
        yield Conflict(name, "", "unusable", "", None, "dropped", reason)
    for name, currency in current.currencies.items():
        why = f"its price list is in {currency}"
        yield Conflict(name, "", "currency", "", None, "dropped", why)


def withdraw(
    models: dict[str, list[Rates]],
    current: Sheet,
    past: Sheet,
    past_date: dt.date,
    current_date: dt.date,
) -> Iterator[Conflict]:
    """Drop prices that were announced and taken back.

    History is a few months old. What it announced has come true if the current source has
    it, for the model or for the same model at its maker.
    """
    for name, prices in past.models.items():
        sheet = current.models.get(name) or current.models.get(_passed_on(name))
        announced = [
            each
            for each in prices
            if past_date.isoformat() < _since(each) <= current_date.isoformat()
        ]
        if sheet is None or not announced or _agree(sheet[0], announced[-1]):
            continue
        if name not in current.models:
            models[name] = [each for each in models[name] if each not in announced]
        used = models[name][-1]
        for key, rate in rates_of(announced[-1]).items():
            why = f"announced for {_since(announced[-1])} and taken back"
            found, kept = f"{rate:f}", used.get(str(key))
            if rate == kept:
                continue
            yield Conflict(name, str(key), "announced", found, str(kept), "chosen", why)


def _passed_on(name: str) -> str:
    """Return the maker's name of a model of OpenRouter, which charges the maker's price."""
    _, _, model = name.partition("/")
    return re.sub(r"(?<=\d)\.(?=\d)", "-", model)


def merge(
    current: Sheet, past: Sheet, *, current_date: dt.date, past_date: dt.date
) -> tuple[dict[str, list[Rates]], dict[str, str]]:
    """Merge current prices with history and retired models.

    :return: Prices by name, and other names of models.
    """
    models = {
        name: [_fill_gaps(each, _snapshot(name, each, current)) for each in prices]
        for name, prices in past.models.items()
    }
    for name, prices in current.models.items():
        known = past.models.get(past.aliases.get(name, name))
        if known is None:
            models[name] = [dict(prices[0])]
        else:
            same = name in past.models
            models[name] = _dated(
                name, prices[0], known, current_date, past_date, same=same
            )
    return models, past.aliases


def _snapshot(name: str, rates: Rates, current: Sheet) -> Rates:
    """Return the newest dated snapshot of a retired model with the same text rates."""
    if name in current.models:
        return {}
    dated = re.compile(re.escape(name) + r"-\d{4}-\d{2}-\d{2}\Z")
    for other in sorted(filter(dated.match, current.models), reverse=True):
        if _agree(rates, current.models[other][0]):
            return current.models[other][0]
    return {}


def _dated(
    name: str,
    rates: Rates,
    known: list[Rates],
    current_date: dt.date,
    past_date: dt.date,
    *,
    same: bool,
) -> list[Rates]:
    """Return a model's prices by date, of which the newest is the current one."""
    before = [each for each in known if _since(each) <= past_date.isoformat()]
    announced = [each for each in known if _since(each) > past_date.isoformat()]
    if not before:
        return [rates]
    last = before.pop()
    if not same:
        # History only groups this name with another: use its dates, not its rates.
        return [*before, _from(rates, last.get("valid_from"))] if before else [rates]
    done = [each for each in announced if _since(each) <= current_date.isoformat()]
    coming = [each for each in announced if _since(each) > current_date.isoformat()]
    for each in done:
        if _agree(rates, each):
            return [*before, last, _from(_fill_gaps(rates, each), each["valid_from"])]
    if _agree(rates, last):
        filled = _fill_gaps(rates, last)
        return [*before, _from(filled, last.get("valid_from")), *coming]
    if name.partition("/")[0] in _LISTED and "windows" not in last:
        return [*before, last, _from(rates, past_date.isoformat())]
    return [rates]


def _since(rates: Rates) -> str:
    return str(rates.get("valid_from", ""))


def _agree(one: Rates, other: Rates) -> bool:
    shared = [key for key in ("input", "output") if key in one and key in other]
    return all(one[key] == other[key] for key in shared)


def _fill_gaps(rates: Rates, other: Rates) -> Rates:
    """Add the meters that only the other source knows."""
    gaps = {
        key: value
        for key, value in other.items()
        if key not in rates
        and key not in ("input", "output", "reasoning", "valid_from", "windows")
        and "_above_" not in key
    }
    return {**rates, **gaps}


def _from(rates: Rates, date: object) -> Rates:
    return dict(rates) if date is None else {"valid_from": str(date), **rates}
