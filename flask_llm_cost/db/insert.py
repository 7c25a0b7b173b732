"""The statement that inserts calls, given to the driver as it is."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import sqlalchemy as sa

from .rows import COLUMNS
from .tables import calls


class InsertCalls(t.NamedTuple):
    """Takes rows of :func:`.rows.values_of` with the id of the set of tags appended."""

    sql: str
    event_id: Callable[[str], t.Any]
    """Converts an event id to the form in which the database stores it."""


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
    return InsertCalls(
        # All names are our own.
        f"INSERT INTO {table} ({quoted}) VALUES ({markers})",  # noqa: S608
        kind.bind_processor(dialect) or str,
    )
