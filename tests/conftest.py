from __future__ import annotations

import os
import signal
import typing as t
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from flask.testing import FlaskCliRunner
from hypothesis import settings

from flask_llm_cost import LlmCost
from flask_llm_cost import recurring
from flask_llm_cost import wait_limit
from flask_llm_cost.capture import clients
from flask_llm_cost.config import Settings
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.state import AppState
from tests.databases import Databases
from tests.databases import run
from tests.databases import server
from tests.databases import SERVERS

# A slow machine is no failure: speed is measured in benchmarks/.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
wait_limit.CALL_SECONDS = 20.0

# A shell ignores it for what it runs in the background, and so would all that starts here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

MakeApp = t.Callable[..., Flask]


def pytest_configure() -> None:
    """Give each process of ``pytest -n 2`` databases of its own on the servers."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    for kind in SERVERS if worker else ():
        uri = os.environ.get(f"LLM_COST_TEST_{kind}")
        if not uri:
            continue
        url = sa.make_url(uri)
        name = f"{url.database}_{worker}"
        run(url, f"DROP DATABASE IF EXISTS {name}")
        run(url, f"CREATE DATABASE {name}")
        own = url.set(database=name).render_as_string(hide_password=False)
        os.environ[f"LLM_COST_TEST_{kind}"] = own


@pytest.fixture(autouse=True)
def a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests wrapped and logged is not of this one's process."""
    monkeypatch.setattr(clients, "_seen", {})
    monkeypatch.setattr(clients, "_unsupported", {})
    recurring.forget()


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


MakeLedger: t.TypeAlias = Callable[..., Ledger]


@pytest.fixture(scope="session")
def databases() -> Iterator[Callable[[str], Databases]]:
    """The databases with tables of a server, made as they are asked for."""
    found: dict[str, Databases] = {}

    def of(kind: str) -> Databases:
        if kind not in found:
            found[kind] = Databases(server(kind))
        return found[kind]

    yield of
    for each in found.values():
        each.close()


@pytest.fixture
def empty_database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """A database of the test's own, as a URL; ``None`` is our own SQLite file.

    It is empty, unless the test asks for a `database`, which has the ledger's tables.
    """
    kind = getattr(request, "param", "SQLITE")
    if kind == "SQLITE":
        yield None
        return
    if "database" in request.fixturenames:
        databases = request.getfixturevalue("databases")
        with databases(kind).lent() as made:
            yield made.uri
        return
    url = server(kind)
    name = f"llm_cost_{uuid.uuid4().hex}"
    if kind == "POSTGRESQL":
        run(url, f"CREATE SCHEMA {name}")
        own = url.update_query_dict({"options": f"-csearch_path={name}"})
        yield own.render_as_string(hide_password=False)
        run(url, f"DROP SCHEMA {name} CASCADE")
    else:
        run(url, f"CREATE DATABASE {name}")
        yield url.set(database=name).render_as_string(hide_password=False)
        run(url, f"DROP DATABASE {name}")


every_database = pytest.mark.parametrize(
    "empty_database", ["SQLITE", *SERVERS], indirect=True
)


@pytest.fixture
def make_ledger(tmp_path: Path) -> Iterator[MakeLedger]:
    """Ledgers of one instance folder, as of as many processes; closed at the end."""
    ledgers: list[Ledger] = []

    def make(
        database_uri: str | None = None,
        host_engine: Callable[[], sa.Engine] | None = None,
        failed: t.Any = None,
        **settings: t.Any,
    ) -> Ledger:
        ledger = Ledger(
            Settings(database_uri=database_uri, **settings),
            instance_path=str(tmp_path / "instance"),
            host_engine=host_engine,
            failed=failed,
        )
        ledgers.append(ledger)
        return ledger

    yield make
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def database(empty_database: str | None, make_ledger: MakeLedger) -> str | None:
    """A database with the ledger's tables."""
    if empty_database is None:
        make_ledger(None).schema.upgrade()
    return empty_database


@pytest.fixture
def ledger(database: str | None, make_ledger: MakeLedger) -> Ledger:
    return make_ledger(database)
