from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest
import sqlalchemy as sa

from flask_llm_cost.calendar import period_of
from flask_llm_cost.call import Call
from flask_llm_cost.db.tables import calls
from flask_llm_cost.db.tables import tag_rollups
from flask_llm_cost.db.tables import tag_sets
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.rollups import dirty_marks as marks
from flask_llm_cost.rollups import tag_rollups as by_tag
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON
from tests.ledger.test_ledger import spool
from tests.rollups.test_build import raw
from tests.rollups.test_build import rolled

DAY = dt.timedelta(days=1)
KEYS = ("feature", "user")


@pytest.fixture
def tagged(database: str | None, make_ledger: MakeLedger) -> Ledger:
    """A ledger with two keys declared."""
    return make_ledger(database, rollup_tags=KEYS)


def made_over(days: int, each: int = 12) -> list[Call]:
    step = DAY / each
    found = []
    for n in range(days * each):
        tags = {"feature": "chat" if n % 3 else "search", "user": str(n % 5)}
        at = NOON - n * step
        found.append(make_call(n, started_at=at, tags=tags if n % 4 else {}))
    return found


def kept(ledger: Ledger, key: str, kind: str = "day") -> dict[str, int]:
    """Numbers of calls by value, over all days."""
    t = tag_rollups.c
    query = (
        sa.select(t.value, sa.func.sum(t.calls))
        .where(t.key == key, t.kind == kind)
        .group_by(t.value)
    )
    with ledger.reading() as connection:
        return {value: int(n) for value, n in connection.execute(query)}


def counted(made: list[Call], key: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for call in made:
        value = call.tags.get(key, "")
        found[value] = found.get(value, 0) + 1
    return found


@every_database
def test_days_are_aggregated_by_tag(tagged: Ledger) -> None:
    made = made_over(4)
    spool(tagged, made)
    tagged.queue.drain()
    tagged.rollups.build()
    for key in KEYS:
        assert kept(tagged, key) == counted(made, key)
    assert tagged.rollups.verify() == []
    late = make_call(7, started_at=NOON - 2 * DAY, tags={"user": "late"})
    spool(tagged, [late])
    tagged.queue.drain()
    assert "late" not in kept(tagged, "user")
    tagged.rollups.build()
    assert kept(tagged, "user") == counted([*made, late], "user")


@every_database
def test_declaring_a_key_aggregates_existing_calls(
    database: str | None, ledger: Ledger, make_ledger: MakeLedger
) -> None:
    made = made_over(3)
    spool(ledger, made)
    ledger.queue.drain()
    ledger.rollups.build()
    assert kept(ledger, "user") == {}
    make_ledger(database, rollup_tags=("user",)).rollups.build()
    assert kept(ledger, "user") == counted(made, "user")
    ledger.rollups.build()  # as a command without settings does
    assert kept(ledger, "user") == counted(made, "user")
    assert ledger.rollups.verify() == []


@every_database
def test_pruning_keeps_the_rollups_by_tag(tagged: Ledger) -> None:
    made = made_over(4)
    spool(tagged, made)
    tagged.queue.drain()
    tagged.prune(NOON - 1.3 * DAY, batch=7)
    assert tagged.rollups.verify() == []
    tagged.rollups.build()
    assert kept(tagged, "user") == counted(made, "user")
    gone = [call for call in made if call.started_at < NOON - 1.3 * DAY]
    assert kept(tagged, "user", "pruned") == counted(gone, "user")
    assert tagged.rollups.verify() == []
    assert rolled(tagged, "day")["calls"] == len(made) > raw(tagged)["calls"]


@every_database
def test_a_wrong_rollup_by_tag_is_found(tagged: Ledger) -> None:
    spool(tagged, made_over(2))
    tagged.queue.drain()
    tagged.rollups.build()
    t = tag_rollups.c
    with tagged._engines.writing().begin() as connection:
        wrong = sa.update(tag_rollups).where(t.key == "user", t.value == "1")
        connection.execute(wrong.values(calls=t.calls + 1))
    found = tagged.rollups.verify()
    assert len(found) == 3
    assert all("tag user is not the sum of its calls" in line for line in found)


def test_days_of_another_zone_have_rollups_by_tag(
    tagged: Ledger, make_ledger: MakeLedger
) -> None:
    made = made_over(3)
    spool(tagged, made)
    tagged.queue.drain()
    tagged.rollups.build()
    zone = zoneinfo.ZoneInfo("Asia/Kolkata")
    moved = make_ledger(timezone=zone, rollup_tags=KEYS)
    moved.rollups.rezone()
    assert kept(moved, "user") == counted(made, "user")
    with moved.reading() as connection:
        starts = set(connection.scalars(sa.select(tag_rollups.c.start)))
    assert all(period_of("day", start, zone)[0] == start for start in starts)
    assert moved.rollups.verify() == []


@every_database
def test_clearing_deletes_the_rollups_by_tag(tagged: Ledger) -> None:
    spool(tagged, made_over(3))
    tagged.queue.drain()
    tagged.prune(NOON - DAY)
    tagged.rollups.build()
    tagged.clear("all")
    tagged.rollups.build()
    assert kept(tagged, "user") == {}
    made = made_over(1)
    spool(tagged, made)
    tagged.queue.drain()
    tagged.rollups.build()
    assert kept(tagged, "user") == counted(made, "user")


def test_the_current_day_is_read_from_its_calls(tagged: Ledger) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    spool(tagged, [make_call(1, started_at=now), *made_over(1)])
    tagged.queue.drain()
    tagged.rollups.build()
    today = period_of("day", now, dt.UTC)[0]
    with tagged.reading() as connection:
        starts = set(connection.scalars(sa.select(tag_rollups.c.start)))
        waiting = set(by_tag.dirty_days(connection))
        assert marks.dirty_hours(connection)
    assert today not in starts
    assert waiting <= {today}


def test_a_tag_outside_tag_sets_is_aggregated(
    make_ledger: MakeLedger, database: str | None
) -> None:
    ledger = make_ledger(database, rollup_tags=("trace_id",))
    spool(ledger, [make_call(n, trace_id=f"t{n % 2}") for n in range(5)])
    ledger.queue.drain()
    ledger.rollups.build()
    assert kept(ledger, "trace_id") == {"t0": 3, "t1": 2}
    with ledger.reading() as connection:
        assert connection.scalars(sa.select(calls.c.tag_set_id)).first() is not None
        assert connection.scalars(sa.select(tag_sets.c.id)).first() is not None
