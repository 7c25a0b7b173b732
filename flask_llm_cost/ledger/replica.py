"""How far the replica that pages read from is behind the ledger."""

from __future__ import annotations

import datetime as dt
import time
import typing as t

import sqlalchemy as sa

from ..db.engine import Engines
from ..db.tables import calls
from ..errors import StorageError

_PAUSE_SECONDS: t.Final = 30.0


class Replica:
    """The replica of ``LLM_COST_READ_DATABASE_URI``."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._ask_at = 0.0

    def lag(self) -> dt.timedelta | None:
        """Return how much older its latest call is than the ledger's.

        :return: ``None`` if the ledger is empty, or one of the two cannot be reached.
        """
        if time.monotonic() < self._ask_at:
            return None
        try:
            latest, copied = self._latest(fresh=True), self._latest(fresh=False)
        except StorageError:
            # No page waits each time for a database that it does not need.
            self._ask_at = time.monotonic() + _PAUSE_SECONDS
            return None
        if latest is None:
            return None
        if copied is None:
            return dt.datetime.now(dt.UTC) - latest
        return max(latest - copied, dt.timedelta())

    def _latest(self, *, fresh: bool) -> dt.datetime | None:
        at = calls.c.started_at
        with self._engines.snapshot(fresh=fresh) as connection:
            found: dt.datetime | None = connection.scalar(
                sa.select(at).order_by(at.desc()).limit(1)
            )
        return found
