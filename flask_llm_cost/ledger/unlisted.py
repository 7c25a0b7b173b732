"""Counts the LLM calls to unlisted hosts, which are seen, but not recorded."""

from __future__ import annotations

import datetime as dt
import logging
import time
import typing as t
from collections import Counter
from collections import deque
from collections.abc import Callable

import sqlalchemy as sa

from ..calendar import DAY
from ..db.statements import insert_missing
from ..db.tables import unlisted_hosts
from ..interrupts import pass_on

if t.TYPE_CHECKING:
    from ..db.engine import Engines

_log = logging.getLogger("flask_llm_cost")

MOST_HOSTS: t.Final = 200
"""How many are counted one by one, however many an app calls."""

OTHERS: t.Final = ""
"""The name of all others."""

_LONGEST: t.Final = 255
_MOST_SEEN: t.Final = 10_000
_STORE_SECONDS: t.Final = 10.0
_KEPT: t.Final = 90 * DAY

_h: t.Final = unlisted_hosts.c


class UnlistedHosts:
    """Counts by host, in memory first and then in the ledger.

    :param engines: Returns the engines of the ledger.
    """

    def __init__(self, engines: Callable[[], Engines]) -> None:
        self._engines = engines
        # Appending takes no lock: a call may end in a signal handler.
        self._seen: deque[str] = deque()
        self._counts: Counter[str] = Counter()
        self._store_at = 0.0

    def add(self, host: str) -> None:
        """Count a call."""
        if len(self._seen) < _MOST_SEEN:
            self._seen.append(host)

    def store(self, *, now: bool = False) -> None:
        """Add what was counted to the ledger, every few seconds. Never raises.

        :param now: Do not wait, unless it has just failed.
        """
        self._sum_up()
        wait = self._store_at - time.monotonic()
        if not self._counts or wait > (_STORE_SECONDS if now else 0):
            return
        self._store_at = time.monotonic() + _STORE_SECONDS
        counts, self._counts = self._counts, Counter()
        # Whatever a database raises: these are hints, and the writer has calls to store.
        try:
            self._add_to_ledger(counts)
        except Exception as error:
            pass_on(error)
            self._counts += counts
            self._store_at += 5 * _STORE_SECONDS
            _log.debug("Unlisted hosts cannot be stored for now: %s", error)

    def _sum_up(self) -> None:
        while self._seen:
            try:
                host = self._seen.popleft()[:_LONGEST]
            except IndexError:
                return  # another thread took the last one
            new = host not in self._counts
            full = new and len(self._counts) >= MOST_HOSTS
            self._counts[OTHERS if full else host] += 1

    def _add_to_ledger(self, counts: Counter[str]) -> None:
        engines = self._engines()
        engine = engines.writing()
        engines.prepare(engine)
        at = dt.datetime.now(dt.UTC)
        with engines.explained(), engine.begin() as connection:
            known = set(connection.scalars(sa.select(_h.host)))
            room = MOST_HOSTS - len(known)
            new = sorted(counts.keys() - known - {OTHERS})
            others = new[max(0, room) :]
            rows = counts - Counter({host: counts[host] for host in others})
            rows[OTHERS] += sum(counts[host] for host in others)
            # In the same order in every process, or two could deadlock.
            for host in sorted(host for host in rows if rows[host]):
                _add(connection, host, rows[host], at)
            connection.execute(sa.delete(unlisted_hosts).where(_h.seen_at < at - _KEPT))


def _add(connection: sa.Connection, host: str, calls: int, at: dt.datetime) -> None:
    values = {"host": host, "calls": 0, "seen_at": at}
    insert_missing(connection, unlisted_hosts, [values])
    connection.execute(
        sa.update(unlisted_hosts)
        .where(_h.host == host)
        .values(calls=_h.calls + calls, seen_at=at)
    )
