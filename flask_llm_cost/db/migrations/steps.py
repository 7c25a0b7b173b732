"""The steps of revisions, each of which can be repeated after an interruption.

MySQL and MariaDB cannot roll back CREATE or ALTER: an interrupted revision stays half
done. So each step first checks whether it is needed, except when it is written as SQL text.
"""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from alembic import context
from alembic import op

from flask_llm_cost.db.column_types import TABLE_OPTIONS


def create_table(name: str, *items: sa.schema.SchemaItem) -> None:
    """Create a table unless it exists."""
    if not _has_table(name):
        op.create_table(name, *items, **TABLE_OPTIONS)


def drop_table(name: str) -> None:
    """Drop a table if it exists."""
    if context.is_offline_mode() or _has_table(name):
        op.drop_table(name)


def add_column(table: str, column: sa.Column[t.Any]) -> None:
    """Add a column unless it exists."""
    if not _has_column(table, column.name):
        op.add_column(table, column)


def drop_column(table: str, name: str) -> None:
    """Drop a column if it exists."""
    if has_column(table, name):
        op.drop_column(table, name)


def has_column(table: str, name: str) -> bool:
    """Whether a column exists; in SQL text, no step was interrupted."""
    return context.is_offline_mode() or _has_column(table, name)


def create_index(name: str, table: str, columns: list[str], **options: t.Any) -> None:
    """Create an index unless it exists."""
    if not _has_index(name, table):
        op.create_index(name, table, columns, **options)


def _has_table(name: str) -> bool:
    return not context.is_offline_mode() and sa.inspect(op.get_bind()).has_table(name)


def _has_column(table: str, name: str) -> bool:
    if context.is_offline_mode():
        return False
    columns = sa.inspect(op.get_bind()).get_columns(table)
    return any(column["name"] == name for column in columns)


def _has_index(name: str, table: str) -> bool:
    if context.is_offline_mode():
        return False
    indexes = sa.inspect(op.get_bind()).get_indexes(table)
    return any(index["name"] == name for index in indexes)
