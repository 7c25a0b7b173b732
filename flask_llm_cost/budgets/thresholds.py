"""Raises each alert of a budget once, whichever process reaches the threshold."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence

import sqlalchemy as sa

from ..call import Call
from ..db.budget_tables import budget_alerts
from ..db.budget_tables import budget_windows
from ..db.statements import chunks
from ..money import multiply
from ..money import quotient
from ..money import to_pico
from .alert import Alert
from .definition import BudgetWindow
from .last_seen import LastSeen
from .outbox import enqueue
from .standing import Standing

_REMEMBERED: t.Final = 20_000
_a: t.Final = budget_alerts.c
_w: t.Final = budget_windows.c

_MILLION: t.Final = 1_000_000
"""Thresholds are stored in millionths of the limit."""

_REFUSED: t.Final = _MILLION + 1
"""Stored as a threshold, too: a call was refused below the limit."""

_Costs: t.TypeAlias = Mapping[str, Sequence[tuple[int, Call]]]


class _Reached(t.NamedTuple):
    """A threshold that was reached."""

    window: BudgetWindow
    millionths: int
    standing: Standing

    @property
    def amount(self) -> int:
        """The amount of the threshold, in pico-USD, rounded up."""
        return -(-(self.standing.limit or 0) * self.millionths // _MILLION)

    @property
    def order(self) -> tuple[int, int, str]:
        return self.window.budget.order, self.millionths, self.window.id


class Alerts:
    """The alerts of one ledger's budgets.

    :param seen: Where to note the state of windows.
    :param webhook: Whether they are also posted.
    """

    def __init__(self, seen: LastSeen, *, webhook: bool) -> None:
        self._seen = seen
        self.webhook = webhook
        self.pending: deque[Alert] = deque()
        """Committed alerts that the app has not been notified of."""
        self.notifying = False
        self._raised: dict[tuple[str, int], None] = {}

    def forget(self) -> None:
        """Look up again which alerts were raised: their rows may have been deleted."""
        self._raised.clear()

    def reach(
        self,
        connection: sa.Connection,
        windows: Mapping[str, BudgetWindow],
        costs: _Costs,
    ) -> list[Alert]:
        """Raise and return the alerts of thresholds that are reached for the first time.

        This transaction has locked the rows of the windows: no other reaches the same
        thresholds meanwhile.

        :param windows: The windows in which calls were counted, by their ids.
        :param costs: The calls that were counted in each, with what each counts, in
            pico-USD.
        """
        found: list[_Reached] = []
        for some in chunks(sorted(windows)):
            query = sa.select(budget_windows).where(_w.id.in_(some))
            for row in connection.execute(query):
                if row.allowed is None:
                    continue
                window = windows[row.id]
                standing = Standing.of(window, row, row.allowed)
                self._seen.note(row.id, standing)
                for threshold in window.budget.thresholds:
                    reached = _Reached(
                        window, int(multiply(threshold, _MILLION)), standing
                    )
                    if row.spent + row.unsettled >= reached.amount:
                        if (row.id, reached.millionths) not in self._raised:
                            found.append(reached)
        return self._raise(connection, found, costs) if found else []

    def _raise(
        self, connection: sa.Connection, found: Sequence[_Reached], costs: _Costs
    ) -> list[Alert]:
        existing: set[tuple[str, int]] = set()
        for some in chunks(sorted({each.window.id for each in found})):
            query = sa.select(_a.window_id, _a.threshold).where(_a.window_id.in_(some))
            existing.update(
                (row.window_id, row.threshold) for row in connection.execute(query)
            )
        if len(self._raised) >= _REMEMBERED:
            self._raised.clear()
        self._raised.update(dict.fromkeys(existing))
        alerts = []
        for each in sorted(found, key=lambda each: each.order):
            if (each.window.id, each.millionths) in existing:
                continue
            total, call = _reached_by(each, costs[each.window.id])
            alert = Alert.of(
                dataclasses.replace(
                    each.standing, spent=max(0, total - each.standing.unsettled)
                ),
                threshold=quotient(each.millionths, _MILLION),
                call=call,
            )
            self._insert(connection, each.window.id, each.millionths, alert)
            alerts.append(alert)
        return alerts

    def refuse(self, engine: sa.Engine, window: BudgetWindow, alert: Alert) -> None:
        """Raise the alert of a refused call, once for each window.

        A refusal below the limit does not use up the alert of the limit itself.
        """
        millionths = _REFUSED if alert.refused else _MILLION
        if (window.id, millionths) in self._raised:
            return
        with engine.begin() as connection:
            # Lock the row of the window, as everyone does who raises alerts.
            connection.execute(
                sa.update(budget_windows)
                .where(_w.id == window.id)
                .values(allowed=to_pico(alert.limit_usd))
            )
            query = sa.select(_a.threshold).where(
                _a.window_id == window.id, _a.threshold == millionths
            )
            new = connection.execute(query).first() is None
            if new:
                self._insert(connection, window.id, millionths, alert)
        self._raised[window.id, millionths] = None
        if new:
            self.pending.append(alert)

    def _insert(
        self, connection: sa.Connection, window_id: str, millionths: int, alert: Alert
    ) -> None:
        connection.execute(
            sa.insert(budget_alerts).values(
                window_id=window_id,
                threshold=millionths,
                raised_at=dt.datetime.now(dt.UTC),
            )
        )
        if self.webhook:
            enqueue(connection, alert)


def _reached_by(
    reached: _Reached, costs: Sequence[tuple[int, Call]]
) -> tuple[int, Call | None]:
    """Return the total at which the threshold was reached, and the call that did it."""
    spent = reached.standing.spent + reached.standing.unsettled
    total = spent - sum(cost for cost, _ in costs)
    for cost, call in costs:
        total += cost
        if total >= reached.amount:
            return total, call
    return spent, None
