"""Conditions and batches for statements about many calls."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite

from .tables import calls

_CHUNK: t.Final = 500

Key: t.TypeAlias = tuple[dt.datetime, str]
"""The primary key of a call: its time and its event id."""

_T = t.TypeVar("_T")


def chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Split into batches of as many items as one statement can have parameters for."""
    for n in range(0, len(items), _CHUNK):
        yield items[n : n + _CHUNK]


def between(start: dt.datetime, end: dt.datetime) -> list[sa.ColumnElement[bool]]:
    """Select the calls from one moment until before another."""
    return [calls.c.started_at >= start, calls.c.started_at < end]


def by_key(
    keys: Sequence[Key], table: sa.Table = calls
) -> tuple[sa.ColumnElement[bool], ...]:
    """Select rows by keys that are sorted by time.

    The range of times comes first: it is what the primary key is searched by.
    """
    return (
        table.c.started_at.between(keys[0][0], keys[-1][0]),
        table.c.event_id.in_([event_id for _, event_id in keys]),
    )


def insert_missing(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, t.Any]]
) -> None:
    """Insert rows, except those whose primary key exists."""
    name = connection.dialect.name
    for some in chunks(rows):
        if name == "postgresql":
            # One statement: if each node has a copy of the table, each waits for all.
            missing = postgresql.insert(table).on_conflict_do_nothing()
            connection.execute(missing.values(list(some)))
        elif name == "sqlite":
            skip = sqlite.insert(table).on_conflict_do_nothing()
            connection.execute(skip, list(some))
        else:
            first = table.primary_key.columns[0]
            keep = mysql.insert(table).on_duplicate_key_update({first.name: first})
            connection.execute(keep, list(some))
