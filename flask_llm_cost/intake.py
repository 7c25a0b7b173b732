"""What happens to an app's ended calls: price them, store them, and notify the app."""

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
from .interrupts import Busy
from .interrupts import pass_on
from .interrupts import Section
from .interrupts import within
from .recurring import report
from .scope import with_fingerprint
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


class Intake:
    """The steps of an ended call, which :class:`.LlmCost` takes in order.

    :param state: The app's.
    """

    def __init__(self, state: AppState) -> None:
        self.pending_error: LlmCostError | None = None
        """An error that a setting asks to raise, waiting for the next send."""
        self._state = state
        self._deferred: deque[tuple[Call, Origin, str | None, bool]] = deque()
        self._storing = threading.RLock()
        self._storing_here = Section()
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
        """The call with its cost. Its trace id is moved from the tags to its own column.

        :raises ValueError: If ``mode`` is not a pricing mode.
        """
        with self._state.preparing:
            return self._price(call, mode)

    def _price(self, call: Call, mode: str | None) -> Call:
        cost, flags = call.cost, call.flags
        known = (call.usage, call.reported_cost, call.bound)
        if any(each is not None for each in known):
            usage_by_model = call.usage_by_model if call.reported_cost is None else {}
            try:
                cost, noted = self._state.book.quote_call(call, mode, usage_by_model)
            except Exception as error:
                if mode is not None:
                    raise
                pass_on(error)
                # A call that cannot be priced, for whatever reason, must still be stored.
                report(
                    "A call to %s/%s could not be priced.",
                    call.provider,
                    call.model,
                    level=logging.ERROR,
                    error=error,
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
        return call.priced(cost, flags, tags, *self._scope(call))

    def _scope(self, call: Call) -> tuple[str | None, str | None]:
        """The scope of a call, and the digest of its API key if that is still needed."""
        digest = call.key_digest
        if digest is None:
            return call.scope, None
        hash_key = self._state.hash_key
        if hash_key is None:
            # Only the writer of a database can make the fingerprint later.
            return call.scope, digest if self._state.stores_in_database else None
        return with_fingerprint(call.scope, digest, hash_key), None

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
            self.defer(call, origin, priced=True)
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
            with self._storing_here:
                return self._store_now(call, origin, tracked, enforced)
        except Exception as error:
            pass_on(error)
            self.storage_failed(call, error)
            return None

    def _store_now(
        self, call: Call, origin: Origin, tracked: bool, enforced: bool
    ) -> BudgetExceeded | None:
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
        return enforcer.after_unstored(call) if counts and enforcer.budgets else None

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
            _log.warning(
                "Calls are queued in the spool until the database answers: %s", error
            )
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
        elif call.stream and call.usage is None and "no_usage" in call.flags:
            self._report_missing_usage(call)
        app = self._state.app
        if app is not None:
            signals.send(signals.call_recorded, app, call=call)

    def _report_unknown_price(self, call: Call) -> None:
        """As ``LLM_COST_ON_UNKNOWN_PRICE`` says."""
        key = (call.provider, call.model)
        behavior = self._state.settings.on_unknown_price
        if behavior == "warn":
            # A text: two errors are never the same problem.
            problem = str(UnknownPrice(*key))
            report("%s This call is recorded without a cost.", problem)
        elif behavior == "raise":
            self.pending_error = UnknownPrice(*key)
        app = self._state.app
        if app is not None:
            signals.send(signals.price_unknown, app, call=call)

    def _report_missing_usage(self, call: Call) -> None:
        """Log for each model that its streams could have reported their usage."""
        if self._state.settings.on_unknown_price == "ignore":
            return
        from .providers import usage_on_request

        providers = self._state.extension.providers
        if usage_on_request(call.provider, call.operation, providers):
            report(
                "A stream of %s/%s reported no usage, so its cost is incomplete. Request"
                ' it with stream_options={"include_usage": True}, or set'
                " LLM_COST_INJECT_STREAM_USAGE.",
                call.provider,
                call.model,
            )

    def raise_unknown_price(self, call: Call) -> None:
        """Raise now, not at the next send: the caller who tracked the call is there.

        :raises UnknownPrice: If a setting asks for it and the call has no price.
        """
        if isinstance(self.pending_error, UnknownPrice) and _lacks_price(call):
            self.pending_error = None
            raise UnknownPrice(call.provider, call.model)

    # Calls that ended where they could not be recorded

    @property
    def interrupted(self) -> bool:
        """Whether a signal handler interrupted this thread while it recorded a call."""
        return self._storing_here.entered or self._state.preparing.entered

    def defer(
        self,
        call: Call,
        origin: Origin,
        *,
        mode: str | None = None,
        priced: bool = False,
    ) -> None:
        """Queue a call where it cannot be recorded: no lock and no I/O there.

        That is inside ``__del__``, and in a signal handler that :attr:`interrupted` this.

        :param mode: The pricing mode, if the app named one.
        """
        self._deferred.append((call, origin, mode, priced))

    def record_deferred(self, *, wait: float = 0) -> bool:
        """Record the deferred calls. Never raises.

        :param wait: Seconds to wait for another thread that is recording one.
        :return: Whether all calls that ended so far are handed over to the storage.
        """
        if not wait and not self._deferred:
            return True  # nearly always
        if self.interrupted:
            return False  # the interrupted call comes first
        until = time.monotonic() + wait
        while self._deferred:
            # Locked until the call is stored, so that no flush in between misses it. The
            # wait is bounded: the thread that has the lock may wait for a database.
            try:
                with within(self._storing, until - time.monotonic()):
                    entry = self._take_deferred()
            except Busy:
                return False
            if entry is not None:
                # Outside the lock: receivers are the app's code, and may ask the ledger.
                self.notify(*entry)
        if not wait:
            return True
        try:
            with within(self._storing, until - time.monotonic()):
                return True
        except Busy:
            return False

    def _take_deferred(self) -> tuple[Call, Origin] | None:
        """Record one deferred call; return the recorded call."""
        try:
            entry = self._deferred.popleft()
        except IndexError:
            return None
        call, origin, mode, priced = entry
        try:
            recorded = call if priced else self._price_late(call, mode)
            self.store(recorded, origin)
        except BaseException:
            # Ctrl-C, or what a signal handler raised. If the call is stored already,
            # its id prevents a second row.
            self._deferred.appendleft(entry)
            raise
        return recorded, origin

    def _price_late(self, call: Call, mode: str | None) -> Call:
        try:
            return self.price(call, mode)
        except ValueError as error:
            # A mode that is not valid: too late to raise it where the app named it.
            pass_on(error)
            return self.price(call)

    def after_fork(self) -> None:
        """In a forked child: what the parent was about to store is the parent's."""
        self._storing = threading.RLock()
        self._storing_here = Section()
        self._deferred.clear()


def _lacks_price(call: Call) -> bool:
    """Whether the call used something that no price is known for."""
    return call.usage is not None and call.cost is None


def _storage_error(error: Exception) -> StorageError:
    if isinstance(error, StorageError):
        return error
    return caused_by(error, f"A call could not be stored: {error}")
