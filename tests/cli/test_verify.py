"""``verify-capture``: calls are sent as configured, found, and removed."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost import Call
from flask_llm_cost import call_recorded
from flask_llm_cost.capture import clients
from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.query.detail import stream_calls
from flask_llm_cost.query.filters import CallFilter
from tests.cli.conftest import Run
from tests.conftest import MakeApp


@pytest.fixture
def bare() -> Iterator[None]:
    """Uninstrument the process afterwards."""
    yield
    clients.uninstrument()


def test_a_call_per_provider_format_is_captured(make_app: MakeApp, run: Run) -> None:
    result = run("verify-capture", app=make_app())
    assert result.exit_code == 0, result.output
    *calls, ledger = result.stdout.splitlines()
    assert [line.split(":")[0] for line in calls] == [
        "[   ok] openai",
        "[   ok] anthropic",
        "[   ok] gemini",
    ]
    assert all(re.search(r"\d tokens? in, .*\$0\.", line) for line in calls)
    assert ledger == "[   ok] ledger: 3 calls found and removed."


@pytest.mark.usefixtures("bare")
def test_each_instrumented_library_is_tested(make_app: MakeApp, run: Run) -> None:
    for library in ("aiohttp", "botocore", "curl_cffi", "httpx", "httpx2", "lm15"):
        pytest.importorskip(library)
    result = run("verify-capture", app=make_app(LLM_COST_INSTRUMENT=True))
    assert result.exit_code == 0, result.output
    names = [
        line.split(":")[0].removeprefix("[   ok] ")
        for line in result.stdout.splitlines()
    ]
    assert names[3:] == [
        "aiohttp",
        "botocore",
        "curl_cffi",
        "http.client",
        "httpx",
        "httpx async",
        "httpx2",
        "httpx2 async",
        "lm15",
        "requests",
        "urllib3",
        "ledger",
    ]


@pytest.mark.usefixtures("bare")
def test_a_version_that_cannot_be_captured_is_named(
    make_app: MakeApp, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_unsupported", {"urllib3": "It is too old."})
    result = run("verify-capture", app=make_app())
    assert result.exit_code == 0, result.output
    assert "[ warn] urllib3: It is too old." in result.stdout


@pytest.mark.parametrize("write", ["spool", "sync"])
def test_test_calls_are_removed_and_others_stay(
    write: str, make_app: MakeApp, run: Run
) -> None:
    app = make_app(LLM_COST_WRITE=write)
    state = app.extensions["llm_cost"]
    recorded: list[Call] = []

    def receive(sender: Flask, call: Call) -> None:
        recorded.append(call)

    with app.app_context():
        own = state.extension.track(provider="openai", model="gpt-4o", input_tokens=1)
        assert state.extension.flush(10)
    with call_recorded.connected_to(receive, sender=app):
        run("verify-capture", app=app)
    assert [call.tags for call in recorded] == [{"feature": "llm_cost_verify"}] * 3
    assert state.extension.flush(10)
    left = list(stream_calls(state.ledger.reading, CallFilter()))
    assert [call.event_id for call in left] == [own.event_id]
    assert state.ledger.rollups.verify() == []
    assert state.settings.provider_hosts == {}


def test_budgets_do_not_count_removed_calls(make_app: MakeApp, run: Run) -> None:
    app = make_app(
        LLM_COST_BUDGETS=[{"name": "all", "limit_usd": 100, "period": "total"}]
    )
    ledger = app.extensions["llm_cost"].ledger
    assert run("verify-capture", app=app).exit_code == 0
    with ledger.reading() as connection:
        assert list(connection.scalars(sa.select(budget_windows.c.spent))) == [0]
        assert ledger.budgets.verify(connection) == ([], 0)


def test_an_unreadable_ledger_is_reported_and_nothing_is_sent(
    make_app: MakeApp, run: Run, tmp_path: Path
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path}/no/such/x.db")
    result = run("verify-capture", app=app)
    assert result.exit_code == 1
    assert result.stdout.startswith("[error] ledger:")
    assert app.extensions["llm_cost"].ledger.queue.count() == 0


def test_a_custom_storage_is_not_used(make_app: MakeApp, run: Run) -> None:
    kept: list[Call] = []
    result = run("verify-capture", app=make_app(LLM_COST_STORAGE=kept.append))
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 3
    assert not kept


def test_disabled_capture_is_an_error(make_app: MakeApp, run: Run) -> None:
    result = run("verify-capture", app=make_app(LLM_COST_ENABLED=False))
    assert result.exit_code == 1
    assert "LLM_COST_ENABLED is False" in result.stdout


@pytest.mark.parametrize(
    "limits",
    [
        {"LLM_COST_MAX_TAG_BYTES": 10},
        {"LLM_COST_MAX_TAG_BYTES": 0},
        {"LLM_COST_MAX_TAGS": 1},
        {"LLM_COST_MAX_TAGS": 0},
        {"LLM_COST_REDACTED_TAG_KEYS": ("feature",)},
    ],
)
def test_limits_of_tags_do_not_matter(
    limits: dict[str, t.Any], make_app: MakeApp, run: Run
) -> None:
    result = run("verify-capture", app=make_app(**limits))
    assert result.exit_code == 0, result.output
    assert "ledger: 3 calls found and removed" in result.stdout
