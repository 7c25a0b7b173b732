"""Holds: what a call may cost is set aside before it is sent, so that the limit holds.

A hold is taken by one conditional UPDATE for each window, in the order of their ids, in
one transaction. It has a lease, which its process renews while the call is under way. It
is settled in the transaction that inserts the call. A hold whose lease ran out is lost:
it counts until the call's row comes after all, or someone frees it.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import time
import typing as t
from collections import deque
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc

from ..db.engine import brief
from ..db.engine import Engines
from ..db.tables import budget_reservations
from ..db.tables import budget_windows
from ..errors import StorageError
from ..rollups.sums import chunks
from .counters import Counters
from .share import Share

LEASE: t.Final = dt.timedelta(seconds=120)
_MOST_DOUBTFUL: t.Final = 1000
_TRIES: t.Final = 5
_PATIENCE_S: t.Final = 1.0
_random: t.Final = random.SystemRandom()
"""Not the module's, which an app may have seeded to draw the same numbers again."""
_log: t.Final = logging.getLogger("flask_llm_cost")
_w: t.Final = budget_windows.c
_h: t.Final = budget_reservations.c


@dataclass(frozen=True, slots=True)
class Standing:
    """How one window stands, in pico-USD."""

    share: Share
    allowed: int
    spent: int
    held: int
    lost: int

    @property
    def exceeded(self) -> bool:
        """Whether nothing is left."""
        return self.spent + self.held + self.lost >= self.allowed


class Ask(t.NamedTuple):
    """What one call may cost, in pico-USD, and in which window."""

    share: Share
    amount: int


class Holds:
    """The holds of one ledger's budgets."""

    def __init__(self, engines: Engines, counters: Counters) -> None:
        self._engines = engines
        self._counters = counters
        self._doubtful: deque[str] = deque(maxlen=_MOST_DOUBTFUL)
        """Calls whose hold may have been taken, though nobody was told."""

    @property
    def _engine(self) -> sa.Engine:
        # A caller waits for it: the pool that gives up soon.
        return self._engines.reading()

    def take(self, event_id: str, asks: Sequence[Ask]) -> Standing | None:
        """Set aside what a call may cost, in all of its windows or in none.

        :return: The window that refused it; ``None`` if it may be sent.
        :raises StorageError: If that cannot be told.
        """
        # Before the transaction: it is the app's own code, which may write to this database.
        limits = self._limits(ask.share for ask in asks)
        order = sorted(
            (ask for ask in asks if ask.share.id in limits),
            key=lambda ask: ask.share.id,
        )
        if not order:
            return None
        with self._engines.hurried():
            self._engines.prepare()
            with self._engines.explained():
                return self._decide(event_id, order, limits)

    def _decide(
        self, event_id: str, asks: Sequence[Ask], limits: Mapping[str, int]
    ) -> Standing | None:
        for _ in range(2):
            self._counters.windows.ensure(
                self._engine, [ask.share for ask in asks], limits
            )
            try:
                refused = self._insist(event_id, asks, limits)
            except exc.SQLAlchemyError:
                # Its answer may be what was lost.
                self._doubtful.append(event_id)
                raise
            if refused is None:
                self._counters.under_way[event_id] = None
                return None
            for standing in self._standing([refused.share], limits):
                self._say(standing, refused.amount)
                return standing
            # The windows were cleared: they begin anew.
            self._counters.forget()
        raise StorageError("the windows of its budgets are gone")

    def _limits(self, shares: Iterable[Share]) -> dict[str, int]:
        """What windows allow; those without a limit are left out."""
        found = {share.id: self._counters.asked(share) for share in shares}
        return {key: allowed for key, allowed in found.items() if allowed is not None}

    def _say(self, standing: Standing, amount: int) -> None:
        """Take down that a window refused a call: it is refused, come what may."""
        try:
            self._counters.alerts.refused(
                self._engine, standing.share, standing, amount
            )
        except exc.SQLAlchemyError as error:
            _log.warning(
                "That the budget %r refuses calls could not be taken down; the next that it"
                " refuses tries again: %s",
                standing.share.budget.name,
                brief(error),
            )

    def _insist(
        self, event_id: str, asks: Sequence[Ask], limits: Mapping[str, int]
    ) -> Ask | None:
        """Take it, also where the database asks to try again, as after a deadlock."""
        until = time.monotonic() + _PATIENCE_S
        for left in reversed(range(_TRIES)):
            try:
                return self._take(event_id, asks, limits)
            except exc.IntegrityError:
                return None  # this very call has its hold already
            except exc.OperationalError as error:
                # A lock that was waited for in vain is not a deadlock, which is told at once.
                late = time.monotonic() > until
                if not left or late or error.connection_invalidated:
                    raise
                time.sleep(_random.uniform(0.001, 0.02))
        raise AssertionError("unreachable")

    def _take(
        self, event_id: str, asks: Sequence[Ask], limits: Mapping[str, int]
    ) -> Ask | None:
        expires_at = dt.datetime.now(dt.UTC) + LEASE
        with self._engine.connect() as connection:
            for ask in asks:
                allowed = limits[ask.share.id]
                room = allowed - ask.amount
                taken = connection.execute(
                    sa.update(budget_windows)
                    .where(
                        _w.id == ask.share.id,
                        # Written so that no sum leaves BIGINT.
                        _w.spent <= room - _w.reserved - _w.lost,
                        _w.spent < allowed - _w.reserved - _w.lost,
                    )
                    .values(reserved=_w.reserved + ask.amount, allowed=allowed)
                )
                if taken.rowcount != 1:
                    connection.rollback()
                    return ask
            connection.execute(
                sa.insert(budget_reservations),
                [
                    {
                        "event_id": event_id,
                        "window_id": ask.share.id,
                        "amount": ask.amount,
                        "state": "held",
                        "expires_at": expires_at,
                    }
                    for ask in asks
                ],
            )
            connection.commit()
        return None

    def _standing(
        self, shares: Sequence[Share], limits: Mapping[str, int]
    ) -> list[Standing]:
        query = sa.select(budget_windows).where(_w.id.in_(sorted(limits)))
        found = []
        with self._engine.connect() as connection:
            rows = {row.id: row for row in connection.execute(query)}
        for share in shares:
            row, allowed = rows.get(share.id), limits.get(share.id)
            if row is not None and allowed is not None:
                found.append(
                    Standing(share, allowed, row.spent, row.reserved, row.lost)
                )
        return found

    def look(self, shares: Sequence[Share]) -> list[Standing]:
        """How windows stand, which may not be there yet; those without a limit are left out.

        :raises StorageError: If the database is away, or its tables are.
        """
        limits = self._limits(shares)
        with self._engines.hurried():
            self._engines.prepare()
            with self._engines.explained():
                self._counters.windows.ensure(self._engine, shares, limits)
                return self._standing(shares, limits)

    # Leases

    def tend(self) -> None:
        """Renew the leases of this process's calls, and let those that ran out be lost."""
        while self._doubtful:
            self.free(["held"], event_id=self._doubtful[0])
            self._doubtful.popleft()
        now = dt.datetime.now(dt.UTC)
        events = sorted(self._counters.under_way)
        for some in chunks(events):
            renew = (
                sa.update(budget_reservations)
                .where(_h.event_id.in_(some), _h.state == "held")
                .values(expires_at=now + LEASE)
            )
            with self._engine.begin() as connection:
                connection.execute(renew)
        self.sweep(now)

    def sweep(self, now: dt.datetime) -> int:
        """Let holds be lost whose lease ran out; how many there were."""
        query = (
            sa.select(_h.event_id, _h.window_id, _h.amount)
            .where(_h.state == "held", _h.expires_at < now)
            .order_by(_h.event_id, _h.window_id)
            .limit(1000)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return sum(self._lose(row, now) for row in rows)

    def _lose(self, row: t.Any, now: dt.datetime) -> int:
        # One hold in one transaction, which so waits for no other hold.
        with self._engine.begin() as connection:
            lost = connection.execute(
                sa.update(budget_reservations)
                .where(
                    _h.event_id == row.event_id,
                    _h.window_id == row.window_id,
                    _h.state == "held",
                    # It may have been renewed meanwhile.
                    _h.expires_at < now,
                )
                .values(state="lost")
            ).rowcount
            if lost:
                connection.execute(
                    sa.update(budget_windows)
                    .where(_w.id == row.window_id)
                    .values(
                        reserved=_w.reserved - row.amount, lost=_w.lost + row.amount
                    )
                )
        return lost

    def free(
        self,
        states: Sequence[str],
        *,
        name: str | None = None,
        event_id: str | None = None,
    ) -> int:
        """Free holds in these states, of a budget or of a call; how many there were."""
        query = sa.select(_h.event_id, _h.window_id, _h.amount, _h.state).where(
            _h.state.in_(states)
        )
        if name is not None:
            windows = sa.select(_w.id).where(_w.name == name)
            query = query.where(_h.window_id.in_(windows))
        if event_id is not None:
            query = query.where(_h.event_id == event_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(_h.event_id, _h.window_id)).all()
        return sum(self._free(row) for row in rows)

    def _free(self, row: t.Any) -> int:
        column = _w.reserved if row.state == "held" else _w.lost
        with self._engine.begin() as connection:
            freed = connection.execute(
                sa.delete(budget_reservations).where(
                    _h.event_id == row.event_id,
                    _h.window_id == row.window_id,
                    _h.state == row.state,
                )
            ).rowcount
            if freed:
                connection.execute(
                    sa.update(budget_windows)
                    .where(_w.id == row.window_id)
                    .values({column.name: column - row.amount})
                )
        return freed
