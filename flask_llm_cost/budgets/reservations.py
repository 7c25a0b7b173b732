"""Reservations: what a call may cost is reserved before it is sent, so that limits hold.

A reservation is one conditional UPDATE per window, in the order of the windows' ids, in one
transaction. It has a lease, which its process renews while the call is in progress, and is
settled in the transaction that inserts the call. Once its lease has expired it is lost: it
counts until the call's row arrives after all, or someone releases it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import math
import random
import time
import typing as t
from collections import deque
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import exc

from ..db.budget_tables import budget_reservations
from ..db.budget_tables import budget_windows
from ..db.engine import brief
from ..db.engine import Engines
from ..db.statements import chunks
from ..db.timeouts import current as time_limit
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
_LOOK_SECONDS: t.Final = 0.03
"""What is kept of a call's time to look whether its budget is spent."""
_SETTLE_SECONDS: t.Final = 0.25
"""How long a call waits for those before it to be settled, before it is refused: this, or
half of its time, which is usually less."""
_LAST_SECONDS: t.Final = 0.02
"""Nothing is tried again if less than this is left."""
_random: t.Final = random.SystemRandom()
"""Not the module's generator, which the app may have seeded."""
_log: t.Final = logging.getLogger("flask_llm_cost")
_w: t.Final = budget_windows.c
_r: t.Final = budget_reservations.c


class Reservations:
    """The reservations of one ledger's budgets.

    :param settle: Called once before a call is refused: settles the calls of this process
        that have ended, within some seconds. It returns false if there are none, and must
        not raise.
    """

    def __init__(
        self, engines: Engines, counters: Counters, settle: Callable[[float], bool]
    ) -> None:
        self._engines = engines
        self._settle = settle
        self._counters = counters
        self._doubtful: deque[str] = deque(maxlen=_MAX_DOUBTFUL)
        """Calls whose reservation may have been committed, though an error was raised."""
        self._owed: dict[str, Sequence[Reservation]] = {}
        """What calls would have reserved that were sent while the database was unavailable."""

    @property
    def _engine(self) -> sa.Engine:
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
        self._look_first([each.window for each in order], limits)
        try:
            alert = self._engines.run(
                lambda engine: self._decide(engine, event_id, order, limits),
                keep=_LOOK_SECONDS,
            )
        except BaseException:
            # It may have been committed: perhaps only the answer was lost, or it is
            # committed after this thread has stopped waiting, however it did so.
            self._doubtful.append(event_id)
            raise
        if alert is None:
            self._counters.in_progress[event_id] = None
        return alert

    def _look_first(
        self, windows: Sequence[BudgetWindow], limits: Mapping[str, int]
    ) -> None:
        """Look at windows that this process does not know: that waits for no lock."""
        unseen = [each for each in windows if each.id not in self._counters.seen]
        if not unseen:
            return
        self._engines.run(
            lambda engine: self._standings(engine, unseen, limits), writes=False
        )
        for each in unseen:
            if each.id not in self._counters.seen:  # it has no row yet
                unused = Standing.unused(each, limits[each.id])
                self._counters.seen.note(each.id, unused)

    def _decide(
        self,
        engine: sa.Engine,
        event_id: str,
        wanted: Sequence[Reservation],
        limits: Mapping[str, int],
    ) -> Alert | None:
        """Reserve on a thread of the engines', which has the call's time limit."""
        windows = [each.window for each in wanted]
        settle = self._settle
        for _ in range(3):
            self._counters.rows.ensure(engine, windows, limits)
            full = self._insist(engine, event_id, wanted, limits)
            if full is None:
                if not _left():  # the call may no longer be sent
                    self._doubtful.append(event_id)
                return None
            # If the time ends before the alert is raised, this is known at least.
            found = self._standings(engine, [full.window], limits)
            seconds = min(_SETTLE_SECONDS, _left() / 2)
            settle, settled = _nothing, settle(seconds)
            if settled:
                continue
            for standing in found:
                alert = Alert.of(standing, estimate_usd=from_pico(full.amount))
                self._record(engine, full.window, alert)
                return alert
            # The rows of the windows were deleted: create them again.
            self._counters.forget()
        raise StorageError("the rows of its budgets are missing")

    def _limits(self, windows: Iterable[BudgetWindow]) -> dict[str, int]:
        """Return the limits of windows, without those that have none."""
        found = {w.id: self._counters.limit(w, strict=True) for w in windows}
        return {key: limit for key, limit in found.items() if limit is not None}

    def _record(self, engine: sa.Engine, window: BudgetWindow, alert: Alert) -> None:
        """Record the alert of a refusal; the call is refused even if that fails."""
        try:
            self._counters.alerts.refuse(engine, window, alert)
        except exc.SQLAlchemyError as error:
            _log.warning(
                "An alert of the budget %r could not be recorded and will be retried at the"
                " next refused call: %s",
                window.budget.name,
                brief(error),
            )

    def _insist(
        self,
        engine: sa.Engine,
        event_id: str,
        wanted: Sequence[Reservation],
        limits: Mapping[str, int],
    ) -> Reservation | None:
        """Retry where the database asks for it, as after a deadlock."""
        for tries in reversed(range(_TRIES)):
            try:
                return self._reserve(engine, event_id, wanted, limits)
            except exc.IntegrityError:
                return None  # this very call has its reservation already
            except exc.OperationalError as error:
                # A deadlock is reported at once.
                late = not _may_retry()
                if not tries or late or error.connection_invalidated:
                    raise
                time.sleep(_random.uniform(0.001, 0.02))
        raise AssertionError("unreachable")

    def _reserve(
        self,
        engine: sa.Engine,
        event_id: str,
        wanted: Sequence[Reservation],
        limits: Mapping[str, int],
    ) -> Reservation | None:
        """Reserve in all windows; or return the first that has no room."""
        with engine.connect() as connection:
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
            _insert(connection, event_id, wanted)
            if _left():  # else its caller has decided without
                connection.commit()
        return None

    def _standings(
        self,
        engine: sa.Engine,
        windows: Sequence[BudgetWindow],
        limits: Mapping[str, int],
    ) -> list[Standing]:
        query = sa.select(budget_windows).where(_w.id.in_(sorted(limits)))
        with engine.connect() as connection:
            rows = {row.id: row for row in connection.execute(query)}
        found = []
        for window in windows:
            if window.id in rows and window.id in limits:
                standing = Standing.of(window, rows[window.id], limits[window.id])
                self._counters.seen.note(window.id, standing)
                found.append(standing)
        return found

    def standings(self, windows: Sequence[BudgetWindow]) -> list[Standing]:
        """Return the state of windows, without those that have no limit.

        :raises StorageError: If the database cannot be used.
        """
        limits = self._limits(windows)

        def look(engine: sa.Engine) -> list[Standing]:
            self._counters.rows.ensure(engine, windows, limits)
            return self._standings(engine, windows, limits)

        return self._engines.run(look, keep=_LOOK_SECONDS)

    def known_refusal(self, wanted: Sequence[Reservation]) -> Alert | None:
        """Return the alert of a window without room, though the database is unavailable.

        A database can often be read while another connection holds its lock.
        """
        # Another problem with the same database must not hide the first one.
        with contextlib.suppress(StorageError, exc.SQLAlchemyError):
            windows = [each.window for each in wanted]
            limits = self._limits(windows)
            with contextlib.suppress(StorageError, exc.SQLAlchemyError):
                self._engines.run(
                    lambda engine: self._standings(engine, windows, limits),
                    writes=False,
                    in_line=False,
                )
            return self._counters.seen.refusal(wanted, limits)
        return None

    def owe(self, event_id: str, wanted: Sequence[Reservation]) -> None:
        """Note that a call is sent though nothing could be reserved for it.

        :meth:`catch_up` does that, so that it counts for other calls as soon as possible.
        """
        if len(self._owed) < _MAX_DOUBTFUL:
            self._owed[event_id] = [
                each for each in wanted if each.window.budget.reserves
            ]
        self._counters.in_progress[event_id] = None

    def catch_up(self) -> None:
        """Reserve for calls that were sent without, and are still in progress.

        Where the database is still not available, that is retried the next time.
        """
        with contextlib.suppress(StorageError, exc.SQLAlchemyError):
            self._catch_up()

    def _catch_up(self) -> None:
        for event_id, wanted in list(self._owed.items()):
            limits = self._limits(each.window for each in wanted)
            wanted = [each for each in wanted if each.window.id in limits]
            if wanted and event_id in self._counters.in_progress:
                windows = [each.window for each in wanted]
                self._engines.prepare()
                self._counters.rows.ensure(self._engine, windows, limits)
                with contextlib.suppress(exc.IntegrityError):  # it has one already
                    self._add(event_id, wanted)
                # Its row may have been stored at the same time.
                self._doubtful.append(event_id)
            self._owed.pop(event_id, None)

    def _add(self, event_id: str, wanted: Sequence[Reservation]) -> None:
        """Reserve whether there is room or not: the call is sent."""
        changes = Changes()
        for each in wanted:
            changes.at(each.window.id).add("reserved", each.amount)
        with self._engine.begin() as connection:
            _insert(connection, event_id, wanted)
            changes.write(connection)

    # Leases

    def renew(self) -> None:
        """Renew the leases of this process's calls, and mark expired ones as lost."""
        self._engines.prepare()
        now = dt.datetime.now(dt.UTC)
        # First: all else may have to wait for a window that is locked.
        for some in chunks(sorted(self._counters.in_progress)):
            renew = (
                sa.update(budget_reservations)
                .where(_r.event_id.in_(some), _r.state == "reserved")
                .values(expires_at=now + LEASE)
            )
            with self._engine.begin() as connection:
                connection.execute(renew)
        for event_id in list(self._doubtful):
            # One that is in progress was sent anyway.
            if event_id not in self._counters.in_progress:
                self.release(["reserved"], event_id=event_id)
                with contextlib.suppress(ValueError):  # it made room for another
                    self._doubtful.remove(event_id)
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


def _nothing(seconds: float) -> bool:
    return False


def _left() -> float:
    """The seconds that the waiting call has left."""
    limit = time_limit()
    return math.inf if limit is None else limit.left


def _may_retry() -> bool:
    limit = time_limit()
    return limit is None or (limit.locks and limit.left >= _LAST_SECONDS)


def _insert(
    connection: sa.Connection, event_id: str, wanted: Sequence[Reservation]
) -> None:
    expires_at = dt.datetime.now(dt.UTC) + LEASE
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
