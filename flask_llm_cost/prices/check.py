"""Check that prices are current and that every model in use has one, for CI."""

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

from ..money import digits
from .book import PriceBook
from .conversion import in_usd
from .document import models_of
from .entry import Entry
from .entry import variant_entries
from .entry import window_entry
from .fetch import FetchResult
from .sources import openrouter
from .sync_plan import lines_of
from .sync_plan import plan_sync
from .sync_plan import SyncPlan

_SHOWN: t.Final = 20

Name: t.TypeAlias = tuple[str, str]
"""Provider and model."""


@dataclass(frozen=True, slots=True)
class Impact:
    """What recent calls would cost now, at the prices in force and at the sources'."""

    model: str
    """The book's key."""
    calls: int
    before_usd: Decimal
    after_usd: Decimal


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a check."""

    plan: SyncPlan | None
    """What a sync of the price file would do; ``None`` offline."""
    missing: tuple[Name, ...]
    """Models in use without a price."""
    incomplete: tuple[str, ...]
    """Models of the price file without any rate."""
    stale: bool
    """Whether the prices are older than 30 days."""
    updated_at: dt.date | None
    in_use: SyncPlan | None = None
    """What sources say about models in use that are not in the price file."""
    others: SyncPlan | None = None
    """What sources say about all other models of the book."""
    impact: tuple[Impact, ...] = ()
    problem: str | None = None
    """Why the price file's current version is not in force."""
    count_all: bool = False
    """Whether changes of the other models fail the check, too."""
    _listed: frozenset[str] = field(default=frozenset(), repr=False)
    """Every model that a source lists."""

    @property
    def ok(self) -> bool:
        """Whether everything is current, priced and recent.

        Orphaned models and discrepancies between sources do not fail a check.
        """
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
        """0 if :attr:`ok`, otherwise 1."""
        return 0 if self.ok else 1

    @property
    def lines(self) -> tuple[str, ...]:
        """The report as text."""
        return tuple(_lines(self))

    def as_json(self) -> dict[str, t.Any]:
        """The report for ``--format json``. Rates and amounts are text."""
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
            "impact": _as_json(self.impact),
        }


def _plan_json(plan: SyncPlan | None) -> dict[str, t.Any]:
    names = ["changes", "held_back", "rejected", "orphaned", "withdrawn", "failed"]
    names.append("discrepancies")
    return {name: _as_json(getattr(plan or SyncPlan(), name)) for name in names}


def _as_json(value: t.Any) -> t.Any:
    """Convert a plan's values to JSON: dataclasses to objects, amounts to text."""
    if isinstance(value, Decimal):
        return digits(value)
    if isinstance(value, Mapping):
        return {key: _as_json(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_as_json(each) for each in value]
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return {name: _as_json(getattr(value, name)) for name in names}
    return value


def _lines(report: Report) -> Iterator[str]:
    if report.problem is not None:
        yield f"! {report.problem}"
    if report.plan is not None:
        yield from lines_of(report.plan)
    if report.in_use is not None:
        for line in lines_of(report.in_use, failed=False):
            yield f"{line} (in use, not in the price file)"
    for provider, model in report.missing:
        hint = ""
        if f"{provider}/{model}" in report._listed:
            hint = f"; add it with `prices sync --add {provider}/{model}`"
        yield f"! {provider}/{model}: in use, but no price is known{hint}"
    for model in report.incomplete:
        yield f"! {model}: has no rates"
    for each in report.impact:
        calls = f"{each.calls:,} recent call{'' if each.calls == 1 else 's'}"
        yield (
            f"$ {each.model}: {calls}: ${digits(each.before_usd)} at the prices in force,"
            f" ${digits(each.after_usd)} at the sources' prices"
        )
    yield from _other_lines(report)
    if report.stale:
        updated = report.updated_at or "an unknown date"
        yield f"! The prices were last updated on {updated}; run `prices sync`."
    yield "The prices are current." if report.ok else "The prices are not current."


def _other_lines(report: Report) -> Iterator[str]:
    """Yield what changed for the rest of the book."""
    plan = report.others
    if plan is None or plan.up_to_date:
        return
    if report.count_all:
        for model, reason in plan.rejected.items():
            yield f"! {model}: rejected, {reason}"
    names = {each.model for each in plan.changes} | set(plan.held_back)
    if not names:
        return
    mark = "!" if report.count_all else "."
    models = f"{len(names):,} other bundled model{'' if len(names) == 1 else 's'}"
    yield f"{mark} Sources have different prices for {models}, not in use"
    for change in plan.changes if report.count_all else plan.changes[:_SHOWN]:
        yield f"  {change}"
    if len(plan.changes) > _SHOWN and not report.count_all:
        yield f"  ... and {len(plan.changes) - _SHOWN:,} more rates (show with --all)"


def _listed(results: Iterable[FetchResult]) -> frozenset[str]:
    sheets = [each.sheet for each in results if each.sheet is not None]
    return frozenset(name for sheet in sheets for name in sheet.models)


def check(
    book: PriceBook,
    *,
    document: Mapping[str, t.Any] | None = None,
    results: Sequence[FetchResult] = (),
    used: Iterable[Name] = (),
    now: dt.datetime | None = None,
    problem: str | None = None,
    count_all: bool = False,
) -> Report:
    """Check the prices in force. Uses no network.

    :param document: The price file, parsed.
    :param results: What the sources returned; empty for an offline check.
    :param used: Providers and models of recent calls.
    :param problem: What is wrong with the price file.
    :param count_all: Fail on changes of models neither in the file nor in use, too.
    """
    moment = now or dt.datetime.now(dt.UTC)
    models = {} if document is None else in_usd(document)
    names = sorted(set(used))
    found = {name: book.find(*name, at=moment) for name in names}
    plan = in_use = others = None
    if results:
        plan = plan_sync(models, results, now=moment)
        keys = {each.key for each in found.values() if each is not None}
        in_use = _bundled_changes(book, keys, results, moment)
        rest = {
            entry.key
            for source, entry in book.entries().values()
            if source == "bundled" and entry.key not in keys
        }
        others = _bundled_changes(book, rest, results, moment)
    confirmed = any(each.sheet or each.unchanged for each in results)
    return Report(
        plan=plan,
        in_use=in_use,
        others=others,
        missing=tuple(name for name in names if found[name] is None),
        incomplete=tuple(_incomplete(models)),
        # If the sources list nothing to change, old prices are current.
        stale=book.stale(moment) and not confirmed,
        updated_at=book.updated_at,
        problem=problem,
        count_all=count_all,
        _listed=_listed(results),
    )


def _bundled_changes(
    book: PriceBook, keys: set[str], results: Sequence[FetchResult], now: dt.datetime
) -> SyncPlan:
    """Compare bundled prices with the sources that they were made from.

    Gaps that OpenRouter could fill are for a price file, and are no change here.
    """
    makers = [each for each in results if each.name != openrouter.NAME]
    plan = plan_sync(_as_document(book, keys, now), makers, now=now)
    changes = tuple(change for change in plan.changes if change.before is not None)
    return dataclasses.replace(plan, changes=changes, orphaned=())


def _as_document(book: PriceBook, keys: set[str], now: dt.datetime) -> dict[str, t.Any]:
    """Return bundled prices in force in the form of a price file."""
    models = {}
    for source, entry in book.entries().values():
        price = entry.at(now)
        if source != "bundled" or entry.key not in keys or price is None:
            continue
        models[entry.key] = {
            **{str(key): rate for key, rate in price.rates.items()},
            "multipliers": dict(price.multipliers),
            "windows": [window_entry(window) for window in price.windows],
            "variants": variant_entries(price),
            # The sources are known to differ from what was looked up.
            **{k: v for k, v in price.metadata.items() if k == "_source"},
        }
    return {"models": models}


def _incomplete(document: Mapping[str, t.Any]) -> Iterator[str]:
    for name, value in models_of(document).items():
        if not name.endswith("/*") and Entry(name, raw=value).empty:
            yield name
