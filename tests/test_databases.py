"""The databases that tests use one after another are as new for each."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from flask_llm_cost.db.tables import meta
from flask_llm_cost.db.tables import metadata
from tests.databases import Databases
from tests.databases import server
from tests.databases import SERVERS


@pytest.fixture(scope="module", params=SERVERS)
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    made = Databases(server(request.param))
    yield made
    made.close()


def rows(uri: str) -> dict[str, list[t.Any]]:
    engine = sa.create_engine(uri)
    with engine.connect() as connection:
        found: dict[str, list[t.Any]] = {
            table.name: list(connection.execute(sa.select(table)))
            for table in metadata.sorted_tables
        }
        version = "SELECT version_num FROM llm_cost_schema_version"
        found["version"] = list(connection.exec_driver_sql(version))
    engine.dispose()
    return found


def run(uri: str, *statements: str | sa.Executable) -> None:
    engine = sa.create_engine(uri)
    with engine.begin() as connection:
        for each in statements:
            connection.execute(sa.text(each) if isinstance(each, str) else each)
    engine.dispose()


def test_rows_are_those_of_a_new_database(databases: Databases) -> None:
    with databases.lent() as first:
        new = rows(first.uri)
        run(
            first.uri,
            meta.delete(),
            meta.insert().values(name="x", value="y"),
            "DELETE FROM llm_cost_schema_version",
        )
        assert rows(first.uri) != new
    with databases.lent() as second:
        assert second == first
        assert rows(second.uri) == new
    assert [row.name for row in new["llm_cost_meta"]] == ["rollup_lock"]
    assert len(new["version"]) == 1


CHANGES = (
    (
        "ALTER TABLE llm_cost_meta ADD more INTEGER",
        "ALTER TABLE llm_cost_meta DROP more",
    ),
    ("CREATE TABLE other (id INTEGER)", "DROP TABLE other"),
    ("CREATE INDEX other ON llm_cost_meta (name)", "DROP INDEX other"),
)


def test_changed_tables_are_seen(databases: Databases) -> None:
    with databases.lent() as made:
        of_table = " ON llm_cost_meta" if made.uri.startswith("mysql") else ""
        for change, undo in CHANGES:
            run(made.uri, change)
            assert not databases.as_made(made), change
            run(made.uri, undo + (of_table if "INDEX" in undo else ""))
            assert databases.as_made(made), undo


def test_what_was_changed_or_is_in_use_is_not_used_again(databases: Databases) -> None:
    with databases.lent() as changed, databases.lent() as used:
        assert changed != used
        engine = sa.create_engine(used.uri)
        connection = engine.connect()
        run(changed.uri, CHANGES[0][0])
    with databases.lent() as new:
        assert new not in (changed, used)
    connection.invalidate()
    connection.close()
    engine.dispose()
