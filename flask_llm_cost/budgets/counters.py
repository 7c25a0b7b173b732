"""Counters of what was spent, which change together with the calls they count.

Each window of a budget is a row. Whoever inserts, reprices or deletes a call changes the
rows of its windows in the same transaction, so that the amount spent always equals the cost
of the calls, to the pico-dollar, whichever process crashes.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import sqlalchemy as sa

from ..call import Call
from ..db.rows import tag_set_of
from ..db.statements import chunks
from ..db.tables import budget_reservations
from ..money import floor_pico
from ..money import to_pico
from .alert import Alert
from .audit import Audit
from .changes import become_writer
from .changes import Changes
from .changes import delete_reservations
from .changes import lock_reservations
from .definition import BudgetWindow
from .definition import model_of
from .definition import tags_of
from .estimates import unpriced_estimate
from .outbox import enqueue
from .policy import Policy
from .thresholds import Alerts
from .window_rows import WindowRows

_r: t.Final = budget_reservations.c

_Estimates: t.TypeAlias = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What some calls count in, and everything that the app's own code says about it.

    Prepared before the transaction that counts the calls: the app's code may be slow, and
    may write to the same database.
    """

    windows: Sequence[list[BudgetWindow]] = ()
    """The windows of each call."""
    limits: Mapping[str, int | None] = field(default_factory=dict)
    """The limit of each window, in pico-USD."""
    estimates: _Estimates = field(default_factory=dict)
    """What unpriced calls count until they are priced, by event id and window."""
    call_alerts: Sequence[Alert] = ()
    """The alerts of calls that alone reach the limit of a budget per call."""


class ChangedCost(t.Protocol):
    """A call whose cost changed, in pico-USD; ``None`` is unknown."""

    @property
    def started_at(self) -> dt.datetime: ...
    @property
    def event_id(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def tags(self) -> Mapping[str, str]: ...
    @property
    def before(self) -> int | None: ...
    @property
    def after(self) -> int | None: ...


class Counters:
    """The counters of one ledger's budgets."""

    def __init__(self, policy: Policy) -> None:
        self.budgets = tuple(b for b in policy.budgets if b.period != "call")
        self.audit = Audit(self.budgets)
        self.rows = WindowRows()
        self.alerts = Alerts(webhook=policy.send is not None)
        self.in_progress: dict[str, None] = {}
        """Calls of this process that have reservations and are not stored yet."""
        self._policy = policy
        self._per_call = [b for b in policy.budgets if b.period == "call"]

    # Which windows a call counts in

    def windows(
        self, provider: str, model: str, tags: Mapping[str, str], at: dt.datetime
    ) -> list[BudgetWindow]:
        """Return the windows that a call counts in."""
        if not self.budgets:
            return []
        tag_set = tag_set_of(tags)
        stored = {} if tag_set is None else tag_set.tags
        return [
            budget.window(values, at)
            for budget in self.budgets
            if (values := budget.match(provider, model, stored)) is not None
        ]

    def windows_of(self, call: Call) -> list[BudgetWindow]:
        """Return the windows that a recorded call counts in."""
        return self.windows(
            call.provider, model_of(call), tags_of(call), call.started_at
        )

    def limit(self, window: BudgetWindow, *, strict: bool = False) -> int | None:
        """Return the current limit of a window in pico-USD.

        :param strict: As for :meth:`.Policy.limit`.
        """
        limit = self._policy.limit(window.budget, window.tags, strict=strict)
        return None if limit is None else floor_pico(limit)

    def forget(self) -> None:
        """Look up windows and alerts again: their rows may have been deleted."""
        self.rows.forget()
        self.alerts.forget()

    # Counting new calls

    def prepare(self, engine: sa.Engine, calls: Sequence[Call]) -> Prepared:
        """Determine what calls count in, and create the rows of their windows."""
        call_alerts = [
            alert
            for budget in self._per_call
            for call in calls
            if (alert := self._policy.call_alert(budget, call)) is not None
        ]
        if not self.budgets:
            return Prepared(call_alerts=call_alerts)
        windows = [self.windows_of(call) for call in calls]
        distinct = {window.id: window for found in windows for window in found}
        limits = {key: self.limit(window) for key, window in distinct.items()}
        self.rows.ensure(engine, distinct.values(), limits)
        estimates = self._estimate(engine, calls, windows)
        return Prepared(windows, limits, estimates, call_alerts)

    def _estimate(
        self,
        engine: sa.Engine,
        calls: Sequence[Call],
        windows: Sequence[list[BudgetWindow]],
    ) -> _Estimates:
        """Return what unpriced calls count: what is reserved for them, or an estimate."""
        unpriced = {
            call.event_id: (call, estimated)
            for call, found in zip(calls, windows, strict=True)
            if call.unpriced
            if (estimated := [w for w in found if w.budget.unpriced == "estimate"])
        }
        reserved: dict[tuple[str, str], int] = {}
        for some in chunks(list(unpriced)):
            query = sa.select(_r.event_id, _r.window_id, _r.amount).where(
                _r.event_id.in_(some)
            )
            with engine.connect() as connection:
                reserved |= {
                    (row.event_id, row.window_id): row.amount
                    for row in connection.execute(query)
                }
        return {
            event: {
                w.id: reserved[event, w.id]
                if (event, w.id) in reserved
                else unpriced_estimate(w.budget, call)
                for w in estimated
            }
            for event, (call, estimated) in unpriced.items()
        }

    def count(
        self, connection: sa.Connection, calls: Sequence[Call], prepared: Prepared
    ) -> list[Alert]:
        """Count calls in the transaction that inserts them, and settle reservations.

        :return: The alerts to send after the commit.
        """
        if self.alerts.webhook:
            for alert in prepared.call_alerts:
                enqueue(connection, alert)
        if not self.budgets:
            return [*prepared.call_alerts]
        changes = Changes(prepared.limits)
        kept = self._settle(connection, calls, prepared.estimates, changes)
        _insert_estimates(connection, calls, prepared.estimates, kept, changes)
        windows: dict[str, BudgetWindow] = {}
        costs: dict[str, list[tuple[int, Call]]] = {}
        for call, found in zip(calls, prepared.windows, strict=True):
            cost = 0 if call.cost is None else to_pico(call.cost.total_usd)
            for window in found:
                windows[window.id] = window
                changes.at(window.id).spent += cost
                costs.setdefault(window.id, []).append((cost, call))
        changes.write(connection)
        reached = self.alerts.reach(connection, windows, costs)
        return [*prepared.call_alerts, *reached]

    def _settle(
        self,
        connection: sa.Connection,
        calls: Sequence[Call],
        estimates: _Estimates,
        changes: Changes,
    ) -> set[tuple[str, str]]:
        """Replace the reservations of calls; return those kept as estimates."""
        kept: set[tuple[str, str]] = set()
        if not any(b.reserves or b.unpriced == "estimate" for b in self.budgets):
            return kept
        for some in chunks([call.event_id for call in calls]):
            settled = []
            for row in lock_reservations(connection, some):
                changes.remove(row)
                if row.window_id in estimates.get(row.event_id, ()):
                    kept.add((row.event_id, row.window_id))
                    changes.at(row.window_id).lost += row.amount
                else:
                    settled.append(row)
            delete_reservations(connection, settled)
        for event, window in sorted(kept):
            connection.execute(
                sa.update(budget_reservations)
                .where(_r.event_id == event, _r.window_id == window)
                .values(state="unpriced")
            )
        return kept

    def committed(self, calls: Iterable[Call], alerts: Iterable[Alert]) -> None:
        """Note after the commit that calls and alerts are stored."""
        self.alerts.pending.extend(alerts)
        if self.in_progress:
            for call in calls:
                self.in_progress.pop(call.event_id, None)

    def release_duplicates(self, engine: sa.Engine, event_ids: Iterable[str]) -> None:
        """Release what was reserved again for calls that the ledger already has."""
        missing = object()
        pop = t.cast(t.Any, self.in_progress.pop)
        ours = [event for event in event_ids if pop(event, missing) is not missing]
        if not ours:
            return
        with engine.begin() as connection:
            become_writer(connection)
            changes = Changes()
            rows = lock_reservations(connection, ours, "reserved")
            for row in rows:
                changes.remove(row)
            delete_reservations(connection, rows)
            changes.write(connection)

    def abandon(self, event_id: str) -> None:
        """Stop renewing the reservations of a call that cannot be stored."""
        self.in_progress.pop(event_id, None)

    # Changing stored calls

    def change(self, connection: sa.Connection, changed: Sequence[ChangedCost]) -> None:
        """Count changed costs, in the transaction that changes them."""
        if not self.budgets:
            return
        changes = Changes()
        for each in changed:
            for window in self.windows(
                each.provider, each.model, each.tags, each.started_at
            ):
                changes.at(window.id).spent += (each.after or 0) - (each.before or 0)
        priced = [each.event_id for each in changed if each.after is not None]
        for some in chunks(priced):
            rows = lock_reservations(connection, some, "unpriced")
            for row in rows:
                changes.remove(row)
            delete_reservations(connection, rows)
        changes.write(connection)

    def clear(self, connection: sa.Connection, since: dt.datetime | None) -> None:
        """Count again after calls were deleted.

        :param since: As for :meth:`.Audit.clear`.
        """
        self.audit.clear(connection, since)
        self.alerts.forget()


def _insert_estimates(
    connection: sa.Connection,
    calls: Sequence[Call],
    estimates: _Estimates,
    kept: Container[tuple[str, str]],
    changes: Changes,
) -> None:
    """Count unpriced calls at their estimates, except where a reservation is kept."""
    rows = []
    for call in calls:
        for window, amount in estimates.get(call.event_id, {}).items():
            if (call.event_id, window) in kept:
                continue
            changes.at(window).lost += amount
            rows.append(
                {
                    "event_id": call.event_id,
                    "window_id": window,
                    "amount": amount,
                    "state": "unpriced",
                    "expires_at": call.started_at,
                }
            )
    if rows:
        connection.execute(sa.insert(budget_reservations), rows)
