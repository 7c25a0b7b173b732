"""The budgets of one ledger: counters, reservations, alerts, and their maintenance."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Sequence

from ..db.import_lock import loading
from ..interrupts import Busy
from ..interrupts import pass_on
from ..interrupts import within
from .definition import Budget
from .policy import Policy

if t.TYPE_CHECKING:
    import sqlalchemy as sa

    from ..call import Call
    from ..db.engine import Engines
    from .counters import Counters
    from .outbox import Outbox
    from .reservations import Reservations
    from .standing import Ended
    from .standing import Standing

_log = logging.getLogger("flask_llm_cost")

_RENEW_SECONDS: t.Final = 20.0
_POST_SECONDS: t.Final = 5.0
_WAIT_SECONDS: t.Final = 10.0


class Budgets:
    """What one ledger stores of an app's budgets, as seen by one process.

    :param settle: As for :class:`.Reservations`.
    """

    def __init__(
        self,
        engines: Engines,
        policy: Policy,
        *,
        settle: Callable[[float], bool] = lambda seconds: False,
    ) -> None:
        with loading():
            from .counters import Counters
            from .outbox import Outbox
            from .reservations import Reservations

        self.definitions: Sequence[Budget] = policy.budgets
        self.counters: Counters = Counters(policy)
        self.reservations: Reservations = Reservations(engines, self.counters, settle)
        self._outbox: Outbox = Outbox(engines)
        self._engines = engines
        self._policy = policy
        self._notifying = threading.RLock()
        self._posting = threading.Lock()
        self._renew_at = 0.0
        self._post_at = 0.0

    def holds(self, call: Call) -> bool:
        """Whether a reservation of this process waits for a call."""
        return call.event_id in self.counters.in_progress

    # Pages and commands

    def standings(
        self,
        connection: sa.Connection,
        now: dt.datetime,
        *,
        name: str | None = None,
        most: int = 50,
        ended: Ended = "none",
    ) -> tuple[Standing, ...]:
        """Return the state of the current windows of the budgets, the most used first.

        :param name: Only those of one budget.
        :param most: The maximum number of windows of one budget.
        :param ended: As for :func:`.standings`.
        """
        from .standing import standings

        chosen = [b for b in self.definitions if name in (None, b.name)]
        limit = self.counters.limit_of
        return standings(connection, chosen, now, limit, most=most, ended=ended)

    def verify(self, connection: sa.Connection) -> tuple[list[str], int]:
        """Compare the counters with the ledger.

        :return: The differences, one line each, and how many windows are unverifiable.
        """
        return self.counters.audit.verify(connection)

    def repair(self) -> None:
        """Set every counter to what the ledger says."""
        self._engines.prepare()
        with self._engines.explained(), self._engines.writing().begin() as connection:
            self.counters.audit.repair(connection)

    def release(self, *, name: str | None = None, event_id: str | None = None) -> int:
        """Release the lost and unsettled amounts of a budget, or all of a call.

        :return: The number of reservations.
        """
        states = ["lost", "open"]
        if event_id is not None:
            states.append("reserved")
        self._engines.prepare()
        with self._engines.explained():
            return self.reservations.release(states, name=name, event_id=event_id)

    # Maintenance

    def notify(self) -> None:
        """Notify the app of pending alerts. Waits while another thread does so."""
        alerts = self.counters.alerts
        if not alerts.pending and not alerts.notifying:
            return
        # If a callback is slow, its thread notifies the app of the rest.
        with contextlib.suppress(Busy), within(self._notifying, _WAIT_SECONDS):
            try:
                alerts.notifying = True
                while alerts.pending:
                    self._policy.notify(alerts.pending.popleft())
                    self._post_at = 0.0
            finally:
                alerts.notifying = False

    def maintain(self) -> None:
        """Do what is due between two batches of the writer. Never raises."""
        # The writer's loop: whatever fails is retried the next time.
        try:
            self.notify()
            now = time.monotonic()
            self.keep_leases()
            self.reservations.catch_up()
            if now >= self._post_at and self._policy.send is not None:
                self._post_at = now + _POST_SECONDS
                self._post()
        except Exception as error:
            pass_on(error)
            _log.warning("Budget maintenance failed and will be retried: %s", error)

    def keep_leases(self) -> None:
        """Renew leases if it is time, even during a long drain. Never raises."""
        now = time.monotonic()
        if now < self._renew_at or not any(b.reserves for b in self.definitions):
            return
        self._renew_at = now + _RENEW_SECONDS
        # As in the writer's loop: it is retried.
        try:
            self.reservations.renew()
        except Exception as error:
            pass_on(error)
            _log.warning("Leases cannot be renewed and will be retried: %s", error)

    def _post(self) -> None:
        """Deliver alerts on a separate thread, since the webhook may be slow."""
        if not self._posting.locked():
            thread = threading.Thread(
                target=self._deliver, name="llm-cost-webhook", daemon=True
            )
            # If the interpreter is exiting, the next process delivers.
            with contextlib.suppress(RuntimeError):
                thread.start()

    def _deliver(self) -> None:
        # Nothing else would report an exception in this thread.
        try:
            with contextlib.suppress(Busy), within(self._posting, 0):
                self.deliver()
        except Exception as error:
            _log.warning("Budget alerts cannot be delivered: %s", error)

    def deliver(self) -> int:
        """Post the alerts that are due to the webhook; return the number accepted."""
        if self._policy.send is None:
            return 0
        delivered, failed = self._outbox.deliver(self._policy.send)
        if failed is not None:
            _log.warning(
                "Alert delivery to the webhook failed and will be retried: %s", failed
            )
        return delivered
