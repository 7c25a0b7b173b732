"""The statement that inserts calls, given to the driver as it is.

psycopg copies a batch instead: that is faster, and much faster where the table is
distributed, since each row of an INSERT waits for its node. Both fail on a duplicate key.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import event

from .rows import COLUMNS
from .tables import calls


class InsertCalls(t.NamedTuple):
    """Takes rows of :func:`.rows.values_of` with the id of the set of tags appended."""

    sql: str
    event_id: Callable[[str], t.Any]
    """Converts an event id to the form in which the database stores it."""
    copy: str | None = None
    """The statement that copies a batch, if the driver can."""

    def run(self, connection: sa.Connection, rows: Sequence[tuple[t.Any, ...]]) -> None:
        """Insert some calls."""
        connection.exec_driver_sql(
            self.sql, list(rows), execution_options={_COPY: self.copy}
        )


_COPY: t.Final = "llm_cost_copy"


def copy_batches(engine: sa.Engine) -> None:
    """Have an engine of psycopg copy what :meth:`InsertCalls.run` inserts."""
    if engine.dialect.driver == "psycopg":
        event.listen(engine, "do_executemany", _copy)


def _copy(cursor: t.Any, statement: str, rows: t.Any, context: t.Any) -> bool:
    """Run a statement in the driver's place, so that its errors are handled as usual."""
    copy = context.execution_options.get(_COPY)
    if copy is None:
        return False
    with cursor.copy(copy) as target:
        for row in rows:
            target.write_row(row)
    return True


def insert_calls(dialect: sa.Dialect) -> InsertCalls:
    """Make the statement for a dialect.

    SQLAlchemy would prepare each value for its type, which takes longer than the database
    needs to store the rows. It never ignores conflicts: MySQL's way to do that would
    truncate what does not fit.
    """
    names = (*COLUMNS, "tag_set_id")
    quoted = ", ".join(map(dialect.identifier_preparer.quote, names))
    marker = "?" if dialect.name == "sqlite" else "%s"
    table = dialect.identifier_preparer.format_table(calls)
    markers = ", ".join([marker] * len(names))
    kind = calls.c.event_id.type.dialect_impl(dialect)
    psycopg = dialect.driver == "psycopg"
    return InsertCalls(
        # All names are our own.
        f"INSERT INTO {table} ({quoted}) VALUES ({markers})",  # noqa: S608
        kind.bind_processor(dialect) or str,
        f"COPY {table} ({quoted}) FROM STDIN" if psycopg else None,
    )
