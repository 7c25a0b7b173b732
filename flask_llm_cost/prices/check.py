"""Are the prices current, and is there one for every model in use? For CI."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

from ..call import Call
from ..money import digits
from .again import mode_of
from .book import PriceBook
from .document import models_of
from .drift import lines_of
from .drift import plan
from .drift import SyncPlan
from .entry import written
from .fetch import Answer
from .sources import openrouter

_SHOWN: t.Final = 20

Name: t.TypeAlias = tuple[str, str]
"""Provider and model."""


@dataclass(frozen=True, slots=True)
class Impact:
    """What calls cost by the prices in force, and by those that the sources say."""

    model: str
    """The book's key."""
    calls: int
    before: Decimal
    """USD."""
    after: Decimal


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found."""

    plan: SyncPlan | None
    """What a sync of the price file would do; ``None`` offline."""
    missing: tuple[Name, ...]
    """Models in use, by provider and name, that have no price."""
    incomplete: tuple[str, ...]
    """Models of the price file without any rate."""
    stale: bool
    """Are the prices older than 30 days?"""
    updated_at: dt.date | None
    in_use: SyncPlan | None = None
    """What sources say of models in use that the price file does not have."""
    others: SyncPlan | None = None
    """What sources say of all other models of the book."""
    impact: tuple[Impact, ...] = ()
    """What the changes would have cost on the calls of late."""
    problem: str | None = None
    """Why the price file that is there is not the one in force."""
    count_all: bool = False
    """Do the others count, too?"""
    _known: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def ok(self) -> bool:
        """Is everything current, priced and fresh? Orphans and discrepancies may be."""
        counted = [self.plan, self.in_use]
        if self.count_all:
            counted.append(self.others)
        return not (
            self.missing
            or self.incomplete
            or self.stale
            or self.problem
            or any(each is not None and not each.up_to_date for each in counted)
        )

    @property
    def exit_code(self) -> int:
        """0 when current, 1 on drift, failure, refusal or a missing price."""
        return 0 if self.ok else 1

    @property
    def lines(self) -> tuple[str, ...]:
        """What was found, to be read."""
        return tuple(_lines(self))

    def as_json(self) -> dict[str, t.Any]:
        """What was found, for ``--format json``: rates are text."""
        return {
            "ok": self.ok,
            "updated_at": None if self.updated_at is None else str(self.updated_at),
            "stale": self.stale,
            "problem": self.problem,
            "missing": [f"{provider}/{model}" for provider, model in self.missing],
            "incomplete": list(self.incomplete),
            **_plan_json(self.plan),
            "in_use": _plan_json(self.in_use),
            "others": _plan_json(self.others),
            "impact": [
                {
                    "model": each.model,
                    "calls": each.calls,
                    "before_usd": _text(each.before),
                    "after_usd": _text(each.after),
                }
                for each in self.impact
            ],
        }


def _plan_json(made: SyncPlan | None) -> dict[str, t.Any]:
    return {
        "changes": [
            {
                "model": change.model,
                "rate": change.rate,
                "before": _text(change.before),
                "after": _text(change.after),
            }
            for change in ([] if made is None else made.changes)
        ],
        "held": {} if made is None else dict(made.held),
        "rejected": {} if made is None else dict(made.rejected),
        "orphaned": [] if made is None else list(made.orphaned),
        "failed": {} if made is None else dict(made.failed),
        "discrepancies": [
            {
                "model": each.model,
                "rate": each.rate,
                "values": {name: _text(rate) for name, rate in each.values.items()},
            }
            for each in ([] if made is None else made.discrepancies)
        ],
    }


def _text(rate: Decimal | None) -> str | None:
    return None if rate is None else digits(rate)


def _lines(report: Report) -> Iterator[str]:
    if report.problem is not None:
        yield f"! {report.problem}"
    if report.plan is not None:
        yield from lines_of(report.plan)
    if report.in_use is not None:
        for line in lines_of(report.in_use, failed=False):
            yield f"{line} (in use, and not in the price file)"
    for provider, model in report.missing:
        hint = ""
        if f"{provider}/{model}" in report._known:
            hint = f"; `prices sync --add {provider}/{model}` adds it"
        yield f"! {provider}/{model}: in use, and no price is known{hint}"
    for model in report.incomplete:
        yield f"! {model}: has no rate at all"
    for each in report.impact:
        yield (
            f"$ {each.model}: {each.calls:,} calls of late cost ${digits(each.before)} by"
            f" the prices in force, ${digits(each.after)} by those of the sources"
        )
    yield from _other_lines(report)
    if report.stale:
        yield f"! The prices are of {report.updated_at or 'an unknown date'}: sync them."
    yield "The prices are current." if report.ok else "The prices are not current."


def _other_lines(report: Report) -> Iterator[str]:
    """What does not count, unless it was asked for: the rest of the book."""
    made = report.others
    if made is None or made.up_to_date:
        return
    if report.count_all:
        for model, reason in made.rejected.items():
            yield f"! {model}: refused, {reason}"
    names = sorted({each.model for each in made.changes} | set(made.held))
    if not names:
        return
    mark = "!" if report.count_all else "."
    yield (
        f"{mark} {len(names):,} other models of the bundled prices, not in use, cost"
        " something else by the sources"
    )
    for change in made.changes if report.count_all else made.changes[:_SHOWN]:
        yield f"  {change}"
    if len(made.changes) > _SHOWN and not report.count_all:
        yield f"  ... and {len(made.changes) - _SHOWN:,} more rates: --all shows them"


def check(
    book: PriceBook,
    *,
    document: Mapping[str, t.Any] | None = None,
    answers: Sequence[Answer] = (),
    used: Iterable[Name] = (),
    now: dt.datetime | None = None,
    problem: str | None = None,
    count_all: bool = False,
) -> Report:
    """Judge the prices in force. Asks nobody.

    :param document: The price file, as it is read.
    :param answers: What the sources say; none: offline.
    :param used: Providers and models seen in the ledger of late.
    :param problem: What is wrong with the price file.
    :param count_all: Let drift of models count that are neither in the file nor in use.
    """
    moment = now or dt.datetime.now(dt.UTC)
    given = {} if document is None else document
    names = sorted(set(used))
    found = {name: book.find(*name, at=moment) for name in names}
    made = in_use = others = None
    if answers:
        made = plan(given, answers, now=moment)
        keys = {each.key for each in found.values() if each is not None}
        in_use = _moved(book, keys, answers, moment)
        rest = {
            entry.key
            for source, entry in book.entries().values()
            if source == "bundled" and entry.key not in keys
        }
        others = _moved(book, rest, answers, moment)
    fresh = made is not None and any(each.sheet or each.unchanged for each in answers)
    return Report(
        plan=made,
        in_use=in_use,
        others=others,
        missing=tuple(name for name in names if found[name] is None),
        incomplete=tuple(_incomplete(book, given, moment)),
        # A check that finds nothing to change says that old prices are current.
        stale=book.stale(moment) and not fresh,
        updated_at=book.updated_at,
        problem=problem,
        count_all=count_all,
        _known=frozenset(
            name
            for answer in answers
            if answer.sheet is not None
            for name in answer.sheet.models
        ),
    )


def _moved(
    book: PriceBook, keys: set[str], answers: Sequence[Answer], now: dt.datetime
) -> SyncPlan:
    """Which bundled prices are others by the sources that they were made of.

    What OpenRouter would fill in is for a price file to take, and no drift.
    """
    makers = [answer for answer in answers if answer.name != openrouter.NAME]
    made = plan(_bundled(book, keys, now), makers, now=now)
    moved = tuple(change for change in made.changes if change.before is not None)
    return dataclasses.replace(made, changes=moved, orphaned=())


def _bundled(book: PriceBook, keys: set[str], now: dt.datetime) -> dict[str, t.Any]:
    """Bundled prices in force, as a price file would have them."""
    models = {}
    for source, entry in book.entries().values():
        price = entry.at(now)
        if source != "bundled" or entry.key not in keys or price is None:
            continue
        models[entry.key] = {
            **{str(key): rate for key, rate in price.rates.items()},
            "multipliers": dict(price.multipliers),
            "windows": [written(window) for window in price.windows],
        }
    return {"models": models}


def _incomplete(
    book: PriceBook, document: Mapping[str, t.Any], now: dt.datetime
) -> Iterator[str]:
    for name in models_of(document):
        if name.endswith("/*"):
            continue
        found = book.find("", name, now)
        if found is not None and not found.price.rates:
            yield name


def changed_models(report: Report) -> dict[str, t.Any]:
    """The entries that would be others if the sources were believed."""
    models: dict[str, t.Any] = {}
    for made in (report.plan, report.in_use):
        if made is not None:
            after = models_of(made.document)
            models.update((each.model, after[each.model]) for each in made.changes)
    return models


def impact(
    book: PriceBook,
    models: Mapping[str, t.Any],
    calls: Iterable[Call],
    *,
    now: dt.datetime,
) -> tuple[Impact, ...]:
    """What calls would cost by changed entries, and cost by those in force, if made now.

    :param models: The changed entries, see :func:`changed_models`.
    :param calls: Calls of models that these are about.
    """
    amended = book.amended(models)
    sums: dict[str, list[t.Any]] = {}
    for call in calls:
        found = book.find(call.provider, call.model, now)
        if found is None or found.key not in models:
            continue
        before, after = (_cost(each, call, now) for each in (book, amended))
        if before is None or after is None:
            continue
        held = sums.setdefault(found.key, [0, Decimal(0), Decimal(0)])
        held[0] += 1
        held[1] += before
        held[2] += after
    return tuple(Impact(key, *held) for key, held in sorted(sums.items()))


def _cost(book: PriceBook, call: Call, now: dt.datetime) -> Decimal | None:
    cost = book.price(
        call.provider,
        call.model,
        call.usage,
        at=now,
        pricing_mode=mode_of(call),
        service_tier=call.service_tier,
        flags=call.flags,
    )
    return None if cost is None else cost.total_usd
