from __future__ import annotations

import os
import signal
import typing as t
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from flask.testing import FlaskCliRunner
from hypothesis import settings

from flask_llm_cost import LlmCost
from flask_llm_cost.capture import clients
from flask_llm_cost.state import AppState

# A slow machine is no failure: speed is measured in benchmarks/.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell ignores it for what it runs in the background, and so would all that starts here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

MakeApp = t.Callable[..., Flask]


@pytest.fixture(autouse=True)
def nothing_was_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests wrapped is not of this one's process, for all the doctor knows."""
    monkeypatch.setattr(clients, "_seen", {})


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    """Make apps with the extension, each with files of its own; closed at the end."""
    apps: list[Flask] = []

    def make(**config: t.Any) -> Flask:
        app = Flask("host", instance_path=str(tmp_path / f"instance{len(apps)}"))
        app.config["TESTING"] = True
        app.config.update(config)
        LlmCost(app)
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.extensions["llm_cost"].close()


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


@pytest.fixture
def state(app: Flask) -> AppState:
    return t.cast(AppState, app.extensions["llm_cost"])


@pytest.fixture
def llm_cost(state: AppState) -> LlmCost:
    return state.extension


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def runner(app: Flask) -> FlaskCliRunner:
    return app.test_cli_runner()


@pytest.fixture
def postgresql_uri() -> Iterator[str]:
    """A PostgreSQL database of this test's own."""
    server = os.environ.get("LLM_COST_TEST_POSTGRESQL")
    if not server:
        pytest.skip("set LLM_COST_TEST_POSTGRESQL to a database URL")
    name = f"llm_cost_{uuid.uuid4().hex}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()
