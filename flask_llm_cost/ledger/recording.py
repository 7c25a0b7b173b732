"""How a call is recorded: through the spool or at once, or the other way if one fails."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Callable

from ..call import Call
from ..errors import StorageError
from ..interrupts import pass_on
from ..storage import caused_by
from ..storage import Reporter
from .queue import Queue

if t.TYPE_CHECKING:
    from .store import Store

_RETRY_SECONDS: t.Final = 5.0
_SYNC_SECONDS: t.Final = 5.0
"""How long ``WRITE="sync"`` waits for a server. A locked SQLite file is waited for less."""


class Recording:
    """Records the calls of one process.

    :param store: Returns the store; first called when there is something to write.
    :param sync: Write each call to the database at once.
    """

    def __init__(
        self,
        queue: Queue,
        reporter: Reporter,
        store: Callable[[], Store],
        *,
        sync: bool,
    ) -> None:
        self._queue = queue
        self._reporter = reporter
        self._store = store
        self._sync = sync
        self._write_at = 0.0
        self._rescued = False

    def append(self, call: Call, *, now: bool) -> bool:
        """Do as :meth:`.Storage.append`."""
        # The app's request continues, whatever happens in here.
        try:
            if (now or self._sync) and self._write_now(call):
                return True
            self._queue.append(call)
        except OSError as error:
            pass_on(error)
            self._rescue(call, error)
        except Exception as error:
            pass_on(error)
            self._reporter.lose(call, error)
        return False

    def _write_now(self, call: Call) -> bool:
        """Write a call to the database; if that fails, leave it for the spool."""
        if time.monotonic() < self._write_at:
            return False
        try:
            self._write(call, _SYNC_SECONDS if self._sync else None)
        except Exception as error:
            pass_on(error)
            self._reporter.report(None, error)
            return False
        return True

    def _write(self, call: Call, seconds: float | None = None) -> None:
        """Write a call to the database.

        :param seconds: As for :meth:`.Store.write`.
        """
        if time.monotonic() < self._write_at:
            raise StorageError("The database could not be written a moment ago.")
        try:
            stored = self._store().write([call], now=True, seconds=seconds)
        except Exception:
            # Otherwise each call would wait for a database that is unavailable.
            self._write_at = time.monotonic() + _RETRY_SECONDS
            raise
        self._queue.writer.wrote()
        for _, reason in stored.rejected:
            self._queue.reject(call, reason)
            self._reporter.report(call, StorageError(f"A call was rejected: {reason}"))

    def _rescue(self, call: Call, error: OSError) -> None:
        """The spool cannot be written: a full disk, or a folder that is read-only."""
        why = (
            f"The spool in {self._queue.folder} cannot be written"
            f" ({error.strerror or error}). Free some space, or set LLM_COST_SPOOL_DIR to"
            " a folder that the app may write to."
        )
        try:
            self._write(call)
        except Exception as second:
            pass_on(second)
            lost = f"A call was lost. {why} ({second})"
            self._reporter.lose(call, caused_by(second, lost))
        else:
            if not self._rescued:
                why += " Until then, each call is written to the database at once."
                self._reporter.report(None, caused_by(error, why))
            self._rescued = True
