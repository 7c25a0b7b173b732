"""Budget enforcement before and after a call."""

from __future__ import annotations

import datetime as dt
import logging
import typing as t
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

from ..attempt import Attempt
from ..attempt import Snapshot
from ..call import Call
from ..errors import BudgetExceeded
from ..errors import StorageError
from ..money import ceil_pico
from .alert import Alert
from .definition import Budget
from .definition import BudgetWindow
from .definition import Reservation
from .estimates import Ceiling
from .estimates import Estimates
from .policy import Policy

if t.TYPE_CHECKING:
    from .storage import Budgets

_log = logging.getLogger("flask_llm_cost")

_MAX_DUE: t.Final = 1000


class Enforcer:
    """Enforces the budgets of one app.

    :param ceiling: Returns the most that a request can cost.
    :param stored: Returns the budgets of the app's ledger; ``None`` if it has none.
    """

    def __init__(
        self, policy: Policy, *, ceiling: Ceiling, stored: Callable[[], Budgets | None]
    ) -> None:
        self.policy = policy
        self.budgets = policy.budgets
        self.stops = any(budget.behavior != "notify" for budget in self.budgets)
        """Whether a call may be stopped; otherwise no call waits for a budget."""
        self._stored = stored
        self._estimates = Estimates(ceiling)
        self._due: dict[tuple[str, str], BudgetExceeded] = {}
        """Errors to raise at the next send, by budget and tag values."""
        self._unchecked: set[str] = set()
        """Budgets to check before the next call, since the last call could not be counted."""

    # Before a call is sent

    def begin(
        self, attempt: Attempt, snapshot: Snapshot, *, admit: bool = True
    ) -> None:
        """Let a call be sent, and reserve its estimate where a budget requires it.

        :param admit: Check the budgets that block. An error that an earlier call left is
            raised in any case.
        :raises BudgetExceeded: If a budget has no room for it, or an earlier call exceeded
            a budget of this call.
        :raises UnknownPrice: If a budget refuses calls without a known price.
        :raises StorageError: If a budget cannot be checked and its ``on_error`` is
            ``"closed"``.
        """
        if not self.stops or attempt.poll:
            return
        provider, model = attempt.provider, attempt.request_model or ""
        tags, at = snapshot.tags, snapshot.started_at
        self._raise_due(provider, model, tags)
        if not admit:
            return
        if self._unchecked:
            self._check_unchecked(provider, model, tags, at)
        for budget in self.budgets:
            values = budget.match(provider, attempt.request_model, tags)
            if values is None or (budget.period, budget.behavior) != ("call", "block"):
                continue
            amount = self._estimates.named(budget, attempt, at)
            if amount is not None:
                self._check_single(budget, values, amount)
        stored = self._stored_if({"block"})
        if stored is not None:
            windows = stored.counters.windows(provider, model, tags, at)
            wanted = [
                Reservation(window, self._estimate(window, attempt, at))
                for window in windows
                if window.budget.behavior == "block"
            ]
            self._reserve(stored, snapshot.event_id, wanted)

    def enforce(
        self, provider: str, model: str, tags: Mapping[str, str], at: dt.datetime
    ) -> None:
        """Raise if a budget that raises or blocks has no room left.

        :raises BudgetExceeded: For the budget with the longest period.
        :raises StorageError: If a budget cannot be checked and its ``on_error`` is
            ``"closed"``.
        """
        stored = self._stored_if({"raise", "block"})
        if stored is None:
            return
        windows = stored.counters.windows(provider, model, tags, at)
        windows = [w for w in windows if w.budget.behavior != "notify"]
        try:
            self._check(stored, windows)
        except StorageError as error:
            self._cannot_check(stored, None, _unreserved(windows), error)

    def admit(self, call: Call) -> None:
        """Admit a call that was already made, and reserve exactly its cost.

        :raises BudgetExceeded: If a budget that raises or blocks has no room for it.
        :raises StorageError: If a budget cannot be checked and its ``on_error`` is
            ``"closed"``.
        """
        if not self.stops:
            return
        for budget in self.budgets:
            values = budget.match_call(call)
            if values is None or call.cost is None:
                continue
            if (budget.period, budget.behavior) == ("call", "block"):
                self._check_single(budget, values, call.cost.total_usd)
        stored = self._stored_if({"raise", "block"})
        if stored is not None:
            amount = 0 if call.cost is None else ceil_pico(call.cost.total_usd)
            windows = stored.counters.windows_of(call)
            wanted = [
                Reservation(window, amount)
                for window in windows
                if window.budget.behavior != "notify"
            ]
            self._reserve(stored, call.event_id, wanted)

    def _stored_if(self, behaviors: Collection[str]) -> Budgets | None:
        """Return the stored budgets, if any budget has one of these behaviors."""
        if any(budget.behavior in behaviors for budget in self.budgets):
            return self._stored()
        return None

    def _estimate(self, window: BudgetWindow, attempt: Attempt, at: dt.datetime) -> int:
        budget = window.budget
        amount = self._estimates.of(budget, attempt, at)
        if amount is None:
            limit = self.policy.limit(budget, window.tags)
            if limit is not None:
                spent = Decimal(0)
                raise self._error(
                    Alert(
                        budget.name,
                        budget.period,
                        limit,
                        spent,
                        tags=window.tags,
                        unbounded=True,
                    )
                )
        return ceil_pico(amount or Decimal(0))

    def _reserve(
        self, stored: Budgets, event_id: str, wanted: Sequence[Reservation]
    ) -> None:
        """Reserve in the windows of hard budgets, and check the others."""
        hard = [each for each in wanted if each.window.budget.reserves]
        soft = [each.window for each in wanted if not each.window.budget.reserves]
        try:
            self._check(stored, soft)
            alert = stored.reservations.reserve(event_id, hard) if hard else None
        except StorageError as error:
            self._cannot_check(stored, event_id, [*hard, *_unreserved(soft)], error)
            return
        if alert is not None:
            raise self._error(alert)

    def _check(self, stored: Budgets, windows: Sequence[BudgetWindow]) -> None:
        """Refuse a call if a window has no room left, the longest period first."""
        order = sorted(windows, key=lambda window: -window.budget.order)
        for standing in stored.reservations.standings(order) if order else ():
            if standing.exceeded:
                raise self._error(Alert.of(standing))

    def _check_single(
        self, budget: Budget, tags: Mapping[str, str], amount: Decimal
    ) -> None:
        """Refuse a call that alone costs more than a budget allows."""
        try:
            limit = self.policy.limit(budget, tags, strict=True)
        except StorageError as error:
            self._unavailable([budget], error)
            return
        if limit is not None and amount > limit:
            raise self._error(
                Alert(
                    budget.name,
                    budget.period,
                    limit,
                    spent_usd=Decimal(0),
                    tags=tags,
                    estimate_usd=amount,
                )
            )

    def _cannot_check(
        self,
        stored: Budgets,
        event_id: str | None,
        wanted: Sequence[Reservation],
        error: StorageError,
    ) -> None:
        """Refuse the call if a window is known to be full; otherwise ``on_error`` decides.

        :param event_id: Of the call, if it is to be sent.
        """
        alert = stored.reservations.known_refusal(wanted)
        if alert is not None:
            raise self._error(alert) from error
        self._unavailable([each.window.budget for each in wanted], error)
        if event_id is not None:
            stored.reservations.owe(event_id, wanted)

    def _unavailable(self, budgets: Sequence[Budget], error: Exception) -> None:
        """Reject the call if any of the budgets is closed on errors."""
        for budget in budgets:
            if budget.on_error == "closed":
                raise StorageError(
                    f"The budget {budget.name!r} cannot be checked, and on_error='closed'"
                    f" rejects calls: {error}"
                ) from error
        if self.policy.may_log():
            _log.warning(
                "Budgets cannot be checked; allowing calls (on_error='open'): %s", error
            )

    def _raise_due(self, provider: str, model: str, tags: Mapping[str, str]) -> None:
        if not self._due:
            return
        for budget in self.budgets:
            values = budget.match(provider, model, tags)
            if values is not None:
                error = self._due.pop(_key(budget.name, values), None)
                if error is not None:
                    raise error

    def _check_unchecked(
        self, provider: str, model: str, tags: Mapping[str, str], at: dt.datetime
    ) -> None:
        """Check budgets that could not be checked after the last call.

        :raises BudgetExceeded: If one of them is exceeded.
        :raises StorageError: If one of them cannot be checked yet.
        """
        stored = self._stored()
        if stored is None:
            return
        windows = stored.counters.windows(provider, model, tags, at)
        windows = [w for w in windows if w.budget.name in self._unchecked]
        try:
            self._check(stored, windows)
        except StorageError as error:
            self._unavailable([window.budget for window in windows], error)
        self._unchecked.difference_update(window.budget.name for window in windows)

    # After a call

    def must_write_now(self, call: Call, *, tracked: bool) -> bool:
        """Whether a call must be written at once, since an error may have to be raised."""
        behaviors = {"raise", "block"} if tracked else {"raise"}
        return any(
            budget.behavior in behaviors and budget.match_call(call) is not None
            for budget in self.budgets
        )

    def after(
        self,
        call: Call,
        *,
        written: bool,
        enforced: bool = False,
        tracked: bool = False,
    ) -> BudgetExceeded | None:
        """Return the error to raise if the call exceeded a budget that raises.

        :param written: The call is in the ledger.
        :param enforced: Budgets that block admitted the call.
        :param tracked: The app recorded the call manually: budgets that block raise, too.
        """
        self._estimates.learn(call)
        if not self.stops:
            return None
        behaviors = {"raise", "block"} if tracked and not enforced else {"raise"}
        for budget in self.budgets:
            if budget.period == "call" and budget.behavior in behaviors:
                alert = self.policy.call_alert(budget, call)
                if alert is not None:
                    return self._error(alert)
        try:
            if written:
                return self._exceeded(call, behaviors)
        except StorageError as error:
            if self.policy.may_log():
                _log.warning("Budgets cannot be checked after a call: %s", error)
        # A closed budget allows no further call until it can be checked.
        self._unchecked.update(
            budget.name
            for budget in self.budgets
            if (budget.behavior, budget.on_error) == ("raise", "closed")
            and budget.period != "call"
            and budget.match_call(call) is not None
        )
        return None

    def _exceeded(
        self, call: Call, behaviors: Collection[str]
    ) -> BudgetExceeded | None:
        """Return the error for the shortest period whose limit is reached."""
        stored = self._stored_if(behaviors)
        if stored is None:
            return None
        windows = stored.counters.windows_of(call)
        windows = [w for w in windows if w.budget.behavior in behaviors]
        windows.sort(key=lambda window: window.budget.order)
        for standing in stored.reservations.standings(windows) if windows else ():
            alert = Alert.of(standing, call=call)
            if alert.exceeded:
                return self._error(alert)
        return None

    def after_unstored(self, call: Call) -> BudgetExceeded | None:
        """Check a call of an app without a ledger alone against each budget."""
        self._estimates.learn(call)
        for budget in sorted(self.budgets, key=lambda budget: budget.order):
            alert = self.policy.call_alert(budget, call)
            if alert is None:
                continue
            if budget.behavior != "notify":
                return self._error(alert)
            self.policy.notify(alert)
        return None

    def _error(self, alert: Alert) -> BudgetExceeded:
        """Run the app's callback, and return the error to raise."""
        self.policy.call_back(alert)
        return alert.error()

    def raise_later(self, call: Call, error: BudgetExceeded) -> None:
        """Raise an error at the next send that counts in the same budget."""
        if len(self._due) >= _MAX_DUE:
            self._due.clear()
        for budget in self.budgets:
            if budget.name == error.budget:
                values = budget.match_call(call) or {}
                self._due[_key(budget.name, values)] = error


def _unreserved(windows: Iterable[BudgetWindow]) -> list[Reservation]:
    return [Reservation(window, 0) for window in windows]


def _key(name: str, tags: Mapping[str, str]) -> tuple[str, str]:
    return name, repr(sorted(tags.items()))
