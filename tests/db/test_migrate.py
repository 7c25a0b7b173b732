from __future__ import annotations

import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_llm_cost.db import migrate
from flask_llm_cost.db.migrations import HEAD
from flask_llm_cost.db.migrations import VERSION_TABLE
from flask_llm_cost.db.tables import metadata
from flask_llm_cost.errors import SetupRequired
from flask_llm_cost.errors import StorageError
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.ledger.samples import make_call


@every_database
def test_an_upgraded_database_matches_the_metadata(
    empty_database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(empty_database)
    assert ledger.schema.current() is None
    ledger.schema.upgrade()
    ledger.schema.upgrade()
    assert ledger.schema.current() == ledger.schema.head == HEAD
    with ledger.reading() as connection:
        assert migrate.check(connection) == []


@pytest.mark.parametrize("empty_database", ["MARIADB"], indirect=True)
def test_mariadb_urls_work(empty_database: str, make_ledger: MakeLedger) -> None:
    ledger = make_ledger(empty_database.replace("mysql+", "mariadb+"))
    ledger.schema.upgrade()
    assert ledger.schema.check() == []
    ledger.append(make_call())
    assert ledger.flush(60)


@every_database
def test_a_changed_table_is_reported(
    database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(database)
    with ledger._engines.writing().begin() as connection:
        connection.exec_driver_sql("ALTER TABLE llm_cost_meta ADD COLUMN color INTEGER")
        connection.exec_driver_sql("DROP TABLE llm_cost_tag_values")
    found = ledger.schema.check()
    assert any("llm_cost_tag_values" in line for line in found)
    assert any("color" in line for line in found)


def _ours(engine: sa.Engine) -> list[str]:
    names = sa.inspect(engine).get_table_names()
    return [name for name in names if name.startswith("llm_cost_")]


@every_database
def test_a_downgrade_to_base_drops_every_table(
    database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(database)
    engine = ledger._engines.writing()
    ledger.schema.downgrade("base")
    assert ledger.schema.current() is None
    assert not _ours(engine)
    ledger.schema.downgrade("base")  # again: there is nothing to do
    assert not _ours(engine)
    ledger.schema.upgrade()
    assert set(metadata.tables) <= set(sa.inspect(engine).get_table_names())


@every_database
def test_an_interrupted_revision_can_be_repeated(
    empty_database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(empty_database)
    engine = ledger._engines.writing()
    with engine.begin() as connection:  # as MariaDB leaves it: some tables, no version
        metadata.tables["llm_cost_calls"].create(connection)
    ledger.schema.upgrade()
    with ledger.reading() as connection:
        assert migrate.check(connection) == []


@every_database
def test_two_processes_upgrade_at_once(
    empty_database: str | None, make_ledger: MakeLedger, tmp_path: Path
) -> None:
    code = (
        "import sys; from flask_llm_cost.ledger import Ledger;"
        "from flask_llm_cost.config import Settings;"
        "l = Ledger(Settings(database_uri=sys.argv[1] or None), instance_path=sys.argv[2]);"
        "s = l.schema; s.head; sys.stdin.readline(); s.upgrade(); print(s.current())"
    )
    uri, folder = empty_database or "", str(tmp_path / "instance")
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, uri, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    results = [process.communicate("\n", timeout=60) for process in both]
    assert [out.strip() for out, _ in results] == [HEAD, HEAD], results


@pytest.mark.parametrize("empty_database", ["POSTGRESQL", "MARIADB"], indirect=True)
def test_an_error_about_missing_tables_names_the_command(
    empty_database: str, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(empty_database)
    with (
        pytest.raises(
            SetupRequired, match="no tables .*Run `flask llm-cost db upgrade`"
        ),
        ledger.reading(),
    ):
        pass
    ledger.append(make_call())
    with pytest.raises(SetupRequired):
        ledger.queue.drain()
    assert not ledger.flush(0.2)
    assert ledger.queue.count() == 1
    ledger.schema.upgrade()
    assert ledger.flush(60)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("0000", f"have version 0000, but version {HEAD} is required"),
        ("9999", "newer Flask-LLM-Cost"),
    ],
)
def test_tables_of_another_version_are_rejected(
    tmp_path: Path, make_ledger: MakeLedger, found: str, message: str
) -> None:
    ledger = make_ledger(f"sqlite:///{tmp_path}/host.db")
    ledger.schema.upgrade()
    with ledger._engines.writing().begin() as connection:
        connection.execute(
            sa.text(f"UPDATE {VERSION_TABLE} SET version_num = :v"), {"v": found}
        )
    with pytest.raises(SetupRequired, match=message), ledger.reading():
        pass


def test_only_our_own_file_is_upgraded_automatically(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    with make_ledger().reading() as connection:
        assert migrate.check(connection) == []
    host = make_ledger(f"sqlite:///{tmp_path}/host.db")
    with pytest.raises(SetupRequired), host.reading():
        pass


def test_a_table_that_vanishes_is_noticed(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(f"sqlite:///{tmp_path}/host.db")
    ledger.schema.upgrade()
    with ledger.reading():
        pass
    migrate.downgrade(ledger._engines.writing(), "base")
    ledger.append(make_call())
    with pytest.raises(StorageError):
        ledger.queue.drain()
    with pytest.raises(SetupRequired):
        ledger.queue.drain()


def test_an_unknown_version_or_dialect_is_rejected(make_ledger: MakeLedger) -> None:
    ledger = make_ledger()
    ledger.schema.upgrade()
    with pytest.raises(ValueError, match="'7777'"):
        ledger.schema.downgrade("7777")
    with pytest.raises(ValueError, match="'7777'"):
        ledger.schema.sql("7777")
    with pytest.raises(ValueError, match="'oracle' is not one of sqlite, "):
        ledger.schema.sql(dialect="oracle")
    assert "CREATE TABLE" in ledger.schema.sql(dialect="mysql")


def test_the_head_is_the_newest_revision() -> None:
    from alembic.script import ScriptDirectory

    scripts: t.Any = ScriptDirectory.from_config(migrate._config())
    assert scripts.get_current_head() == HEAD


def test_the_ledger_imports_alembic_only_to_migrate() -> None:
    code = (
        "import sys, flask_llm_cost.ledger; a = 'sqlalchemy' in sys.modules;"
        "import flask_llm_cost.ledger.store; print(a, 'alembic' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert result.stdout.strip() == "False False", result.stderr
