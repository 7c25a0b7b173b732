from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from .samples import Store


@pytest.fixture(scope="session", params=["sqlite", "postgresql", "mariadb"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """An empty ledger on each database; a test begins with its ``fill``."""
    if request.param == "sqlite":
        yield from _sqlite(tmp_path_factory.mktemp("query"))
        return
    with _database(request.param) as url:
        engine = sa.create_engine(url)
        yield Store(engine)
        engine.dispose()


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The same on SQLite alone, for what no database has a say in."""
    yield from _sqlite(tmp_path_factory.mktemp("query"))


def _sqlite(folder: Path) -> Iterator[Store]:
    engine = sa.create_engine(f"sqlite:///{folder / 'llm_cost.db'}")
    with engine.connect() as connection:
        # The tests fill it thousands of times; none of them pulls the plug.
        connection.execute(sa.text("PRAGMA journal_mode=WAL"))
    yield Store(engine)
    engine.dispose()


@contextmanager
def _database(kind: str) -> Iterator[sa.URL]:
    variable = f"LLM_COST_TEST_{kind.upper()}"
    server = os.environ.get(variable)
    if not server:
        pytest.skip(f"set {variable} to a database URL")
    name = f"llm_cost_query_{uuid.uuid4().hex}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield sa.make_url(server).set(database=name)
    force = " WITH (FORCE)" if kind == "postgresql" else ""
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name}{force}"))
    admin.dispose()
