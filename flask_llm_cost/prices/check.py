"""Are the prices current, and is there one for every model in use? For CI."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from .book import PriceBook
from .sync import SyncPlan


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found."""

    plan: SyncPlan | None
    """What a sync would do; ``None`` offline."""
    missing: tuple[tuple[str, str], ...]
    """Models in use, by provider and name, that have no price."""
    incomplete: tuple[str, ...]
    """Models of the price file without any rate."""
    stale: bool
    """Are the prices older than 30 days?"""
    updated_at: dt.date | None

    @property
    def ok(self) -> bool:
        """Is everything current, priced and fresh? Orphans and discrepancies may be."""
        return not (
            self.missing
            or self.incomplete
            or self.stale
            or (self.plan is not None and not self.plan.up_to_date)
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
        made = self.plan
        return {
            "ok": self.ok,
            "updated_at": None if self.updated_at is None else str(self.updated_at),
            "stale": self.stale,
            "missing": [f"{provider}/{model}" for provider, model in self.missing],
            "incomplete": list(self.incomplete),
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
    return None if rate is None else f"{rate:f}"


def _lines(report: Report) -> Iterator[str]:
    if report.plan is not None:
        yield from report.plan.lines
    for provider, model in report.missing:
        yield f"! {provider}/{model}: in use, and no price is known"
    for model in report.incomplete:
        yield f"! {model}: has no rate at all"
    if report.stale:
        yield f"! The prices are of {report.updated_at or 'an unknown date'}: sync them."
    yield "The prices are current." if report.ok else "The prices are not current."


def check(
    book: PriceBook,
    *,
    plan: SyncPlan | None = None,
    document: Mapping[str, t.Any] | None = None,
    used: Iterable[tuple[str, str]] = (),
    now: dt.datetime | None = None,
) -> Report:
    """Judge the prices in force. Asks nobody.

    :param plan: What a sync of the price file would do, if sources were asked.
    :param document: The price file, to look for gaps in.
    :param used: Providers and models seen in the ledger of late.
    """
    moment = now or dt.datetime.now(dt.UTC)
    missing = sorted(
        (provider, model)
        for provider, model in set(used)
        if book.find(provider, model, moment) is None
    )
    return Report(
        plan=plan,
        missing=tuple(missing),
        incomplete=tuple(_incomplete(book, document or {}, moment)),
        # A sync that finds nothing to change says that old prices are current.
        stale=book.stale(moment) and (plan is None or not plan.used),
        updated_at=book.updated_at,
    )


def _incomplete(
    book: PriceBook, document: Mapping[str, t.Any], now: dt.datetime
) -> Iterator[str]:
    models = document.get("models", document)
    for name in models:
        if name == "metadata" or name.endswith("/*"):
            continue
        found = book.find("", name, now)
        if found is not None and not found.price.rates:
            yield name
