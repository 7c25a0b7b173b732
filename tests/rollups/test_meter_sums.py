"""Sums by meter: exact beside calls that are written, changed and pruned."""

from __future__ import annotations

import datetime as dt
import typing as t
import zoneinfo
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.calendar import utc_hour
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.db import meta
from flask_llm_cost.db.rows import row_of
from flask_llm_cost.db.tables import calls as calls_table
from flask_llm_cost.db.tables import meter_sums as table
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.money import MAX_PICO
from flask_llm_cost.money import to_pico
from flask_llm_cost.rollups import meter_sums
from flask_llm_cost.rollups.meters import add_up
from flask_llm_cost.rollups.meters import Adder
from flask_llm_cost.rollups.meters import CALLS
from flask_llm_cost.rollups.meters import difference
from flask_llm_cost.rollups.meters import MeterKey
from flask_llm_cost.rollups.meters import MeterSum
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.ledger import samples
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON
from tests.ledger.test_ledger import spool
from tests.rollups.test_build import calls_over

HOUR = dt.timedelta(hours=1)


class _Row:
    def __init__(self, call: Call) -> None:
        self.__dict__.update(row_of(call))


def sums_of(*made: Call) -> dict[MeterKey, MeterSum]:
    adder = Adder()
    for call in made:
        adder.add(_Row(call))
    return adder.sums


def by_meter(*made: Call) -> dict[tuple[str, str], MeterSum]:
    return {(key.meter, key.rate): each for key, each in sums_of(*made).items()}


def everything(ledger: Ledger) -> dict[MeterKey, MeterSum]:
    with ledger.reading() as connection:
        found = meter_sums.hourly(connection, NOON - 9000 * HOUR, NOON + 9000 * HOUR)
        return add_up(sums for _, sums in found)


def stored(ledger: Ledger, kind: str) -> dict[MeterKey, MeterSum]:
    with ledger.reading() as connection:
        found = meter_sums.read(
            connection, kind, NOON - 9000 * HOUR, NOON + 9000 * HOUR
        )
        return add_up({key: sums} for _, key, sums in found)


def store(ledger: Ledger, made: list[Call]) -> None:
    spool(ledger, made)
    ledger.queue.drain()


def test_parts_are_added_up_by_meter_and_rate() -> None:
    cost = Cost(
        Decimal("0.0035"),
        {
            "input": Part(Decimal(1000), Decimal("2.50"), Decimal("0.0025")),
            "output": Part(Decimal(100), Decimal(10), Decimal("0.001")),
        },
        "bundled",
        price_key="openai/gpt-4o",
    )
    usage = Usage(input_tokens=1000, output_tokens=100)
    found = by_meter(*(make_call(n, usage=usage, cost=cost) for n in range(3)))
    assert found == {
        (CALLS, ""): MeterSum(Decimal(0), 3, 0, 0, 0, 0),
        ("input", "2.5"): MeterSum(
            Decimal(3000), 3, 7_500_000_000, 7_500_000_000, 0, 0
        ),
        ("output", "10"): MeterSum(Decimal(300), 3, 3_000_000_000, 3_000_000_000, 0, 0),
    }


def test_sums_are_kept_by_scope(make_ledger: MakeLedger) -> None:
    ledger = make_ledger()
    scopes = ("project=a key=1", "project=b", None, "project=a key=1")
    store(ledger, [make_call(n, scope=scope) for n, scope in enumerate(scopes)])
    ledger.rollups.build()
    found = {k.scope: s.calls for k, s in everything(ledger).items() if not k.meter}
    assert found == {"project=a key=1": 2, "project=b": 1, "": 1}
    assert everything(ledger) == stored(ledger, meter_sums.STORED)


def test_what_has_no_price_keeps_its_quantity() -> None:
    usage = Usage(
        input_tokens=10,
        output_tokens=7,
        reasoning_tokens=2,
        other_tokens={"input_video": 5},
        units={"web_search": Decimal("1.5")},
    )
    unpriced = sums_of(make_call(usage=usage, cost=None))
    assert {(k.meter, k.status, v.quantity) for k, v in unpriced.items()} == {
        (CALLS, "unpriced", 0),
        ("input", "unpriced", 10),
        ("output", "unpriced", 7),
        ("input_video", "unpriced", 5),
        ("web_search", "unpriced", Decimal("1.5")),
    }
    parts = {
        "input": Part(Decimal(10), Decimal(1), Decimal("0.00001")),
        "reasoning": Part(Decimal(2), Decimal(1), Decimal("0.000002")),
    }
    cost = Cost(Decimal("0.000012"), parts, "file", complete=False)
    partly = by_meter(make_call(usage=usage, cost=cost))
    assert partly["output", ""].quantity == 5
    assert partly["reasoning", "1"].quantity == 2
    assert ("input", "") not in partly
    assert partly[CALLS, ""].unbounded == 1


def test_a_reported_cost_is_no_price() -> None:
    made = []
    for n in range(1, 4):
        usd = Decimal(n)
        cost = Cost(
            usd,
            {"reported": Part(Decimal(1), usd, usd)},
            "provider",
            estimate_usd=Decimal("0.5"),
        )
        made.append(make_call(n, usage=Usage(input_tokens=8), cost=cost))
    assert by_meter(*made) == {
        (CALLS, ""): MeterSum(Decimal(0), 3, 0, 0, 0, 0),
        ("input", ""): MeterSum(Decimal(24), 3, 0, 0, 0, 0),
        ("reported", ""): MeterSum(Decimal(0), 3, 6 * 10**12, 15 * 10**11, 0, 0),
    }


def test_each_model_of_a_call_has_its_parts() -> None:
    part = Part(Decimal(1), Decimal(1), Decimal("0.000001"))
    parts = {"input@one": part, "input@two": part}
    cost = Cost(Decimal("0.000002"), parts, "bundled")
    found = sums_of(make_call(usage=Usage(input_tokens=2), cost=cost))
    assert {key.model for key in found if key.meter == "input" and key.rate} == {
        "one",
        "two",
    }


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "complete"),
        ({"cost": None, "usage": None, "outcome": "http_error"}, "failed"),
        ({"cost": None, "usage": None}, "no_usage"),
        ({"cost": None}, "unpriced"),
        ({"usage_source": "estimated"}, "estimated"),
    ],
)
def test_each_call_has_one_status(changes: dict[str, t.Any], status: str) -> None:
    assert {key.status for key in sums_of(make_call(**changes))} == {status}


def test_a_cut_call_counts_what_is_open() -> None:
    call = make_call()
    assert call.cost is not None
    cost = Cost(
        call.cost.total_usd,
        call.cost.parts,
        "bundled",
        complete=False,
        ceiling_usd=call.cost.total_usd + 1,
    )
    [found] = [
        (key.status, each.open_amount)
        for key, each in sums_of(make_call(cost=cost, flags=frozenset(["cut"]))).items()
        if key.meter == CALLS
    ]
    assert found == ("unsettled", 10**12)


@settings(max_examples=60)
@given(st.lists(samples.calls(), max_size=6))
def test_sums_keep_every_cost_and_call(made: list[Call]) -> None:
    found = sums_of(*made)
    cost = sum(to_pico(c.cost.total_usd) for c in made if c.cost is not None)
    assert sum(each.cost for each in found.values()) == min(cost, MAX_PICO)
    counted = [each.calls for key, each in found.items() if key.meter == CALLS]
    assert sum(counted) == len(made)
    for column in table.c:
        length = getattr(column.type, "length", None)
        if length and column.name in MeterKey._fields:
            assert all(len(getattr(key, column.name)) <= length for key in found)


@settings(max_examples=40)
@given(st.lists(samples.calls(), max_size=4), st.lists(samples.calls(), max_size=4))
def test_what_is_added_can_be_subtracted(one: list[Call], two: list[Call]) -> None:
    left, right = sums_of(*one), sums_of(*two)
    rest, missing = difference(add_up([left, right]), right)
    assert not missing
    assert rest == left


@every_database
def test_sums_are_those_of_the_calls(ledger: Ledger) -> None:
    made = calls_over(9, every=6)
    store(ledger, made)
    expected = sums_of(*made)
    assert everything(ledger) == expected  # of calls: nothing is built yet
    ledger.rollups.build()
    assert stored(ledger, "stored") == everything(ledger) == expected
    assert ledger.rollups.verify() == []
    late = make_call(1_000_000)
    store(ledger, [late])
    assert everything(ledger) == sums_of(*made, late)
    ledger.rollups.build()
    assert stored(ledger, "stored") == sums_of(*made, late)


@every_database
def test_a_wrong_sum_is_found(ledger: Ledger) -> None:
    store(ledger, calls_over(3))
    ledger.rollups.build()
    with ledger._engines.writing().begin() as connection:
        wrong = sa.update(table).where(table.c.meter == "input")
        connection.execute(wrong.values(quantity="1"))
    assert any(
        "input of openai/gpt-4o is not the sum of its calls" in line
        for line in ledger.rollups.verify()
    )


@every_database
def test_pruning_and_restoring_keep_the_sums(ledger: Ledger) -> None:
    made = calls_over(9, every=6)
    store(ledger, made)
    ledger.rollups.build()
    before = everything(ledger)
    limit = NOON + dt.timedelta(hours=5, minutes=30)
    assert ledger.prune(limit, batch=11) > 0
    assert everything(ledger) == before
    ledger.rollups.build()
    assert everything(ledger) == before
    assert stored(ledger, "pruned") == sums_of(
        *(c for c in made if c.started_at < limit)
    )
    ledger.restore(made[:30])
    assert everything(ledger) == before
    ledger.rollups.build()
    assert everything(ledger) == before
    assert ledger.rollups.verify() == []
    ledger.prune(limit)
    assert everything(ledger) == before


@every_database
def test_a_dropped_month_keeps_its_sums(
    database: str | None, make_ledger: MakeLedger
) -> None:
    kolkata = make_ledger(database, timezone=zoneinfo.ZoneInfo("Asia/Kolkata"))
    start = dt.datetime(2026, 2, 27, tzinfo=dt.UTC)
    made = [make_call(n, started_at=start + n * HOUR) for n in range(57)]
    store(kolkata, made)
    kolkata.rollups.build()
    if database is not None:
        kolkata.partitions.apply()
    kolkata.prune(dt.datetime(2026, 3, 1, tzinfo=dt.UTC), batch=7)
    kolkata.rollups.build()
    assert everything(kolkata) == sums_of(*made)
    assert kolkata.rollups.verify() == []


@every_database
def test_erasing_everything_leaves_no_sum(ledger: Ledger) -> None:
    store(ledger, calls_over(9, every=6))
    ledger.rollups.build()
    ledger.prune(NOON + 4 * HOUR)
    ledger.clear("all")
    assert everything(ledger) == {}
    store(ledger, [make_call()])
    assert everything(ledger) == sums_of(make_call())


@every_database
def test_sums_begin_where_there_were_none(ledger: Ledger) -> None:
    made = calls_over(9, every=6)
    store(ledger, made)
    ledger.rollups.build()
    limit = utc_hour(NOON) + 4 * HOUR
    ledger.prune(limit)
    with ledger._engines.writing().begin() as connection:
        connection.execute(sa.delete(table))
        meta.delete(connection, "meter_sums")
    kept = sums_of(*(call for call in made if call.started_at >= limit))
    assert everything(ledger) == kept
    ledger.rollups.build()
    assert stored(ledger, "stored") == everything(ledger) == kept
    with ledger.reading() as connection:
        assert meter_sums.since(connection) == limit
    pruned = [call for call in made if call.started_at < limit]
    ledger.restore(pruned)
    ledger.prune(limit)
    assert stored(ledger, "pruned") == {}


def test_odd_rows_do_not_stop_a_build(ledger: Ledger) -> None:
    """Names of any length and with NUL, as only foreign rows can have."""
    store(ledger, [make_call()])
    details = '{"parts":{"%s":["1","1",2500000000]},"mode":"a\\u0000b"}' % ("x" * 300)
    with ledger._engines.writing().begin() as connection:
        connection.execute(sa.update(calls_table).values(details=details))
    ledger.rollups.build()
    assert {len(key.meter) for key in stored(ledger, "stored")} == {0, 5, 64}
    assert ledger.rollups.verify() == []
