"""What ``doctor`` checks in the ledger itself: its tables, partitions and rollups."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from ..db.autogenerate import unfiltered
from ..db.partitions import is_half_done
from ..db.partitions import last_end
from ..db.partitions import partitions as list_partitions
from ..db.tables import metadata
from ..rollups import dirty_marks
from ..rollups import tag_rollups
from ..rollups.zone import rollup_zone

if t.TYPE_CHECKING:
    from flask import Flask

    from ..storage import Storage


def ledger_timezone(connection: sa.Connection) -> str | None:
    """Return the zone of the ledger's days; ``None`` before the first rollup."""
    return rollup_zone(connection)


def missing_columns(connection: sa.Connection) -> list[str]:
    """List the columns that this package needs and the database lacks."""
    found = sa.inspect(connection)
    missing: list[str] = []
    for table in metadata.sorted_tables:
        present = (
            {column["name"] for column in found.get_columns(table.name)}
            if found.has_table(table.name)
            else set()
        )
        missing += [str(c) for c in table.columns if c.name not in present]
    return missing


@dataclass(frozen=True, slots=True)
class PartitionHealth:
    """The partitions of the table of calls."""

    count: int
    end: dt.datetime | None
    """When the last one of a month ends; ``None`` if there is none."""
    interrupted: bool
    """Whether setting them up did not finish: calls of later months are rejected."""


def partition_health(connection: sa.Connection) -> PartitionHealth:
    """Ask whether the table of calls is partitioned, and until when."""
    found = list_partitions(connection)
    return PartitionHealth(len(found), last_end(found), is_half_done(connection))


def unfiltered_migrations(app: Flask, ledger: Storage) -> list[Path]:
    """List the ``env.py`` files of an app that would drop the ledger's tables.

    Only if they may be in the app's database: nothing else is in our own file.
    """
    if ledger.schema is None or ledger.schema.in_own_file:
        return []
    return list(unfiltered(app))


def dirty_hours(connection: sa.Connection) -> list[dt.datetime]:
    """List the hours (UTC) whose rollups are not up to date."""
    return sorted(dirty_marks.dirty_hours(connection))


@dataclass(frozen=True, slots=True)
class Overflow:
    """A tag that had too many values to be aggregated."""

    key: str
    since: dt.datetime
    limit: int
    """How many values of a day are too many."""


def tag_overflows(connection: sa.Connection) -> list[Overflow]:
    """List the tags of ``LLM_COST_ROLLUP_TAGS`` that are no longer aggregated."""
    return [
        Overflow(known.key, known.until, tag_rollups.MAX_VALUES)
        for known in tag_rollups.declared_keys(connection)
        if known.until is not None
    ]
