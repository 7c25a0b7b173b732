"""A row of a time that no call can have, such as one written by hand, breaks nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost.calendar import FIRST
from flask_llm_cost.calendar import from_ms
from flask_llm_cost.calendar import utc_hour
from flask_llm_cost.db.tables import calls
from flask_llm_cost.db.tables import dirty_marks

from .conftest import MakeApp

FAR = dt.datetime(9999, 12, 31, 23, 59, tzinfo=dt.UTC)
NEAR = dt.datetime(1, 1, 1, 0, 1, tzinfo=dt.UTC)
PAGES = ("", "models", "calls", "data-quality", "sessions", "tags", "tags/feature")
COMMANDS = ("report", "doctor", "summary", "daily", "sessions", "ledger verify")


def _put(app: Flask, at: dt.datetime) -> None:
    """Two calls, of which one is moved to another time."""
    state = app.extensions["llm_cost"]
    with app.app_context():
        for _ in range(2):
            call = state.extension.track(
                provider="openai",
                model="gpt-4o",
                input_tokens=1,
                tags={"feature": "chat", "session": "s"},
            )
    assert state.ledger.flush(60)
    ms = (at - FIRST) // dt.timedelta(milliseconds=1)
    with state.ledger._engines.writing().begin() as connection:
        moved = sa.update(calls).where(calls.c.event_id == call.event_id)
        connection.execute(moved.values(started_at=from_ms(ms)))
        connection.execute(sa.insert(dirty_marks).values(id=1, hour=utc_hour(at)))


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/New_York"])
def zone(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def app(make_app: MakeApp, zone: str) -> Iterator[Flask]:
    """One that captures all: else the doctor has something to say of installed SDKs."""
    app = make_app(LLM_COST_TIMEZONE=zone, LLM_COST_INSTRUMENT=True)
    yield app
    app.extensions["llm_cost"].extension.uninstrument()


@pytest.mark.parametrize("at", [FAR, NEAR], ids=["far", "near"])
def test_a_row_of_no_time_breaks_nothing(app: Flask, at: dt.datetime) -> None:
    state = app.extensions["llm_cost"]
    blueprint = state.extension.blueprint(access="public")
    app.register_blueprint(blueprint, url_prefix="/llm")
    _put(app, at)
    state.ledger.rollups.build()
    for page in PAGES:
        assert app.test_client().get(f"/llm/{page}").status_code == 200, page
    for command in COMMANDS:
        args = ["llm-cost", *command.split()]
        result = app.test_cli_runner().invoke(args=args)
        assert result.exit_code == 0, (command, result.output)
    assert state.ledger.prune(dt.datetime(2020, 1, 1, tzinfo=dt.UTC)) == (at == NEAR)
    assert state.ledger.rollups.verify() == []
