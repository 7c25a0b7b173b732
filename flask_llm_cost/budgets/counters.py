"""Counters of what was spent, which change together with the calls they count.

Each window of a budget is a row. Whoever inserts, reprices or deletes a call changes the
rows of its windows in the same transaction, so that the amount spent always equals the cost
of the calls, to the pico-dollar, whichever process crashes.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import sqlalchemy as sa

from ..call import Call
from ..db.budget_tables import budget_windows
from ..db.rows import tag_set_of
from ..db.statements import chunks
from ..money import floor_pico
from ..money import to_pico
from .alert import Alert
from .audit import Audit
from .changes import become_writer
from .changes import Changes
from .changes import delete_reservations
from .changes import insert_unsettled
from .changes import lock_reservations
from .changes import STATES
from .definition import Budget
from .definition import BudgetWindow
from .definition import model_of
from .definition import tags_of
from .last_seen import LastSeen
from .outbox import enqueue
from .policy import Policy
from .thresholds import Alerts
from .unsettled import Unsettled
from .unsettled import unsettled
from .window_rows import WindowRows

_w: t.Final = budget_windows.c

_Open: t.TypeAlias = Mapping[tuple[str, str], Unsettled]
"""What is unsettled, by event id and window."""


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
    unsettled: _Open = field(default_factory=dict)
    """What calls count whose true cost is not known."""
    call_alerts: Sequence[Alert] = ()
    """The alerts of calls that alone reach the limit of a budget per call."""


class ChangedCost(t.Protocol):
    """A stored call whose cost changed."""

    @property
    def call(self) -> Call:
        """As it is now, or was when it was deleted."""
        ...

    @property
    def before(self) -> int | None:
        """Its cost before, in pico-USD; ``None`` is unknown."""
        ...

    @property
    def deleted(self) -> bool: ...


class Counters:
    """The counters of one ledger's budgets."""

    def __init__(self, policy: Policy) -> None:
        self.budgets = tuple(b for b in policy.budgets if b.period != "call")
        self.audit = Audit(self.budgets)
        self.rows = WindowRows()
        self.seen = LastSeen()
        self.alerts = Alerts(self.seen, webhook=policy.send is not None)
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
        return self.limit_of(window.budget, window.tags, strict=strict)

    def limit_of(
        self, budget: Budget, tags: Mapping[str, str], *, strict: bool = False
    ) -> int | None:
        """Return :meth:`limit` for the tag values that a budget applies to."""
        limit = self._policy.limit(budget, tags, strict=strict)
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
        return Prepared(windows, limits, _open(calls, windows), call_alerts)

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
        counted = self._settle(connection, calls, prepared.unsettled, changes)
        windows: dict[str, BudgetWindow] = {}
        costs: dict[str, list[tuple[int, Call]]] = {}
        for call, found in zip(calls, prepared.windows, strict=True):
            cost = 0 if call.cost is None else to_pico(call.cost.total_usd)
            for window in found:
                windows[window.id] = window
                changes.at(window.id).spent += cost
                beyond = counted.get((call.event_id, window.id), 0)
                costs.setdefault(window.id, []).append((cost + beyond, call))
        changes.write(connection)
        reached = self.alerts.reach(connection, windows, costs)
        return [*prepared.call_alerts, *reached]

    def _settle(
        self,
        connection: sa.Connection,
        calls: Sequence[Call],
        unsettled: _Open,
        changes: Changes,
    ) -> Mapping[tuple[str, str], int]:
        """Replace the reservations of calls by what they count beyond their known cost."""
        held: dict[tuple[str, str], int] = {}
        if any(budget.reserves for budget in self.budgets):
            for some in chunks([call.event_id for call in calls]):
                rows = lock_reservations(connection, some)
                held |= _remove(connection, rows, changes)
        return _insert(connection, unsettled, held, changes)

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
        before: dict[str, int] = {}
        stored = [each.call for each in changed if not each.deleted]
        windows = {each.call.event_id: self.windows_of(each.call) for each in changed}
        for each in changed:
            cost = None if each.deleted else each.call.cost
            after = 0 if cost is None else to_pico(cost.total_usd)
            before[each.call.event_id] = each.before or 0
            for window in windows[each.call.event_id]:
                changes.at(window.id).spent += after - (each.before or 0)
        held: dict[tuple[str, str], int] = {}
        for some in chunks(list(before)):
            rows = lock_reservations(connection, some, STATES["unsettled"])
            held |= _remove(connection, rows, changes)
        unsettled = _open(stored, [windows[call.event_id] for call in stored])
        known = _existing(connection, {window for _, window in unsettled})
        _insert(
            connection,
            {key: each for key, each in unsettled.items() if key[1] in known},
            # As it was reserved: what is known now is a part of it.
            {key: amount + before[key[0]] for key, amount in held.items()},
            changes,
        )
        changes.write(connection)

    def clear(self, connection: sa.Connection, since: dt.datetime | None) -> None:
        """Count again after calls were deleted.

        :param since: As for :meth:`.Audit.clear`.
        """
        self.audit.clear(connection, since)
        self.alerts.forget()


def _open(
    calls: Iterable[Call], windows: Iterable[Iterable[BudgetWindow]]
) -> dict[tuple[str, str], Unsettled]:
    return {
        (call.event_id, window.id): each
        for call, found in zip(calls, windows, strict=True)
        if call.unsettled or call.unpriced
        for window in found
        if (each := unsettled(window.budget, call)) is not None
    }


def _remove(
    connection: sa.Connection, rows: Sequence[sa.Row[t.Any]], changes: Changes
) -> dict[tuple[str, str], int]:
    """Remove reservations; return their amounts."""
    for row in rows:
        changes.remove(row)
    delete_reservations(connection, rows)
    return {(row.event_id, row.window_id): row.amount for row in rows}


def _insert(
    connection: sa.Connection,
    unsettled: _Open,
    held: Mapping[tuple[str, str], int],
    changes: Changes,
) -> dict[tuple[str, str], int]:
    """Count what is unsettled; return the amounts.

    :param held: What was reserved for the calls.
    """
    amounts = {key: each.amount(held.get(key)) for key, each in unsettled.items()}
    for (_, window), amount in amounts.items():
        changes.at(window).unsettled += amount
    insert_unsettled(connection, amounts)
    return amounts


def _existing(connection: sa.Connection, windows: Iterable[str]) -> set[str]:
    """Return those of the windows that have a row."""
    found: set[str] = set()
    for some in chunks(sorted(windows)):
        query = sa.select(_w.id).where(_w.id.in_(some))
        found.update(connection.scalars(query))
    return found
