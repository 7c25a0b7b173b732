"""What would a price file become by what its sources say? Pure: asks and writes nothing."""

from __future__ import annotations

import copy
import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase

from .document import Amounts
from .document import BESIDE
from .document import beside_of
from .document import digest
from .document import latest_of
from .document import may_leap
from .document import models_of
from .document import rates_of
from .document import since_of
from .fetch import Answer
from .meters import parse_key
from .meters import RateKey

Models: t.TypeAlias = dict[str, t.Any]

DISCREPANCY: t.Final = Decimal("0.05")
_LEAP: t.Final = 3
_SAME: t.Final = Decimal("1e-9")
_ABSURD: t.Final = Decimal(5000)
"""USD per 1M tokens: the dearest model there was cost 600."""
_MAKERS: t.Final = (
    "openai",
    "anthropic",
    "gemini",
    "mistral",
    "deepseek",
    "xai",
    "cohere",
) + ("perplexity", "groq", "moonshot", "zai", "voyage")
"""Whose price a key without a provider means."""


@dataclass(frozen=True, slots=True)
class Change:
    """One rate that is another than before."""

    model: str
    rate: str
    before: Decimal | None
    """``None`` where there was none."""
    after: Decimal | None
    """``None`` where there is none any more: a window's."""

    def __str__(self) -> str:
        before, after = (
            "none" if rate is None else f"{rate:f}"
            for rate in (self.before, self.after)
        )
        return f"{self.model}: {self.rate} {before} -> {after}"


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Two sources that disagree by 5 % or more."""

    model: str
    rate: str
    values: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What a sync would do, or did."""

    document: Mapping[str, t.Any]
    """The price file as it would be."""
    changes: tuple[Change, ...]
    added: tuple[str, ...]
    """Models that were not in the file."""
    held: Mapping[str, str]
    """Models whose new prices wait for ``--accept``, and why."""
    rejected: Mapping[str, str]
    """Models whose new prices are no prices, and why."""
    orphaned: tuple[str, ...]
    """Models of the file that no source knows any more; they stay."""
    discrepancies: tuple[Discrepancy, ...]
    failed: Mapping[str, str]
    """Sources that failed, and why."""
    used: Mapping[str, int]
    """Sources that were read, and how many models of the file they know."""

    @property
    def up_to_date(self) -> bool:
        """Is there nothing to do, and nothing that went wrong?"""
        return not (
            self.changes or self.added or self.held or self.rejected or self.failed
        )

    @property
    def lines(self) -> tuple[str, ...]:
        """The difference, to be read."""
        return tuple(lines_of(self))


def lines_of(plan: SyncPlan, *, failed: bool = True) -> Iterator[str]:
    """The difference, a line each.

    :param failed: Name the sources that failed, too.
    """
    for change in plan.changes:
        yield f"~ {change}"
    for model in plan.added:
        yield f"+ {model}"
    for model, reason in plan.held.items():
        yield f"! {model}: held back, {reason}; --accept {model} takes it"
    for model, reason in plan.rejected.items():
        yield f"! {model}: refused, {reason}"
    for name in plan.orphaned:
        yield f"? {name}: no source knows it any more; it stays"
    for each in plan.discrepancies:
        values = ", ".join(f"{name} {rate:f}" for name, rate in each.values.items())
        yield f"? {each.model}: {each.rate} differs: {values}"
    for name, reason in plan.failed.items() if failed else ():
        yield f"! {name} {reason}"


def plan(
    document: Mapping[str, t.Any],
    answers: Sequence[Answer],
    *,
    now: dt.datetime,
    accept: Iterable[str] = (),
    add: Iterable[str] = (),
) -> SyncPlan:
    """Work out what a price file becomes by what sources say. Changes nothing.

    :param document: The file, as :func:`~.layers.parse_file` reads it.
    :param answers: The sources', the first is believed before the others.
    :param accept: Models whose prices may move more than threefold, or to 0.
    :param add: Globs of ``provider/model`` that are to be in the file, too.
    """
    work = _Work(answers, now, frozenset(accept))
    models: Models = copy.deepcopy(dict(models_of(document)))
    for name in list(models):
        if name.endswith("/*"):
            continue
        work.follow(name, models)
    for name in work.wanted(tuple(add), models):
        work.add(name, models)
    return work.outcome(_whole(document, models, work))


def _whole(
    document: Mapping[str, t.Any], models: Models, work: _Work
) -> dict[str, t.Any]:
    metadata = dict(document.get("metadata") or {}) if "models" in document else {}
    if not any(answer.error is None for answer in work.answers):
        return copy.deepcopy(dict(document))
    metadata["updated_at"] = work.now.date().isoformat()
    said = metadata.get("sources")
    sources = dict(said) if isinstance(said, Mapping) else {}
    for answer in work.answers:
        if answer.error is None:
            sources[answer.name] = {
                "url": answer.url,
                "version": answer.version,
                "fetched_at": _time(answer.fetched_at),
            }
    metadata["sources"] = sources
    models = dict(sorted(models.items()))
    # What waits for a word is to be said again next time, also if no source has moved.
    waits = work.held or work.rejected or work.orphaned
    metadata["synced_sha256"] = None if waits else digest(models)
    return {"metadata": metadata, "models": models}


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Offer(t.NamedTuple):
    """What one source says of one model."""

    answer: Answer
    name: str
    rates: Amounts
    beside: dict[str, t.Any]
    """``multipliers`` and ``windows``, as it writes them."""
    zeros: frozenset[RateKey]


class _Work:
    def __init__(
        self, answers: Sequence[Answer], now: dt.datetime, accept: frozenset[str]
    ) -> None:
        self.answers = answers
        self.now = now
        self.accept = accept
        self.failed = {answer.name for answer in answers if answer.error is not None}
        """A model that follows one of these waits for it, whatever the others say."""
        self.changes: list[Change] = []
        self.added: list[str] = []
        self.held: dict[str, str] = {}
        self.rejected: dict[str, str] = {}
        self.orphaned: list[str] = []
        self.discrepancies: list[Discrepancy] = []
        self.used = {
            answer.name: 0
            for answer in answers
            if answer.sheet is not None or answer.unchanged
        }

    def outcome(self, document: dict[str, t.Any]) -> SyncPlan:
        return SyncPlan(
            document=document,
            changes=tuple(self.changes),
            added=tuple(self.added),
            held=self.held,
            rejected=self.rejected,
            orphaned=tuple(self.orphaned),
            discrepancies=tuple(self.discrepancies),
            failed={a.name: a.error for a in self.answers if a.error is not None},
            used=self.used,
        )

    # What the sources say

    def offers(self, model: str) -> list[_Offer]:
        found = []
        for answer in self.answers:
            if answer.sheet is None:
                continue
            offer = _offer(answer, model, self.now)
            if offer is not None:
                self.used[answer.name] += 1
                found.append(offer)
        return found

    def refusal(self, model: str) -> str | None:
        """Why the first source that names a model has no price of it."""
        for answer in self.answers:
            refused = {} if answer.sheet is None else answer.sheet.refused
            for name in candidates(model):
                if name in refused:
                    return f"{answer.name}: {refused[name]}"
        return None

    def wanted(self, globs: tuple[str, ...], models: Models) -> list[str]:
        names = {
            name
            for answer in self.answers
            if answer.sheet is not None
            for name in answer.sheet.models
            if any(fnmatchcase(name, glob) for glob in globs)
        }
        return sorted(names - set(models))

    # What becomes of a model

    def follow(self, model: str, models: Models) -> None:
        latest = latest_of(models[model], self.now)
        if latest is None or latest.get("_source") == "manual":
            return
        if latest.get("_source") in self.failed:
            return
        offers = self.offers(model)
        refusal = self.refusal(model)
        if refusal is not None:
            self.rejected[model] = refusal
        if not offers:
            # While a source is silent, that it does not name a model says nothing.
            if refusal is None and all(a.sheet is not None for a in self.answers):
                self.orphaned.append(model)
            return
        self._compare(model, offers)
        held = {**rates_of(latest), **beside_of(latest)}
        offered = {**_joined(offers), **beside_of(offers[0].beside)}
        zeros = offers[0].zeros | {key for key, rate in offered.items() if not rate}
        fallen = sorted(str(key) for key in zeros if held.get(key))
        if fallen and model not in self.accept:
            self.rejected[model] = f"{fallen[0]} falls to 0"
            return
        self._update(model, models, latest, held, offered, offers[0])

    def _update(
        self,
        model: str,
        models: Models,
        latest: Mapping[str, t.Any],
        held: Amounts,
        offered: Amounts,
        first: _Offer,
    ) -> None:
        moved = {
            key: rate
            for key, rate in offered.items()
            if key not in held or not _same(held[key], rate)
        }
        gone = _gone(latest, offered, first)
        if not moved and not gone:
            return
        wrong = _wrong({**held, **moved})
        if wrong is not None:
            self.rejected[model] = wrong
            return
        leap = _leap(held, moved)
        if leap is not None and model not in self.accept and not may_leap(latest):
            self.held[model] = leap
            return
        for key in sorted({*moved, *gone}, key=str):
            self.changes.append(Change(model, str(key), held.get(key), moved.get(key)))
        # Only a rate that was missing says nothing of what has been. Without a multiplier
        # or a window, something else held.
        dated = bool(gone) or any(key in held or isinstance(key, str) for key in moved)
        self._write(model, models, latest, moved, first, dated=dated)

    def _write(
        self,
        model: str,
        models: Models,
        latest: Mapping[str, t.Any],
        moved: Amounts,
        first: _Offer,
        *,
        dated: bool,
    ) -> None:
        fresh = dict(latest)
        for key, rate in moved.items():
            if isinstance(key, RateKey):
                names = [name for name in latest if parse_key(name) == key]
                fresh.update(dict.fromkeys(names or [str(key)], rate))
        fresh.update(_merged(latest, first.beside))
        fresh.update(_stamp(first.answer))
        before = models[model]
        listed = list(before) if isinstance(before, list) else [before]
        if not dated:
            # Only gaps were filled: nothing that was known has changed.
            listed[listed.index(latest)] = fresh
        else:
            fresh["valid_from"] = _time(self.now)
            since = since_of(fresh)
            listed = [each for each in listed if since_of(each) != since]
            listed.append(fresh)
        models[model] = listed[0] if len(listed) == 1 else listed

    def add(self, name: str, models: Models) -> None:
        offers = self.offers(name)
        rates = _joined(offers)
        if not rates:
            self.rejected[name] = "its first price is to come"
            return
        wrong = _wrong({**rates, **beside_of(offers[0].beside)})
        if wrong is not None:
            self.rejected[name] = wrong
            return
        self._compare(name, offers)
        entry: dict[str, t.Any] = {str(key): rate for key, rate in rates.items()}
        models[name] = {**entry, **offers[0].beside, **_stamp(offers[0].answer)}
        self.added.append(name)

    def _compare(self, model: str, offers: Sequence[_Offer]) -> None:
        values: dict[RateKey | str, dict[str, Decimal]] = {}
        for offer in offers:
            for key, rate in offer.rates.items():
                values.setdefault(key, {})[offer.answer.name] = rate
            for key in offer.zeros:
                values.setdefault(key, {})[offer.answer.name] = Decimal(0)
        for key, said in values.items():
            low, high = min(said.values()), max(said.values())
            if high - low >= low * DISCREPANCY and high != low:
                self.discrepancies.append(Discrepancy(model, str(key), said))


def candidates(model: str) -> tuple[str, ...]:
    """The names that a key of a price file may have in a source, the likeliest first."""
    names = [model] if "/" in model else [f"{maker}/{model}" for maker in _MAKERS]
    dotted = [
        f"{head}/{_dotted(tail)}"
        for head, _, tail in (name.partition("/") for name in names)
        if head in ("anthropic", "openrouter")
    ]
    google = [f"gemini/{name[7:]}" for name in names if name.startswith("google/")]
    return tuple(dict.fromkeys([*names, *dotted, *google]))


def _dotted(name: str) -> str:
    """``claude-sonnet-4-6`` as ``claude-sonnet-4.6``, which some write."""
    head, dash, last = name.rpartition("-")
    if dash and last.isdigit() and len(last) < 3 and head[-1:].isdigit():
        return f"{head}.{last}"
    return name


def _offer(answer: Answer, model: str, now: dt.datetime) -> _Offer | None:
    sheet = answer.sheet
    assert sheet is not None
    for name in candidates(model):
        prices = sheet.models.get(name)
        zeros = sheet.zeros.get(name, ())
        if prices is None and not zeros:
            continue
        # A price that is announced is no price yet.
        latest = latest_of(prices, now) or {}
        beside = {k: v for k, v in latest.items() if k in BESIDE}
        keys = (parse_key(key) for key in zeros)
        return _Offer(
            answer,
            name,
            rates_of(latest),
            beside,
            frozenset(key for key in keys if key is not None),
        )
    return None


def _joined(offers: Sequence[_Offer]) -> Amounts:
    """The first source's rates, and what only the others have."""
    rates: Amounts = {}
    for offer in reversed(offers):
        rates.update(offer.rates)
    return rates


def _gone(
    latest: Mapping[str, t.Any], offered: Amounts, first: _Offer
) -> set[RateKey | str]:
    """Rates of windows that the source has others for: it says all there are."""
    if "windows" not in first.beside or not latest.get("windows"):
        return set()
    return {k for k in beside_of({"windows": latest["windows"]}) if k not in offered}


def _merged(
    latest: Mapping[str, t.Any], beside: Mapping[str, t.Any]
) -> dict[str, t.Any]:
    """The source's windows, and its multipliers with those that only the file has."""
    merged = dict(beside)
    if "multipliers" in beside:
        own = latest.get("multipliers") or {}
        merged["multipliers"] = {**own, **beside["multipliers"]}
    return merged


def _stamp(answer: Answer) -> dict[str, str]:
    return {
        "_source": answer.name,
        "_source_version": answer.version or "",
        "_fetched_at": _time(answer.fetched_at),
    }


def _same(one: Decimal, other: Decimal) -> bool:
    """But for what a float adds or loses."""
    return abs(one - other) <= max(abs(one), abs(other)) * _SAME


def _wrong(rates: Amounts) -> str | None:
    for key, rate in rates.items():
        if rate > _ABSURD:
            return f"{key} is {rate:f}, more than {_ABSURD} USD"
        if not isinstance(key, RateKey):
            continue
        standard = rates.get(key._replace(mode=None))
        if key.mode == "batch" and standard is not None and rate > standard:
            return f"{key} is {rate:f}, above the standard {standard:f}"
    return None


def _leap(held: Amounts, moved: Amounts) -> str | None:
    for key, rate in moved.items():
        before = held.get(key)
        if before and rate and max(before, rate) > min(before, rate) * _LEAP:
            return f"{key} moves from {before:f} to {rate:f}, more than threefold"
    return None
