"""Over monthly files, a question opens those of its months and no others."""

from __future__ import annotations

import datetime as dt
import typing as t

import pytest
from flask import Flask

from flask_llm_cost.config import Settings
from flask_llm_cost.errors import StorageError
from flask_llm_cost.files.monthly import JsonlLedger
from flask_llm_cost.query import billing
from flask_llm_cost.query.calls import CallQuery
from flask_llm_cost.web.views import PAGES

from .web.conftest import a_call
from .web.conftest import NOW

DAY = dt.timedelta(days=1)
MARCH = dt.datetime(2026, 3, 12, 9, tzinfo=dt.UTC)
IN_MARCH = "from=2026-03-10&to=2026-03-15"
DAYS = ("--from", "2026-03-10", "--to", "2026-03-15")


@pytest.fixture
def site(make_app: t.Callable[..., Flask]) -> Flask:
    """An app with calls in March and today, in November."""
    app = make_app(
        LLM_COST_STORAGE="jsonl",
        LLM_COST_ROLLUP_TAGS=("feature",),
        LLM_COST_SESSION_TAG="feature",
    )
    state = app.extensions["llm_cost"]
    state.clock = lambda: NOW
    app.register_blueprint(state.extension.blueprint(access="public"))
    for at in (MARCH, NOW - DAY / 24):
        state.ledger.append(a_call(at=at, tags={"feature": "chat"}))
    return app


@pytest.fixture
def files(site: Flask) -> JsonlLedger:
    return t.cast(JsonlLedger, site.extensions["llm_cost"].ledger)


def shut(files: JsonlLedger, *months: str) -> None:
    """Files that nobody can open: they are folders."""
    for month in months:
        (files.folder / f"{month}.jsonl").mkdir()


def page(site: Flask, address: str) -> int:
    return site.test_client().get(address).status_code


COMPARING: t.Final = ("/", "/overview.csv", "/overview/changes.csv", "/models/page")
"""Pages that read the days before, too."""


@pytest.mark.parametrize(
    "rule", [page.rule for page in PAGES if page.rule not in COMPARING]
)
def test_a_page_opens_its_months(site: Flask, files: JsonlLedger, rule: str) -> None:
    [march] = files.query(end=MARCH + DAY)
    shut(files, "2025-12", "2026-02", "2026-04", "2026-08")
    path = rule.replace("<event_id>", march.event_id).replace("<key>", "feature")
    query = f"{IN_MARCH}&provider={march.provider}&model={march.model}"
    assert page(site, f"{path}?{query}&key=feature&month=2026-03") == 200


def test_a_page_without_calls_still_tells_of_the_latest(
    site: Flask, files: JsonlLedger
) -> None:
    shut(files, "2026-02", "2026-04")
    visitor = site.test_client()
    seen = visitor.get("/calls?from=2026-03-20&to=2026-03-21").text
    assert "2026-11-18" in seen


def test_a_page_that_needs_a_month_opens_it(site: Flask, files: JsonlLedger) -> None:
    shut(files, "2026-02")
    assert page(site, "/models?from=2026-02-20&to=2026-03-15") == 503


def test_the_overview_goes_back_two_months(site: Flask, files: JsonlLedger) -> None:
    shut(files, "2026-02", "2026-08")
    assert page(site, "/") == 200
    assert page(site, "/?from=2026-09-01&to=2026-09-30") == 503


COMMANDS: t.Final = (
    ("report", *DAYS),
    *(("report", *DAYS, "--by", by) for by in ("day", "model", "session")),
    ("calls", "export", "--format", "csv", *DAYS),
    ("calls", "export", "--format", "jsonl", *DAYS),
    ("summary", "--period", "month"),
    ("sessions", "--period", "week"),
    ("daily", "--days", "10"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_opens_its_months(
    site: Flask, files: JsonlLedger, command: tuple[str, ...]
) -> None:
    shut(files, "2026-02", "2026-04", "2026-10")
    result = site.test_cli_runner().invoke(args=["llm-cost", *command])
    assert "cannot be read" not in result.output
    assert result.exit_code == 0, result.output


def test_a_command_that_needs_a_month_says_that_it_cannot_be_read(
    site: Flask, files: JsonlLedger
) -> None:
    shut(files, "2026-02")
    command = ["llm-cost", "report", "--from", "2026-02-10", "--to", "2026-03-15"]
    result = site.test_cli_runner().invoke(args=command)
    assert result.exit_code == 1
    assert "cannot be read" in result.output


def test_a_query_of_the_app_opens_its_months(site: Flask, files: JsonlLedger) -> None:
    shut(files, "2026-02", "2026-04")
    with site.app_context():
        calls: CallQuery = site.extensions["llm_cost"].extension.calls
        march = calls.between(MARCH.date(), dt.date(2026, 3, 31))
        assert (march.count(), march.totals().calls, len(march.rows())) == (1, 1, 1)
        assert len(march.sessions()) == 1
        with pytest.raises(StorageError):
            calls.count()


def test_the_class_opens_its_months(files: JsonlLedger) -> None:
    shut(files, "2026-02", "2026-04", "2026-10")
    april, november = (dt.datetime(2026, n, 1, tzinfo=dt.UTC) for n in (4, 11))
    march = april - 31 * DAY
    assert len(list(files.query(march, april))) == 1
    calls = CallQuery(files.reading, Settings(), lambda: NOW)
    assert billing.summary(calls).totals.calls == 1
    assert len(billing.session_summary(calls, "week").sessions) == 1
    assert len(billing.daily_breakdown(calls, 10).days) == 10
    assert len(list(files.query(november))) == 1
    with pytest.raises(StorageError):
        billing.summary(calls, "year")


def test_letting_go_opens_what_it_lets_go_of(files: JsonlLedger) -> None:
    shut(files, "2026-04")
    assert files.prune(dt.datetime(2026, 4, 1, tzinfo=dt.UTC)) == 1
    assert files.clear("today") == 0
    assert len(list(files.query(dt.datetime(2026, 5, 1, tzinfo=dt.UTC)))) == 1
