"""What a ledger is told of budgets, and what it does for them between batches."""

from __future__ import annotations

import logging
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..db.import_lock import loading
from . import Alert
from . import Budget

if t.TYPE_CHECKING:
    from ..db.engine import Engines
    from .counters import Counters
    from .outbox import Outbox
    from .reservations import Holds

_log = logging.getLogger("flask_llm_cost")

_TEND_SECONDS: t.Final = 20.0
_POST_SECONDS: t.Final = 5.0
_WAIT_SECONDS: t.Final = 10.0


@dataclass(frozen=True, slots=True)
class Budgeting:
    """The budgets of an app, and how it is told of them."""

    budgets: Sequence[Budget]
    limits: Callable[[Budget, Mapping[str, str]], Decimal | None]
    """What a budget allows, asked with whose it is. It must not raise."""
    told: Callable[[Alert], None]
    """Tells the app of an alert. It must not raise."""
    send: Callable[[str, bytes], None] | None = None
    """Posts an alert to the webhook, with its id; raises if it was not accepted."""
    asked: Callable[[Budget, Mapping[str, str]], Decimal | None] | None = None
    """As ``limits``, for a call that waits: may raise a ``StorageError``."""


class Budgets:
    """The budgets of one ledger, in one process."""

    def __init__(self, engines: Engines, budgeting: Budgeting) -> None:
        with loading():
            from .counters import Counters
            from .outbox import Outbox
            from .reservations import Holds

        self.counters: Counters = Counters(
            engines,
            budgeting.budgets,
            budgeting.limits,
            webhook=budgeting.send is not None,
            asked=budgeting.asked,
        )
        self.holds: Holds = Holds(engines, self.counters)
        self.outbox: Outbox = Outbox(engines)
        self.defined: Sequence[Budget] = budgeting.budgets
        self._engines = engines
        self._budgeting = budgeting
        self._telling = threading.RLock()
        self._tend_at = 0.0
        self._post_at = 0.0
        self._posting = threading.Lock()

    def mend(self) -> None:
        """Set every counter to what the ledger says."""
        self._engines.prepare()
        with self._engines.explained(), self._engines.writing().begin() as connection:
            self.counters.audit.mend(connection)

    def free(
        self,
        states: Sequence[str],
        *,
        name: str | None = None,
        event_id: str | None = None,
    ) -> int:
        """Free holds in these states, of a budget or of a call; how many there were."""
        self._engines.prepare()
        with self._engines.explained():
            return self.holds.free(states, name=name, event_id=event_id)

    def tell(self) -> None:
        """Tell the app of what was passed. Waits while another thread does so."""
        alerts = self.counters.alerts
        if not alerts.passed and not alerts.telling:
            return
        if not self._telling.acquire(timeout=_WAIT_SECONDS):
            return  # a callback takes its time, and goes on to tell the rest
        try:
            alerts.telling = True
            while alerts.passed:
                self._budgeting.told(alerts.passed.popleft())
                self._post_at = 0.0
        finally:
            alerts.telling = False
            self._telling.release()

    def work(self) -> None:
        """What is due between two batches. Never raises."""
        # The writer's loop: whatever goes wrong, it tries again the next time.
        try:
            self.tell()
            now = time.monotonic()
            if now >= self._tend_at and self._has_holds():
                self._tend_at = now + _TEND_SECONDS
                self.holds.tend()
            if now >= self._post_at and self._budgeting.send is not None:
                self._post_at = now + _POST_SECONDS
                self._post()
        except Exception as error:
            _log.warning("Budgets could not be looked after for now: %s", error)

    def _has_holds(self) -> bool:
        return any(budget.holds for budget in self._budgeting.budgets)

    def _post(self) -> None:
        """Deliver alerts on a thread of its own: a webhook may be slow."""
        if self._posting.acquire(blocking=False):
            thread = threading.Thread(
                target=self._deliver, name="llm-cost-webhook", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending: the next process does it
                self._posting.release()

    def _deliver(self) -> None:
        # A thread of ours: nobody else is there to say what went wrong.
        try:
            self.deliver()
        except Exception as error:
            _log.warning("Budget alerts cannot be delivered for now: %s", error)
        finally:
            self._posting.release()

    def deliver(self) -> int:
        """Deliver what the webhook is owed and is due; how many were."""
        if self._budgeting.send is None:
            return 0
        done, failed = self.outbox.deliver(self._budgeting.send)
        if failed is not None:
            _log.warning(
                "The webhook for budget alerts did not take one; it is tried again: %s",
                failed,
            )
        return done
