"""Revisions keep every row, can be repeated after a crash, and exist as SQL text."""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
import subprocess
import sys
import typing as t
from collections.abc import Iterator
from contextlib import closing
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_llm_cost.db import migrate
from flask_llm_cost.db.engine import version
from flask_llm_cost.db.migrations import HEAD
from flask_llm_cost.db.migrations import VERSION_TABLE
from flask_llm_cost.db.tables import metadata
from flask_llm_cost.db.tables import PREFIX
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.ledger import Ledger
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.db.third_revision import environment
from tests.db.third_revision import THIRD
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON

FIRST: t.Final = "0001"

Rows: t.TypeAlias = dict[str, list[tuple[t.Any, ...]]]
Shape: t.TypeAlias = dict[str, t.Any]


def _names(engine: sa.Engine) -> list[str]:
    found = sa.inspect(engine).get_table_names()
    return sorted(n for n in found if n.startswith(PREFIX) and n != VERSION_TABLE)


def _tables(engine: sa.Engine) -> list[sa.Table]:
    metadata = sa.MetaData()
    return [sa.Table(name, metadata, autoload_with=engine) for name in _names(engine)]


def _value(column: sa.Column[t.Any], n: int) -> t.Any:
    """A value that this column can store, different in each row."""
    at = NOON + dt.timedelta(hours=n)
    if column.name in ("started_at", "hour", "start"):
        return int(at.timestamp() * 1000)
    if column.name == "event_id":
        return mint_event_id(at)
    if column.nullable and n % 3 == 0:
        return None
    if isinstance(column.type, sa.Boolean) or column.name in (
        "stream",
        "cost_complete",
    ):
        return n % 2
    if column.name == "usage_source":
        return "response"
    if isinstance(column.type, sa.Integer):
        return n + 7
    return f"{column.name} {n} é"[: getattr(column.type, "length", None) or 60]


def _fill(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for table in _tables(engine):
            rows = [{c.name: _value(c, n) for c in table.columns} for n in range(1, 5)]
            connection.execute(sa.insert(table), rows)


def _read(engine: sa.Engine) -> Rows:
    """The rows of the tables, by ``table(column, ...)``."""
    found: Rows = {}
    with engine.connect() as connection:
        for table in _tables(engine):
            columns = [c.name for c in table.columns]
            rows = connection.execute(sa.select(table)).all()
            found[f"{table.name}({','.join(columns)})"] = sorted(
                tuple(map(str, row)) for row in rows
            )
    return found


def _ours(rows: Rows) -> Rows:
    """Without what revisions themselves write: meta entries and dirty marks."""
    kept = dict(rows)
    for name in rows:
        if name.startswith(("llm_cost_dirty_marks", "llm_cost_meta")):
            del kept[name]
    return kept


@pytest.fixture
def location(tmp_path: Path) -> str:
    """Our revisions and a third one."""
    return environment(tmp_path)


@every_database
def test_up_and_down_changes_no_row(
    database: str | None, make_ledger: MakeLedger, location: str
) -> None:
    ledger = make_ledger(database)
    engine = ledger._engines.writing()
    migrate.downgrade(engine, FIRST)
    _fill(engine)
    before = _ours(_read(engine))
    migrate.upgrade(engine, location=location)
    assert _version(engine) == THIRD
    _keeps(before, _ours(_read(engine)))
    migrate.downgrade(engine, HEAD, location=location)
    assert ledger.schema.check() == []
    migrate.downgrade(engine, FIRST, location=location)
    assert _ours(_read(engine)) == before


@every_database
def test_earlier_incomplete_and_estimated_calls_have_no_known_limit(
    database: str | None, make_ledger: MakeLedger
) -> None:
    engine = make_ledger(database)._engines.writing()
    migrate.downgrade(engine, FIRST)
    _fill(engine)
    migrate.upgrade(engine)
    for name in ("llm_cost_rollups", "llm_cost_tag_rollups"):
        table = sa.Table(name, sa.MetaData(), autoload_with=engine)
        with engine.connect() as connection:
            for row in connection.execute(sa.select(table)):
                assert row.unbounded == row.incomplete + row.estimated
                assert row.cost_open == 0


def _version(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        return version(connection)


def _keeps(before: Rows, after: Rows) -> None:
    """Check that each table still has its rows; it may have more columns."""
    for key, rows in before.items():
        name, columns = key.rstrip(")").split("(")
        [(other, found)] = [
            (k, v) for k, v in after.items() if k.startswith(f"{name}(")
        ]
        names = other.rstrip(")").split("(")[1].split(",")
        places = [names.index(column) for column in columns.split(",")]
        assert sorted(tuple(row[p] for p in places) for row in found) == rows, name


class _Killed(Exception):
    pass


@contextmanager
def _dies_at(engine: sa.Engine, number: int) -> Iterator[list[int]]:
    """Raise before the nth statement that changes something."""
    seen = [0]

    def before(*args: t.Any) -> None:
        statement = args[2].lstrip().upper()
        if statement.startswith(
            ("CREATE", "ALTER", "DROP", "INSERT", "UPDATE", "DELETE")
        ):
            seen[0] += 1
            if seen[0] == number:
                raise _Killed

    sa.event.listen(engine, "before_cursor_execute", before)
    try:
        yield seen
    finally:
        sa.event.remove(engine, "before_cursor_execute", before)


@pytest.mark.parametrize("empty_database", ["MARIADB"], indirect=True)
def test_a_revision_that_is_killed_anywhere_can_be_repeated(
    database: str, make_ledger: MakeLedger, location: str
) -> None:
    """Both ways. MariaDB keeps what was done before; the others roll it back."""
    engine = make_ledger(database)._engines.writing()
    migrate.downgrade(engine, FIRST)
    _fill(engine)
    before = _ours(_read(engine))
    ways = (
        lambda: migrate.upgrade(engine, location=location),
        lambda: migrate.downgrade(engine, FIRST, location=location),
    )
    for number in range(1, 100):
        broken = [_broken(engine, number, way) for way in ways]
        assert _ours(_read(engine)) == before, number
        with engine.begin() as connection:
            # A column that was dropped counts in a row's size until the table is rebuilt.
            connection.execute(sa.text("ALTER TABLE llm_cost_calls FORCE"))
        if not any(broken):
            break


def _broken(engine: sa.Engine, number: int, run: t.Callable[[], None]) -> bool:
    """Run it, interrupted at a statement if it has as many, and then again."""
    try:
        with _dies_at(engine, number):
            run()
    except _Killed:
        run()
        return True
    return False


@pytest.mark.stress
@pytest.mark.parametrize("empty_database", ["POSTGRESQL", "MARIADB"], indirect=True)
def test_the_first_revision_that_is_killed_anywhere_can_be_repeated(
    empty_database: str, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(empty_database)
    engine = ledger._engines.writing()
    for number in range(1, 60):
        if not _broken(engine, number, lambda: migrate.upgrade(engine)):
            break
        migrate.downgrade(engine, "base")
    ledger.schema.upgrade()
    assert ledger.schema.check() == []


# A first upgrade that was half made


@pytest.mark.parametrize(
    "lost",
    [
        "DROP TABLE llm_cost_meta",
        "DROP TABLE llm_cost_calls",
        "DROP INDEX ix_llm_cost_outbox_due{on_table}",
        "DELETE FROM llm_cost_meta",
        "DROP TABLE llm_cost_schema_version",
    ],
)
@every_database
def test_a_half_made_first_upgrade_is_repaired_by_another(
    database: str | None, make_ledger: MakeLedger, lost: str
) -> None:
    ledger = make_ledger(database)
    engine = ledger._engines.writing()
    on_table = " ON llm_cost_outbox" if engine.dialect.name == "mysql" else ""
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM {VERSION_TABLE}")
        connection.exec_driver_sql(lost.format(on_table=on_table))
    ledger._engines.recheck()
    ledger.schema.upgrade()
    assert ledger.schema.current() == HEAD
    assert ledger.schema.check() == []
    ledger.append(make_call())
    assert ledger.flush(60)
    ledger.rollups.build()
    assert ledger.rollups.verify() == []


_DIES = """
import sys, time
import sqlalchemy as sa
from flask_llm_cost.config import Settings
from flask_llm_cost.ledger import Ledger

seen = 0

def pause(conn, cursor, statement, *rest):
    global seen
    seen += statement.lstrip().startswith("CREATE")
    if seen == int(sys.argv[3]):
        print("half made", flush=True)
        time.sleep(60)

ledger = Ledger(Settings(database_uri=sys.argv[1] or None), instance_path=sys.argv[2])
sa.event.listen(sa.Engine, "after_cursor_execute", pause)
ledger.schema.upgrade()
"""


@pytest.mark.parametrize("statements", [1, 7, 25])
@every_database
def test_a_first_upgrade_that_is_killed_is_repaired_by_another(
    empty_database: str | None,
    make_ledger: MakeLedger,
    tmp_path: Path,
    statements: int,
) -> None:
    arguments = [empty_database or "", str(tmp_path / "instance"), str(statements)]
    process = subprocess.Popen(
        [sys.executable, "-c", _DIES, *arguments], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half made\n"
        process.kill()
    ledger = make_ledger(empty_database)
    ledger.schema.upgrade()
    assert ledger.schema.current() == HEAD
    assert ledger.schema.check() == []


@pytest.mark.parametrize("empty_database", ["MARIADB"], indirect=True)
@pytest.mark.parametrize("make", [migrate.upgrade, metadata.create_all])
def test_tables_ask_for_a_dynamic_row_format(
    empty_database: str, make_ledger: MakeLedger, make: t.Callable[[sa.Engine], None]
) -> None:
    engine = make_ledger(empty_database)._engines.writing()
    make(engine)
    with engine.connect() as connection:
        for name in _names(engine):
            shown = connection.exec_driver_sql(f"SHOW CREATE TABLE {name}").one()
            assert "ROW_FORMAT=DYNAMIC" in shown[1]


# The SQL text


def _by_hand(ledger: Ledger, text: str) -> None:
    """Run SQL as an administrator would, with the database's own client."""
    url = ledger._engines.location.url
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(url.database))) as connection:
            connection.executescript(text)
        return
    if url.get_backend_name() == "postgresql":
        if "options" in url.query:
            path = str(url.query["options"]).removeprefix("-csearch_path=")
            text = f"SET search_path = {path};\n{text}"
        command = ["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-U", str(url.username)]
        command += ["-h", str(url.host), "-p", str(url.port), "-d", str(url.database)]
    else:
        command = ["mariadb", "--no-defaults", f"-u{url.username}", f"-p{url.password}"]
        command += [
            f"-h{url.host}",
            f"-P{url.port}",
            "--protocol=tcp",
            str(url.database),
        ]
    assert shutil.which(command[0]), f"{command[0]} is not installed"
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _shape(engine: sa.Engine) -> Shape:
    """Everything that can be inspected about the tables."""
    inspector = sa.inspect(engine)
    return {
        name: (
            [
                (c["name"], str(c["type"]), c["nullable"])
                for c in inspector.get_columns(name)
            ],
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted(
                (str(i["name"]), i["column_names"], bool(i["unique"]))
                for i in inspector.get_indexes(name)
            ),
        )
        for name in [*_names(engine), VERSION_TABLE]
    }


@every_database
def test_the_sql_text_makes_what_the_command_makes(
    empty_database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(empty_database)
    engine = ledger._engines.writing()
    if empty_database is None:
        ledger.schema.upgrade()  # the file is there then
    else:
        migrate.upgrade(engine)
    expected = _shape(engine)
    ledger.schema.downgrade("base")
    _by_hand(ledger, ledger.schema.sql())
    ledger._engines.recheck()
    assert _shape(engine) == expected
    assert ledger.schema.current() == ledger.schema.head
    assert ledger.schema.check() == []


@every_database
def test_the_sql_text_of_a_revision_can_be_run_on_data(
    database: str | None, make_ledger: MakeLedger, location: str
) -> None:
    ledger = make_ledger(database)
    engine = ledger._engines.writing()
    migrate.downgrade(engine, FIRST)
    _fill(engine)
    before = _ours(_read(engine))
    with engine.connect() as connection:
        dialect = migrate.dialect_name(connection)
    engine.dispose()
    text = migrate.sql(dialect, f"{FIRST}:{THIRD}", location=location)
    _by_hand(ledger, text)
    assert _version(engine) == THIRD
    _keeps(before, _ours(_read(engine)))
    migrate.downgrade(engine, FIRST, location=location)
    assert _ours(_read(engine)) == before
