"""The app's callables run in an app context, whose end releases nothing of a request."""

from __future__ import annotations

import threading
import typing as t

import pytest
from flask import Flask
from flask import g

from flask_llm_cost import BudgetExceeded
from flask_llm_cost.budgets import Alert
from tests.conftest import MakeApp


class Session:
    """A session of the app, as ``scoped_session`` has one for each thread.

    As in https://flask.palletsprojects.com/en/stable/patterns/sqlalchemy/.
    """

    def __init__(self, app: Flask) -> None:
        self._local = threading.local()
        app.teardown_appcontext(lambda error: vars(self._local).clear())

    @property
    def new(self) -> list[str]:
        """What is added and not committed yet."""
        return t.cast("list[str]", vars(self._local).setdefault("new", []))


@pytest.mark.parametrize("behavior", ["raise", "block"])
def test_callables_leave_the_callers_session_alone(
    make_app: MakeApp, behavior: str
) -> None:
    seen: list[list[str]] = []
    alerted: list[Alert] = []

    def limit(tags: t.Any) -> str:
        seen.append(list(session.new))
        session.new.append("from the limit")
        return "1"

    def alert(found: Alert) -> None:
        alerted.append(found)
        seen.append(list(session.new))

    app = make_app(
        LLM_COST_BUDGETS=[{"name": "x", "limit_usd": limit, "behavior": behavior}],
        LLM_COST_ON_BUDGET_EXCEEDED=alert,
    )
    session = Session(app)
    with app.app_context():
        session.new.append("an order")
        for _ in range(2):
            with pytest.raises(BudgetExceeded):
                app.extensions["llm_cost"].extension.track(
                    provider="openai", model="gpt-4o", reported_cost="2"
                )
        assert session.new == ["an order"]
    assert len(alerted) == 2
    assert not any(seen)


def test_a_teardown_function_that_fails_does_not_change_a_limit(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(
        LLM_COST_BUDGETS=[
            {"name": "x", "limit_usd": lambda tags: "1", "behavior": "block"}
        ]
    )

    @app.teardown_appcontext
    def close(error: BaseException | None) -> None:
        g.connection.close()

    with app.app_context():
        g.connection = t.cast(t.Any, open("/dev/null"))
        with pytest.raises(BudgetExceeded):
            app.extensions["llm_cost"].extension.track(
                provider="openai", model="gpt-4o", reported_cost="2"
            )
    assert "A teardown function of the app raised AttributeError" in caplog.text
