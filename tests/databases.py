"""Databases with the ledger's tables, which the tests of a process use one after another.

To create the tables takes a server much longer than to empty them.
"""

from __future__ import annotations

import os
import time
import typing as t
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from flask_llm_cost.db.migrate import upgrade
from flask_llm_cost.db.migrations import VERSION_TABLE
from flask_llm_cost.db.tables import metadata

SERVERS = ("POSTGRESQL", "MARIADB")

_MADE_OF = {
    "postgresql": (
        "SELECT relname, relkind, relacl::text, relpersistence FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace",
        "SELECT attrelid::regclass::text, attname, atttypid, atttypmod, attnotnull"
        " FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
        " WHERE relnamespace = 'public'::regnamespace AND NOT attisdropped",
        "SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index"
        " JOIN pg_class c ON c.oid = indrelid"
        " WHERE relnamespace = 'public'::regnamespace",
        "SELECT tgname FROM pg_trigger UNION ALL SELECT proname FROM pg_proc"
        " WHERE pronamespace = 'public'::regnamespace",
    ),
    "mysql": (
        "SELECT table_name, engine, create_options, table_collation"
        " FROM information_schema.tables WHERE table_schema = DATABASE()",
        "SELECT table_name, column_name, column_type, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = DATABASE()",
        "SELECT table_name, index_name, seq_in_index, column_name, sub_part"
        " FROM information_schema.statistics WHERE table_schema = DATABASE()",
        "SELECT table_name, partition_name FROM information_schema.partitions"
        " WHERE table_schema = DATABASE()",
        "SELECT trigger_name FROM information_schema.triggers"
        " WHERE trigger_schema = DATABASE()",
    ),
}
"""What tells that a test has changed more than rows."""

_SESSIONS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'"
    " AND backend_type IN ('client backend', 'parallel worker')",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = '{}'",
}


def server(kind: str) -> sa.URL:
    """The server that the environment names."""
    uri = os.environ.get(f"LLM_COST_TEST_{kind}")
    if not uri:
        pytest.skip(f"set LLM_COST_TEST_{kind} to a database URL")
    return sa.make_url(uri)


def run(url: sa.URL, statement: str) -> None:
    """Run a statement outside of a transaction."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


@dataclass(frozen=True)
class Made:
    """A database, and what its tables were made of and held when they were new."""

    url: sa.URL
    parts: tuple[str, ...]
    rows: t.Mapping[sa.Table, t.Sequence[t.Mapping[str, t.Any]]]

    @property
    def uri(self) -> str:
        """As `LLM_COST_DATABASE_URI` takes it."""
        return self.url.render_as_string(hide_password=False)


class Databases:
    """Databases of a server that have the tables: each is one test's at a time."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self._dialect = url.get_dialect().name
        self._free: list[Made] = []
        version = sa.Table(
            VERSION_TABLE, sa.MetaData(), sa.Column("version_num", sa.String(32))
        )
        self._tables = [version, *metadata.sorted_tables]

    @contextmanager
    def lent(self) -> Iterator[Made]:
        """A database whose tables are as new.

        It is looked after when the next test asks for one: by then, everything that the
        last one had is closed.
        """
        made = self._emptied() or self._new()
        yield made
        self._free.append(made)

    def close(self) -> None:
        """Drop them."""
        for made in self._free:
            self._drop(made)

    def _new(self) -> Made:
        name = f"llm_cost_{uuid.uuid4().hex}"
        run(self._url, f"CREATE DATABASE {name}")
        url = self._url.set(database=name)
        engine = sa.create_engine(url)
        upgrade(engine)
        with engine.connect() as connection:
            rows = {table: self._rows(connection, table) for table in self._tables}
            made = Made(url, self._parts(connection), rows)
        engine.dispose()
        return made

    def _rows(
        self, connection: sa.Connection, table: sa.Table
    ) -> list[dict[str, t.Any]]:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]

    def _parts(self, connection: sa.Connection) -> tuple[str, ...]:
        return tuple(
            repr(sorted(map(repr, connection.exec_driver_sql(statement))))
            for statement in _MADE_OF[self._dialect]
        )

    def as_made(self, made: Made) -> bool:
        """Whether nothing but rows has changed."""
        engine = sa.create_engine(made.url)
        with engine.connect() as connection:
            found = self._parts(connection)
        engine.dispose()
        return found == made.parts

    def _emptied(self) -> Made | None:
        """One that no other session uses and whose tables no test has changed."""
        while self._free:
            made = self._free.pop()
            if not self._in_use(made) and self.as_made(made):
                self._empty(made)
                return made
            self._drop(made)
        return None

    def _in_use(self, made: Made) -> bool:
        engine = sa.create_engine(self._url, isolation_level="AUTOCOMMIT")
        sessions = _SESSIONS[self._dialect].format(made.url.database)
        with engine.connect() as connection:
            for _ in range(20):
                # A server notices a moment later that a client has gone.
                if not connection.exec_driver_sql(sessions).scalar_one():
                    break
                time.sleep(0.02)
            found = connection.exec_driver_sql(sessions).scalar_one()
        engine.dispose()
        return bool(found)

    def _empty(self, made: Made) -> None:
        engine = sa.create_engine(made.url)
        with engine.begin() as connection:
            for table in reversed(self._tables):
                connection.execute(table.delete())
                if made.rows[table]:
                    connection.execute(table.insert(), made.rows[table])
        engine.dispose()

    def _drop(self, made: Made) -> None:
        force = " WITH (FORCE)" if self._dialect == "postgresql" else ""
        run(self._url, f"DROP DATABASE {made.url.database}{force}")
