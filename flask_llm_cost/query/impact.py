"""What price changes of the sources would have cost on recent calls."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from decimal import Decimal

from ..call import Call
from ..call import REPORTED
from ..money import add
from ..prices.book import PriceBook
from ..prices.check import Impact
from ..prices.check import Report
from ..prices.document import models_of
from ..prices.requote import pricing_mode_of
from .detail import stream_calls
from .filters import CallFilter
from .listing import Reader
from .used import models_in_use


def price_impact(
    reading: Reader,
    where: CallFilter,
    book: PriceBook,
    report: Report,
    now: dt.datetime,
) -> tuple[Impact, ...]:
    """Compute what calls would cost now, by the book and by the entries that change.

    :param where: The calls, of all models.
    """
    models = _changed(report)
    if not models:
        return ()
    amended = book.amended(models)
    sums: dict[str, Impact] = {}
    with reading(since=where.start, until=where.end) as connection:
        names = models_in_use(connection, where)
    for provider, model in names:
        found = book.find(provider, model, now)
        if found is None or found.key not in models:
            continue
        its = dataclasses.replace(where, provider=provider, model=model)
        for call in _estimated(stream_calls(reading, its)):
            before, after = (_cost(each, call, now) for each in (book, amended))
            if before is None or after is None:
                continue
            known = sums.get(found.key, Impact(found.key, 0, Decimal(0), Decimal(0)))
            sums[found.key] = Impact(
                found.key,
                known.calls + 1,
                add(known.before_usd, before),
                add(known.after_usd, after),
            )
    return tuple(each for _, each in sorted(sums.items()))


def _changed(report: Report) -> dict[str, t.Any]:
    """Return the entries that would change, as they would be after a sync."""
    models: dict[str, t.Any] = {}
    for plan in (report.plan, report.in_use):
        if plan is not None:
            after = models_of(plan.document)
            models.update((each.model, after[each.model]) for each in plan.changes)
    return models


def _estimated(calls: Iterable[Call]) -> Iterator[Call]:
    """Yield the calls whose cost follows from their usage."""
    for call in calls:
        if call.usage is not None and (
            call.cost is None or call.cost.source not in REPORTED
        ):
            yield call


def _cost(book: PriceBook, call: Call, now: dt.datetime) -> Decimal | None:
    cost = book.quote(
        call.provider,
        call.model,
        call.usage,
        at=now,
        mode=pricing_mode_of(call),
        service_tier=call.service_tier,
        flags=call.flags,
    ).cost
    return None if cost is None else cost.total_usd
