"""Alerts of budgets: which threshold a call passed, and that it is told of once."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections import deque
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

import sqlalchemy as sa

from ..call import Call
from ..db.tables import budget_alerts
from ..db.tables import budget_windows
from ..money import from_pico
from ..rollups.sums import chunks
from . import Alert
from . import Budget
from . import tags_of
from .definition import model_of
from .outbox import post
from .share import Share

_REMEMBERED: t.Final = 20_000
_a: t.Final = budget_alerts.c
_w: t.Final = budget_windows.c

Limits: t.TypeAlias = Callable[[Budget, Mapping[str, str]], Decimal | None]
"""What a budget allows, asked with whose it is; ``None`` if that cannot be told."""

_MILLION: t.Final = 1_000_000
"""Thresholds are kept in millionths of the limit."""

_REFUSED: t.Final = _MILLION + 1
"""Kept as a threshold, too: a call was refused before the limit was spent."""


Costs: t.TypeAlias = Mapping[str, Sequence[tuple[int, Call | None]]]
"""What some calls cost, in pico-USD, by the window that they count in."""


class Alerts:
    """The alerts of one ledger's budgets.

    :param webhook: Whether they are also to be posted.
    """

    def __init__(self, *, webhook: bool) -> None:
        self.webhook = webhook
        self.passed: deque[Alert] = deque()
        """Those that are committed, and that the app is to be told of."""
        self.telling = False
        self._told: dict[tuple[str, int], None] = {}

    def forget(self) -> None:
        """The alerts may be gone: see again which were raised."""
        self._told.clear()

    def reach(
        self,
        connection: sa.Connection,
        shares: Mapping[str, Share],
        costs: Costs,
    ) -> list[Alert]:
        """The thresholds that are passed now, and were not told of before.

        The rows of the windows are locked here: no other passes the same meanwhile.

        :param shares: The windows that were counted in, by their ids.
        :param costs: What was counted in each.
        """
        ids = sorted(shares)
        found: list[tuple[Share, int, t.Any]] = []
        for some in chunks(ids):
            query = sa.select(_w.id, _w.spent, _w.allowed).where(_w.id.in_(some))
            for row in connection.execute(query):
                if row.allowed is None:
                    continue
                share = shares[row.id]
                for part in share.budget.thresholds:
                    millionths = int(part * _MILLION)
                    at = _threshold(row.allowed, millionths)
                    if row.spent >= at and (row.id, millionths) not in self._told:
                        found.append((share, millionths, row))
        return self._tell(connection, found, costs) if found else []

    def _tell(
        self,
        connection: sa.Connection,
        found: Sequence[tuple[Share, int, t.Any]],
        costs: Costs,
    ) -> list[Alert]:
        there: set[tuple[str, int]] = set()
        for some in chunks(sorted({share.id for share, _, _ in found})):
            query = sa.select(_a.window_id, _a.threshold).where(_a.window_id.in_(some))
            there.update((r.window_id, r.threshold) for r in connection.execute(query))
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told.update(dict.fromkeys(there))
        alerts = []
        for share, millionths, row in sorted(found, key=_in_order):
            if (share.id, millionths) in there:
                continue
            total, call = _passed_by(
                row.spent, _threshold(row.allowed, millionths), costs[share.id]
            )
            alert = _alert_of(share, row.allowed, total, millionths, call)
            _raise_alert(connection, share.id, millionths, alert, self.webhook)
            alerts.append(alert)
        return alerts

    def refused(
        self, engine: sa.Engine, share: Share, row: t.Any, estimate: int
    ) -> None:
        """A call was refused for a budget: that is told of once for each window.

        Where the limit itself is not spent, that it is remains to be told of.
        """
        spent = row.spent >= row.allowed
        mark = _MILLION if spent else _REFUSED
        if (share.id, mark) in self._told:
            return
        alert = _alert_of(share, row.allowed, row.spent, _MILLION, None)
        if not spent:
            alert = dataclasses.replace(
                alert,
                refused=True,
                reserved_usd=from_pico(row.held),
                lost_usd=from_pico(row.lost),
                estimate_usd=from_pico(estimate),
            )
        with engine.begin() as connection:
            # The lock under which alerts are raised.
            connection.execute(
                sa.update(budget_windows)
                .where(_w.id == share.id)
                .values(allowed=row.allowed)
            )
            query = sa.select(_a.threshold).where(
                _a.window_id == share.id, _a.threshold == mark
            )
            fresh = connection.execute(query).first() is None
            if fresh:
                _raise_alert(connection, share.id, mark, alert, self.webhook)
        self._told[share.id, mark] = None
        if fresh:
            self.passed.append(alert)


def _threshold(allowed: int, millionths: int) -> int:
    """From how many pico-USD on a part of a limit is reached."""
    return -(-allowed * millionths // _MILLION)


def _in_order(found: tuple[Share, int, t.Any]) -> tuple[int, int, str]:
    share, millionths, _ = found
    return share.budget.order, millionths, share.id


def _passed_by(
    spent: int, at: int, costs: Sequence[tuple[int, Call | None]]
) -> tuple[int, Call | None]:
    """Which of the calls counted just now passed a threshold, and the total with it."""
    total = spent - sum(cost for cost, _ in costs)
    for cost, call in costs:
        total += cost
        if total >= at:
            return total, call
    return spent, None


def _alert_of(
    share: Share, allowed: int, total: int, millionths: int, call: Call | None
) -> Alert:
    """The alert of a threshold of a window."""
    return Alert(
        budget=share.budget.name,
        period=share.budget.period,
        limit_usd=from_pico(allowed),
        spent_usd=from_pico(total),
        threshold=Decimal(millionths) / _MILLION,
        tags=share.whose,
        starts_at=share.window.start,
        resets_at=share.window.end,
        call=call,
    )


def call_alert(budget: Budget, call: Call, limits: Limits) -> Alert | None:
    """The alert of one call that costs as much as a budget allows for one."""
    whose = budget.whose(tags_of(call))
    if call.cost is None or whose is None:
        return None
    limit = limits(budget, whose)
    if not budget.covers(call.provider, model_of(call)) or limit is None:
        return None
    if call.cost.total_usd < limit:
        return None
    return Alert(
        budget=budget.name,
        period=budget.period,
        limit_usd=limit,
        spent_usd=call.cost.total_usd,
        threshold=Decimal(1),
        tags=whose,
        call=call,
    )


def _raise_alert(
    connection: sa.Connection, window: str, millionths: int, alert: Alert, webhook: bool
) -> None:
    """Take down that a threshold was passed.

    :raises IntegrityError: If it was taken down before.
    """
    connection.execute(
        sa.insert(budget_alerts).values(
            window_id=window, threshold=millionths, raised_at=dt.datetime.now(dt.UTC)
        )
    )
    if webhook:
        post(connection, alert)
