"""Between every two revisions no row changes, a break is healed, and SQL text does it too."""

from __future__ import annotations

import datetime as dt
import itertools
import shutil
import sqlite3
import subprocess
import typing as t
from collections.abc import Iterator
from contextlib import closing
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from flask_llm_cost.call import mint_event_id
from flask_llm_cost.db import migrate
from flask_llm_cost.db.migrations import VERSION_TABLE
from flask_llm_cost.db.tables import PREFIX
from flask_llm_cost.ledger import Ledger
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.ledger.samples import NOON

REVISIONS: t.Final = [
    script.revision
    for script in reversed(
        list(ScriptDirectory.from_config(migrate._config()).walk_revisions())
    )
]
"""From the first to the newest."""

Rows: t.TypeAlias = dict[str, list[tuple[t.Any, ...]]]
Shape: t.TypeAlias = dict[str, t.Any]


def _names(engine: sa.Engine) -> list[str]:
    found = sa.inspect(engine).get_table_names()
    return sorted(n for n in found if n.startswith(PREFIX) and n != VERSION_TABLE)


def _tables(engine: sa.Engine) -> list[sa.Table]:
    metadata = sa.MetaData()
    return [sa.Table(name, metadata, autoload_with=engine) for name in _names(engine)]


def _value(column: sa.Column[t.Any], n: int) -> t.Any:
    """Some value that this column can hold, another for each row."""
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
    """What the tables hold, by ``table(column, ...)``."""
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
    """Without what revisions themselves put there: facts of the ledger, and marks."""
    kept = dict(rows)
    for name in rows:
        if name.startswith(("llm_cost_marks", "llm_cost_facts")):
            del kept[name]
    return kept


@every_database
def test_up_and_down_between_every_two_changes_no_row(
    empty_database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(empty_database)
    engine = ledger._engines.writing()
    for low, high in itertools.pairwise(REVISIONS):
        ledger.downgrade("base")
        migrate.upgrade(engine, low)
        _fill(engine)
        before = _ours(_read(engine))
        migrate.upgrade(engine, high)
        _keeps(before, _ours(_read(engine)))
        migrate.downgrade(engine, low)
        assert _ours(_read(engine)) == before, f"{low} -> {high} -> {low}"


@pytest.mark.stress
@every_database
def test_from_every_one_to_the_newest_and_back_changes_no_row(
    empty_database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(empty_database)
    engine = ledger._engines.writing()
    for low in REVISIONS[:-1]:
        ledger.downgrade("base")
        migrate.upgrade(engine, low)
        _fill(engine)
        before = _ours(_read(engine))
        ledger.upgrade()
        _keeps(before, _ours(_read(engine)))
        assert ledger.check() == []
        migrate.downgrade(engine, low)
        assert _ours(_read(engine)) == before, low


def _keeps(before: Rows, after: Rows) -> None:
    """Every table is there still, with its rows; it may have more columns."""
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
    """The statement of this number that changes something never reaches the server."""
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
@pytest.mark.parametrize(
    "high",
    # Those that change rows are tried each time.
    [
        r if r in ("0002", "0006") else pytest.param(r, marks=pytest.mark.stress)
        for r in REVISIONS[1:]
    ],
)
def test_a_revision_that_dies_anywhere_can_be_run_again(
    empty_database: str, make_ledger: MakeLedger, high: str
) -> None:
    """Up and down. MariaDB keeps what was done before; the others roll it back."""
    ledger = make_ledger(empty_database)
    engine = ledger._engines.writing()
    low = REVISIONS[REVISIONS.index(high) - 1]
    migrate.upgrade(engine, low)
    _fill(engine)
    before = _ours(_read(engine))
    ways = (
        lambda: migrate.upgrade(engine, high),
        lambda: migrate.downgrade(engine, low),
    )
    for number in range(1, 100):
        broken = [_broken(engine, number, way) for way in ways]
        assert _ours(_read(engine)) == before, (high, number)
        if not any(broken):
            break


def _broken(engine: sa.Engine, number: int, run: t.Callable[[], None]) -> bool:
    """Run it twice; the first time it dies, if it has so many statements."""
    try:
        with _dies_at(engine, number):
            run()
    except _Killed:
        run()
        return True
    return False


@pytest.mark.stress
@pytest.mark.parametrize("empty_database", ["POSTGRESQL", "MARIADB"], indirect=True)
def test_the_first_revision_that_dies_anywhere_can_be_run_again(
    empty_database: str, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(empty_database)
    engine = ledger._engines.writing()
    for number in range(1, 30):
        if not _broken(engine, number, lambda: migrate.upgrade(engine, REVISIONS[0])):
            break
        migrate.downgrade(engine, "base")
    ledger.upgrade()
    assert ledger.check() == []


# The SQL text


def _by_hand(ledger: Ledger, text: str) -> None:
    """As the keeper of the database would: with the client that comes with it."""
    url = ledger._engines.place.url
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(url.database))) as connection:
            connection.executescript(text)
        return
    if url.get_backend_name() == "postgresql":
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
    """Everything about the tables that can be asked."""
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
        ledger.upgrade()  # the file is there then
    else:
        migrate.upgrade(engine)
    expected = _shape(engine)
    ledger.downgrade("base")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE {VERSION_TABLE}")
    _by_hand(ledger, ledger.sql())
    ledger._engines.doubt()
    assert _shape(engine) == expected
    assert ledger.current() == ledger.head()
    assert ledger.check() == []


@every_database
def test_the_sql_text_of_each_step_can_be_run_on_data(
    empty_database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(empty_database)
    engine = ledger._engines.writing()
    migrate.upgrade(engine, REVISIONS[0])
    _fill(engine)
    before = _ours(_read(engine))
    for low, high in itertools.pairwise(REVISIONS):
        engine.dispose()
        _by_hand(ledger, ledger.sql(f"{low}:{high}"))
    ledger._engines.doubt()
    _keeps(before, _ours(_read(engine)))
    assert ledger.current() == ledger.head()
    assert ledger.check() == []


@pytest.mark.parametrize("empty_database", ["POSTGRESQL"], indirect=True)
@pytest.mark.parametrize("down", [False, True])
def test_sums_can_be_read_while_all_calls_are(
    empty_database: str, make_ledger: MakeLedger, down: bool
) -> None:
    engine = make_ledger(empty_database)._engines.writing()
    migrate.upgrade(engine, "0006" if down else "0003")
    seen: list[int] = []

    def beside(connection: sa.Connection, *args: t.Any) -> None:
        if seen or not args[1].startswith("INSERT INTO llm_cost_marks"):
            return
        seen.append(1)
        with engine.connect() as other:
            other.exec_driver_sql("SET LOCAL lock_timeout = 500")
            other.exec_driver_sql("SELECT * FROM llm_cost_rollups")
            # But none adds up meanwhile.
            with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
                other.exec_driver_sql("UPDATE llm_cost_facts SET value = 'x'")

    sa.event.listen(engine, "before_cursor_execute", beside)
    if down:
        migrate.downgrade(engine, "0003")
    else:
        migrate.upgrade(engine, "0006")
    assert seen
