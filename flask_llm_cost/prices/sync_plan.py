"""Plan a sync: the new content of a price file, given its sources.

Pure: it fetches and writes nothing.
"""

from __future__ import annotations

import copy
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
from fnmatch import fnmatchcase

from ..money import own_context
from .document import adjustments_of
from .document import allows_jumps
from .document import Amounts
from .document import digest
from .document import models_of
from .document import price_in_force
from .document import valid_from_of
from .fetch import FetchResult
from .meters import RateKey
from .names import spelling
from .offers import merged_rates
from .offers import Offer
from .offers import offers_for
from .offers import refusal
from .revision import invalid
from .revision import iso
from .revision import provenance
from .revision import revise

Models: t.TypeAlias = dict[str, t.Any]

DISCREPANCY: t.Final = Decimal("0.05")


@dataclass(frozen=True, slots=True)
class Change:
    """One rate that changes."""

    model: str
    rate: str
    before: Decimal | None
    """``None`` if there was none."""
    after: Decimal | None
    """``None`` if it is removed, as with the rate of a window."""

    def __str__(self) -> str:
        before, after = (
            "none" if rate is None else f"{rate:f}"
            for rate in (self.before, self.after)
        )
        return f"{self.model}: {self.rate} {before} -> {after}"


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A rate on which two sources differ by 5 % or more."""

    model: str
    rate: str
    values: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What a sync would do, or did."""

    document: Mapping[str, t.Any] = field(default_factory=dict)
    """The price file as it would be written."""
    changes: tuple[Change, ...] = ()
    added: tuple[str, ...] = ()
    """Models that were not in the file."""
    held_back: dict[str, str] = field(default_factory=dict)
    """Models whose new prices need ``--accept``, and why."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Models whose new prices are invalid, and why."""
    orphaned: tuple[str, ...] = ()
    """Models of the file that are no longer listed by any source; they stay."""
    withdrawn: dict[str, str] = field(default_factory=dict)
    """Models with rates that no source lists any more, and what becomes of those."""
    discrepancies: tuple[Discrepancy, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    """Sources that failed, and why."""
    used: dict[str, int] = field(default_factory=dict)
    """Sources that were read, and how many models of the file they list."""

    @property
    def up_to_date(self) -> bool:
        """Whether there is nothing to change and nothing went wrong."""
        return not (
            self.changes or self.added or self.held_back or self.rejected or self.failed
        )

    @property
    def lines(self) -> tuple[str, ...]:
        """The plan as text."""
        return tuple(lines_of(self))


def lines_of(plan: SyncPlan, *, failed: bool = True) -> Iterator[str]:
    """Yield the plan as text, one line per difference.

    :param failed: Include the sources that failed.
    """
    for change in plan.changes:
        yield f"~ {change}"
    for model in plan.added:
        yield f"+ {model}"
    for model, reason in plan.held_back.items():
        yield f"! {model}: held back, {reason}; use --accept {model} to apply it"
    for model, reason in plan.rejected.items():
        yield f"! {model}: rejected, {reason}"
    for model, rates in plan.withdrawn.items():
        yield f"? {model}: {rates}"
    for name in plan.orphaned:
        yield f"? {name}: no longer listed by any source; kept"
    for each in plan.discrepancies:
        values = ", ".join(f"{name} {rate:f}" for name, rate in each.values.items())
        yield f"? {each.model}: sources differ on {each.rate}: {values}"
    for name, reason in plan.failed.items() if failed else ():
        yield f"! {name} {reason}"


def plan_sync(
    document: Mapping[str, t.Any],
    results: Sequence[FetchResult],
    *,
    now: dt.datetime,
    accept: Iterable[str] = (),
    add: Iterable[str] = (),
) -> SyncPlan:
    """Plan the changes to a price file. Modifies nothing.

    :param document: The file, as :func:`~.layers.parse_file` reads it.
    :param results: What the sources returned, the most trusted first.
    :param accept: Models whose prices may change more than threefold, or to 0.
    :param add: Globs of ``provider/model`` to add to the file.
    """
    models: Models = copy.deepcopy(dict(models_of(document)))
    planner = _Planner(models, results, now, frozenset(accept))
    for name in list(models):
        if not name.endswith("/*"):
            planner.update(name)
    for name in planner.wanted(tuple(add)):
        planner.add(name)
    return dataclasses.replace(
        planner.plan,
        document=planner.document(document),
        changes=tuple(planner.changes),
        added=tuple(planner.added),
        orphaned=tuple(planner.orphaned),
        discrepancies=tuple(planner.discrepancies),
    )


class _Planner:
    """Works out new entries, and collects what happens to each model."""

    def __init__(
        self,
        models: Models,
        results: Sequence[FetchResult],
        now: dt.datetime,
        accept: frozenset[str],
    ) -> None:
        self.models = models
        self.results = results
        self.now = now
        self.accept = accept
        self.plan = SyncPlan(
            failed={
                each.name: each.error for each in results if each.error is not None
            },
            used={each.name: 0 for each in results if each.error is None},
        )
        self.changes: list[Change] = []
        self.added: list[str] = []
        self.orphaned: list[str] = []
        self.discrepancies: list[Discrepancy] = []
        self.all_answered = all(each.sheet is not None for each in results)
        """Whether what is missing is not missing because a source did not answer."""

    def document(self, document: Mapping[str, t.Any]) -> dict[str, t.Any]:
        """Return the price file, once every model has been processed."""
        plan = self.plan
        if not plan.used:
            return copy.deepcopy(dict(document))
        metadata = dict(document.get("metadata") or {}) if "models" in document else {}
        metadata["updated_at"] = self.now.date().isoformat()
        before = metadata.get("sources")
        sources = dict(before) if isinstance(before, Mapping) else {}
        for result in self.results:
            if result.error is None:
                sources[result.name] = {
                    "url": result.url,
                    "version": result.version,
                    "fetched_at": iso(result.fetched_at),
                }
        metadata["sources"] = sources
        models = dict(sorted(self.models.items()))
        # Report unresolved models again next time, even if no source has changed.
        unresolved = plan.held_back or plan.rejected or plan.withdrawn or self.orphaned
        metadata["synced_sha256"] = None if unresolved else digest(models)
        return {"metadata": metadata, "models": models}

    def _offers(self, model: str) -> list[Offer]:
        offers = list(offers_for(model, self.results, self.now))
        for offer in offers:
            self.plan.used[offer.result.name] += 1
        return offers

    def wanted(self, globs: tuple[str, ...]) -> list[str]:
        """Return the models to add that are not in the file."""
        spelled = {spelling(name): "" for name in self.models}
        for result in self.results:
            for name in sorted(result.sheet.models) if result.sheet else ():
                if any(fnmatchcase(name, glob) for glob in globs):
                    spelled.setdefault(spelling(name), name)
        return sorted(filter(None, spelled.values()))

    def add(self, name: str) -> None:
        """Add a model to the file."""
        offers = self._offers(name)
        rates = merged_rates(offers)
        if not rates:
            self.plan.rejected[name] = "its first price is not in force yet"
            return
        adjustments = offers[0].adjustments
        both = {**rates, **adjustments_of(adjustments)}
        problem = invalid(both, both.keys())
        if problem is not None:
            self.plan.rejected[name] = problem
            return
        self._compare(name, offers)
        entry: dict[str, t.Any] = {str(key): rate for key, rate in rates.items()}
        self.models[name] = {**entry, **adjustments, **provenance(offers[0].result)}
        self.added.append(name)

    def update(self, model: str) -> None:
        """Update a model of the file."""
        current = price_in_force(self.models[model], self.now)
        if current is None or current.get("_source") == "manual":
            return
        # A model that follows a failed source waits for it, whatever the others say.
        if current.get("_source") in self.plan.failed:
            return
        offers = self._offers(model)
        refused = refusal(
            model, self.results, None if offers else current.get("_source")
        )
        if refused is not None:
            self.plan.rejected[model] = refused
        if not offers:
            if refused is None and self.all_answered:
                self.orphaned.append(model)
            return
        self._compare(model, offers)
        self._apply(model, current, offers)

    def _apply(
        self, model: str, current: Mapping[str, t.Any], offers: Sequence[Offer]
    ) -> None:
        source = current.get("_source")
        follows = source in self.plan.used and self.all_answered
        found = revise(current, offers, follows=follows)
        accepted, outcome = model in self.accept, "kept until its price changes"
        if found.fallen is not None and not accepted:
            self.plan.rejected[model] = f"{found.fallen} falls to 0"
        elif found.invalid is not None:
            self.plan.rejected[model] = found.invalid
        elif found.jump and not accepted and not allows_jumps(current):
            self.plan.held_back[model] = found.jump
        elif found.changed or found.removed:
            outcome = "not in the new price"
            for key in sorted({*found.changed, *found.removed}, key=str):
                before, after = found.before.get(key), found.changed.get(key)
                self.changes.append(Change(model, str(key), before, after))
            self._store(model, current, dict(found.price), found.is_new_price)
        if found.withdrawn:
            names = ", ".join(sorted(map(str, found.withdrawn)))
            self.plan.withdrawn[model] = (
                f"{names} no longer listed by {source}; {outcome}"
            )

    def _store(
        self,
        model: str,
        current: Mapping[str, t.Any],
        price: dict[str, t.Any],
        is_new_price: bool,
    ) -> None:
        entry = self.models[model]
        prices = list(entry) if isinstance(entry, list) else [entry]
        if is_new_price:
            price["valid_from"] = iso(self.now)
            since = valid_from_of(price)
            prices = [each for each in prices if valid_from_of(each) != since]
            prices.append(price)
        else:
            prices[prices.index(current)] = price
        self.models[model] = prices[0] if len(prices) == 1 else prices

    @own_context
    def _compare(self, model: str, offers: Sequence[Offer]) -> None:
        """Note the rates on which the sources differ."""
        values: dict[RateKey | str, dict[str, Decimal]] = {}
        for offer in offers:
            rates: Amounts = offer.rates | {key: Decimal(0) for key in offer.zeros}
            for key, rate in rates.items():
                values.setdefault(key, {})[offer.result.name] = rate
        for key, by_source in values.items():
            low, high = min(by_source.values()), max(by_source.values())
            if high - low >= low * DISCREPANCY and high != low:
                self.discrepancies.append(Discrepancy(model, str(key), by_source))
