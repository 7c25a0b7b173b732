"""What is done with an app's ended calls: price, store, and notify the app."""

from __future__ import annotations

import logging
import threading
import time
import typing as t
from collections import deque

from . import signals
from .errors import LlmCostError
from .errors import StorageError
from .errors import UnknownPrice
from .interrupts import of_signal
from .storage import caused_by
from .tags import TRACE_KEY

if t.TYPE_CHECKING:
    from .call import Call
    from .errors import BudgetExceeded
    from .state import AppState
    from .state import Origin

_log = logging.getLogger("flask_llm_cost")
_calls_log = logging.getLogger("flask_llm_cost.calls")

_LOG_INTERVAL_S: t.Final = 10.0
"""At most one storage failure is logged in this time, with the count of the others."""

_MAX_WARNED: t.Final = 1000
"""How many models are remembered as warned about. Their names come from outside."""


class Intake:
    """The steps of an ended call, which :class:`.LlmCost` takes in order.

    :param state: The app's.
    """

    def __init__(self, state: AppState) -> None:
        self.pending_error: LlmCostError | None = None
        """An error that a setting asks to raise, waiting for the next send."""
        self._state = state
        self._deferred: deque[tuple[Call, Origin]] = deque()
        self._storing = threading.RLock()
        self._warned: set[tuple[str, str]] = set()
        self._silent_until = 0.0
        self._unlogged = 0

    def raise_pending(self) -> None:
        """Raise the error that the end of an earlier call could not raise.

        :raises LlmCostError: Once for each such error.
        """
        error, self.pending_error = self.pending_error, None
        if error is not None:
            raise error

    # Pricing

    def price(self, call: Call, mode: str | None = None) -> Call:
        """The call with its cost. Its trace id leaves the tags for a column of its own.

        :raises ValueError: If ``mode`` is not a pricing mode.
        """
        cost, flags = call.cost, call.flags
        if call.usage is not None or call.reported_cost is not None:
            usage_by_model = call.usage_by_model if call.reported_cost is None else {}
            try:
                cost, noted = self._state.book.quote_call(call, mode, usage_by_model)
            except Exception:
                if mode is not None:
                    raise
                # A call that cannot be priced, for whatever reason, must still be stored.
                _log.exception(
                    "A call to %s/%s could not be priced.", call.provider, call.model
                )
                noted = frozenset(("price_error", "unpriced"))
            if mode is not None and cost is None:
                from .prices.requote import mode_flag

                # Whoever prices the call later needs the mode.
                noted = noted | {mode_flag(mode)}
            flags = flags | noted
        tags = call.tags
        if TRACE_KEY in tags:
            tags = {key: value for key, value in tags.items() if key != TRACE_KEY}
        return call.priced(cost, flags, tags)

    # Storing

    def store(self, call: Call, origin: Origin) -> None:
        """Store a priced call. Never raises: an exceeded budget is raised at the next send."""
        exceeded = self._store(call, origin)
        if exceeded is not None:
            self._state.enforcer.raise_later(call, exceeded)

    def store_tracked(
        self, call: Call, origin: Origin, *, enforced: bool
    ) -> BudgetExceeded | None:
        """Store a priced call that the app records manually.

        :param enforced: The budgets admitted it before.
        :return: The error, if a budget that raises is exceeded with this call.
        """
        try:
            return self._store(call, origin, tracked=True, enforced=enforced)
        except BaseException:
            # A signal or Ctrl-C, which is the app's. The call waits in memory.
            self.defer(call, origin)
            raise

    def _store(
        self,
        call: Call,
        origin: Origin,
        *,
        tracked: bool = False,
        enforced: bool = False,
    ) -> BudgetExceeded | None:
        # The storage may be the app's own: whatever it raises, the app's call continues.
        try:
            if origin.collected is not None:
                origin.collected.append(call)
                return None
            storage, enforcer = self._state.settings.storage, self._state.enforcer
            if storage == "database":
                if not enforcer.budgets:
                    self._state.ledger.append(call)
                    return None
                now = enforcer.stops and enforcer.must_write_now(call, tracked=tracked)
                written = self._state.ledger.append(call, now=now)
                return enforcer.after(
                    call, written=written, tracked=tracked, enforced=enforced
                )
            counts = self._hand_over(call, storage)
            return (
                enforcer.after_unstored(call) if counts and enforcer.budgets else None
            )
        except Exception as error:
            if of_signal(error):
                raise
            self.storage_failed(call, error)
            return None

    def _hand_over(self, call: Call, storage: t.Any) -> bool:
        """Store a call elsewhere than in a database; return whether budgets count it."""
        if callable(storage):
            return storage(call) is not False
        if storage == "log":
            from .files.log_line import log_line

            _calls_log.log(self._state.settings.log_level, "%s", log_line(call))
        else:
            self._state.ledger.append(call)
        return True

    def storage_failed(self, call: Call | None, error: Exception) -> None:
        """Report that a call could not be stored, as ``LLM_COST_ON_STORAGE_ERROR`` says.

        :param call: ``None`` if nothing is lost, because calls are queued in the spool.
        """
        behavior = self._state.settings.on_storage_error
        if behavior != "ignore":
            self._log_failure(call, error)
        if behavior == "raise" and call is not None:
            self.pending_error = _storage_error(error)
        app = self._state.app
        if app is not None:
            signals.send(signals.storage_failed, app, call=call, error=error)

    def _log_failure(self, call: Call | None, error: Exception) -> None:
        if call is None:
            _log.warning("Calls are queued in the spool: %s", error)
            return
        # On a full disk every call fails.
        if time.monotonic() < self._silent_until:
            self._unlogged += 1
            return
        more = f" (and {self._unlogged} before it)" if self._unlogged else ""
        self._silent_until, self._unlogged = time.monotonic() + _LOG_INTERVAL_S, 0
        _log.warning("A call could not be stored%s: %s", more, error)

    # Notifying

    def notify(self, call: Call, origin: Origin) -> None:
        """Notify the app, and the request that sent it, of a recorded call."""
        if origin.request is not None:
            origin.request.add(call)
        if _lacks_price(call):
            self._report_unknown_price(call)
        app = self._state.app
        if app is not None:
            signals.send(signals.call_recorded, app, call=call)

    def _report_unknown_price(self, call: Call) -> None:
        """As ``LLM_COST_ON_UNKNOWN_PRICE`` says."""
        key = (call.provider, call.model)
        behavior = self._state.settings.on_unknown_price
        if behavior == "warn" and key not in self._warned:
            if len(self._warned) < _MAX_WARNED:
                self._warned.add(key)
                _log.warning(
                    "%s This call is recorded without a cost.", UnknownPrice(*key)
                )
        elif behavior == "raise":
            self.pending_error = UnknownPrice(*key)
        app = self._state.app
        if app is not None:
            signals.send(signals.price_unknown, app, call=call)

    def raise_unknown_price(self, call: Call) -> None:
        """Raise now, not at the next send: the caller who tracked the call is there.

        :raises UnknownPrice: If a setting asks for it and the call has no price.
        """
        if isinstance(self.pending_error, UnknownPrice) and _lacks_price(call):
            self.pending_error = None
            raise UnknownPrice(call.provider, call.model)

    # Calls that ended where they could not be recorded

    def defer(self, call: Call, origin: Origin) -> None:
        """Queue a call that ended inside ``__del__``: no lock and no I/O there."""
        self._deferred.append((call, origin))

    def record_deferred(self, *, wait: bool = False) -> None:
        """Record the deferred calls. Never raises.

        :param wait: Also wait for one that another thread is storing.
        """
        while self._deferred:
            # Locked until the call is stored, so that no flush in between misses it.
            with self._storing:
                try:
                    call, origin = self._deferred.popleft()
                except IndexError:
                    break
                call = self.price(call)
                self.store(call, origin)
            # Outside the lock: receivers are the app's code, and may ask the ledger.
            self.notify(call, origin)
        if wait:
            with self._storing:
                pass

    def after_fork(self) -> None:
        """In a forked child: what the parent was about to store is the parent's."""
        self._storing = threading.RLock()
        self._deferred.clear()


def _lacks_price(call: Call) -> bool:
    """Whether the call used something that no price is known for."""
    return call.usage is not None and call.cost is None


def _storage_error(error: Exception) -> StorageError:
    if isinstance(error, StorageError):
        return error
    return caused_by(error, f"A call could not be stored: {error}")
