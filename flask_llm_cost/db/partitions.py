"""Monthly partitions of the calls, on the databases that have them.

A partition holds the calls of one month of UTC. Besides these there is one for all that is
older, and one for all that is later: no call is ever refused for want of a partition.
PostgreSQL and MySQL/MariaDB differ in how a table gets partitions and in what is locked
meanwhile; which ones there are, and which are wanted, is the same for both.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import time
import typing as t
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc

from ..calendar import END
from ..calendar import from_ms
from ..calendar import utc_ms
from ..errors import StorageError
from .tables import calls

TABLE: t.Final = calls.name
BEFORE: t.Final = f"{TABLE}_before"
LATER: t.Final = f"{TABLE}_later"
_CHECK: t.Final = f"{BEFORE}_check"

_NAME: t.Final = re.compile(rf"{TABLE}_(\d{{4}}_\d\d(_\d\d)?|before|later)")
_BOUNDS: t.Final = re.compile(r"FROM \((.+?)\) TO \((.+?)\)")
_DAY: t.Final = dt.timedelta(days=1)
_MOST_MONTHS: t.Final = 240
_LOCK_SECONDS: t.Final = 3
"""So long we queue for a lock. Whoever asks for the table meanwhile queues behind us."""
_TRIES: t.Final = 20


@dataclass(frozen=True, slots=True)
class Partition:
    """One part of the table of calls."""

    name: str
    start: dt.datetime | None
    """``None``: it has no beginning."""
    end: dt.datetime | None
    """``None``: it has no end, and takes what no other does."""


@dataclass(frozen=True, slots=True)
class Step:
    """Statements that are one transaction, where the database can have them in one."""

    what: str
    statements: tuple[str, ...]


def is_partition(name: str) -> bool:
    """Whether a table of this name is one of our partitions (PostgreSQL lists them)."""
    return _NAME.fullmatch(name) is not None


def partitions(connection: sa.Connection) -> list[Partition]:
    """The partitions of the table of calls, by time. None: it has none."""
    name = connection.dialect.name
    found: Iterator[Partition] = iter(())
    if name == "postgresql":
        found = _of_postgresql(connection)
    elif name in ("mysql", "mariadb"):
        found = _of_mysql(connection)
    return sorted(found, key=lambda p: (p.end is None, p.end, p.name))


def last_end(parts: Sequence[Partition]) -> dt.datetime | None:
    """When the last month ends that has a partition."""
    ends = [part.end for part in parts if part.end is not None]
    return max(ends, default=None)


def plan(connection: sa.Connection, now: dt.datetime, ahead: int) -> list[Step]:
    """What is to be done so that so many months after this one have a partition.

    :raises StorageError: If the database has no partitions.
    """
    name = connection.dialect.name
    if name == "sqlite":
        raise StorageError(
            "SQLite has no partitions. `flask llm-cost prune` deletes old calls in short"
            " steps there; for a ledger that outgrows one file use PostgreSQL or MariaDB."
        )
    until = _later_month(_month(now), ahead + 1)
    parts = partitions(connection)
    make = _postgresql if name == "postgresql" else _mysql
    return make(connection, parts, now, until)


def broke_off(connection: sa.Connection) -> bool:
    """Whether setting up partitions was begun and not ended: later months are refused."""
    if connection.dialect.name != "postgresql":
        return False
    query = sa.text(
        "SELECT count(*) FROM pg_constraint"
        " WHERE conrelid = to_regclass(:name) AND conname = :check"
    )
    return bool(connection.scalar(query, {"name": TABLE, "check": _CHECK}))


def run(engine: sa.Engine, step: Step) -> None:
    """Do a step. Where others use the table, it gives way and tries again.

    :raises StorageError: If they never let it have the table.
    """
    for tries in range(_TRIES):
        try:
            with engine.begin() as connection, _brief(connection):
                for statement in step.statements:
                    connection.exec_driver_sql(statement)
                return
        except exc.OperationalError as error:
            if not _is_busy(error):
                raise
            time.sleep(min(0.1 * 2**tries, 5))
    raise StorageError(
        f"{step.what}: others have used {TABLE} all the time. Run it again when there is"
        " no long transaction on it, such as a backup; what is done already stays done."
    )


def drop(engine: sa.Engine, part: Partition) -> None:
    """Let a partition go, with the calls in it."""
    statement = (
        f"DROP TABLE IF EXISTS {_quoted(part.name)}"
        if engine.dialect.name == "postgresql"
        else f"ALTER TABLE {TABLE} DROP PARTITION {_quoted(part.name, '`')}"
    )
    run(engine, Step(f"Dropping {part.name}", (statement,)))


def wait_for_writers(engine: sa.Engine, part: Partition) -> None:
    """Return when every transaction that writes to it now is over."""
    if engine.dialect.name == "postgresql":
        # No writer of another month waits, and no reader at all.
        lock = f"LOCK TABLE {_quoted(part.name)} IN SHARE MODE"
        run(engine, Step(f"Waiting for {part.name}", (lock,)))
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
    if start is None:  # all are in the default partition
        start = _month(now)
    return [*steps, *(_postgresql_add(a, b) for a, b in _months(start, until))]


def _postgresql_swap(
    connection: sa.Connection, now: dt.datetime
) -> tuple[dt.datetime, list[Step]]:
    """The table of now becomes the first partition of a new one of its name."""
    low, high = _range(connection)
    # Calls of a minute ago may still be on their way.
    start = _month(now) if low is None else _later_month(_month(now + _DAY), 1)
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
        # Proven beforehand, beside readers and writers, so that nothing is read while
        # the table is locked. (Calls of the far future have it read then.)
        steps = [
            Step(
                "Promising that no call is of a later month (a lock of milliseconds)",
                (
                    f"ALTER TABLE {TABLE} DROP CONSTRAINT IF EXISTS {_CHECK}",
                    f"ALTER TABLE {TABLE} ADD CONSTRAINT {_CHECK}"
                    f" CHECK (started_at < {utc_ms(start)}) NOT VALID",
                ),
            ),
            Step(
                "Reading all calls once (readers and writers go on)",
                (f"ALTER TABLE {TABLE} VALIDATE CONSTRAINT {_CHECK}",),
            ),
        ]
    swap.append(f"ALTER TABLE {BEFORE} DROP CONSTRAINT IF EXISTS {_CHECK}")
    what = f"Making {TABLE} the first partition of itself (a lock of milliseconds)"
    return start, [*steps, Step(what, tuple(swap))]


def _postgresql_indexes(connection: sa.Connection) -> list[tuple[str, str, str]]:
    """Each index: its name, the one it gets, and the statement that makes it anew."""
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
    """What others may do with the table, said again."""
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
            # Attached, not made in place: that would lock out readers of other months.
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
    # Names and numbers are all ours.
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
                f"Copying {TABLE} into partitions (writers wait, readers go on)",
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


# What both have


def _range(
    connection: sa.Connection,
) -> tuple[dt.datetime | None, dt.datetime | None]:
    c = calls.c.started_at
    # Rows of a time that no call can have are not worth a partition.
    query = sa.select(sa.func.min(c), sa.func.max(c)).where(c < END)
    low, high = connection.execute(query).one()
    return low, high


@contextlib.contextmanager
def _brief(connection: sa.Connection) -> Iterator[None]:
    """Queue for a lock for some seconds only."""
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
    """Whether a lock was not to be had, or two waited for each other."""
    cause = error.orig
    if getattr(cause, "sqlstate", None) in ("55P03", "40P01"):
        return True
    arguments: tuple[t.Any, ...] = getattr(cause, "args", ())
    return bool(arguments) and arguments[0] in (1205, 1213)


def _months(
    start: dt.datetime, until: dt.datetime
) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    while start < until:
        end = _later_month(_month(start), 1)
        yield start, end
        start = end


def _month(moment: dt.datetime) -> dt.datetime:
    day = moment.astimezone(dt.UTC)
    return dt.datetime(day.year, day.month, 1, tzinfo=dt.UTC)


def _later_month(month: dt.datetime, count: int) -> dt.datetime:
    years, rest = divmod(month.month - 1 + count, 12)
    return month.replace(year=month.year + years, month=rest + 1)


def _name(start: dt.datetime) -> str:
    # A table that was partitioned by hand may leave us less than a month to fill.
    return f"{TABLE}_{start:%Y_%m}" if start.day == 1 else f"{TABLE}_{start:%Y_%m_%d}"


def _moment(bound: str) -> dt.datetime | None:
    digits = bound.strip("'")
    return from_ms(int(digits)) if re.fullmatch(r"-?\d{1,15}", digits) else None


def _quoted(name: str, quote: str = '"') -> str:
    return quote + name.replace(quote, quote * 2) + quote
