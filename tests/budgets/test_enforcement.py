"""Budgets in an app: notifications, errors, refused calls."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import threading
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost import LlmCost
from flask_llm_cost import signals
from flask_llm_cost.attempt import Attempt
from flask_llm_cost.budgets import Alert
from flask_llm_cost.call import Call
from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.db.budget_tables import budgets as budgets_table
from flask_llm_cost.db.budget_tables import outbox
from flask_llm_cost.errors import BudgetExceeded
from flask_llm_cost.errors import StorageError
from flask_llm_cost.errors import UnknownPrice
from flask_llm_cost.testing import record_calls
from tests.conftest import MakeApp
from tests.query.vectors import vectors

BEHAVIORS = {"block_requests": "block", "raise": "raise", "notify": "notify"}
PERIODS = {"monthly": "month", "daily": "day", "per_call": "call"}


class Callback(list[Alert]):
    """An app's callback, and the alerts that it received."""

    def __call__(self, alert: Alert) -> None:
        self.append(alert)


@pytest.fixture
def alerts() -> Callback:
    return Callback()


def extension_of(app: Flask) -> LlmCost:
    return t.cast(LlmCost, app.extensions["llm_cost"].extension)


def spend(app: Flask, usd: object, **options: t.Any) -> Call:
    with app.app_context():
        llm_cost = extension_of(app)
        try:
            return llm_cost.track(
                provider="openai", model="gpt-4o", reported_cost=str(usd), **options
            )
        finally:
            assert llm_cost.flush(60)


@pytest.mark.parametrize("vector", vectors("misc.json", "budget"))
def test_the_predecessors_cases_hold(
    make_app: MakeApp, alerts: Callback, vector: dict[str, t.Any]
) -> None:
    config = vector["config"]
    app = make_app(
        LLM_COST_STORAGE="log" if config["storage_backend"] == "log" else "database",
        LLM_COST_MONTHLY_BUDGET=config.get("monthly_budget"),
        LLM_COST_DAILY_BUDGET=config.get("daily_budget"),
        LLM_COST_CALL_BUDGET=config.get("per_call_budget"),
        LLM_COST_BUDGET_BEHAVIOR=BEHAVIORS[
            config.get("budget_exceeded_behavior", "notify")
        ],
        LLM_COST_ON_BUDGET_EXCEEDED=alerts,
    )
    for call, expected in zip(
        vector["calls"], vector["expected"]["calls"], strict=True
    ):
        alerts.clear()
        raised = None
        try:
            if call == "enforce":
                with app.app_context():
                    extension_of(app).enforce_budget()
            else:
                spend(app, Decimal(repr(call)))
        except BudgetExceeded as error:
            raised = error
        assert (raised is not None) == (expected["error"] is not None)
        assert [
            (a.period, a.spent_usd, a.limit_usd, a.call is not None) for a in alerts
        ] == [
            (
                PERIODS[c["budget_type"]],
                Decimal(repr(c["total"])),
                Decimal(repr(c["budget"])),
                c["has_event"],
            )
            for c in expected["callbacks"]
        ]
    if config["storage_backend"] != "log":
        with app.app_context():
            assert extension_of(app).calls.count() == vector["expected"]["rows"]


def test_each_threshold_notifies_once(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_DAILY_BUDGET="1")
    passed: list[Alert] = []

    def receive(sender: Flask, alert: Alert) -> None:
        passed.append(alert)

    with (
        signals.budget_threshold.connected_to(receive, app),
        signals.budget_exceeded.connected_to(receive, app),
    ):
        for usd in ("0.4", "0.2", "0.1", "0.2", "0.2", "0.2"):
            spend(app, usd)
    assert [(a.threshold, a.spent_usd, a.exceeded) for a in passed] == [
        (Decimal("0.5"), Decimal("0.6"), False),
        (Decimal("0.8"), Decimal("0.9"), False),
        (Decimal(1), Decimal("1.1"), True),
    ]
    assert all(alert.call is not None for alert in passed)


def test_a_budget_that_raises_does_so_at_the_next_send(
    make_app: MakeApp, provider_url: str
) -> None:
    app = make_app(
        LLM_COST_DAILY_BUDGET="0.000001",
        LLM_COST_BUDGET_BEHAVIOR="raise",
        LLM_COST_PROVIDER_HOSTS={provider_url.removeprefix("http://"): "openai"},
    )
    with app.app_context(), requests.Session() as session:
        session.mount("http://", extension_of(app).adapter())
        send(session, provider_url)
        with pytest.raises(BudgetExceeded) as info:
            send(session, provider_url)
    assert info.value.call is not None
    assert info.value.spent_usd > info.value.limit_usd
    with app.app_context():
        assert extension_of(app).calls.count() == 1


def send(session: t.Any, url: str, **members: t.Any) -> t.Any:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
    return session.post(f"{url}/v1/chat/completions", json=body | members)


def test_an_error_is_not_raised_for_another_users_call(make_app: MakeApp) -> None:
    app = make_app(
        LLM_COST_BUDGETS=[
            {
                "name": "user",
                "limit_usd": "0.001",
                "tags": {"user": "*"},
                "behavior": "raise",
            }
        ]
    )
    with app.app_context():
        llm_cost = extension_of(app)

        def stream(user: str) -> None:
            with llm_cost.track_stream(
                provider="openai", model="gpt-4o", tags={"user": user}
            ) as tracked:
                tracked.usage(input_tokens=10_000, output_tokens=1000)

        stream("one")
        stream("two")
        with pytest.raises(BudgetExceeded) as info:
            stream("one")
    assert info.value.tags == {"user": "one"}


def test_a_call_is_refused_before_it_is_sent(
    make_app: MakeApp, provider_url: str, alerts: Callback
) -> None:
    app = make_app(
        LLM_COST_BUDGETS=[{"name": "small", "limit_usd": "0.002", "behavior": "block"}],
        LLM_COST_PROVIDER_HOSTS={provider_url.removeprefix("http://"): "openai"},
        LLM_COST_ON_BUDGET_EXCEEDED=alerts,
    )
    with app.app_context(), requests.Session() as session:
        llm_cost = extension_of(app)
        session.mount("http://", llm_cost.adapter())
        assert send(session, provider_url, max_tokens=50).status_code == 200
        with pytest.raises(BudgetExceeded) as info:
            send(session, provider_url, max_tokens=5000)
        assert llm_cost.flush(60)
        assert llm_cost.calls.count() == 1
    assert info.value.estimate_usd is not None
    assert info.value.estimate_usd > Decimal("0.05")
    assert info.value.call is None
    assert [alert.budget for alert in alerts] == ["small"]


def test_a_refusal_below_the_limit_has_its_own_alert(
    make_app: MakeApp, alerts: Callback
) -> None:
    entry = {"name": "x", "limit_usd": "1", "behavior": "block", "estimate": "0.35"}
    app = make_app(
        LLM_COST_BUDGETS=[entry],
        LLM_COST_ON_BUDGET_EXCEEDED=alerts,
        LLM_COST_ALERT_WEBHOOK_URL="http://127.0.0.1:1/",  # private: alerts stay queued
    )
    heard: list[Alert] = []

    def receive(sender: Flask, alert: Alert) -> None:
        heard.append(alert)

    with signals.budget_exceeded.connected_to(receive, app), app.app_context():
        llm_cost, attempt = extension_of(app), Attempt("openai", "chat", "gpt-4o")
        spend(app, "0.4")
        assert llm_cost.begin(attempt)
        for _ in range(2):
            with pytest.raises(BudgetExceeded, match="has no room for this call") as no:
                llm_cost.begin(attempt)
        assert (no.value.spent_usd, no.value.reserved_usd, no.value.estimate_usd) == (
            Decimal("0.4"),
            Decimal("0.35"),
            Decimal("0.35"),
        )
        with pytest.raises(BudgetExceeded, match="is exceeded"):
            spend(app, "0.7")
        with pytest.raises(BudgetExceeded, match="is exceeded"):
            llm_cost.begin(attempt)
        # The callback runs each time; signals and webhook alerts are sent once.
        assert llm_cost.flush(60)
    assert [alert.refused for alert in alerts] == [True, True, False, False]
    assert [(a.refused, a.exceeded, a.spent_usd) for a in heard] == [
        (True, False, Decimal("0.4")),
        (False, True, Decimal("1.1")),
    ]
    assert (
        heard[0]
        .text()
        .startswith(
            "The month budget 'x' has no room for this call: $0.4 of $1 spent,"
            " $0.35 reserved for calls in progress, $0.35 estimated for this call."
            " It resets at "
        )
    )
    ledger = app.extensions["llm_cost"].ledger
    with ledger.reading() as connection:
        (standing,) = ledger.budgets.standings(connection, dt.datetime.now(dt.UTC))
        bodies = [json.loads(b) for b in connection.scalars(sa.select(outbox.c.body))]
    assert standing.passed == (Decimal("0.5"), Decimal("0.8"), Decimal(1))
    assert sorted(body["event"] for body in bodies) == [
        "budget_exceeded",
        "budget_refused",
        "budget_threshold",
        "budget_threshold",
    ]
    (refusal,) = (body for body in bodies if body["event"] == "budget_refused")
    assert (refusal["spent_usd"], refusal["reserved_usd"]) == ("0.4", "0.35")


def test_an_enforced_stream_may_be_refused(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_MONTHLY_BUDGET="0.01", LLM_COST_BUDGET_BEHAVIOR="block")
    with pytest.raises(BudgetExceeded):
        spend(app, "0.01")
    with app.app_context():
        llm_cost = extension_of(app)
        with llm_cost.track_stream(provider="openai", model="gpt-4o") as stream:
            stream.usage(input_tokens=1)
        with pytest.raises(BudgetExceeded):
            with llm_cost.track_stream(
                provider="openai", model="gpt-4o", enforce_budget=True
            ):
                raise AssertionError("the block must not be entered")


def test_an_enforced_call_is_recorded_only_where_there_is_room(
    make_app: MakeApp,
) -> None:
    app = make_app(LLM_COST_DAILY_BUDGET="1", LLM_COST_BUDGET_BEHAVIOR="block")
    spend(app, "0.6", enforce_budget=True)
    with pytest.raises(BudgetExceeded):
        spend(app, "0.6", enforce_budget=True)
    spend(app, "0.4", enforce_budget=True)
    with app.app_context():
        assert extension_of(app).calls.total_cost() == 1


def test_unpriced_calls_may_be_refused(make_app: MakeApp, provider_url: str) -> None:
    app = make_app(
        LLM_COST_BUDGETS=[
            {"name": "x", "limit_usd": 5, "behavior": "block", "unpriced": "block"}
        ],
        LLM_COST_PROVIDER_HOSTS={provider_url.removeprefix("http://"): "openai"},
    )
    with app.app_context(), requests.Session() as session:
        session.mount("http://", extension_of(app).adapter())
        with pytest.raises(UnknownPrice):
            send(session, provider_url, model="made-up", max_tokens=5)
        assert send(session, provider_url, max_tokens=5).ok


def test_a_limit_may_be_a_callable(make_app: MakeApp) -> None:
    limits = {"small": "0.1", "big": "10"}
    app = make_app(
        LLM_COST_BUDGETS=[
            {
                "name": "tenant",
                "limit_usd": lambda tags: limits.get(tags["tenant"]),
                "tags": {"tenant": "*"},
                "behavior": "block",
            }
        ]
    )
    spend(app, "0.5", tags={"tenant": "big"}, enforce_budget=True)
    spend(app, "0.5", tags={"tenant": "other"}, enforce_budget=True)
    with pytest.raises(BudgetExceeded) as info:
        spend(app, "0.5", tags={"tenant": "small"}, enforce_budget=True)
    assert info.value.limit_usd == Decimal("0.1")
    limits["small"] = "1"
    spend(app, "0.5", tags={"tenant": "small"}, enforce_budget=True)
    ledger = app.extensions["llm_cost"].ledger
    with ledger.reading() as connection:
        assert ledger.budgets.verify(connection) == ([], 0)


def test_a_custom_storage_that_returns_false_skips_budgets(
    make_app: MakeApp, alerts: Callback
) -> None:
    answers = [False, None]
    app = make_app(
        LLM_COST_STORAGE=lambda call: answers.pop(0),
        LLM_COST_CALL_BUDGET="0.1",
        LLM_COST_ON_BUDGET_EXCEEDED=alerts,
    )
    spend(app, 1)
    assert alerts == []
    spend(app, 1)
    assert len(alerts) == 1


def test_budgets_do_not_open_a_ledger_for_other_storages(make_app: MakeApp) -> None:
    app = make_app(
        LLM_COST_STORAGE="log",
        LLM_COST_DAILY_BUDGET="1",
        LLM_COST_BUDGET_BEHAVIOR="block",
    )
    with app.app_context():
        extension_of(app).enforce_budget()
        stream = extension_of(app).track_stream(
            provider="openai", model="gpt-4o", enforce_budget=True
        )
        with stream:
            stream.usage(input_tokens=5)
    assert not list(Path(app.instance_path).glob("*.db"))


def test_an_exception_in_the_callback_is_logged(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(alert: Alert) -> None:
        raise RuntimeError("no mail today")

    app = make_app(LLM_COST_DAILY_BUDGET="1", LLM_COST_ON_BUDGET_EXCEEDED=fail)
    spend(app, 2)
    assert "ON_BUDGET_EXCEEDED raised" in caplog.text


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("on_error", ["open", "closed"])
def test_on_error_decides_while_the_database_is_unavailable(
    make_app: MakeApp,
    provider_url: str,
    on_error: str,
    hard: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app(
        LLM_COST_DATABASE_URI="postgresql+psycopg://nobody@127.0.0.1:1/none",
        LLM_COST_BUDGETS=[
            {
                "name": "x",
                "limit_usd": 5,
                "behavior": "block",
                "on_error": on_error,
                "hard": hard,
            }
        ],
        LLM_COST_PROVIDER_HOSTS={provider_url.removeprefix("http://"): "openai"},
    )
    with app.app_context(), requests.Session() as session:
        session.mount("http://", extension_of(app).adapter())
        if on_error == "closed":
            with pytest.raises(StorageError, match="'x' cannot be checked"):
                send(session, provider_url, max_tokens=5)
        else:
            assert send(session, provider_url, max_tokens=5).ok
            assert "allowing calls" in caplog.text


def test_a_budget_that_raises_needs_its_database_only_before_a_call(
    make_app: MakeApp,
) -> None:
    entry = {"name": "x", "limit_usd": 5, "behavior": "raise", "on_error": "closed"}
    app = make_app(
        LLM_COST_DATABASE_URI="postgresql+psycopg://nobody@127.0.0.1:1/none",
        LLM_COST_BUDGETS=[entry],
    )
    with app.app_context():
        llm_cost = extension_of(app)
        # The call was made, and its caller must get it.
        assert llm_cost.track(provider="openai", model="gpt-4o", reported_cost="9")
        assert app.extensions["llm_cost"].ledger.queue.count() == 1
        with pytest.raises(StorageError, match="'x' cannot be checked"):
            llm_cost.enforce_budget()


@pytest.mark.parametrize("on_error", ["open", "closed"])
def test_a_closed_budget_that_raises_refuses_after_a_call_it_could_not_count(
    make_app: MakeApp, provider_url: str, tmp_path: Path, on_error: str
) -> None:
    place = tmp_path / "ledger" / "costs.db"
    app = make_app(
        LLM_COST_DATABASE_URI=f"sqlite:///{place}",
        LLM_COST_BUDGETS=[
            {
                "name": "x",
                "limit_usd": 5,
                "behavior": "raise",
                "on_error": on_error,
            },
        ],
        LLM_COST_PROVIDER_HOSTS={provider_url.removeprefix("http://"): "openai"},
    )
    ledger = app.extensions["llm_cost"].ledger
    with app.app_context(), requests.Session() as session:
        session.mount("http://", extension_of(app).adapter())
        # Its folder is not there: the database cannot be opened.
        assert send(session, provider_url).ok
        for _ in range(2):
            if on_error == "closed":
                with pytest.raises(StorageError, match="'x' cannot be checked"):
                    send(session, provider_url)
            else:
                assert send(session, provider_url).ok
        place.parent.mkdir()
        ledger.schema.upgrade()
        assert ledger.queue.drain()
        assert send(session, provider_url).ok
        assert send(session, provider_url).ok
        assert extension_of(app).flush(60)
        assert extension_of(app).calls.count() == (3 if on_error == "closed" else 5)


def test_budgets_ignore_calls_in_the_apps_own_tests(make_app: MakeApp) -> None:
    from flask_llm_cost.testing import record_calls

    app = make_app(LLM_COST_DAILY_BUDGET="0", LLM_COST_BUDGET_BEHAVIOR="block")
    with app.app_context(), record_calls(app) as calls:
        extension_of(app).track(
            provider="openai", model="gpt-4o", reported_cost="1", enforce_budget=True
        )
    assert len(calls) == 1


def test_without_budgets_no_call_waits(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_BUDGETS=[{"name": "notify", "limit_usd": 1}])
    assert not app.extensions["llm_cost"].enforcer.stops
    assert make_app().extensions["llm_cost"].ledger.budgets is None


def test_a_late_call_counts_in_its_own_window(
    make_app: MakeApp, alerts: Callback
) -> None:
    app = make_app(LLM_COST_DAILY_BUDGET="1", LLM_COST_ON_BUDGET_EXCEEDED=alerts)
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    spend(app, "0.9")
    spend(app, "0.9", at=yesterday)
    assert alerts == []
    spend(app, "0.9", at=yesterday)
    assert [alert.starts_at.date() for alert in alerts if alert.starts_at] == [
        yesterday.date()
    ]


def test_simultaneous_crossings_notify_once(
    make_app: MakeApp, alerts: Callback
) -> None:
    app = make_app(
        LLM_COST_DAILY_BUDGET="1",
        LLM_COST_WRITE="sync",
        LLM_COST_ON_BUDGET_EXCEEDED=alerts,
    )
    thresholds: list[Decimal] = []

    def receive(sender: Flask, alert: Alert) -> None:
        thresholds.append(alert.threshold)

    start = threading.Barrier(64)

    def work() -> None:
        start.wait()
        spend(app, "0.5")

    with signals.budget_threshold.connected_to(receive, app):
        threads = [threading.Thread(target=work) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with app.app_context():
            assert extension_of(app).flush(60)
    assert len(alerts) == 1
    assert sorted(thresholds) == [Decimal("0.5"), Decimal("0.8")]


def test_the_recipe_answers_429(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_DAILY_BUDGET="0.1", LLM_COST_BUDGET_BEHAVIOR="block")

    @app.errorhandler(BudgetExceeded)
    def over_budget(error: BudgetExceeded) -> t.Any:
        headers = {}
        if (seconds := error.retry_after()) is not None:
            headers["Retry-After"] = str(seconds)
        return {"error": str(error)}, 429, headers

    @app.get("/ask")
    def ask() -> str:
        extension_of(app).enforce_budget()
        return "fine"

    client = app.test_client()
    assert client.get("/ask").status_code == 200
    with pytest.raises(BudgetExceeded):
        spend(app, "0.1")
    response = client.get("/ask")
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 86_400


def test_an_enforced_call_is_checked_by_the_budget_per_call(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_CALL_BUDGET="0.1", LLM_COST_BUDGET_BEHAVIOR="block")
    with pytest.raises(BudgetExceeded) as info:
        spend(app, "1", enforce_budget=True)
    assert info.value.estimate_usd == 1
    spend(app, "0.1", enforce_budget=True)
    with app.app_context():
        assert extension_of(app).calls.total_cost() == Decimal("0.1")


@pytest.mark.parametrize("estimate", [lambda call: 1 / 0, lambda call: float("nan")])
def test_an_estimate_that_fails_loses_no_call(
    make_app: MakeApp, estimate: t.Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(
        LLM_COST_BUDGETS=[
            {"name": "x", "limit_usd": 5, "unpriced": "estimate", "estimate": estimate}
        ]
    )
    with app.app_context():
        extension_of(app).track(provider="openai", model="made-up", input_tokens=5)
        assert extension_of(app).flush(60)
        assert extension_of(app).calls.count() == 1
    assert "The estimate of the budget 'x' failed" in caplog.text


def test_nearly_equal_thresholds_lose_no_call(make_app: MakeApp) -> None:
    app = make_app(
        LLM_COST_BUDGETS=[
            {"name": "x", "limit_usd": 5, "thresholds": [0.5, 0.50000001]}
        ]
    )
    spend(app, "4")
    with app.app_context():
        assert extension_of(app).calls.count() == 1


@pytest.mark.parametrize("limit", ["5", "1e12"])
def test_an_estimate_beyond_bigint_is_refused(make_app: MakeApp, limit: str) -> None:
    entry = {"name": "x", "limit_usd": limit, "behavior": "block", "estimate": "1e9"}
    app = make_app(LLM_COST_BUDGETS=[entry])
    with app.app_context():
        llm_cost = extension_of(app)
        attempt = Attempt("openai", "chat", "gpt-4o")
        if limit == "1e12":
            assert llm_cost.begin(attempt)
        with pytest.raises(BudgetExceeded):
            llm_cost.begin(attempt)


@pytest.mark.parametrize("period", ["day", "call"])
@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("on_error", ["open", "closed"])
def test_on_error_decides_if_a_limit_cannot_be_determined(
    make_app: MakeApp, on_error: str, hard: bool, period: str
) -> None:
    def limit(tags: t.Any) -> t.Any:
        raise RuntimeError("the app's table is gone")

    app = make_app(
        LLM_COST_BUDGETS=[
            {
                "name": "x",
                "limit_usd": limit,
                "period": period,
                "behavior": "block",
                "estimate": "1",
                "on_error": on_error,
                "hard": hard,
            }
        ]
    )
    with app.app_context():
        llm_cost = extension_of(app)
        if on_error == "closed":
            with pytest.raises(
                StorageError, match="'x' .* limit could not be determined"
            ):
                llm_cost.begin(Attempt("openai", "chat", "gpt-4o"))
        else:
            assert llm_cost.begin(Attempt("openai", "chat", "gpt-4o"))
    # Calls that were made are recorded, whatever happens to the limit.
    spend(app, "1")
    with app.app_context():
        assert extension_of(app).calls.count() == 1


def test_a_limit_is_determined_once_per_call(make_app: MakeApp) -> None:
    answers: list[t.Any] = [0]

    def limit(tags: t.Any) -> t.Any:
        return answers.pop(0)

    app = make_app(
        LLM_COST_BUDGETS=[{"name": "x", "limit_usd": limit, "behavior": "block"}]
    )
    with app.app_context():
        llm_cost = extension_of(app)
        attempt = Attempt("openai", "chat", "gpt-4o")
        answers[:] = [0]
        with pytest.raises(BudgetExceeded):
            llm_cost.begin(attempt)
        answers[:] = [0]
        with pytest.raises(BudgetExceeded):
            llm_cost.begin(attempt)


def test_the_apps_own_code_runs_outside_of_transactions(
    make_app: MakeApp, tmp_path: Path
) -> None:
    asked: list[str] = []

    def written(what: str) -> str:
        # Like an app that stores its limits in the database of the ledger.
        with sqlite3.connect(tmp_path / "host.db", timeout=2) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS asked (what TEXT)")
            connection.execute("INSERT INTO asked VALUES (?)", (what,))
        connection.close()
        asked.append(what)
        return "9"

    app = make_app(
        LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path}/host.db",
        LLM_COST_WRITE="sync",
        LLM_COST_BUDGETS=[
            {
                "name": "day",
                "period": "day",
                "limit_usd": lambda tags: written("limit"),
                "unpriced": "estimate",
                "estimate": lambda call: written("estimate"),
            },
            {
                "name": "one",
                "period": "call",
                "limit_usd": lambda tags: written("limit of one"),
            },
        ],
    )
    with app.app_context():
        app.extensions["llm_cost"].ledger.schema.upgrade()
    spend(app, "1")
    with app.app_context():
        extension_of(app).track(provider="openai", model="made-up", input_tokens=5)
        ledger = app.extensions["llm_cost"].ledger
        with ledger.reading() as connection:
            (row,) = connection.execute(sa.select(budget_windows))
    assert sorted(asked) == ["estimate", "limit", "limit", "limit of one"]
    assert (row.spent, row.unsettled) == (10**12, 9 * 10**12)
    assert row.allowed == 9 * 10**12


def test_a_call_is_refused_even_if_the_alert_cannot_be_recorded(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(LLM_COST_DAILY_BUDGET="0", LLM_COST_BUDGET_BEHAVIOR="block")
    ledger = app.extensions["llm_cost"].ledger
    ledger.schema.upgrade()
    with ledger._engines.writing().begin() as connection:
        connection.exec_driver_sql("DROP TABLE llm_cost_budget_alerts")
    with app.app_context(), pytest.raises(BudgetExceeded):
        extension_of(app).begin(Attempt("openai", "chat", "gpt-4o"))
    assert "could not be recorded" in caplog.text


def test_changing_the_zone_keeps_the_amounts_spent(make_app: MakeApp) -> None:
    entry = {"name": "x", "limit_usd": 100, "tags": {"user": "*"}}
    app = make_app(LLM_COST_BUDGETS=[entry])
    spend(app, 3, tags={"user": "a"})
    ledger = app.extensions["llm_cost"].ledger
    # As if it had been added long ago.
    with ledger._engines.writing().begin() as connection:
        connection.execute(
            sa.update(budgets_table).values(
                since=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
            )
        )
    uri = str(ledger._engines.location.url)
    moved = make_app(
        LLM_COST_DATABASE_URI=uri, LLM_COST_BUDGETS=[entry | {"timezone": "Asia/Tokyo"}]
    )
    spend(moved, 4, tags={"user": "a"})
    ledger = moved.extensions["llm_cost"].ledger
    with ledger.reading() as connection:
        drift, _ = ledger.budgets.verify(connection)
        spent = connection.scalars(sa.select(budget_windows.c.spent)).all()
    assert 7 * 10**12 in spent
    assert drift == []


def test_no_budget_is_checked_while_a_test_records(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_DAILY_BUDGET="1", LLM_COST_BUDGET_BEHAVIOR="block")
    llm_cost = extension_of(app)
    with app.app_context(), record_calls(app) as calls:
        for _ in range(2):
            llm_cost.enforce_budget()
            llm_cost.track(
                provider="openai", model="gpt-4o", reported_cost=5, enforce_budget=True
            )
    assert len(calls) == 2
    assert not Path(app.instance_path).exists()
