"""May this call be sent, and what does one that was made spend? Budgets, put into force."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import time
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

from .. import signals
from ..call import Attempt
from ..call import Call
from ..call import Snapshot
from ..config import check_money
from ..errors import BudgetExceeded
from ..errors import StorageError
from ..errors import UnknownPrice
from ..money import ceil_pico
from ..money import from_pico
from . import Alert
from . import Budget
from . import tags_of
from .definition import model_of
from .estimates import Estimates
from .estimates import Price

if t.TYPE_CHECKING:
    from flask import Flask

    from ..ledger import Ledger
    from .maintenance import Budgets
    from .reservations import Standing
    from .share import Share

_log = logging.getLogger("flask_llm_cost")

_MOST_DUE: t.Final = 1000
_SILENT_S: t.Final = 10.0


class Enforcer:
    """Puts the budgets of one app into force.

    :param price: Says what an estimate of usage costs.
    :param app: Gives the app, if it still is there.
    :param callback: ``LLM_COST_ON_BUDGET_EXCEEDED``.
    """

    def __init__(
        self,
        budgets: Sequence[Budget],
        *,
        ledger: Callable[[], Ledger],
        price: Price,
        app: Callable[[], Flask | None],
        callback: Callable[[Alert], t.Any] | None,
    ) -> None:
        self.budgets = budgets
        self.stops = any(budget.behavior != "notify" for budget in budgets)
        """Whether a call may be stopped: else nothing is asked before it is sent."""
        self._by_name = {budget.name: budget for budget in budgets}
        self._ledger = ledger
        self._app = app
        self._callback = callback
        self._due: dict[tuple[str, str], BudgetExceeded] = {}
        self._unasked: set[str] = set()
        """Budgets that raise and are closed, which the last call could not ask."""
        self._estimates = Estimates(price, self._speaks)
        self._silent_until = 0.0

    # What a budget allows

    def limit(self, budget: Budget, whose: Mapping[str, str]) -> Decimal | None:
        """What a budget allows; ``None`` if the app names none. Never raises."""
        try:
            return self.limit_asked(budget, whose)
        except StorageError:
            return None

    def limit_asked(self, budget: Budget, whose: Mapping[str, str]) -> Decimal | None:
        """What a budget allows, where a call waits for it.

        :raises StorageError: If it cannot be found, and the budget is closed then.
        """
        if not callable(budget.limit_usd):
            return budget.limit_usd
        # The app's own code, which may ask its own tables: it must harm no call.
        try:
            app = self._app()
            with contextlib.nullcontext() if app is None else app.app_context():
                limit = budget.limit_usd(dict(whose))
            return None if limit is None else check_money("limit_usd", limit)
        except Exception as error:
            closed = budget.on_error == "closed"
            if self._speaks():
                _log.exception(
                    "The limit of the budget %r could not be found; %s.",
                    budget.name,
                    "no call is let through"
                    if closed
                    else "it is as if there were none",
                )
            if closed:
                raise StorageError(
                    f"its limit could not be found ({type(error).__name__})"
                ) from error
            return None

    def _speaks(self) -> bool:
        """Whether the log is to tell of a trouble again, which each call may have."""
        if time.monotonic() < self._silent_until:
            return False
        self._silent_until = time.monotonic() + _SILENT_S
        return True

    # Before a call is sent

    def begin(
        self, attempt: Attempt, snapshot: Snapshot, *, admit: bool = True
    ) -> None:
        """Let a call be sent, with a hold where a budget wants one.

        :param admit: Ask the budgets that block. The error that an earlier call left is
            raised in any case.
        :raises BudgetExceeded: If a budget has no room for it, or an earlier call of the
            same budget spent it.
        :raises UnknownPrice: If a budget refuses calls without a price.
        :raises StorageError: If a budget cannot be asked, and is closed then.
        """
        if not self.stops or attempt.poll:
            return
        model = attempt.request_model or ""
        self._raise_due(attempt.provider, model, snapshot.tags)
        if self._unasked and admit:
            self._ask_again(attempt.provider, model, snapshot)
        blocking = [b for b in self.budgets if b.behavior == "block"]
        if not blocking or not admit:
            return
        self._check_single(blocking, attempt, snapshot)
        kept = self._kept()
        if kept is None:
            return
        shares = kept.counters.shares(
            attempt.provider, model, snapshot.tags, snapshot.started_at
        )
        self._admit(
            snapshot.event_id,
            [
                (share, self._ask(share, attempt, snapshot))
                for share in shares
                if share.budget.behavior == "block"
            ],
        )

    def _kept(self) -> Budgets | None:
        return self._ledger().budgets

    def _ask(self, share: Share, attempt: Attempt, snapshot: Snapshot) -> int:
        amount = self._estimates.of(share.budget, attempt, snapshot.started_at)
        if amount is None and share.budget.unpriced == "block":
            raise UnknownPrice(attempt.provider, attempt.request_model or "unknown")
        return ceil_pico(amount or Decimal(0))

    def _check_single(
        self, blocking: Sequence[Budget], attempt: Attempt, snapshot: Snapshot
    ) -> None:
        """Refuse a call that alone may cost more than a budget allows for one."""
        for budget in blocking:
            whose = budget.whose(snapshot.tags)
            if budget.period != "call" or whose is None:
                continue
            if not budget.covers(attempt.provider, attempt.request_model):
                continue
            amount = self._estimates.certain(budget, attempt, snapshot.started_at)
            if amount is not None:
                self._allow_single(budget, whose, amount)

    def _admit(self, event_id: str, asks: Sequence[tuple[Share, int]]) -> None:
        from .reservations import Ask

        kept = self._kept()
        if kept is None or not asks:
            return
        hard = [Ask(share, amount) for share, amount in asks if share.budget.holds]
        soft = [share for share, _ in asks if not share.budget.holds]
        try:
            self._check(kept, soft)
            refused = kept.holds.take(event_id, hard) if hard else None
        except StorageError as error:
            self._cannot_tell([share.budget for share, _ in asks], error)
            return
        if refused is not None:
            asked = next(ask.amount for ask in hard if ask.share.id == refused.share.id)
            self._refuse(_exceeded(refused, estimate=asked))

    def _cannot_tell(self, budgets: Sequence[Budget], error: Exception) -> None:
        for budget in budgets:
            if budget.on_error == "closed":
                raise StorageError(
                    f"The budget {budget.name!r} cannot be asked, and lets no call through"
                    f" then (on_error): {error}"
                ) from error
        if self._speaks():
            _log.warning(
                "Budgets cannot be asked, and let calls through meanwhile: %s", error
            )

    def _check(self, kept: Budgets, shares: Sequence[Share]) -> None:
        """Refuse what has no room left, the longest period first."""
        order = sorted(shares, key=lambda share: -share.budget.order)
        for standing in kept.holds.look(order) if order else ():
            if standing.exceeded:
                self._refuse(_exceeded(standing))

    def _refuse(self, error: BudgetExceeded) -> t.NoReturn:
        self._call_back(_alert_of(error))
        raise error

    def enforce(
        self, provider: str, model: str, tags: Mapping[str, str], at: dt.datetime
    ) -> None:
        """Raise if a budget that stops calls has no room left.

        :raises BudgetExceeded: For the one of the longest period.
        :raises StorageError: If a budget cannot be asked, and is closed then.
        """
        kept = self._kept() if self.stops else None
        if kept is None:
            return
        shares = [
            share
            for share in kept.counters.shares(provider, model, tags, at)
            if share.budget.behavior != "notify"
        ]
        try:
            self._check(kept, shares)
        except StorageError as error:
            self._cannot_tell([share.budget for share in shares], error)

    def admit(self, call: Call) -> None:
        """Let a call that was made be recorded, with a hold of just its cost.

        :raises BudgetExceeded: If a budget that blocks has no room for it.
        :raises StorageError: If a budget cannot be asked, and is closed then.
        """
        if not self.stops:
            return
        self._admit_single(call)
        kept = self._kept()
        if kept is None:
            return
        amount = ceil_pico(Decimal(0) if call.cost is None else call.cost.total_usd)
        shares = [
            share
            for share in kept.counters.shares_of(call)
            if share.budget.behavior != "notify"
        ]
        self._admit(call.event_id, [(share, amount) for share in shares])

    def _admit_single(self, call: Call) -> None:
        """Refuse a call that cost more than a budget allows for one."""
        for budget in self.budgets:
            whose = budget.whose(tags_of(call))
            if budget.period != "call" or budget.behavior != "block" or whose is None:
                continue
            if call.cost is None or not budget.covers(call.provider, model_of(call)):
                continue
            self._allow_single(budget, whose, call.cost.total_usd)

    def _allow_single(
        self, budget: Budget, whose: Mapping[str, str], amount: Decimal
    ) -> None:
        try:
            limit = self.limit_asked(budget, whose)
        except StorageError as error:
            self._cannot_tell([budget], error)
            return
        if limit is not None and amount > limit:
            self._refuse(
                BudgetExceeded(
                    budget.name,
                    period=budget.period,
                    limit_usd=limit,
                    spent_usd=Decimal(0),
                    tags=whose,
                    estimate_usd=amount,
                ),
            )

    # After a call

    def at_once(self, call: Call, *, tracked: bool) -> bool:
        """Whether a call is to be written at once, since it may be followed by an error."""
        return any(
            budget.behavior == "raise" or (tracked and budget.behavior == "block")
            for budget in self.budgets
            if budget.whose(tags_of(call)) is not None
            and budget.covers(call.provider, model_of(call))
        )

    def after(
        self,
        call: Call,
        *,
        written: bool,
        enforced: bool = False,
        tracked: bool = False,
    ) -> BudgetExceeded | None:
        """Look at the budgets that raise; the error, if one is spent with this call.

        :param written: The call is in the ledger.
        :param enforced: It had holds, so that budgets that block admitted it.
        """
        self._estimates.learn(call)
        if not self.stops:
            return None
        names = {"raise"} if enforced or not tracked else {"raise", "block"}
        for budget in self.budgets:
            if budget.period == "call" and budget.behavior in names:
                alert = self._single(budget, call)
                if alert is not None:
                    return self._spent(alert)
        try:
            if written:
                return self._over(call, names)
        except StorageError as error:
            if self._speaks():
                _log.warning("Budgets cannot be asked: %s", error)
        self._not_asked(call)
        return None

    def _not_asked(self, call: Call) -> None:
        """A closed budget lets no further call through until it can be asked."""
        self._unasked.update(
            budget.name
            for budget in self.budgets
            if budget.behavior == "raise"
            and budget.on_error == "closed"
            and budget.period != "call"
            and budget.whose(tags_of(call)) is not None
            and budget.covers(call.provider, model_of(call))
        )

    def _over(self, call: Call, behaviors: set[str]) -> BudgetExceeded | None:
        """The first budget, by the length of its period, that this call left spent."""
        kept = self._kept()
        if kept is None:
            return None
        shares = [
            share
            for share in kept.counters.shares_of(call)
            if share.budget.behavior in behaviors
        ]
        order = sorted(shares, key=lambda share: share.budget.order)
        for standing in kept.holds.look(order) if order else ():
            if standing.spent >= standing.allowed:
                return self._spent_with(standing, call)
        return None

    def _single(self, budget: Budget, call: Call) -> Alert | None:
        from .thresholds import call_alert

        return call_alert(budget, call, self.limit)

    def _spent(self, alert: Alert) -> BudgetExceeded:
        self._call_back(alert)
        return BudgetExceeded(
            alert.budget,
            period=alert.period,
            limit_usd=alert.limit_usd,
            spent_usd=alert.spent_usd,
            resets_at=alert.resets_at,
            call=alert.call,
            tags=alert.tags,
        )

    def _spent_with(self, standing: Standing, call: Call) -> BudgetExceeded:
        error = _exceeded(standing, call=call)
        self._call_back(_alert_of(error))
        return error

    def raise_later(self, call: Call, error: BudgetExceeded) -> None:
        """Raise an error at the next send that counts in the same budget."""
        budget = self._by_name[error.budget]
        whose = budget.whose(tags_of(call)) or {}
        if len(self._due) >= _MOST_DUE:
            self._due.clear()
        self._due[error.budget, repr(sorted(whose.items()))] = error

    def _raise_due(self, provider: str, model: str, tags: Mapping[str, str]) -> None:
        if not self._due:
            return
        for budget in self.budgets:
            whose = budget.whose(tags)
            if whose is None or not budget.covers(provider, model):
                continue
            error = self._due.pop((budget.name, repr(sorted(whose.items()))), None)
            if error is not None:
                raise error

    def _ask_again(self, provider: str, model: str, snapshot: Snapshot) -> None:
        """Ask before a call what could not be asked after the last.

        :raises BudgetExceeded: If that budget is spent.
        :raises StorageError: If it cannot be asked yet.
        """
        kept = self._kept()
        if kept is None:
            return
        unasked = self._unasked
        shares = [
            share
            for share in kept.counters.shares(
                provider, model, snapshot.tags, snapshot.started_at
            )
            if share.budget.name in unasked
        ]
        try:
            self._check(kept, shares)
        except StorageError as error:
            self._cannot_tell([share.budget for share in shares], error)
        unasked.difference_update([share.budget.name for share in shares])

    def without_ledger(self, call: Call) -> BudgetExceeded | None:
        """Where no ledger counts, a call alone is held against each budget."""
        self._estimates.learn(call)
        for budget in sorted(self.budgets, key=lambda budget: budget.order):
            alert = self._single(budget, call)
            if alert is None:
                continue
            if budget.behavior != "notify":
                return self._spent(alert)
            self.told(alert)
        return None

    # Telling the app

    def told(self, alert: Alert) -> None:
        """Tell the app of an alert: signal and callback. Never raises."""
        budget = self._by_name.get(alert.budget)
        if alert.exceeded and (budget is None or budget.behavior == "notify"):
            # The others call back at each error that they raise.
            self._call_back(alert)
        app = self._app()
        if app is not None:
            signal = (
                signals.budget_exceeded
                if alert.exceeded or alert.refused
                else signals.budget_threshold
            )
            signals.send(signal, app, alert=alert)

    def _call_back(self, alert: Alert) -> None:
        if self._callback is None:
            return
        # The app's own code: what it raises must harm neither a call nor the writer.
        try:
            app = self._app()
            with contextlib.nullcontext() if app is None else app.app_context():
                self._callback(alert)
        except Exception:
            _log.exception("LLM_COST_ON_BUDGET_EXCEEDED raised; it was passed over.")


def _exceeded(
    standing: Standing, *, call: Call | None = None, estimate: int | None = None
) -> BudgetExceeded:
    share = standing.share
    return BudgetExceeded(
        share.budget.name,
        period=share.budget.period,
        limit_usd=from_pico(standing.allowed),
        spent_usd=from_pico(standing.spent),
        resets_at=share.window.end,
        call=call,
        tags=share.whose,
        reserved_usd=from_pico(standing.held),
        lost_usd=from_pico(standing.lost),
        estimate_usd=None if estimate is None else from_pico(estimate),
    )


def _alert_of(error: BudgetExceeded) -> Alert:
    return Alert(
        budget=error.budget,
        period=error.period,
        limit_usd=error.limit_usd,
        spent_usd=error.spent_usd,
        threshold=Decimal(1),
        tags=error.tags,
        resets_at=error.resets_at,
        call=error.call,
        refused=error.spent_usd < error.limit_usd,
        reserved_usd=error.reserved_usd,
        lost_usd=error.lost_usd,
        estimate_usd=error.estimate_usd,
    )
