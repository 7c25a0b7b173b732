"""The ledger's amounts for a bill, read from its storage."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import DAY
from ..calendar import day_start
from ..db.statements import between
from ..db.tables import calls
from ..money import from_pico
from ..rollups import meter_sums
from ..rollups.horizon import horizon
from ..rollups.meters import CALLS
from ..rollups.meters import lines_of
from ..rollups.meters import status_of
from ..storage import Storage
from .calls import HeldCall
from .cell import to_whole_pico
from .ledger_side import Ledger
from .reconcile import providers_of
from .reconcile import reconcile
from .report import add_up
from .report import exact
from .report import Report
from .scopes import group_of
from .scopes import Holds
from .sources import SOURCES
from .statement import Statement

_c: t.Final = calls.c


def compare(
    storage: Storage,
    statement: Statement,
    *,
    scopes: Mapping[str, str] | None = None,
    rate: Decimal | None = None,
    now: dt.datetime | None = None,
) -> list[Report]:
    """Compare what is stored to a statement: a report for each scope.

    The parameters are those of :func:`.reconcile`.

    :raises StorageError: If the ledger cannot be read.
    """
    start, end = statement.start, statement.end
    source = SOURCES.get(statement.source)
    with storage.reading(fresh=True, since=start, until=end) as connection:
        return reconcile(
            statement,
            _ledger(connection, statement),
            scopes=scopes,
            rate=rate,
            now=now or dt.datetime.now(dt.UTC),
            tried=source is not None and source.tried,
        )


def true_costs(
    storage: Storage,
    statement: Statement,
    reports: Iterable[Report],
    scopes: Mapping[str, str] | None = None,
) -> dict[str, Decimal]:
    """Return what calls truly cost where the ledger does not know it, by event id.

    Those of calls that the bill names one by one. Where a day is reconciled, nothing was
    billed for its unsettled calls beyond what is known of them. And where nothing but their
    usage is missing, the one such call of a model cost what is left; of several, only the
    sum is known.

    :param scopes: As for :func:`compare`.
    """
    found: dict[str, Decimal] = {}
    for report in reports:
        rests = _rests(report)
        if rests:
            found |= _settled(storage, statement, rests, report.scope, scopes or {})
        found |= report.costs
    return found


_Rests: t.TypeAlias = Mapping[dt.date, Mapping[str | None, Decimal]]
"""By day, what was billed beyond the ledger by model."""


def _rests(report: Report) -> _Rests:
    """Return the days on which a bill leaves nothing, or only what has no usage."""
    left: dict[dt.date, dict[str | None, Decimal]] = {
        day.day: {}
        for day in report.days
        if day.verdict == "reconciled" or (report.good and day.verdict == "explained")
    }
    reconciled = {day.day for day in report.days if day.verdict == "reconciled"}
    for each in report.residuals:
        if each.day not in left or each.day in reconciled or each.cause == "rounding":
            continue
        if each.cause != "no_usage":
            del left[each.day]
            continue
        known = left[each.day].get(each.model, Decimal(0))
        left[each.day][each.model] = exact.add(known, each.amount_usd)
    return left


def _settled(
    storage: Storage,
    statement: Statement,
    rests: _Rests,
    scope: str | None,
    scopes: Mapping[str, str],
) -> dict[str, Decimal]:
    providers = sorted(providers_of(statement))
    open_ended = sa.or_(_c.cost_total.is_(None), _c.cost_complete.is_(sa.false()))
    groups: dict[tuple[dt.date, str], list[HeldCall]] = defaultdict(list)
    with storage.reading(since=statement.start, until=statement.end) as connection:
        for call in _calls(connection, statement, providers, open_ended):
            if call.day in rests and (
                scope is None or group_of(call.scope, scopes) == scope
            ):
                groups[call.day, call.model].append(call)
    found: dict[str, Decimal] = {}
    for (day, model), some in groups.items():
        for call, rest in _shares(some, rests[day].get(model, Decimal(0))):
            if call.status in ("unsettled", "no_usage"):
                found[call.event_id] = to_whole_pico(exact.add(call.cost, rest))
    return found


def _shares(
    some: Sequence[HeldCall], rest: Decimal
) -> Iterator[tuple[HeldCall, Decimal]]:
    """Return how much more each call cost, where only one answer is possible."""
    if not rest:
        yield from ((call, rest) for call in some)
        return
    limits = [call.most for call in some]
    if None not in limits and add_up(t.cast(list[Decimal], limits)) == rest:
        yield from ((call, t.cast(Decimal, call.most)) for call in some)
        return
    able = [call for call in some if call.most is None or call.most > 0]
    if len(able) == 1 and able[0].can_lack(rest):
        yield from ((call, rest if call is able[0] else Decimal(0)) for call in some)


def _ledger(connection: sa.Connection, statement: Statement) -> Ledger:
    providers = sorted(providers_of(statement))
    limit = horizon(connection)
    begun = meter_sums.since(connection)

    def doubles(
        day: dt.date, models: frozenset[str], holds: Holds = _all, /
    ) -> Mapping[str, Decimal]:
        return _doubles(connection, day, providers, models, holds)

    return Ledger(
        lambda: meter_sums.hourly(connection, statement.start, statement.end),
        # Without sums, nothing is known of calls that were pruned.
        since=limit if begun is None else begun,
        doubles=doubles,
        calls=lambda: _calls(connection, statement, providers),
        pruned=limit,
    )


def _calls(
    connection: sa.Connection,
    statement: Statement,
    providers: list[str],
    *where: sa.ColumnElement[bool],
) -> Iterator[HeldCall]:
    """Return the calls of a statement's days, one by one."""
    period = between(statement.start, statement.end)
    where = _c.provider.in_(providers), *period, *where
    for row in meter_sums.rows(connection, *where):
        status = status_of(row)
        known = None if status == "estimated" else row.cost_total
        ceiling = None if known is None else row.cost_ceiling
        yield HeldCall(
            row.event_id,
            row.response_id,
            row.started_at.date(),
            row.model,
            from_pico(known or 0),
            status,
            None if ceiling is None else from_pico(ceiling - (known or 0)),
            row.scope or "",
        )


def _all(scope: str) -> bool:
    return True


def _doubles(
    connection: sa.Connection,
    day: dt.date,
    providers: list[str],
    models: frozenset[str],
    holds: Holds,
) -> Mapping[str, Decimal]:
    """Sum what the ledger has of answers that it has already, by meter."""
    start = day_start(day, dt.UTC)
    where = [
        _c.provider.in_(providers),
        _c.model.in_(sorted(models)),
        *between(start, start + DAY),
    ]
    same = sa.select(_c.response_id).where(*where, _c.response_id.is_not(None))
    twice = same.group_by(_c.response_id).having(sa.func.count() > 1)
    ids = list(connection.scalars(twice.limit(1000)))
    if not ids:
        return {}
    seen: set[str] = set()
    found: dict[str, Decimal] = defaultdict(Decimal)
    for row in meter_sums.rows(connection, *where, _c.response_id.in_(ids)):
        if not holds(row.scope or ""):
            continue
        if row.response_id in seen:
            for key, quantity, *_ in lines_of(row):
                if key.meter != CALLS:
                    found[key.meter] = exact.add(found[key.meter], quantity)
        seen.add(row.response_id)
    return found


def as_text(reports: list[Report]) -> str:
    """Write reports as the command prints them with ``--format json``."""
    return json.dumps(
        {"schema": 1, "reports": [report.as_json() for report in reports]},
        ensure_ascii=False,
        indent=2,
    )
