"""What one app holds: its settings, prices, budgets and ledger."""

from __future__ import annotations

import datetime as dt
import threading
import typing as t
import weakref
from collections.abc import Callable
from pathlib import Path

from flask import Flask

from .apps import NAME
from .apps import register
from .apps import settle_at_exit
from .budgets.enforcement import Enforcer
from .budgets.policy import Policy
from .config import Settings
from .errors import LlmCostError
from .host_engine import find_database
from .host_engine import find_engine
from .intake import Intake
from .interrupts import Section
from .scope import new_hash_key

if t.TYPE_CHECKING:
    import sqlalchemy as sa

    from .bound import Bound
    from .call import Call
    from .extension import LlmCost
    from .prices import PriceBook
    from .prices.ceiling import RequestCeiling
    from .request import RequestCost
    from .storage import Storage

_TEST_HASH_KEY: t.Final = new_hash_key()
"""The key of fingerprints in calls that a test collects. They are not stored."""

_LINGER_S: t.Final = 1.0
"""How long to wait for the end of a stream after its final usage event."""


class Origin(t.NamedTuple):
    """Where a call came from, as of the moment it was sent."""

    state: AppState
    collected: list[Call] | None
    """Where calls go instead, if a test was recording calls."""
    request: RequestCost | None = None
    """The request that sent it."""


class AppState:
    """What one app holds, in ``app.extensions["llm_cost"]``."""

    def __init__(
        self, app: Flask, extension: LlmCost, settings: Settings, db: object | None
    ) -> None:
        self.settings = settings
        self.extension = extension
        self.clock: Callable[[], dt.datetime] = utc_now
        """The current time (aware UTC)."""
        self.origin = Origin(self, None)
        """The origin of calls that are sent outside of a request."""
        self.intake = Intake(self)
        self._db = db
        # Weak, because the writer thread would otherwise keep apps of factories alive.
        self._app = weakref.ref(app)
        self._root_path = Path(app.root_path)
        self._instance_path = app.instance_path
        self._lock = threading.RLock()
        self.preparing = Section()
        """Opening the ledger or the prices, which imports modules, or pricing a call."""
        self._ledger: Storage | None = None
        self._destination: tuple[object, ...] | None = None
        self._book: PriceBook | None = None
        self.enforcer = Enforcer(
            Policy.read(settings, self._app),
            ceiling=self._ceiling,
            stored=lambda: self.ledger.budgets,
        )
        self._closed = False
        register(self)
        if settings.enabled:
            # Without a ledger, too: open calls are recorded at exit in any storage.
            settle_at_exit()

    @property
    def collected(self) -> list[Call] | None:
        """Where calls go instead of the ledger while a test records them."""
        return self.origin.collected

    @collected.setter
    def collected(self, calls: list[Call] | None) -> None:
        self.origin = Origin(self, calls)

    @property
    def app(self) -> Flask | None:
        """The app, unless it has been garbage-collected."""
        return self._app()

    @property
    def in_use(self) -> bool:
        """Whether the app is alive and may still make calls."""
        app = self._app()
        if self._closed or app is None:
            return False
        # False if a wrong setting stopped its set-up.
        return app.extensions.get(NAME) is self

    @property
    def destination(self) -> tuple[object, ...] | None:
        """Where its calls go, and at which prices; ``None`` if that is not known.

        Apps with the same destination are equally good for a call.
        """
        if self._destination is None:
            self._destination = self._find_destination()
        collected = self.origin.collected
        found = self._destination
        return found and (*found, None if collected is None else id(collected))

    def _find_destination(self) -> tuple[object, ...] | None:
        settings, where = self.settings, t.cast("object", self.settings.storage)
        if where == "database":
            where = self.ledger.queue and self.ledger.queue.destination
            if where is None:
                return None
        elif where == "jsonl":
            where = str(self.ledger.folder)
        file = settings.prices_file
        return (
            settings.enabled,
            where,
            settings.price_overrides,
            None if file is None else self._root_path / file,
            settings.model_aliases,
        )

    @property
    def ledger(self) -> Storage:
        """The app's ledger, opened when it is first used."""
        if self._ledger is None:
            with self.preparing, self._lock:
                if self._ledger is None:
                    made = self._open_ledger()
                    # A signal handler may have opened one meanwhile.
                    self._ledger = self._ledger or made
        return self._ledger

    def _open_ledger(self) -> Storage:
        ledger: Storage
        if self.settings.storage == "jsonl":
            from .files.monthly import JsonlLedger

            ledger = JsonlLedger(
                self.settings,
                instance_path=self._instance_path,
                failed=self.intake.storage_failed,
                gather=self.gather,
            )
        else:
            from .ledger import Ledger

            counts = self.settings.storage == "database" and self.enforcer.budgets
            ledger = Ledger(
                self.settings,
                instance_path=self._instance_path,
                host_engine=self._host_engine if self._has_host_engine() else None,
                failed=self.intake.storage_failed,
                gather=self.gather,
                policy=self.enforcer.policy if counts else None,
            )
        settle_at_exit()  # before the ledger's own hook, which is registered by now
        return ledger

    @property
    def stores_in_database(self) -> bool:
        """Whether calls go to a database, not to a file, the app or a test."""
        return self.collected is None and self.settings.storage == "database"

    @property
    def hash_key(self) -> str | None:
        """The key of fingerprints of API keys; ``None`` if there is none, or not yet.

        It never waits for a database.
        """
        if self.collected is not None:
            return _TEST_HASH_KEY
        if self.settings.storage in ("database", "jsonl"):
            return self.ledger.hash_key
        return None

    def preload(self) -> None:
        """Import now what the first call would wait for, if a budget may stop it.

        This opens no database.
        """
        if self.settings.storage == "database" and self.enforcer.stops:
            from .db.connections import load_driver

            self.ledger.budgets  # noqa: B018
            if self.settings.database_uri is not None:
                load_driver(self.settings.database_uri)

    def wake_writer(self) -> None:
        """Start the ledger's writer, if it has one that does not run yet."""
        queue = self.ledger.queue
        if queue is not None:
            queue.wake()

    def _ceiling(
        self, provider: str, model: str, bound: Bound, at: dt.datetime
    ) -> RequestCeiling:
        from .prices.ceiling import request_ceiling

        return request_ceiling(self.book, provider, model, bound, at)

    def _has_host_engine(self) -> bool:
        app = self._app()
        return (
            self.settings.database_uri is None
            and app is not None
            and find_database(app, self._db) is not None
        )

    def _host_engine(self) -> sa.Engine | None:
        app = self._app()
        if app is None:
            raise LlmCostError(
                "The Flask app that owns this ledger has been garbage-collected."
            )
        db = find_database(app, self._db)
        return None if db is None else find_engine(self.settings, app, db)

    @property
    def book(self) -> PriceBook:
        """The prices: overrides, then the price file, then the bundled book."""
        if self._book is None:
            with self.preparing, self._lock:
                if self._book is None:
                    self._book = self._open_book()
        return self._book

    def _open_book(self) -> PriceBook:
        from .prices import PriceBook

        file = self.settings.prices_file
        return PriceBook.layered(
            overrides=self.settings.price_overrides,
            # As with app.config.from_file: relative to the app, not the working directory.
            file=None if file is None else self._root_path / file,
            aliases=self.settings.model_aliases,
            setting="LLM_COST_PRICES_FILE",
        )

    def gather(self, timeout: float) -> bool:
        """Record the calls that are due. The ledger calls this before it writes.

        :param timeout: How many seconds to wait for a thread that is recording one.
        :return: Whether the ledger has all calls that ended so far.
        """
        from .capture.meter import settle

        settle(_LINGER_S)
        return self.intake.record_deferred(wait=timeout)

    def after_fork(self) -> None:
        """In a forked child: replace the locks, which another thread may have held."""
        self._lock = threading.RLock()
        self.intake.after_fork()

    def close(self) -> None:
        """Store what is queued, then close files, threads and connections."""
        self._closed = True
        self.intake.record_deferred()
        if self._ledger is not None:
            self._ledger.close()

    def end_context(self, error: BaseException | None) -> None:
        """At the end of an app context: store what is queued, if no thread does that."""
        queue = None if self._ledger is None else self._ledger.queue
        if queue is not None:
            queue.tend()


def utc_now() -> dt.datetime:
    """The current time (aware UTC)."""
    return dt.datetime.now(dt.UTC)
