"""Every kind of lock, held by someone else for as long as it takes: no call waits for it.

What is spent is known nevertheless: from the database if it can be read, otherwise from what
this process has seen.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy import exc

from flask_llm_cost import wait_limit
from flask_llm_cost.errors import BudgetExceeded
from flask_llm_cost.errors import StorageError
from flask_llm_cost.ledger import Ledger
from tests.conftest import MakeApp
from tests.db.test_timeouts import go_on_querying

from .test_enforcement import extension_of
from .test_enforcement import spend
from .test_locked import ATTEMPT
from .test_locked import ENTRY

WINDOWS = "llm_cost_budget_windows"
CALL_S = 0.1
"""How long calls wait here. Without a limit they wait until the lock is released, which is
never."""

Lock: t.TypeAlias = "Callable[[sa.Engine], contextlib.AbstractContextManager[None]]"


def statements(*before: str, after: tuple[str, ...] = ()) -> Lock:
    """A lock that some statements take, in a transaction that is open as long."""

    @contextlib.contextmanager
    def hold(engine: sa.Engine) -> Iterator[None]:
        with engine.connect() as connection:
            for each in before:
                connection.exec_driver_sql(each)
            yield
            connection.rollback()
            for each in after:
                connection.exec_driver_sql(each)
                connection.commit()

    return hold


@contextlib.contextmanager
def altering(engine: sa.Engine) -> Iterator[None]:
    """An ALTER TABLE that waits for a reader: all others wait for it."""

    def alter() -> None:
        with contextlib.suppress(exc.SQLAlchemyError), engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {WINDOWS} ADD COLUMN x INT")

    with engine.connect() as reader:
        reader.exec_driver_sql(f"SELECT * FROM {WINDOWS}").all()
        thread = threading.Thread(target=alter)
        thread.start()
        waiting = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE"
        with engine.connect() as other:
            while not other.exec_driver_sql(f"{waiting} 'ALTER TABLE%%'").scalar():
                time.sleep(0.01)
        yield
        reader.rollback()
    thread.join()


def sqlite(mode: str) -> Lock:
    @contextlib.contextmanager
    def hold(engine: sa.Engine) -> Iterator[None]:
        connection = sqlite3.connect(engine.url.database or "", isolation_level=None)
        connection.execute(f"BEGIN {mode}")
        yield
        connection.close()

    return hold


POSTGRESQL_SLEEP = (
    "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN PERFORM pg_sleep(1.5); RETURN NEW; END'",
    f"CREATE TRIGGER nap BEFORE UPDATE ON {WINDOWS} FOR EACH ROW EXECUTE FUNCTION nap()",
    "COMMIT",
)

LOCKS: dict[str, tuple[str, bool, Lock]] = {
    "immediate": ("SQLITE", True, sqlite("IMMEDIATE")),
    "exclusive": ("SQLITE", True, sqlite("EXCLUSIVE")),
    "postgresql rows": (
        "POSTGRESQL",
        True,
        statements(f"SELECT * FROM {WINDOWS} FOR UPDATE"),
    ),
    "postgresql share": (
        "POSTGRESQL",
        True,
        statements(f"LOCK TABLE {WINDOWS} IN SHARE MODE"),
    ),
    "postgresql table": (
        "POSTGRESQL",
        False,
        statements(f"LOCK TABLE {WINDOWS} IN ACCESS EXCLUSIVE MODE"),
    ),
    "postgresql sleep": (
        "POSTGRESQL",
        True,
        statements(*POSTGRESQL_SLEEP, after=("DROP FUNCTION nap CASCADE",)),
    ),
    "mariadb rows": (
        "MARIADB",
        True,
        statements(f"SELECT * FROM {WINDOWS} FOR UPDATE"),
    ),
    "mariadb table": (
        "MARIADB",
        False,
        statements(f"LOCK TABLES {WINDOWS} WRITE", after=("UNLOCK TABLES",)),
    ),
    "mariadb metadata": ("MARIADB", False, altering),
    "mariadb sleep": (
        "MARIADB",
        True,
        statements(
            f"CREATE TRIGGER nap BEFORE UPDATE ON {WINDOWS} FOR EACH ROW"
            " SET NEW.name = IF(SLEEP(1.5), NEW.name, NEW.name)",
            after=("DROP TRIGGER nap",),
        ),
    ),
}
"""The database, whether its tables can still be read, and how it is locked."""

every_lock = pytest.mark.parametrize(
    ("empty_database", "lock"),
    [(each[0], name) for name, each in LOCKS.items()],
    indirect=["empty_database"],
    ids=list(LOCKS),
)


@pytest.fixture
def make(make_app: MakeApp, empty_database: str | None) -> Callable[..., Flask]:
    """Make apps of one ledger, each as of a process of its own."""
    folder: list[str] = []

    def make(**entry: t.Any) -> Flask:
        app = make_app(
            LLM_COST_DATABASE_URI=empty_database, LLM_COST_BUDGETS=[ENTRY | entry]
        )
        if folder:
            ledger_of(app)._engines._instance_path = folder[0]
        else:
            ledger_of(app).schema.upgrade()
        folder.append(app.instance_path)
        return app

    return make


def ledger_of(app: Flask) -> Ledger:
    return t.cast(Ledger, app.extensions["llm_cost"].ledger)


@contextlib.contextmanager
def locked(app: Flask, name: str) -> Iterator[None]:
    engine = sa.create_engine(ledger_of(app)._engines.location.url)
    with LOCKS[name][2](engine):
        yield
    engine.dispose()


def begin(
    app: Flask, monkeypatch: pytest.MonkeyPatch, *, seconds: float = CALL_S
) -> None:
    """Send a call, which must not wait."""
    with monkeypatch.context() as real, app.app_context():
        real.setattr(wait_limit, "CALL_SECONDS", seconds)
        assert extension_of(app).begin(ATTEMPT)


def track(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """End a call whose budget raises, which must not wait either."""
    with monkeypatch.context() as real, app.app_context():
        real.setattr(wait_limit, "CALL_SECONDS", CALL_S)
        extension_of(app).track(provider="openai", model="gpt-4o", reported_cost="0.1")


@every_lock
def test_no_call_waits(
    make: Callable[..., Flask], lock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, closed, raising = make(), make(on_error="closed"), make(behavior="raise")
    for app in (opened, closed, raising):
        spend(app, "0.1")
        assert ledger_of(app).flush(60)
    with locked(opened, lock):
        for app in (opened, make(), opened):
            begin(app, monkeypatch)
        for _ in range(2):
            with pytest.raises(StorageError):
                begin(closed, monkeypatch)
            track(raising, monkeypatch)
    with closed.app_context():
        go_on_querying(ledger_of(closed)._engines)
        assert extension_of(closed).begin(ATTEMPT)
    with raising.app_context():
        assert extension_of(raising).flush(60)
        assert extension_of(raising).calls.count() == 5


@every_lock
def test_what_is_spent_is_refused(
    make: Callable[..., Flask], lock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm, cold = make(), make()
    with pytest.raises(BudgetExceeded):
        spend(warm, "1")
    with locked(warm, lock):
        for app in (warm, cold, warm) if LOCKS[lock][1] else (warm, warm):
            # A process that has seen nothing yet reads what is spent before it waits.
            seconds = 1.0 if app is cold else CALL_S
            with pytest.raises(BudgetExceeded, match="is exceeded"):
                begin(app, monkeypatch, seconds=seconds)


def test_a_fresh_file_that_is_locked_is_not_waited_for(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(LLM_COST_BUDGETS=[ENTRY])
    path = ledger_of(app)._engines.location.url.database
    assert path is not None
    ledger_of(app).folder.parent.mkdir(parents=True)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for _ in range(2):
        begin(app, monkeypatch)
    other.close()
