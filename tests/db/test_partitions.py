"""Monthly partitions: setup, later months, and dropping them during other work."""

from __future__ import annotations

import datetime as dt
import threading
import typing as t
import zoneinfo
from collections.abc import Iterable
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_llm_cost.call import Call
from flask_llm_cost.db import migrate
from flask_llm_cost.db import partitions
from flask_llm_cost.db import rows
from flask_llm_cost.db.migrations import HEAD
from flask_llm_cost.db.tables import calls
from flask_llm_cost.db.tables import dirty_marks
from flask_llm_cost.db.tables import PRICED_COLUMNS
from flask_llm_cost.db.tables import revisions
from flask_llm_cost.errors import StorageError
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger.revisions import revise
from flask_llm_cost.ledger.revisions import Revision
from flask_llm_cost.query.aggregate import tag_breakdown
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.totals import Group
from flask_llm_cost.query.totals import Totals
from flask_llm_cost.rollups import months
from flask_llm_cost.rollups.dirty_marks import mark_dirty
from flask_llm_cost.rollups.dropping import dropping
from flask_llm_cost.rollups.horizon import horizon
from tests.cluster.servers import wait_until
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.db.third_revision import environment
from tests.ledger.samples import make_call
from tests.ledger.test_ledger import spool
from tests.rollups.test_build import raw
from tests.rollups.test_build import rolled

with_partitions = pytest.mark.parametrize(
    "empty_database", ["POSTGRESQL", "MARIADB"], indirect=True
)

HOUR = dt.timedelta(hours=1)


def month(back: int = 0) -> dt.datetime:
    """The start of the month that many months before the current one."""
    now = dt.datetime.now(dt.UTC)
    years, rest = divmod(now.month - 1 - back, 12)
    return dt.datetime(now.year + years, rest + 1, 1, tzinfo=dt.UTC)


def calls_around(*moments: dt.datetime) -> list[Call]:
    """Calls of some kinds on both sides of each moment."""
    made = []
    for moment in moments:
        for n in range(-6, 6):
            changes: dict[str, t.Any] = {"latency_ms": 100 + n * 7}
            if n % 3 == 0:
                changes |= {"cost": None, "model": "odd"}
            at = moment + n * 21 * dt.timedelta(minutes=1)
            made.append(make_call(n % 5, started_at=at, **changes))
    return made


def kept(ledger: Ledger, made: Iterable[Call]) -> Ledger:
    spool(ledger, list(made))
    ledger.queue.drain()
    ledger.rollups.build()
    return ledger


def ever(ledger: Ledger) -> Totals:
    zone = ledger._settings.timezone
    with ledger.reading() as connection:
        return totals(connection, CallFilter(zone=zone))


def by_user(ledger: Ledger) -> tuple[Group, ...]:
    zone = ledger._settings.timezone
    with ledger.reading() as connection:
        return tag_breakdown(connection, CallFilter(zone=zone), "user")


def spans(ledger: Ledger) -> list[tuple[dt.datetime | None, dt.datetime | None]]:
    return [(part.start, part.end) for part in ledger.partitions.existing()]


@with_partitions
def test_an_empty_ledger_gets_this_month_and_some_ahead(ledger: Ledger) -> None:
    assert ledger.partitions.existing() == []
    ledger.partitions.apply(ahead=2)
    assert spans(ledger)[1:4] == [
        (month(), month(-1)),
        (month(-1), month(-2)),
        (month(-2), month(-3)),
    ]
    assert [part.end for part in ledger.partitions.existing()][0] == month()
    assert ledger.partitions.existing()[-1].end is None
    assert ledger.schema.check() == []
    assert ledger.partitions.plan(ahead=2) == []
    kept(ledger, calls_around(month(), month(40), month(-1), month(-30)))
    assert ever(ledger).calls == raw(ledger)["calls"] == 48
    assert ledger.rollups.verify() == []


@with_partitions
def test_a_ledger_with_calls_keeps_them_all(ledger: Ledger) -> None:
    kept(ledger, calls_around(month(3), month(1), month(0)))
    before = ever(ledger), raw(ledger)
    ledger.partitions.apply()
    assert (ever(ledger), raw(ledger)) == before
    assert ledger.schema.check() == []
    assert ledger.rollups.verify() == []
    kept(ledger, calls_around(month(2), month(-2)))
    assert ever(ledger).calls == before[0].calls + 24


@with_partitions
def test_calls_in_the_far_future_do_not_prevent_partitioning(ledger: Ledger) -> None:
    kept(ledger, calls_around(month(1), month(-40)))
    before = ever(ledger)
    ledger.partitions.apply(ahead=1)
    ledger.partitions.apply(ahead=41)  # which moves them to months of their own
    assert ever(ledger) == before
    assert month(-40) in [start for start, _ in spans(ledger)]
    with ledger._engines.writing().connect() as connection:
        for part in ledger.partitions.existing():
            if part.start == month(-40):
                assert _rows_of(connection, part) == 6


def _rows_of(connection: sa.Connection, part: partitions.Partition) -> int:
    source = (
        part.name
        if connection.dialect.name == "postgresql"
        else f"{calls.name} PARTITION ({part.name})"
    )
    query = f"SELECT count(*) FROM {source}"
    return int(connection.exec_driver_sql(query).scalar_one())


@with_partitions
def test_later_months_are_added(ledger: Ledger) -> None:
    ledger.partitions.apply(ahead=1)
    told: list[partitions.Step] = []
    ledger.partitions.apply(ahead=4, progress=told.append)
    assert told
    assert partitions.last_end(ledger.partitions.existing()) == month(-5)
    ends = [part.end for part in ledger.partitions.existing() if part.end]
    assert ends == sorted(set(ends))


@with_partitions
def test_setup_can_be_interrupted_after_any_step(
    ledger: Ledger, make_ledger: MakeLedger
) -> None:
    kept(ledger, calls_around(month(2), month(1)))
    before = ever(ledger)
    engine = ledger._engines.writing()
    for done in range(9):
        plan = ledger.partitions.plan()
        if not plan:
            break
        partitions.run(engine, plan[0])
        with engine.connect() as connection:
            assert partitions.is_half_done(connection) == (
                not partitions.partitions(connection)
            )
        if done == 1:
            break
    ledger.partitions.apply()
    assert ledger.partitions.plan() == []
    with engine.connect() as connection:
        assert not partitions.is_half_done(connection)
    assert ever(ledger) == before
    assert ledger.schema.check() == []


@with_partitions
def test_pruning_drops_whole_months_and_keeps_their_rollups(ledger: Ledger) -> None:
    ledger.partitions.apply()
    _split(ledger, 5)
    # Not of this month: at its begin, hours of its first day are not over.
    kept(ledger, calls_around(*(month(n) for n in range(1, 5))))
    before, sums = ever(ledger), raw(ledger)
    limit = month(2) + 1.5 * HOUR
    expected = ledger.prunable(limit)
    assert len(ledger.partitions.droppable(limit)) >= 2
    seen: list[int] = []
    assert ledger.prune(limit, progress=seen.append) == seen[-1] == expected
    assert raw(ledger)["calls"] == 48 - expected
    assert ledger.partitions.droppable(limit) == []
    ledger.rollups.build()
    assert ever(ledger) == before
    assert rolled(ledger, "hour", "pruned") == rolled(ledger, "day") == sums
    assert ledger.rollups.verify() == []
    with ledger.reading() as connection:
        assert horizon(connection) == limit
        assert dropping(connection) is None


def _split(ledger: Ledger, back: int) -> None:
    """Add partitions for past months, as if the command had run since then."""
    engine = ledger._engines.writing()
    first = ledger.partitions.existing()[0]
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"DROP TABLE {first.name}")
            for n in range(back, 0, -1):
                name = f"llm_cost_calls_{month(n):%Y_%m}"
                low, high = (int(month(k).timestamp() * 1000) for k in (n, n - 1))
                connection.exec_driver_sql(
                    f"CREATE TABLE {name} PARTITION OF llm_cost_calls"
                    f" FOR VALUES FROM ({low}) TO ({high})"
                )
        else:
            parts = ", ".join(
                f"PARTITION p{n} VALUES LESS THAN ({int(month(n).timestamp() * 1000)})"
                for n in range(back, -1, -1)
            )
            connection.exec_driver_sql(
                f"ALTER TABLE llm_cost_calls REORGANIZE PARTITION {first.name}"
                f" INTO ({parts})"
            )


@with_partitions
def test_revisions_of_dropped_calls_are_deleted(ledger: Ledger) -> None:
    ledger.partitions.apply()
    _split(ledger, 3)
    made = calls_around(month(2), month(1))
    kept(ledger, made)
    old = rows.row_of(made[0])
    same = {name: old[name] for name in PRICED_COLUMNS}
    wanted = [Revision((call.started_at, call.event_id), same) for call in made]
    now = dt.datetime.now(dt.UTC)
    with ledger._engines.writing().begin() as connection:
        run = mint_event_id(now)
        assert len(revise(connection, run, now, wanted)) == len(made)
    ledger.prune(month(1))
    with ledger.reading() as connection:
        left = connection.scalars(sa.select(revisions.c.event_id)).all()
    assert sorted(left) == sorted(c.event_id for c in made if c.started_at >= month(1))


@with_partitions
def test_months_only_leaves_the_rest_for_later(ledger: Ledger) -> None:
    ledger.partitions.apply()
    _split(ledger, 3)
    kept(ledger, calls_around(month(3) + 7 * HOUR, month(1)))
    limit = month(1) + 5 * HOUR
    assert ledger.prune(limit, months_only=True) == 18
    assert raw(ledger)["calls"] == 6
    assert ever(ledger).calls == 24


@with_partitions
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns"])
def test_an_hour_in_two_months_is_split(
    database: str, make_ledger: MakeLedger, zone: str
) -> None:
    ledger = make_ledger(
        database, timezone=zoneinfo.ZoneInfo(zone), rollup_tags=("user",)
    )
    ledger.partitions.apply()
    _split(ledger, 3)
    kept(ledger, calls_around(month(2), month(1)))
    before, sums, users = ever(ledger), raw(ledger), by_user(ledger)
    assert ledger.prune(month(1)) == 18
    assert by_user(ledger) == users
    ledger.rollups.build()
    assert ever(ledger) == before
    assert by_user(ledger) == users
    assert rolled(ledger, "hour", "pruned") == rolled(ledger, "day") == sums
    assert ledger.rollups.verify() == []


@with_partitions
@pytest.mark.parametrize("dropped", [False, True])
def test_an_interrupted_prune_is_completed_by_the_next(
    database: str,
    make_ledger: MakeLedger,
    monkeypatch: pytest.MonkeyPatch,
    dropped: bool,
) -> None:
    ledger = make_ledger(database, rollup_tags=("user",))
    ledger.partitions.apply()
    _split(ledger, 3)
    kept(ledger, calls_around(month(2), month(1)))
    before, users = ever(ledger), by_user(ledger)
    with monkeypatch.context() as death:
        if dropped:
            death.setattr(months.MonthDropper, "_settle", _die)
        else:
            death.setattr(months, "drop", _die)
        with pytest.raises(ZeroDivisionError):
            ledger.prune(month(1))
    assert (ever(ledger), by_user(ledger)) == (before, users)
    # Other work meanwhile must not lose calls that are no longer in the table.
    with ledger._engines.writing().begin() as connection:
        mark_dirty(connection, [month(2) + HOUR, month(2) - HOUR])
    ledger.rollups.build()
    assert ledger.rollups.verify() == []
    with pytest.raises(StorageError, match="were pruned"):
        ledger.rollups.rezone()
    ledger.prune(month(1))
    assert (ever(ledger), by_user(ledger)) == (before, users)
    ledger.rollups.build()
    assert by_user(ledger) == users
    assert ledger.rollups.verify() == []
    assert raw(ledger)["calls"] == 6


def _die(*args: t.Any) -> t.NoReturn:
    raise ZeroDivisionError


@with_partitions
def test_a_call_of_a_dropped_month_is_rejected(ledger: Ledger) -> None:
    ledger.partitions.apply()
    _split(ledger, 3)
    made = calls_around(month(2))
    kept(ledger, made)
    ledger.prune(month(1))
    spool(ledger, made[:3])
    ledger.queue.drain()
    assert ledger.queue.rejected()
    assert ever(ledger).calls == 12


@pytest.mark.parametrize("empty_database", ["POSTGRESQL"], indirect=True)
def test_dropping_a_month_waits_for_a_page_that_reads_it(
    database: str, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(database)
    ledger.partitions.apply(ahead=0)
    _split(ledger, 2)
    made = calls_around(month(2) + 30 * HOUR, month(1) + 30 * HOUR)
    kept(ledger, made)
    before = ever(ledger)
    with ledger._engines.writing().begin() as connection:
        mark_dirty(connection, [made[0].started_at])
    gone = threading.Thread(target=lambda: ledger.prune(month(1)))
    waiting = sa.text(
        "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database"
        " WHERE NOT granted AND datname = current_database()"
    )
    with ledger.reading() as page, ledger._engines.writing().connect() as other:
        # By now, the page has seen that the hour is dirty.
        assert page.scalar(sa.select(sa.func.count()).select_from(dirty_marks)) == 1
        gone.start()
        wait_until(
            lambda: not gone.is_alive() or bool(other.scalar(waiting)), "the drop"
        )
        seen = totals(page, CallFilter(zone=ledger._settings.timezone))
    gone.join()
    assert seen == before
    assert ever(ledger) == before


@with_partitions
def test_rollups_are_exact_while_months_are_added_and_dropped(
    database: str, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(database)
    ledger.partitions.apply(ahead=0)
    _split(ledger, 4)
    made = calls_around(*(month(n) + 30 * HOUR for n in range(1, 5)))
    kept(ledger, made)
    before = ever(ledger)
    wrong: list[Totals] = []
    done = threading.Event()

    def watch() -> None:
        mine = make_ledger(database)
        while not done.is_set():
            now = ever(mine)
            if now != before:
                wrong.append(now)

    def roll() -> None:
        mine = make_ledger(database)
        while not done.is_set():
            with mine._engines.writing().begin() as connection:
                mark_dirty(connection, [made[-1].started_at, made[30].started_at])
            mine.rollups.build()

    threads = [threading.Thread(target=watch), threading.Thread(target=roll)]
    for thread in threads:
        thread.start()
    try:
        for n in range(3, 0, -1):
            ledger.prune(month(n))
            ledger.partitions.apply(ahead=4 - n)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    ledger.rollups.build()
    assert ledger.rollups.verify() == []
    assert raw(ledger)["calls"] == 12


@with_partitions
def test_a_lock_of_a_reader_is_waited_for(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "_LOCK_SECONDS", 1)
    monkeypatch.setattr(partitions, "_TRIES", 1)
    ledger.partitions.apply()
    _split(ledger, 2)
    kept(ledger, calls_around(month(1)))
    with ledger.reading() as connection:
        connection.execute(sa.select(calls.c.model)).all()
        with pytest.raises(StorageError, match="llm_cost_calls stayed locked by other"):
            ledger.prune(month(1))
    assert ledger.prune(month(1)) == 6


@pytest.mark.parametrize("empty_database", ["POSTGRESQL"], indirect=True)
def test_privileges_are_kept(ledger: Ledger) -> None:
    engine = ledger._engines.writing()
    with engine.begin() as connection:
        connection.exec_driver_sql("GRANT SELECT ON llm_cost_calls TO PUBLIC")
    ledger.partitions.apply()
    with engine.connect() as connection:
        query = (
            "SELECT relacl::text FROM pg_class WHERE oid = 'llm_cost_calls'::regclass"
        )
        assert "=r/" in str(connection.exec_driver_sql(query).scalar())


def test_sqlite_reports_that_it_has_no_partitions(make_ledger: MakeLedger) -> None:
    with pytest.raises(StorageError, match="SQLite does not support partitions"):
        make_ledger().partitions.apply()
    with pytest.raises(StorageError, match="SQLite does not support partitions"):
        make_ledger().partitions.plan()
    assert make_ledger().partitions.existing() == []


@every_database
def test_every_unique_index_of_calls_has_the_event_id(ledger: Ledger) -> None:
    # Required to distribute the table by it (Citus), and to partition it by time.
    inspector = sa.inspect(ledger._engines.writing())
    found = [
        inspector.get_pk_constraint("llm_cost_calls")["constrained_columns"],
        *(
            index["column_names"]
            for index in inspector.get_indexes("llm_cost_calls")
            if index["unique"]
        ),
    ]
    assert all({"event_id", "started_at"} <= set(columns) for columns in found)
    assert inspector.get_foreign_keys("llm_cost_calls") == []


@with_partitions
def test_a_partitioned_ledger_can_be_migrated(ledger: Ledger, tmp_path: Path) -> None:
    location, engine = environment(tmp_path), ledger._engines.writing()
    ledger.partitions.apply()
    _split(ledger, 3)
    kept(ledger, calls_around(month(2), month(1), month()))
    before = raw(ledger)
    migrate.upgrade(engine, location=location)
    assert raw(ledger) == before
    migrate.downgrade(engine, HEAD, location=location)
    assert ledger.schema.check() == []
    ledger.rollups.build()
    assert raw(ledger) == before
    assert ledger.rollups.verify() == []
    migrate.downgrade(engine, "base")
    assert ledger.schema.current() is None


@with_partitions
def test_no_month_is_dropped_below_a_snapshot(
    database: str, make_ledger: MakeLedger
) -> None:
    """Its dirty hours are read from the calls, which no snapshot keeps."""
    ledger, other = make_ledger(database), make_ledger(database)
    ledger.partitions.apply(ahead=0)
    _split(ledger, 3)
    made = calls_around(month(3) + 30 * HOUR, month(1))
    kept(ledger, made)
    before = ever(ledger)
    with ledger._engines.writing().begin() as connection:
        mark_dirty(connection, [made[0].started_at])
    pruned: list[int] = []
    thread = threading.Thread(target=lambda: pruned.append(other.prune(month(2))))
    with ledger.reading(fresh=True) as connection:
        thread.start()
        thread.join(2)  # long enough to drop it, if nothing prevented that
        assert totals(connection, CallFilter(zone=ledger._settings.timezone)) == before
    thread.join()
    assert pruned == [12]
    assert ever(ledger) == before
