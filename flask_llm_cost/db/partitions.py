"""Monthly partitions of the table of calls.

A partition holds the calls of one UTC month. Two more hold what is older and what is later,
so that no call is ever rejected for lack of a partition. PostgreSQL and MySQL/MariaDB
differ in how a table is partitioned and in what is locked meanwhile. SQLite has no
partitions.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import time
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc

from ..calendar import DAY
from ..calendar import END
from ..calendar import from_ms
from ..calendar import period_of
from ..calendar import utc_ms
from ..errors import StorageError
from .distribution import is_distributed
from .migrations import VERSION_TABLE
from .tables import calls
from .writers import wait_for_writers

TABLE: t.Final = calls.name
BEFORE: t.Final = f"{TABLE}_before"
LATER: t.Final = f"{TABLE}_later"
_CHECK: t.Final = f"{BEFORE}_check"

_NAME: t.Final = re.compile(rf"{TABLE}_(\d{{4}}_\d\d(_\d\d)?|before|later)")
_BOUNDS: t.Final = re.compile(r"FROM \((.+?)\) TO \((.+?)\)")
_MOST_MONTHS: t.Final = 240
_LOCK_SECONDS: t.Final = 3
"""How long to queue for a lock. Other requests for the table queue behind ours."""
_TRIES: t.Final = 20


@dataclass(frozen=True, slots=True)
class Partition:
    """One part of the table of calls."""

    name: str
    start: dt.datetime | None
    """``None``: it has no lower bound."""
    end: dt.datetime | None
    """``None``: it has no upper bound, or holds what no other partition does."""


@dataclass(frozen=True, slots=True)
class Step:
    """Statements to execute in one transaction, where the database supports that."""

    title: str
    statements: tuple[str, ...]


def is_partition(name: str) -> bool:
    """Whether a table is one of our partitions (PostgreSQL lists them as tables)."""
    return _NAME.fullmatch(name) is not None


def partitions(connection: sa.Connection) -> list[Partition]:
    """List the partitions by time; none if the table is not partitioned."""
    name = connection.dialect.name
    found: Iterator[Partition] = iter(())
    if name == "postgresql":
        found = _of_postgresql(connection)
    elif name in ("mysql", "mariadb"):
        found = _of_mysql(connection)
    return sorted(found, key=lambda p: (p.end is None, p.end, p.name))


def part_names(steps: Iterable[Step]) -> list[str]:
    """List the partitions that some steps create on PostgreSQL."""
    attached = re.compile(rf"ATTACH PARTITION ({TABLE}_\w+)")
    return [
        found[1]
        for step in steps
        for statement in step.statements
        if (found := attached.search(statement)) is not None
    ]


def last_end(parts: Sequence[Partition]) -> dt.datetime | None:
    """Return the end of the last month that has a partition."""
    ends = [part.end for part in parts if part.end is not None]
    return max(ends, default=None)


def plan(connection: sa.Connection, now: dt.datetime, ahead: int) -> list[Step]:
    """List the steps after which each month has a partition.

    :param ahead: The number of months after the current one.
    :raises StorageError: If the database does not support partitions.
    """
    name = connection.dialect.name
    if name == "sqlite":
        raise StorageError(
            "SQLite does not support partitions. `flask llm-cost prune` deletes old calls"
            " in short transactions; for a ledger that outgrows one file, use PostgreSQL"
            " or MariaDB."
        )
    until = _later_month(_month(now), ahead + 1)
    parts = partitions(connection)
    if not parts and is_distributed(connection):
        raise StorageError(
            f"{TABLE} is distributed, and a distributed table can no longer be"
            f" partitioned. Run `SELECT undistribute_table('{TABLE}',"
            " cascade_via_foreign_keys => false)`, then `flask llm-cost distribute`: it"
            " does both in the right order."
        )
    make = _postgresql if name == "postgresql" else _mysql
    return make(connection, parts, now, until)


def is_half_done(connection: sa.Connection) -> bool:
    """Whether partitioning was interrupted, so that calls of later months are rejected."""
    if connection.dialect.name != "postgresql":
        return False
    query = sa.text(
        "SELECT count(*) FROM pg_constraint"
        " WHERE conrelid = to_regclass(:name) AND conname = :check"
    )
    return bool(connection.scalar(query, {"name": TABLE, "check": _CHECK}))


def run(engine: sa.Engine, step: Step) -> None:
    """Execute a step. It retries as long as other transactions lock the table.

    :raises StorageError: If the table stayed locked.
    """
    for tries in range(_TRIES):
        try:
            with engine.begin() as connection, _short_locks(connection):
                for statement in step.statements:
                    connection.exec_driver_sql(statement)
                return
        except exc.OperationalError as error:
            if not _is_busy(error):
                raise
            time.sleep(min(0.1 * 2**tries, 5))
    raise StorageError(
        f"{step.title}: {TABLE} stayed locked by other transactions. Run the command"
        " again when no long transaction, such as a backup, uses the table; completed"
        " steps remain."
    )


def drop(engine: sa.Engine, part: Partition) -> None:
    """Drop a partition with the calls in it."""
    if engine.dialect.name == "postgresql":
        # Snapshots lock the first in share mode.
        statements = [
            f"LOCK TABLE {VERSION_TABLE} IN ACCESS EXCLUSIVE MODE",
            f"DROP TABLE IF EXISTS {_quoted(part.name)}",
        ]
    else:
        statements = [f"ALTER TABLE {TABLE} DROP PARTITION {_quoted(part.name, '`')}"]
    run(engine, Step(f"Dropping {part.name}", tuple(statements)))


def wait_for_month(engine: sa.Engine, part: Partition) -> None:
    """Wait for the transactions that are writing to a partition now."""
    if engine.dialect.name == "postgresql":
        wait_for_writers(engine)
    else:
        lock = f"LOCK TABLES {TABLE} READ"
        run(engine, Step(f"Waiting for {part.name}", (lock, "UNLOCK TABLES")))


# PostgreSQL


def _of_postgresql(connection: sa.Connection) -> Iterator[Partition]:
    query = sa.text(
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i"
        " JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass(:name)"
    )
    for name, bounds in connection.execute(query, {"name": TABLE}):
        found = _BOUNDS.search(bounds)
        if found is None:  # DEFAULT
            yield Partition(name, None, None)
        else:
            yield Partition(name, *map(_moment, found.groups()))


def _postgresql(
    connection: sa.Connection,
    parts: list[Partition],
    now: dt.datetime,
    until: dt.datetime,
) -> list[Step]:
    steps: list[Step] = []
    start = last_end(parts)
    if not parts:
        start, steps = _postgresql_swap(connection, now)
    if start is None:  # there is only the default partition
        start = _month(now)
    return [*steps, *(_postgresql_add(a, b) for a, b in _months(start, until))]


def _postgresql_swap(
    connection: sa.Connection, now: dt.datetime
) -> tuple[dt.datetime, list[Step]]:
    """Make the existing table the first partition of a new table of its name."""
    low, high = _range(connection)
    # A day of margin: at the end of a month, calls of the next may arrive meanwhile.
    start = _month(now) if low is None else _later_month(_month(now + DAY), 1)
    indexes = _postgresql_indexes(connection)
    swap = [f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE"]
    swap += [f"ALTER INDEX {name} RENAME TO {old}" for name, old, _ in indexes]
    swap += [
        f"ALTER TABLE {TABLE} RENAME TO {BEFORE}",
        f"CREATE TABLE {TABLE} (LIKE {BEFORE} INCLUDING DEFAULTS INCLUDING STORAGE)"
        " PARTITION BY RANGE (started_at)",
        *(definition for _, _, definition in indexes),
        f"CREATE TABLE {LATER} (LIKE {TABLE} INCLUDING DEFAULTS INCLUDING INDEXES)",
        _postgresql_move(BEFORE, LATER, start, None),
        f"ALTER TABLE {TABLE} ATTACH PARTITION {BEFORE}"
        f" FOR VALUES FROM (MINVALUE) TO ({utc_ms(start)})",
        f"ALTER TABLE {TABLE} ATTACH PARTITION {LATER} DEFAULT",
        *_postgresql_grants(connection),
    ]
    steps = []
    if low is not None and (high is None or high < start):
        # Validated beforehand, beside readers and writers, so that attaching does not
        # read the table while it is locked. (Calls in the far future prevent this.)
        steps = [
            Step(
                "Excluding calls of later months from the table (locked for milliseconds)",
                (
                    f"ALTER TABLE {TABLE} DROP CONSTRAINT IF EXISTS {_CHECK}",
                    f"ALTER TABLE {TABLE} ADD CONSTRAINT {_CHECK}"
                    f" CHECK (started_at < {utc_ms(start)}) NOT VALID",
                ),
            ),
            Step(
                "Reading all calls once (readers and writers continue)",
                (f"ALTER TABLE {TABLE} VALIDATE CONSTRAINT {_CHECK}",),
            ),
        ]
    swap.append(f"ALTER TABLE {BEFORE} DROP CONSTRAINT IF EXISTS {_CHECK}")
    title = f"Making {TABLE} the first partition (locked for milliseconds)"
    return start, [*steps, Step(title, tuple(swap))]


def _postgresql_indexes(connection: sa.Connection) -> list[tuple[str, str, str]]:
    """List each index: its name, its new name, and the statement that recreates it."""
    query = sa.text(
        "SELECT c.relname, pg_get_indexdef(i.indexrelid), pg_get_constraintdef(k.oid)"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.contype = 'p'"
        " WHERE i.indrelid = to_regclass(:name) ORDER BY c.relname"
    )
    found = []
    for name, index, constraint in connection.execute(query, {"name": TABLE}):
        if constraint is not None:
            index = f"ALTER TABLE {TABLE} ADD CONSTRAINT {_quoted(name)} {constraint}"
        found.append((_quoted(name), _quoted(f"{name}_before"), index))
    return found


def _postgresql_grants(connection: sa.Connection) -> list[str]:
    """List the statements that grant the table's privileges again."""
    query = sa.text(
        "SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END,"
        " a.privilege_type FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a"
        " LEFT JOIN pg_roles r ON r.oid = a.grantee"
        " WHERE c.oid = to_regclass(:name) AND a.grantee <> c.relowner ORDER BY 1, 2"
    )
    rows = connection.execute(query, {"name": TABLE})
    return [f"GRANT {privilege} ON {TABLE} TO {role}" for role, privilege in rows]


def _postgresql_add(start: dt.datetime, end: dt.datetime) -> Step:
    name = _name(start)
    low, high = utc_ms(start), utc_ms(end)
    return Step(
        f"Adding {name}",
        (
            # Attached afterwards: PARTITION OF would block readers of other months.
            f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING DEFAULTS INCLUDING INDEXES)",
            f"LOCK TABLE {LATER} IN ACCESS EXCLUSIVE MODE",
            _postgresql_move(LATER, name, start, end),
            f"ALTER TABLE {TABLE} ATTACH PARTITION {name}"
            f" FOR VALUES FROM ({low}) TO ({high})",
        ),
    )


def _postgresql_move(
    source: str, target: str, start: dt.datetime, end: dt.datetime | None
) -> str:
    time = f"started_at >= {utc_ms(start)}"
    if end is not None:
        time += f" AND started_at < {utc_ms(end)}"
    # All names and numbers are our own.
    return (
        f"WITH gone AS (DELETE FROM {source} WHERE {time} RETURNING *)"  # noqa: S608
        f" INSERT INTO {target} SELECT * FROM gone"
    )


# MySQL and MariaDB


def _of_mysql(connection: sa.Connection) -> Iterator[Partition]:
    query = sa.text(
        "SELECT partition_name, partition_description FROM information_schema.partitions"
        " WHERE table_schema = DATABASE() AND table_name = :name"
        " AND partition_name IS NOT NULL ORDER BY partition_ordinal_position"
    )
    start = None
    for name, bound in connection.execute(query, {"name": TABLE}):
        end = _moment(bound)
        yield Partition(name, start, end)
        start = end


def _mysql(
    connection: sa.Connection,
    parts: list[Partition],
    now: dt.datetime,
    until: dt.datetime,
) -> list[Step]:
    if not parts:
        low, _ = _range(connection)
        first = _month(min(low or now, now))
        first = max(first, _later_month(_month(now), -_MOST_MONTHS))
        wanted = ", ".join(
            [f"PARTITION {BEFORE} VALUES LESS THAN ({utc_ms(first)})"]
            + [_mysql_part(a, b) for a, b in _months(first, until)]
            + [f"PARTITION {LATER} VALUES LESS THAN MAXVALUE"]
        )
        return [
            Step(
                f"Copying {TABLE} into partitions (writers wait, readers continue)",
                (f"ALTER TABLE {TABLE} PARTITION BY RANGE (started_at) ({wanted})",),
            )
        ]
    missing = list(_months(last_end(parts) or _month(now), until))
    if not missing:
        return []
    new = ", ".join(_mysql_part(a, b) for a, b in missing)
    open_end = [part.name for part in parts if part.end is None]
    later = f"PARTITION {LATER} VALUES LESS THAN MAXVALUE"
    return [
        Step(
            "Adding " + ", ".join(_name(a) for a, _ in missing),
            (
                f"ALTER TABLE {TABLE} REORGANIZE PARTITION {_quoted(open_end[0], '`')}"
                f" INTO ({new}, {later})"
                if open_end
                else f"ALTER TABLE {TABLE} ADD PARTITION ({new}, {later})",
            ),
        )
    ]


def _mysql_part(start: dt.datetime, end: dt.datetime) -> str:
    return f"PARTITION {_name(start)} VALUES LESS THAN ({utc_ms(end)})"


# Shared


def _range(
    connection: sa.Connection,
) -> tuple[dt.datetime | None, dt.datetime | None]:
    c = calls.c.started_at
    # Foreign rows with times that no call can have need no partition.
    query = sa.select(sa.func.min(c), sa.func.max(c)).where(c < END)
    low, high = connection.execute(query).one()
    return low, high


@contextlib.contextmanager
def _short_locks(connection: sa.Connection) -> Iterator[None]:
    """Limit the wait for locks."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
        yield
        return
    waits = "SET SESSION lock_wait_timeout = "
    connection.exec_driver_sql(f"{waits}{_LOCK_SECONDS}")
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql(f"{waits}DEFAULT")


def _is_busy(error: exc.OperationalError) -> bool:
    """Whether it is a lock timeout or a deadlock."""
    cause = error.orig
    if getattr(cause, "sqlstate", None) in ("55P03", "40P01"):
        return True
    arguments: tuple[t.Any, ...] = getattr(cause, "args", ())
    return bool(arguments) and arguments[0] in (1205, 1213)


def _months(
    start: dt.datetime, until: dt.datetime
) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    while start < until:
        end = period_of("month", start, dt.UTC)[1]
        yield start, end
        start = end


def _month(moment: dt.datetime) -> dt.datetime:
    return period_of("month", moment, dt.UTC)[0]


def _later_month(month: dt.datetime, count: int) -> dt.datetime:
    years, rest = divmod(month.month - 1 + count, 12)
    return month.replace(year=month.year + years, month=rest + 1)


def _name(start: dt.datetime) -> str:
    # Beside partitions made by hand, the first one may not be a whole month.
    return f"{TABLE}_{start:%Y_%m}" if start.day == 1 else f"{TABLE}_{start:%Y_%m_%d}"


def _moment(bound: str) -> dt.datetime | None:
    digits = bound.strip("'")
    return from_ms(int(digits)) if re.fullmatch(r"-?\d{1,15}", digits) else None


def _quoted(name: str, quote: str = '"') -> str:
    return quote + name.replace(quote, quote * 2) + quote
