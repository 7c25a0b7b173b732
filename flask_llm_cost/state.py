"""What one app holds: its settings, ledger and prices, and where its calls go."""

from __future__ import annotations

import atexit
import datetime as dt
import logging
import os
import threading
import time
import typing as t
import weakref
from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from flask import Flask

from . import signals
from .budgets import defined
from .budgets.enforcement import Enforcer
from .call import Call
from .call import Usage
from .config import PREFIX
from .config import Settings
from .errors import BudgetExceeded
from .errors import ConfigError
from .errors import LlmCostError
from .errors import StorageError
from .errors import UnknownPrice
from .interrupts import of_signal
from .request import RequestCost
from .tags import TRACE_KEY

if t.TYPE_CHECKING:
    import sqlalchemy as sa
    from flask_sqlalchemy import SQLAlchemy

    from .budgets.maintenance import Budgeting
    from .extension import LlmCost
    from .ledger import Ledger
    from .prices import PriceBook
    from .prices import Quote

_log = logging.getLogger("flask_llm_cost")
_calls_log = logging.getLogger("flask_llm_cost.calls")

_SILENT_S: t.Final = 10.0
"""The log tells of one call in so long that could not be stored, and how many others."""

_LINGER_S: t.Final = 1.0
"""So long may a complete stream stay open before it is recorded without its end."""

_ModelKey: t.TypeAlias = tuple[str, str]


class Origin(t.NamedTuple):
    """Where a call came from, as of the moment it was sent."""

    state: AppState
    collected: list[Call] | None
    """Where a test that was running then collects calls."""
    request: RequestCost | None = None
    """The request that sent it."""


class AppState:
    """What one app holds, in ``app.extensions["llm_cost"]``."""

    def __init__(
        self, app: Flask, extension: LlmCost, settings: Settings, db: SQLAlchemy | None
    ) -> None:
        self.settings = settings
        self.extension = extension
        self.clock: Callable[[], dt.datetime] = utc_now
        """Gives the time of a call that is sent now (aware UTC)."""
        self.origin = Origin(self, None)
        """The origin of calls that are sent now, outside of a request."""
        self.pending_error: LlmCostError | None = None
        """What a setting asks to raise, but had to wait for the next send."""
        self._db = db
        # The app owns this state. A reference back would keep apps of factories alive
        # through the writer thread.
        self._app = weakref.ref(app)
        self._root_path = Path(app.root_path)
        self._instance_path = app.instance_path
        self._lock = threading.Lock()
        self._late: deque[tuple[Call, Origin]] = deque()
        self._storing = threading.RLock()
        self._ledger: Ledger | None = None
        self._book: PriceBook | None = None
        self._warned: set[_ModelKey] = set()
        self.enforcer = Enforcer(
            defined(settings) if settings.enabled else (),
            ledger=lambda: self.ledger,
            price=self._price,
            app=self._app,
            callback=settings.on_budget_exceeded,
        )
        self._silent_until = 0.0
        self._unsaid = 0
        self._closed = False
        _all_states.add(self)
        if settings.enabled:
            # Other storages than a ledger have calls that are due at the end, too.
            _settle_at_exit()

    @property
    def collected(self) -> list[Call] | None:
        """Where calls go instead of the ledger, while a test records them."""
        return self.origin.collected

    @collected.setter
    def collected(self, calls: list[Call] | None) -> None:
        self.origin = Origin(self, calls)

    @property
    def app(self) -> Flask | None:
        """The app, unless it is gone already."""
        return self._app()

    @property
    def in_use(self) -> bool:
        """Whether there is an app that this is the state of, and that may still call."""
        app = self._app()
        if self._closed or app is None:
            return False
        # Else a wrong setting stopped its set-up.
        return app.extensions.get("llm_cost") is self

    @property
    def ledger(self) -> Ledger:
        """The app's ledger; nothing is opened before its first use."""
        if self._ledger is None:
            with self._lock:
                if self._ledger is None:
                    self._ledger = self._open_ledger()
        return self._ledger

    def _open_ledger(self) -> Ledger:
        from .ledger import open_ledger

        _settle_at_exit()
        return open_ledger(
            self.settings,
            instance_path=self._instance_path,
            host_engine=self._host_engine if self._has_host_engine() else None,
            failed=self.storage_failed,
            gather=self.gather,
            budgeting=self._budgeting(),
        )

    def _budgeting(self) -> Budgeting | None:
        from .budgets.maintenance import Budgeting

        enforcer = self.enforcer
        settings, send = self.settings, None
        if not enforcer.budgets or settings.storage != "database":
            return None
        if settings.alert_webhook_url is not None:
            from .budgets.webhook import Webhook

            send = Webhook(
                settings.alert_webhook_url,
                secret=settings.alert_webhook_secret,
                private=settings.alert_allow_private,
            )
        return Budgeting(
            enforcer.budgets,
            enforcer.limit,
            enforcer.told,
            send,
            asked=enforcer.limit_asked,
        )

    def _price(
        self,
        provider: str,
        model: str,
        usage: Usage,
        at: dt.datetime,
        tier: str | None,
    ) -> Decimal | None:
        quote = self.book.quote(provider, model, usage, at=at, service_tier=tier)
        return None if quote.cost is None else quote.cost.total_usd

    def _has_host_engine(self) -> bool:
        app = self._app()
        if self.settings.database_uri is not None:
            return False
        return self._db is not None or (
            app is not None and "sqlalchemy" in app.extensions
        )

    def _host_engine(self) -> sa.Engine:
        app = self._app()
        if app is None:
            raise LlmCostError("The app of this ledger is gone.")
        db: SQLAlchemy = self._db or app.extensions["sqlalchemy"]
        with app.app_context():
            engines = db.engines
        bind = self.settings.bind_key
        if bind not in engines:
            known = (
                ", ".join(repr(name) for name in engines if name is not None) or "none"
            )
            raise ConfigError(
                f"{PREFIX}BIND_KEY is {bind!r}, which is no bind of SQLALCHEMY_BINDS"
                f" (there: {known})."
            )
        return engines[bind]

    @property
    def book(self) -> PriceBook:
        """The prices in force: overrides, then the price file, then the bundled book."""
        if self._book is None:
            with self._lock:
                if self._book is None:
                    self._book = self._open_book()
        return self._book

    def _open_book(self) -> PriceBook:
        from .prices import PriceBook

        file = self.settings.prices_file
        return PriceBook.layered(
            overrides=self.settings.price_overrides,
            # As with app.config.from_file: relative to the app, not to where it was started.
            file=None if file is None else self._root_path / file,
            aliases=self.settings.model_aliases,
            setting="LLM_COST_PRICES_FILE",
        )

    def record(self, call: Call, origin: Origin) -> None:
        """Hand a priced call to where this app keeps its calls. Never raises."""
        error = self.store(call, origin)
        if error is not None:
            self.enforcer.raise_later(call, error)

    def store(
        self,
        call: Call,
        origin: Origin,
        *,
        tracked: bool = False,
        enforced: bool = False,
    ) -> BudgetExceeded | None:
        """As :meth:`store`; the error, if a budget that raises is spent with this call.

        :param tracked: The app tells of it by hand, and is there to be told.
        :param enforced: Its budgets admitted it before.
        """
        # Storage may be the app's own: whatever it raises, the app's call goes on.
        try:
            if origin.collected is not None:
                origin.collected.append(call)
                return None
            storage, enforcer = self.settings.storage, self.enforcer
            if storage == "database":
                if not enforcer.budgets:
                    self.ledger.append(call)
                    return None
                now = enforcer.stops and enforcer.at_once(call, tracked=tracked)
                written = self.ledger.append(call, now=now)
                return enforcer.after(
                    call, written=written, tracked=tracked, enforced=enforced
                )
            if not self._hand_over(call, storage) or not enforcer.budgets:
                return None
            return enforcer.without_ledger(call)
        except Exception as error:
            if of_signal(error):
                raise
            self.storage_failed(call, error)
            return None

    def record_tracked(self, call: Call, origin: Origin, *, enforce: bool) -> None:
        """Keep a call that the app tells of by hand, and tell the app.

        :param enforce: Only if the budgets that block have room for it.
        :raises BudgetExceeded: If they have not; or if one that raises or blocks is spent
            with this call, which is kept.
        """
        if enforce and origin.collected is None:
            self.enforcer.admit(call)
        try:
            exceeded = self.store(call, origin, tracked=True, enforced=enforce)
        except BaseException:
            # A signal or Ctrl-C, which are the app's. The call waits in memory.
            self.defer(call, origin)
            raise
        self.notify(call, origin)
        if exceeded is not None:
            raise exceeded

    def _hand_over(self, call: Call, storage: t.Any) -> bool:
        """Give a call to another storage; whether budgets are to look at it."""
        if callable(storage):
            return storage(call) is not False
        if storage == "log":
            from .files.log_line import log_line

            _calls_log.log(self.settings.log_level, "%s", log_line(call))
        else:
            self.ledger.append(call)
        return True

    def notify(self, call: Call, origin: Origin) -> None:
        """Tell the app, and the request that sent it, of a call that was recorded."""
        if origin.request is not None:
            origin.request.add(call)
        if is_unpriced(call):
            self.price_unknown(call)
        app = self._app()
        if app is not None:
            signals.send(signals.call_recorded, app, call=call)

    def defer(self, call: Call, origin: Origin) -> None:
        """Take a call that ended inside ``__del__``: no lock, no I/O, nothing is asked."""
        self._late.append((call, origin))

    def record_deferred(self) -> None:
        """Keep the calls that ended where they could not be kept. Never raises."""
        while self._late:
            # Held until the call is kept, so that no flush in between finds neither.
            with self._storing:
                try:
                    call, origin = self._late.popleft()
                except IndexError:
                    return
                call = priced(self, call)
                self.record(call, origin)
            # Not inside: receivers are the app's code, and may ask the ledger.
            self.notify(call, origin)

    def gather(self) -> None:
        """Bring in the calls that are due: the ledger asks before it writes."""
        from .capture.meter import settle

        settle(_LINGER_S)
        self.record_deferred()

    def quote(self, call: Call, mode: str | None) -> Quote:
        """What a call cost if a price is known, and what is to be noted of it.

        :raises ValueError: If ``mode`` is given and is none that there is.
        """
        usage_by_model = call.usage_by_model if call.reported_cost is None else {}
        return self.book.quote_call(call, mode, usage_by_model)

    def storage_failed(self, call: Call | None, error: Exception) -> None:
        """A call could not be stored where it should be: say so as the app asked for.

        :param call: ``None`` if nothing is lost: calls wait in the spool for now.
        """
        if self.settings.on_storage_error != "ignore":
            self._say_failed(call, error)
        if self.settings.on_storage_error == "raise" and call is not None:
            self.pending_error = _storage_error(error)
        app = self._app()
        if app is not None:
            signals.send(signals.storage_failed, app, call=call, error=error)

    def _say_failed(self, call: Call | None, error: Exception) -> None:
        """A disk that is full fails each call: the log says so now and then."""
        if call is None:
            _log.warning("Calls wait in the spool: %s", error)
            return
        if time.monotonic() < self._silent_until:
            self._unsaid += 1
            return
        more = f" (and {self._unsaid} before it)" if self._unsaid else ""
        self._silent_until, self._unsaid = time.monotonic() + _SILENT_S, 0
        _log.warning("A call could not be stored%s: %s", more, error)

    def price_unknown(self, call: Call) -> None:
        """A call with usage has no price: say so as the app asked for."""
        key = (call.provider, call.model)
        if self.settings.on_unknown_price == "warn" and key not in self._warned:
            # Bounded: model names come from outside.
            if len(self._warned) < 1000:
                self._warned.add(key)
                _log.warning(
                    "%s This call is recorded without a cost.", UnknownPrice(*key)
                )
        elif self.settings.on_unknown_price == "raise":
            self.pending_error = UnknownPrice(*key)
        app = self._app()
        if app is not None:
            signals.send(signals.price_unknown, app, call=call)

    def after_fork(self) -> None:
        """In a forked child: what the parent was about to keep is the parent's."""
        self._lock = threading.Lock()
        self._storing = threading.RLock()
        self._late.clear()

    def close(self) -> None:
        """Write what waits, then let go of files, threads and connections."""
        self._closed = True
        self.record_deferred()
        if self._ledger is not None:
            self._ledger.close()

    def tend(self, error: BaseException | None) -> None:
        """At an app context's end: store what waits, where no thread does that."""
        if self._ledger is not None:
            self._ledger.tend()

    def raise_pending(self) -> None:
        """Raise what an earlier call's end could not.

        :raises LlmCostError: Once for each such error.
        """
        error, self.pending_error = self.pending_error, None
        if error is not None:
            raise error


def _settle_at_exit() -> None:
    """Have open calls recorded at the end, before what was registered until now.

    So the ledger, where there is one, is imported first: its last flush comes after it.
    """
    atexit.unregister(_settle_all)
    atexit.register(_settle_all)


def _settle_all() -> None:
    from .capture.meter import settle

    settle(0, ending=True)
    for state in _all_states:
        state.record_deferred()


class States:
    """States of apps, for as long as those live, in the order of their set-up.

    One thread may set up an app while another looks through them.
    """

    def __init__(self) -> None:
        # The copy of its references is made in one step; that of a WeakSet is not.
        self._held: weakref.WeakValueDictionary[int, AppState] = (
            weakref.WeakValueDictionary()
        )

    def add(self, state: AppState) -> None:
        self._held[id(state)] = state

    def __iter__(self) -> Iterator[AppState]:
        for reference in self._held.valuerefs():
            state = reference()
            if state is not None:
                yield state


_all_states: t.Final = States()


def living() -> list[AppState]:
    """Of every app of this process that is in use, whichever object serves it."""
    return [state for state in _all_states if state.in_use]


def _after_fork() -> None:
    for state in _all_states:
        state.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def is_unpriced(call: Call) -> bool:
    """Whether it used something of which no price is known."""
    return call.usage is not None and call.cost is None


def utc_now() -> dt.datetime:
    """The time, aware."""
    return dt.datetime.now(dt.UTC)


def _storage_error(error: Exception) -> StorageError:
    if isinstance(error, StorageError):
        return error
    storage_error = StorageError(f"A call could not be stored: {error}")
    storage_error.__cause__ = error
    return storage_error


def priced(state: AppState, call: Call, mode: str | None = None) -> Call:
    """The call with its cost; its trace id leaves the tags for a column of its own."""
    cost, flags = call.cost, call.flags
    if call.usage is not None or call.reported_cost is not None:
        try:
            cost, noted = state.quote(call, mode)
        except Exception:
            if mode is not None:
                raise
            # A call that cannot be priced for whatever reason must still be kept.
            _log.exception(
                "A call of %s/%s could not be priced.", call.provider, call.model
            )
            noted = frozenset(("price_error", "unpriced"))
        if mode is not None and cost is None:
            from .prices.again import asked

            # Whoever prices it later must know.
            noted = noted | {asked(mode)}
        flags = flags | noted
    tags = call.tags
    if TRACE_KEY in tags:
        tags = {key: value for key, value in tags.items() if key != TRACE_KEY}
    return call.priced(cost, flags, tags)
