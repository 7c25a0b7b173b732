"""A database that is locked by someone else: no call waits for it for long."""

from __future__ import annotations

import signal
import sqlite3
import typing as t

import pytest
import sqlalchemy as sa
from flask import current_app
from flask import Flask
from flask import has_app_context

from flask_llm_cost import interrupts
from flask_llm_cost.attempt import Attempt
from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.db.query_threads import QueryThreads
from flask_llm_cost.errors import BudgetExceeded
from flask_llm_cost.errors import StorageError
from tests.conftest import MakeApp

from .test_enforcement import extension_of
from .test_enforcement import spend

ATTEMPT = Attempt("openai", "chat", "gpt-4o")
ENTRY = {"name": "x", "limit_usd": 1, "behavior": "block", "estimate": "0.1"}


def locking(app: Flask) -> sqlite3.Connection:
    path = app.extensions["llm_cost"].ledger._engines.location.url.database
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def blocking(make_app: MakeApp, **entry: t.Any) -> Flask:
    return make_app(LLM_COST_BUDGETS=[ENTRY | entry])


def begin(app: Flask) -> None:
    """Send a call."""
    with app.app_context():
        assert extension_of(app).begin(ATTEMPT)


def test_a_spent_budget_refuses_while_the_database_is_locked(
    make_app: MakeApp,
) -> None:
    app = blocking(make_app)
    with pytest.raises(BudgetExceeded):
        spend(app, "1")
    lock = locking(app)
    try:
        for _ in range(4):
            with pytest.raises(BudgetExceeded, match="is exceeded"):
                begin(app)
    finally:
        lock.close()


@pytest.mark.parametrize("on_error", ["open", "closed"])
def test_on_error_decides_while_the_database_is_locked(
    make_app: MakeApp, on_error: str
) -> None:
    app = blocking(make_app, on_error=on_error)
    spend(app, "0.1")
    lock = locking(app)
    try:
        if on_error == "open":
            begin(app)
        else:
            with pytest.raises(StorageError, match="locked"):
                begin(app)
    finally:
        lock.close()
    begin(app)


def test_a_synchronous_write_does_not_wait_for_a_lock(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_WRITE="sync")
    spend(app, "0.1")
    lock = locking(app)
    with app.app_context():
        llm_cost = extension_of(app)
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=5)
        lock.close()
        assert llm_cost.flush(60)
        assert llm_cost.calls.count() == 2


@pytest.mark.parametrize("on_error", ["open", "closed"])
def test_a_signal_handler_asks_no_database(
    make_app: MakeApp, on_error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = blocking(make_app, on_error=on_error)
    spend(app, "0.1")
    asked: list[object] = []
    monkeypatch.setattr(QueryThreads, "run", lambda *question: asked.append(question))
    monkeypatch.setattr(interrupts, "_recent", (-1.0, frozenset()))
    raised: list[Exception] = []

    def handler(number: int, frame: object) -> None:
        try:
            begin(app)
        except StorageError as error:
            raised.append(error)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert asked == []
    assert len(raised) == (on_error == "closed")


def test_what_was_sent_unreserved_is_reserved_as_soon_as_possible(
    make_app: MakeApp,
) -> None:
    app = blocking(make_app)
    spend(app, "0.1")
    lock = locking(app)
    begin(app)
    lock.close()
    budgets = app.extensions["llm_cost"].ledger.budgets
    assert budgets is not None
    budgets.reservations.catch_up()
    with app.extensions["llm_cost"].ledger.reading() as connection:
        (row,) = connection.execute(sa.select(budget_windows))
    assert row.reserved == 10**11


class Alarm(Exception):
    """What an app's signal handler raises."""


def test_an_interrupted_limit_leaves_no_app_context(make_app: MakeApp) -> None:
    app = blocking(make_app)
    policy = app.extensions["llm_cost"].enforcer.policy
    pushed: list[object] = []

    def push(argument: object) -> None:
        # As if a signal came before the app context could be popped.
        app.app_context().push()
        pushed.append(current_app._get_current_object())  # type: ignore[attr-defined]
        raise Alarm

    with pytest.raises((Alarm, AssertionError)):
        policy._in_app(push, None)
    assert pushed == [app]
    assert not has_app_context()
