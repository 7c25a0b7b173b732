from __future__ import annotations

import datetime as dt
import json
import random
import threading
import time
import typing as t
import zoneinfo
from collections import Counter
from decimal import Decimal

import pytest
import sqlalchemy as sa

from flask_llm_cost.calendar import edges
from flask_llm_cost.calendar import from_ms
from flask_llm_cost.call import Call
from flask_llm_cost.db import tables
from flask_llm_cost.db.sql import capped_sum
from flask_llm_cost.db.sql import whole_sum
from flask_llm_cost.db.tables import calls
from flask_llm_cost.db.tables import rollup_latencies
from flask_llm_cost.db.tables import tag_sets
from flask_llm_cost.db.tables import tag_values
from flask_llm_cost.errors import StorageError
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.money import MAX_PICO
from flask_llm_cost.money import to_pico
from flask_llm_cost.query.aggregate import breakdown
from flask_llm_cost.query.aggregate import series
from flask_llm_cost.query.aggregate import tag_breakdown
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.latency import latency_bucket
from flask_llm_cost.query.tag_charges import tag_charges
from flask_llm_cost.query.totals import sum_up
from flask_llm_cost.rollups import aggregates
from flask_llm_cost.rollups import dirty_marks as marks
from flask_llm_cost.rollups import measures
from flask_llm_cost.rollups import meter_sums
from flask_llm_cost.rollups.horizon import horizon
from flask_llm_cost.rollups.meters import add_up
from flask_llm_cost.rollups.meters import CALLS
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON
from tests.ledger.test_ledger import spool
from tests.query.samples import cost_of

EVER = (from_ms(0), from_ms(4_000_000_000_000))
HOUR = dt.timedelta(hours=1)
TAGS = ("feature", "user")
DAYS = (NOON.date(), NOON.date() + dt.timedelta(days=1))


def calls_over(hours: int, every: int = 20) -> list[Call]:
    """Calls of all kinds, several in each hour."""
    step = dt.timedelta(minutes=60 / every, milliseconds=7)
    made = []
    for n in range(hours * every):
        changes: dict[str, t.Any] = {"latency_ms": n * 37 % 9000}
        if n % 5 == 0:
            changes |= {"cost": None, "model": "odd", "latency_ms": None}
        if n % 4 == 0:
            limit = "0.5" if n % 8 else None
            changes |= {"cost": cost_of("0.25", complete=False, more=limit)}
        if n % 3 == 0:
            changes |= {"usage_source": "estimated"}
        if n % 7 == 0:
            changes |= {"usage": None, "cost": None, "outcome": "no_response"}
        made.append(make_call(n, started_at=NOON + n * step, **changes))
    return made


def _together(found: aggregates.Aggregate) -> dict[str, int]:
    summed = dict.fromkeys(tables.MEASURES, 0)
    for values in found.totals.values():
        for name, value in values.items():
            summed[name] += value
    return summed


def rolled(ledger: Ledger, *kinds: str) -> dict[str, int]:
    """The totals of all rollups of these kinds."""
    with ledger.reading() as connection:
        return _together(aggregates.read(connection, kinds, *EVER))


def raw(ledger: Ledger) -> dict[str, int]:
    """The same, aggregated from the calls."""
    with ledger.reading() as connection:
        return _together(aggregates.aggregate(connection))


def marked(ledger: Ledger) -> int:
    with ledger.reading() as connection:
        return len(connection.execute(sa.select(tables.dirty_marks)).all())


@every_database
def test_hours_and_days_add_up_to_the_calls(ledger: Ledger) -> None:
    spool(ledger, calls_over(30))
    ledger.queue.drain()
    assert marked(ledger) > 0
    assert ledger.rollups.build() >= 30
    assert marked(ledger) == 0
    assert rolled(ledger, "hour") == rolled(ledger, "day") == raw(ledger)
    assert ledger.rollups.verify() == []


@every_database
def test_a_late_call_is_added(ledger: Ledger) -> None:
    made = calls_over(3)
    spool(ledger, made[5:])
    ledger.queue.drain()
    ledger.rollups.build()
    spool(ledger, made)  # five are new; the others must not count twice
    ledger.queue.drain()
    assert rolled(ledger, "day") != raw(ledger)
    ledger.rollups.build()
    assert rolled(ledger, "day") == rolled(ledger, "hour") == raw(ledger)


@every_database
def test_sums_stop_at_the_largest_that_a_column_holds(ledger: Ledger) -> None:
    """Before, that hour was never added up, and pages on SQLite were unavailable."""
    spool(ledger, calls_over(2))
    ledger.queue.drain()
    c = tables.calls.c
    huge = {c.input_tokens: 5 * 10**18, c.total_input_tokens: 5 * 10**18}
    dear = {c.cost_total: 5 * 10**18, c.cost_input: 5 * 10**18}
    with ledger._engines.writing().begin() as connection:
        connection.execute(sa.update(tables.calls).values(huge))
        priced = c.cost_total.is_not(None)
        connection.execute(sa.update(tables.calls).where(priced).values(dear))
    ledger.rollups.build()
    with ledger.reading() as connection:
        stored = tables.rollups.c
        most = sa.select(
            sa.func.max(stored.input_tokens), sa.func.max(stored.cost_total)
        )
        assert tuple(connection.execute(most).one()) == (MAX_PICO, MAX_PICO)
        for part in (CallFilter(), CallFilter(stream=False)):
            assert totals(connection, part).input_tokens >= MAX_PICO
            assert totals(connection, part).spend_pico > 10**18
    assert ledger.rollups.verify() == []


@every_database
def test_large_sums_of_money_are_exact(ledger: Ledger) -> None:
    first = (1 << 62) + 1
    with ledger._engines.reading().connect() as connection:
        values = sa.union_all(
            sa.select(sa.literal(first, sa.BigInteger).label("n")),
            sa.select(sa.literal(first - 3, sa.BigInteger)),
        ).subquery()
        sums = sa.select(capped_sum(values.c.n), whole_sum(values.c.n - first))
        assert [int(n) for n in connection.execute(sums).one()] == [2 * first - 3, -3]
        more = sa.select(capped_sum(values.c.n + 1), whole_sum(values.c.n + 1))
        assert [int(n) for n in connection.execute(more).one()] == [MAX_PICO] * 2
        none = sa.select(capped_sum(values.c.n), whole_sum(values.c.n)).where(
            sa.false()
        )
        assert [int(n or 0) for n in connection.execute(none).one()] == [0, 0]


def test_the_current_hour_keeps_one_mark(
    ledger: Ledger, make_ledger: MakeLedger
) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    for n in range(5):
        spool(ledger, [make_call(n, started_at=now)])
        ledger.queue.drain()
    assert ledger.rollups.build() == 0
    assert marked(ledger) in (1, 2)  # two if the hour has just turned
    assert rolled(ledger, "hour")["calls"] == 0


@every_database
def test_a_wrong_rollup_is_found(ledger: Ledger) -> None:
    spool(ledger, calls_over(3))
    ledger.queue.drain()
    ledger.rollups.build()
    with ledger._engines.writing().begin() as connection:
        connection.execute(
            sa.update(calls)
            .where(calls.c.model == "gpt-4o")
            .values(cost_total=1, cost_input=1)
        )
        connection.execute(sa.delete(rollup_latencies))
    found = ledger.rollups.verify()
    assert any("openai/gpt-4o is not the sum of its calls" in line for line in found)
    assert any("latencies" in line for line in found)


@every_database
def test_pruning_keeps_the_rollups(ledger: Ledger) -> None:
    spool(ledger, calls_over(50))
    ledger.queue.drain()
    ledger.rollups.build()
    before = raw(ledger)
    seen: list[int] = []
    assert ledger.prunable(NOON + 30.5 * HOUR) == 610
    gone = ledger.prune(NOON + 30.5 * HOUR, batch=100, progress=seen.append)
    assert gone == seen[-1] > 500
    assert raw(ledger)["calls"] == 1000 - gone
    ledger.rollups.build()
    assert rolled(ledger, "hour", "pruned") == rolled(ledger, "day") == before
    assert ledger.rollups.verify() == []
    with ledger.reading() as connection:
        assert horizon(connection) == NOON + 30.5 * HOUR


@every_database
def test_pruned_calls_are_not_counted_twice(ledger: Ledger) -> None:
    old, new = make_call(1), make_call(2, started_at=NOON + 2 * HOUR)
    spool(ledger, [old, new])
    ledger.queue.drain()
    ledger.prune(NOON + HOUR)
    ledger.rollups.build()
    before = rolled(ledger, "day")
    young = make_call(4, started_at=NOON + HOUR)
    spool(ledger, [old, new, make_call(3), young])  # as from a dead worker
    drained = ledger.queue.drain()
    assert (drained.new, drained.duplicate, drained.rejected) == (1, 1, 2)
    ledger.rollups.build()
    assert rolled(ledger, "day")["calls"] == before["calls"] + 1 == 3
    assert ledger.rollups.verify() == []


def test_a_line_older_than_the_horizon_is_rejected(ledger: Ledger) -> None:
    spool(ledger, [make_call(1)])
    ledger.queue.drain()
    ledger.prune(NOON + HOUR)
    spool(ledger, [make_call(1)])
    ledger.queue.drain()
    [path] = ledger.queue.rejected()
    assert "UTC were pruned, and one of" in json.loads(path.read_text())["reason"]
    assert ledger.queue.requeue() == 1
    assert ledger.queue.drain().rejected == 1
    ledger.clear("all")  # including the rollups that may include it
    assert ledger.queue.requeue() == 1
    assert ledger.queue.drain().new == 1


def test_pruning_nothing_rejects_nothing(ledger: Ledger) -> None:
    spool(ledger, [make_call(1, started_at=NOON + 2 * HOUR)])
    ledger.queue.drain()
    assert ledger.prune(NOON + HOUR) == 0
    spool(ledger, [make_call(2)])
    assert ledger.queue.drain().new == 1


@every_database
def test_pruning_deletes_unused_tag_sets(ledger: Ledger) -> None:
    spool(ledger, [make_call(n, tags={"n": str(n)}) for n in range(5)])
    spool(ledger, [make_call(9, started_at=NOON + HOUR, tags={"n": "0"})])
    ledger.queue.drain()
    with ledger._engines.writing().begin() as connection:
        old = sa.update(tag_sets).where(tag_sets.c.tags != '{"n":"1"}')
        connection.execute(old.values(seen_at=NOON))
    ledger.prune(NOON + HOUR)
    with ledger.reading() as connection:
        kept = set(connection.scalars(sa.select(tag_sets.c.tags)))
        values = set(connection.scalars(sa.select(tag_values.c.value)))
    assert kept == {'{"n":"0"}', '{"n":"1"}'}  # in use, and seen recently
    assert values == {"0", "1"}


@every_database
def test_clearing_deletes_calls_and_rollups(ledger: Ledger) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    spool(ledger, [*calls_over(5), make_call(1, started_at=now)])
    ledger.queue.drain()
    ledger.prune(NOON + HOUR)
    ledger.rollups.build()
    assert ledger.clear("today") == 1
    assert rolled(ledger, "day")["calls"] == 100
    spool(ledger, [make_call(2, started_at=now)])
    assert ledger.clear("all") == 81
    ledger.rollups.build()
    assert rolled(ledger, "hour", "pruned", "day") == raw(ledger)
    assert raw(ledger)["calls"] == 0


def test_another_zone_is_an_error_until_rezoned(
    ledger: Ledger, make_ledger: MakeLedger
) -> None:
    spool(ledger, calls_over(30))
    ledger.queue.drain()
    ledger.rollups.build()
    moved = make_ledger(timezone=zoneinfo.ZoneInfo("Asia/Kolkata"))
    with pytest.raises(StorageError, match="days of UTC, .* Asia/Kolkata.*rezone"):
        moved.rollups.build()
    moved.rollups.rezone()
    assert rolled(moved, "hour") == rolled(moved, "day") == raw(moved)
    assert moved.rollups.verify() == []


def test_rollups_and_queries_use_the_same_latency_buckets() -> None:
    table = sa.Table("given", sa.MetaData(), sa.Column("ms", sa.BigInteger))
    chance = random.Random(7)
    edges = [2**n + d for n in range(33) for d in (-1, 0, 1)]
    values = edges + [
        chance.randrange(10 ** chance.randrange(1, 10)) for _ in range(500)
    ]
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        table.create(connection)
        connection.execute(sa.insert(table), [{"ms": value} for value in values])
        asked = sa.select(table.c.ms, latency_bucket(table.c.ms))
        for value, bucket in connection.execute(asked):
            assert bucket == measures.latency_bucket(value)
    engine.dispose()


class Chaos:
    """Concurrent work on one ledger, and the totals that it must result in."""

    def __init__(self, make_ledger: t.Callable[[], Ledger], seconds: float) -> None:
        self.make_ledger = make_ledger
        self.until = time.monotonic() + seconds
        self.written: list[Call] = []
        self.repriced: list[int] = []
        self.errors: list[BaseException] = []
        self.polls = 0

    def run(self, writers: int) -> None:
        steps = (
            [self.write] * writers
            + [self.roll] * 2
            + [self.reprice, self.prune, self.poll]
        )
        threads = [
            threading.Thread(target=self.work, args=(step, n))
            for n, step in enumerate(steps)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def work(self, step: t.Callable[[Ledger, random.Random], None], seed: int) -> None:
        mine, chance = self.make_ledger(), random.Random(seed)
        while time.monotonic() < self.until:
            try:
                step(mine, chance)
            except StorageError:  # a deadlock or a locked file: it is retried
                time.sleep(0.01)
            except Exception as error:
                self.errors.append(error)
                return

    def write(self, mine: Ledger, chance: random.Random) -> None:
        made = [
            make_call(
                chance.randrange(10**6),
                started_at=NOON + chance.randrange(30) * HOUR,
                tags={"user": str(chance.randrange(5)), "feature": "chat"},
                latency_ms=chance.randrange(500),
            )
            for _ in range(20)
        ]
        stored = mine._store.write(made)
        refused = {call.event_id for call, _ in stored.rejected}
        assert stored.new == 20 - len(refused)
        self.written.extend(call for call in made if call.event_id not in refused)

    def reprice(self, mine: Ledger, chance: random.Random) -> None:
        start = NOON + chance.randrange(30) * HOUR
        c = calls.c
        raised = {"cost_total": c.cost_total + 1, "cost_input": c.cost_input + 1}
        these = sa.update(calls).where(c.started_at == start).values(raised)
        with mine._engines.explained(), mine._engines.writing().begin() as connection:
            marks.mark_dirty(connection, [start])
            changed = connection.execute(these).rowcount
        self.repriced.append(changed)

    def roll(self, mine: Ledger, chance: random.Random) -> None:
        mine.rollups.build()

    def poll(self, mine: Ledger, chance: random.Random) -> None:
        """A page: its parts must agree, whatever happens meanwhile."""
        where = CallFilter()
        with mine.reading() as connection:
            whole = totals(connection, where)
            parts = [
                breakdown(connection, where, "provider", "model"),
                tag_breakdown(connection, where, "user"),
                tag_breakdown(connection, where, "feature"),
            ]
            days = edges("day", *DAYS, dt.UTC)
            assert sum_up(series(connection, where, days)) == whole
            assert metered(connection) == (whole.calls, whole.spend_pico)
        assert all(sum_up(g.totals for g in part) == whole for part in parts)
        self.polls += 1

    def prune(self, mine: Ledger, chance: random.Random) -> None:
        mine.prune(NOON + chance.randrange(10) * HOUR, batch=50)
        time.sleep(0.05)


def metered(connection: sa.Connection) -> tuple[int, int]:
    """The calls and the cost of all sums by meter."""
    sums = add_up(each for _, each in meter_sums.hourly(connection, *EVER))
    calls = sum(each.calls for key, each in sums.items() if key.meter == CALLS)
    return calls, sum(each.cost for each in sums.values())


def metered_by_tag(
    ledger: Ledger, connection: sa.Connection, key: str
) -> tuple[Counter[str], int]:
    """The calls by value, and the cost, of all sums by meter and tag."""
    calls, cost = Counter[str](), 0
    span = NOON - 48 * HOUR, NOON + 96 * HOUR
    for day in tag_charges(connection, ledger.rollups.zone, key, *span):
        for value, sums in day.values.items():
            calls[value] += sum(e.calls for k, e in sums.items() if k.meter == CALLS)
            cost += sum(each.cost for each in sums.values())
    return calls, cost


def chaos(
    ledger: Ledger,
    make_ledger: t.Callable[[], Ledger],
    seconds: float,
    writers: int = 4,
) -> None:
    """Write, build, reprice and prune at once; then the rollups must be exact."""
    work = Chaos(make_ledger, seconds)
    work.run(writers)
    assert work.errors == []
    assert work.polls
    ledger.rollups.build()
    assert marked(ledger) == 0
    found = rolled(ledger, "hour", "pruned")
    assert found == rolled(ledger, "day")
    assert found["calls"] == len(work.written) > 0
    written = sum(
        (c.cost.total_usd for c in work.written if c.cost is not None), Decimal(0)
    )
    assert found["cost_total"] == to_pico(written) + sum(work.repriced)
    assert found["cost_total"] == found["cost_input"]
    with ledger.reading() as connection:
        assert metered(connection) == (len(work.written), found["cost_total"])
    users = Counter(call.tags["user"] for call in work.written)
    with ledger.reading() as connection:
        by_user = tag_breakdown(connection, CallFilter(), "user")
        by_meter = metered_by_tag(ledger, connection, "user")
    assert by_meter == (users, found["cost_total"])
    assert {group.key[0]: group.totals.calls for group in by_user} == users
    assert sum_up(g.totals for g in by_user).spend_pico == found["cost_total"]
    assert ledger.rollups.verify() == []


@every_database
def test_rollups_are_exact_under_concurrent_work(
    database: str | None, ledger: Ledger, make_ledger: MakeLedger
) -> None:
    chaos(ledger, lambda: make_ledger(database, rollup_tags=TAGS), 4)


@pytest.mark.stress
@every_database
def test_rollups_are_exact_for_longer(
    database: str | None, ledger: Ledger, make_ledger: MakeLedger
) -> None:
    chaos(ledger, lambda: make_ledger(database, rollup_tags=TAGS), 30, writers=12)
