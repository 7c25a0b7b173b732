"""Reservations: what a call may cost is reserved before it is sent, so that limits hold.

A reservation is one conditional UPDATE per window, in the order of the windows' ids, in one
transaction. It has a lease, which its process renews while the call is in progress, and is
settled in the transaction that inserts the call. Once its lease has expired it is lost: it
counts until the call's row arrives after all, or someone releases it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import logging
import random
import threading
import time
import typing as t
from collections import deque
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import exc

from ..db.engine import brief
from ..db.engine import Engines
from ..db.statements import chunks
from ..db.tables import budget_reservations
from ..db.tables import budget_windows
from ..errors import StorageError
from ..money import from_pico
from .alert import Alert
from .changes import Changes
from .counters import Counters
from .definition import BudgetWindow
from .definition import Reservation
from .standing import Standing

LEASE: t.Final = dt.timedelta(seconds=120)
_MAX_DOUBTFUL: t.Final = 1000
_TRIES: t.Final = 5
_RETRY_S: t.Final = 1.0
_TURN_S: t.Final = 2.0
_LOCK_S: t.Final = 0.1
"""What failed on SQLite after a longer time waited for a lock in vain."""
_random: t.Final = random.SystemRandom()
"""Not the module's generator, which the app may have seeded."""
_log: t.Final = logging.getLogger("flask_llm_cost")
_w: t.Final = budget_windows.c
_r: t.Final = budget_reservations.c


def _nothing() -> bool:
    return False


class Reservations:
    """The reservations of one ledger's budgets.

    :param settle: Called once before a call is refused: settles the calls of this process
        that have ended. It returns false if there are none, and must not raise.
    """

    def __init__(
        self, engines: Engines, counters: Counters, settle: Callable[[], bool]
    ) -> None:
        self._engines = engines
        self._settle = settle
        self._counters = counters
        self._turns = threading.RLock()
        self._spent_up: dict[str, Standing] = {}
        """Windows that were spent when they were last seen, by id."""
        self._doubtful: deque[str] = deque(maxlen=_MAX_DOUBTFUL)
        """Calls whose reservation may have been committed, though an error was raised."""

    @property
    def _engine(self) -> sa.Engine:
        # Callers wait: use the pool with the short timeout.
        return self._engines.reading()

    def reserve(self, event_id: str, wanted: Sequence[Reservation]) -> Alert | None:
        """Reserve what a call may cost, in all of its windows or in none.

        :return: The alert of the window that has no room; ``None`` if the call may be sent.
        :raises StorageError: If the database does not answer.
        """
        # Before the transaction: it is the app's own code, which may write to this database.
        limits = self._limits(each.window for each in wanted)
        order = sorted(
            (each for each in wanted if each.window.id in limits),
            key=lambda each: each.window.id,
        )
        if not order:
            return None
        with self._engines.time_limited():
            self._engines.prepare()
            with self._engines.explained():
                return self._decide(event_id, order, limits)

    def _decide(
        self, event_id: str, wanted: Sequence[Reservation], limits: Mapping[str, int]
    ) -> Alert | None:
        settle = self._settle
        for _ in range(3):
            try:
                with self._turn():
                    self._counters.rows.ensure(
                        self._engine, [each.window for each in wanted], limits
                    )
                    full = self._insist(event_id, wanted, limits)
            except exc.SQLAlchemyError:
                # It may have been committed: perhaps only the answer was lost.
                self._doubtful.append(event_id)
                raise
            if full is None:
                self._counters.in_progress[event_id] = None
                return None
            settle, settled = _nothing, settle()
            if settled:
                continue
            for standing in self._standings([full.window], limits):
                alert = Alert.of(standing, estimate_usd=from_pico(full.amount))
                self._record(full.window, alert)
                return alert
            # The rows of the windows were deleted: create them again.
            self._counters.forget()
        raise StorageError("the rows of its budgets are missing")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """On SQLite, let threads write one after the other.

        They would wait for its lock, whose order is random: some would wait too long.
        """
        if self._engine.dialect.name != "sqlite":
            yield
            return
        held = self._turns.acquire(timeout=_TURN_S)
        try:
            yield
        finally:
            if held:
                self._turns.release()

    def _limits(self, windows: Iterable[BudgetWindow]) -> dict[str, int]:
        """Return the limits of windows, without those that have none."""
        found = {w.id: self._counters.limit(w, strict=True) for w in windows}
        return {key: limit for key, limit in found.items() if limit is not None}

    def _record(self, window: BudgetWindow, alert: Alert) -> None:
        """Record the alert of a refusal; the call is refused even if that fails."""
        try:
            self._counters.alerts.refuse(self._engine, window, alert)
        except exc.SQLAlchemyError as error:
            _log.warning(
                "An alert of the budget %r could not be recorded and will be retried at the"
                " next refused call: %s",
                window.budget.name,
                brief(error),
            )

    def _insist(
        self, event_id: str, wanted: Sequence[Reservation], limits: Mapping[str, int]
    ) -> Reservation | None:
        """Retry where the database asks for it, as after a deadlock."""
        sqlite = self._engine.dialect.name == "sqlite"
        until = time.monotonic() + _RETRY_S
        for left in reversed(range(_TRIES)):
            began = time.monotonic()
            try:
                return self._reserve(event_id, wanted, limits)
            except exc.IntegrityError:
                return None  # this very call has its reservation already
            except exc.OperationalError as error:
                # A deadlock is reported at once; a lock timeout is not, and is not retried.
                now = time.monotonic()
                late = now > until or (sqlite and now - began > _LOCK_S)
                if not left or late or error.connection_invalidated:
                    raise
                time.sleep(_random.uniform(0.001, 0.02))
        raise AssertionError("unreachable")

    def _reserve(
        self, event_id: str, wanted: Sequence[Reservation], limits: Mapping[str, int]
    ) -> Reservation | None:
        """Reserve in all windows; or return the first that has no room."""
        expires_at = dt.datetime.now(dt.UTC) + LEASE
        with self._engine.connect() as connection:
            for each in wanted:
                limit = limits[each.window.id]
                room = limit - each.amount
                changed = connection.execute(
                    sa.update(budget_windows)
                    .where(
                        _w.id == each.window.id,
                        # Written so that no sum exceeds BIGINT.
                        _w.spent <= room - _w.reserved - _w.lost - _w.unsettled,
                        _w.spent < limit - _w.reserved - _w.lost - _w.unsettled,
                    )
                    .values(reserved=_w.reserved + each.amount, allowed=limit)
                )
                if changed.rowcount != 1:
                    connection.rollback()
                    return each
            connection.execute(
                sa.insert(budget_reservations),
                [
                    {
                        "event_id": event_id,
                        "window_id": each.window.id,
                        "amount": each.amount,
                        "state": "reserved",
                        "expires_at": expires_at,
                    }
                    for each in wanted
                ],
            )
            connection.commit()
        return None

    def _standings(
        self, windows: Sequence[BudgetWindow], limits: Mapping[str, int]
    ) -> list[Standing]:
        query = sa.select(budget_windows).where(_w.id.in_(sorted(limits)))
        with self._engine.connect() as connection:
            rows = {row.id: row for row in connection.execute(query)}
        found = []
        for window in windows:
            if window.id in rows and window.id in limits:
                standing = Standing.of(window, rows[window.id], limits[window.id])
                self._remember(window, standing)
                found.append(standing)
        return found

    def _remember(self, window: BudgetWindow, standing: Standing) -> None:
        if not standing.spent_up:
            self._spent_up.pop(window.id, None)
            return
        if len(self._spent_up) >= _MAX_DOUBTFUL:
            self._spent_up.clear()
        self._spent_up[window.id] = standing

    def known_spent(self, windows: Sequence[BudgetWindow]) -> Standing | None:
        """Return a window that is known to be spent, though the database is unavailable.

        SQLite can still be read while another connection holds its lock.
        """
        # Another problem with the same database must not hide the first one.
        with contextlib.suppress(StorageError, exc.SQLAlchemyError):
            limits = self._limits(windows)
            if self._engine.dialect.name == "sqlite":
                with self._engines.time_limited(), self._engines.explained():
                    self._standings(windows, limits)
            for window in windows:
                known = self._spent_up.get(window.id)
                if known is not None and window.id in limits:
                    now = dataclasses.replace(known, limit=limits[window.id])
                    if now.spent_up:
                        return now
        return None

    def standings(self, windows: Sequence[BudgetWindow]) -> list[Standing]:
        """Return how windows stand, without those that have no limit.

        :raises StorageError: If the database cannot be used.
        """
        limits = self._limits(windows)
        with self._engines.time_limited():
            self._engines.prepare()
            with self._engines.explained():
                self._counters.rows.ensure(self._engine, windows, limits)
                return self._standings(windows, limits)

    # Leases

    def renew(self) -> None:
        """Renew the leases of this process's calls, and mark expired ones as lost."""
        self._engines.prepare()
        while self._doubtful:
            self.release(["reserved"], event_id=self._doubtful[0])
            self._doubtful.popleft()
        now = dt.datetime.now(dt.UTC)
        for some in chunks(sorted(self._counters.in_progress)):
            renew = (
                sa.update(budget_reservations)
                .where(_r.event_id.in_(some), _r.state == "reserved")
                .values(expires_at=now + LEASE)
            )
            with self._engine.begin() as connection:
                connection.execute(renew)
        self.expire(now)

    def expire(self, now: dt.datetime) -> int:
        """Mark reservations as lost whose lease has expired; return their number."""
        query = (
            sa.select(budget_reservations)
            .where(_r.state == "reserved", _r.expires_at < now)
            .order_by(_r.event_id, _r.window_id)
            .limit(1000)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        # It may have been renewed meanwhile.
        expired = sa.update(budget_reservations).where(_r.expires_at < now)
        lose = expired.values(state="lost")
        return sum(self._apply(lose, row, state="lost") for row in rows)

    def release(
        self,
        states: Sequence[str],
        *,
        name: str | None = None,
        event_id: str | None = None,
    ) -> int:
        """Release reservations in these states; return their number.

        :param name: Only those of the budget of this name.
        :param event_id: Only those of this call.
        """
        query = sa.select(budget_reservations).where(_r.state.in_(states))
        if name is not None:
            windows = sa.select(_w.id).where(_w.name == name)
            query = query.where(_r.window_id.in_(windows))
        if event_id is not None:
            query = query.where(_r.event_id == event_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(_r.event_id, _r.window_id)).all()
        return sum(self._apply(sa.delete(budget_reservations), row) for row in rows)

    def _apply(
        self,
        change: sa.Update | sa.Delete,
        row: sa.Row[t.Any],
        *,
        state: str | None = None,
    ) -> int:
        """Change or delete a reservation, unless its state changed since it was read."""
        change = change.where(
            _r.event_id == row.event_id,
            _r.window_id == row.window_id,
            _r.state == row.state,
        )
        # One reservation per transaction, so that it never waits for another.
        with self._engine.begin() as connection:
            changed = connection.execute(change).rowcount
            if changed:
                changes = Changes()
                changes.remove(row)
                if state is not None:
                    changes.at(row.window_id).add(state, row.amount)
                changes.write(connection)
        return changed
