"""Sums by meter and the value of a tag: exact beside every change to calls."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections import defaultdict
from decimal import Decimal

import pytest
import sqlalchemy as sa

from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.db.tables import tag_meter_sums as table
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.query.tag_charges import tag_charges
from flask_llm_cost.rollups import tag_rollups
from flask_llm_cost.rollups.meters import MeterSums
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.ledger.samples import make_call
from tests.ledger.test_ledger import spool
from tests.rollups.test_meter_sums import sums_of

DAY = dt.timedelta(days=1)
FIRST = dt.datetime(2026, 2, 25, tzinfo=dt.UTC)
END = FIRST + 8 * DAY
KOLKATA = zoneinfo.ZoneInfo("Asia/Kolkata")

Found = dict[tuple[dt.datetime, str], MeterSums]


def made(count: int = 96, users: int = 3) -> list[Call]:
    """Calls of eight days, four every eight hours; some have no user."""
    found = []
    for n in range(count):
        tags = {"user": f"u{n % users}", "feature": "chat"} if n % 4 else {}
        usd = Decimal(n + 1) / 10**6
        cost = Cost(usd, {"input": Part(Decimal(n + 1), Decimal(1), usd)}, "bundled")
        found.append(
            make_call(
                n,
                started_at=FIRST + n // 4 * 8 * dt.timedelta(hours=1),
                usage=Usage(input_tokens=n + 1),
                cost=cost,
                tags=tags,
                trace_id=None,
            )
        )
    return found


def store(ledger: Ledger, calls: list[Call]) -> None:
    spool(ledger, calls)
    ledger.queue.drain()


def answered(ledger: Ledger, key: str = "user") -> Found:
    zone = ledger.rollups.zone
    with ledger.reading() as connection:
        days = list(tag_charges(connection, zone, key, FIRST - DAY, END + DAY))
    return {(d.start, v): sums for d in days for v, sums in d.values.items()}


def expected(calls: list[Call], key: str = "user") -> Found:
    groups: dict[tuple[dt.datetime, str], list[Call]] = defaultdict(list)
    for call in calls:
        day = call.started_at.replace(hour=0, minute=0, second=0, microsecond=0)
        groups[day, call.tags.get(key, "")].append(call)
    return {group: sums_of(*some) for group, some in groups.items()}


def rows(ledger: Ledger, kind: str, key: str = "user") -> int:
    c = table.c
    query = sa.select(sa.func.count()).where(c.kind == kind, c.key == key)
    with ledger.reading() as connection:
        return connection.scalar(query) or 0


@pytest.fixture
def ledger(database: str | None, make_ledger: MakeLedger) -> Ledger:
    return make_ledger(database, rollup_tags=("user",), timezone=KOLKATA)


@every_database
def test_days_are_summed_by_value(ledger: Ledger) -> None:
    calls = made()
    store(ledger, calls)
    assert answered(ledger) == expected(calls)  # nothing is built yet
    ledger.rollups.build()
    assert rows(ledger, "stored") > 0
    assert answered(ledger) == expected(calls)
    assert answered(ledger, "feature") == expected(calls, "feature")  # not declared
    late = make_call(1000, started_at=FIRST + DAY, tags={"user": "late"})
    store(ledger, [late])
    assert answered(ledger) == expected([*calls, late])
    ledger.rollups.build()
    assert answered(ledger) == expected([*calls, late])
    assert ledger.rollups.verify() == []


@every_database
def test_pruning_restoring_and_erasing_keep_the_sums(ledger: Ledger) -> None:
    calls = made()
    store(ledger, calls)
    ledger.rollups.build()
    ledger.prune(FIRST + 3 * DAY + dt.timedelta(hours=7), batch=7)
    assert rows(ledger, "pruned") > 0
    assert answered(ledger) == expected(calls)
    ledger.rollups.build()
    assert answered(ledger) == expected(calls)
    ledger.restore(calls[5:30])
    assert answered(ledger) == expected(calls)
    ledger.rollups.build()
    ledger.prune(FIRST + 5 * DAY)
    ledger.rollups.build()
    assert answered(ledger) == expected(calls)
    ledger.erase_tag("user", "u1")
    kept = [
        make_call(
            n,
            started_at=c.started_at,
            usage=c.usage,
            cost=c.cost,
            trace_id=None,
            tags={k: v for k, v in c.tags.items() if v != "u1"},
        )
        for n, c in enumerate(calls)
    ]
    assert answered(ledger) == expected(kept)
    ledger.rollups.build()
    assert answered(ledger) == expected(kept)
    assert ledger.rollups.verify() == []


@every_database
def test_a_dropped_month_keeps_its_sums(ledger: Ledger, database: str | None) -> None:
    calls = made()
    store(ledger, calls)
    ledger.rollups.build()
    if database is not None:
        ledger.partitions.apply()
    march = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    ledger.prune(march, batch=7)
    assert answered(ledger) == expected(calls)
    ledger.rollups.build()
    assert answered(ledger) == expected(calls)
    assert ledger.rollups.verify() == []


@pytest.mark.parametrize("name", ["UTC", "America/New_York", "Australia/Lord_Howe"])
def test_the_zone_of_the_ledger_changes_nothing(
    name: str, make_ledger: MakeLedger
) -> None:
    zone = zoneinfo.ZoneInfo(name)
    ledger = make_ledger(None, rollup_tags=("user",), timezone=zone)
    calls = made()
    store(ledger, calls)
    ledger.rollups.build()
    assert answered(ledger) == expected(calls)
    ledger.prune(FIRST + 3 * DAY + dt.timedelta(hours=7))
    assert answered(ledger) == expected(calls)
    ledger.restore(calls[5:30])
    ledger.rollups.build()
    assert answered(ledger) == expected(calls)
    assert ledger.rollups.verify() == []


def test_a_key_with_too_many_values_is_read_from_its_calls(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tag_rollups, "MAX_VALUES", 4)
    few, many = made(48), made(96, users=11)[48:]
    store(ledger, few)
    ledger.rollups.build()
    stored = rows(ledger, "stored")
    store(ledger, many)
    ledger.rollups.build()
    assert rows(ledger, "stored") <= stored
    assert answered(ledger) == expected([*few, *many])
    assert ledger.rollups.verify() == []


def test_a_wrong_sum_is_found_and_forgotten(ledger: Ledger) -> None:
    store(ledger, made())
    ledger.rollups.build()
    with ledger._engines.writing().begin() as connection:
        wrong = sa.update(table).where(table.c.meter == "input")
        connection.execute(wrong.values(quantity="1"))
    assert any("meter of tag user" in line for line in ledger.rollups.verify())
    assert ledger.rollups.forget_tag("user")
    assert rows(ledger, "stored") == 0
    ledger.rollups.build()  # the setting declares it again
    assert answered(ledger) == expected(made())


def test_a_key_that_is_declared_later_has_its_earlier_days(
    make_ledger: MakeLedger,
) -> None:
    before = make_ledger(None)
    store(before, made())
    before.rollups.build()
    before.prune(FIRST + 2 * DAY)
    before.close()
    after = make_ledger(None, rollup_tags=("user",))
    after.rollups.build()
    kept = [call for call in made() if call.started_at >= FIRST + 2 * DAY]
    assert answered(after) == expected(kept)
    after.prune(FIRST + 4 * DAY)
    assert answered(after) == expected(kept)
    after.clear("all")
    assert answered(after) == {}
    assert rows(after, "stored") == rows(after, "pruned") == 0
