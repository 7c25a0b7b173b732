"""The budgets of an app, and the app's own code: limits, callback, signals."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import Future
from decimal import Decimal

from .. import checks
from .. import signals
from ..call import Call
from ..config import Settings
from ..db.timeouts import current
from ..errors import StorageError
from ..interrupts import pass_on
from ..recurring import report
from .alert import Alert
from .definition import Budget
from .definition import read_budgets

if t.TYPE_CHECKING:
    from flask import Flask


_LOG_PAUSE_S: t.Final = 10.0

_A = t.TypeVar("_A")
_R = t.TypeVar("_R")


class Policy:
    """The budgets of one app, their limits, and how the app is notified.

    :param app: Returns the app while it exists.
    :param callback: ``LLM_COST_ON_BUDGET_EXCEEDED``.
    :param send: Posts an alert with its id to the webhook; raises if it was not accepted.
    """

    def __init__(
        self,
        budgets: Sequence[Budget],
        *,
        app: Callable[[], Flask | None] = lambda: None,
        callback: Callable[[Alert], t.Any] | None = None,
        send: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self.budgets = budgets
        self.send = send
        self._app = app
        self._callback = callback
        self._behaviors = {budget.name: budget.behavior for budget in budgets}
        self._silent_until = 0.0

    @classmethod
    def read(cls, settings: Settings, app: Callable[[], Flask | None]) -> Policy:
        """Create the policy that the settings define.

        :raises ConfigError: If an entry of ``LLM_COST_BUDGETS`` is invalid.
        """
        send = None
        if settings.alert_webhook_url is not None:
            from .webhook import Webhook

            send = Webhook(
                settings.alert_webhook_url,
                secret=settings.alert_webhook_secret,
                private=settings.alert_allow_private,
            )
        return cls(
            read_budgets(settings) if settings.enabled else (),
            app=app,
            callback=settings.on_budget_exceeded,
            send=send,
        )

    def limit(
        self, budget: Budget, tags: Mapping[str, str], *, strict: bool = False
    ) -> Decimal | None:
        """Return the limit of a budget; ``None`` if there is none.

        :param tags: The tag values the budget applies to.
        :param strict: Raise if the limit cannot be determined and ``on_error`` is
            ``"closed"``. Otherwise the budget is then unlimited.
        :raises StorageError: Only with ``strict``.
        """
        if not callable(budget.limit_usd):
            return budget.limit_usd
        # The app's own code, which may query its own tables: it must not harm any call.
        try:
            limit = self._in_app(budget.limit_usd, dict(tags))
            return None if limit is None else checks.money("limit_usd", limit)
        except Exception as error:
            pass_on(error)
            closed = budget.on_error == "closed"
            report(
                "The limit of the budget %r could not be determined; %s.",
                budget.name,
                "rejecting calls (on_error='closed')"
                if closed
                else "treating the budget as unlimited (on_error='open')",
                level=logging.ERROR,
                error=error,
            )
            if strict and closed:
                raise StorageError(
                    f"its limit could not be determined ({type(error).__name__})"
                ) from error
            return None

    def call_alert(self, budget: Budget, call: Call) -> Alert | None:
        """Return the alert of a call whose cost alone reaches the limit of a budget."""
        tags = budget.match_call(call)
        if call.cost is None or tags is None:
            return None
        limit = self.limit(budget, tags)
        if limit is None or call.cost.total_usd < limit:
            return None
        return Alert(
            budget=budget.name,
            period=budget.period,
            limit_usd=limit,
            spent_usd=call.cost.total_usd,
            tags=tags,
            call=call,
        )

    def notify(self, alert: Alert) -> None:
        """Send the signal of an alert and run the callback. Never raises."""
        if alert.exceeded and self._behaviors.get(alert.budget) == "notify":
            # Other budgets run the callback with each exception that they raise.
            self.call_back(alert)
        app = self._app()
        if app is not None:
            below = alert.threshold < 1
            signal = signals.budget_threshold if below else signals.budget_exceeded
            signals.send(signal, app, alert=alert)

    def call_back(self, alert: Alert) -> None:
        """Run ``LLM_COST_ON_BUDGET_EXCEEDED``. Never raises."""
        if self._callback is None:
            return
        # The app's own code: its exceptions must harm neither a call nor the writer.
        try:
            self._in_app(self._callback, alert)
        except Exception as error:
            pass_on(error)
            report(
                "LLM_COST_ON_BUDGET_EXCEEDED raised an exception, which was ignored.",
                level=logging.ERROR,
                error=error,
            )

    def may_log(self) -> bool:
        """Whether to log a problem that may occur with each call; at most every 10 s."""
        if time.monotonic() < self._silent_until:
            return False
        self._silent_until = time.monotonic() + _LOG_PAUSE_S
        return True

    def _in_app(self, function: Callable[[_A], _R], argument: _A) -> _R:
        """Call the app's own code in an app context, and not on the caller's thread.

        Leaving the context runs the app's teardown functions. They must not end what the
        caller has begun on its thread, such as the transaction of a scoped session.
        """
        context = contextvars.copy_context()

        def work() -> _R:
            return context.run(self._call, function, argument)

        # A query thread is ours, and only there the query's time limit applies.
        return _on_own_thread(work) if current() is None else work()

    def _call(self, function: Callable[[_A], _R], argument: _A) -> _R:
        app = self._app()
        results: list[_R] = []
        try:
            with contextlib.nullcontext() if app is None else app.app_context():
                results.append(function(argument))
        except Exception as error:
            if not results:
                raise
            # A teardown function that expects a request, for one.
            report(
                "A teardown function of the app raised %s after a budget's callable.",
                type(error).__name__,
            )
        return results[0]


def _on_own_thread(work: Callable[[], _R]) -> _R:
    """Do the work on a new thread, and wait for its result."""
    future: Future[_R] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            # For the caller: it may be one of the app's own.
            future.set_exception(error)

    try:
        threading.Thread(target=run, name="llm-cost-callable", daemon=True).start()
    except RuntimeError:
        return work()  # at interpreter exit, or if no threads are left
    return future.result()
