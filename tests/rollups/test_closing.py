"""Closed months: what they had, and every change since, to the last pico-dollar."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections import Counter
from decimal import Decimal

import pytest

from flask_llm_cost.ledger import Ledger
from flask_llm_cost.rollups.closing import closed_months
from flask_llm_cost.rollups.closing import Recorded
from flask_llm_cost.rollups.closing import recorded
from flask_llm_cost.rollups.meters import add_up
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.ledger.samples import make_call
from tests.rollups.test_meter_sums import sums_of
from tests.rollups.test_tag_meter_sums import made
from tests.rollups.test_tag_meter_sums import store

FEBRUARY = dt.date(2026, 2, 1)
NOW = dt.datetime(2026, 3, 8, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
LATE = dt.datetime(2026, 2, 26, 3, tzinfo=dt.UTC)


@pytest.fixture(params=["Asia/Kolkata"])
def ledger(
    request: pytest.FixtureRequest, database: str | None, make_ledger: MakeLedger
) -> Ledger:
    zone = zoneinfo.ZoneInfo(request.param)
    return make_ledger(database, rollup_tags=("user",), timezone=zone)


def later(ledger: Ledger, key: str = "") -> list[Recorded]:
    with ledger.reading() as connection:
        found = recorded(connection, ledger.rollups.zone, FEBRUARY, key)
        return [each for each in found if not each.copied]


def amounts(found: list[Recorded]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for each in found:
        sums[each.key.value] += each.sums.cost
    return {value: amount for value, amount in sums.items() if amount}


def closed(ledger: Ledger, key: str = "") -> list[Recorded]:
    with ledger.reading() as connection:
        found = recorded(connection, ledger.rollups.zone, FEBRUARY, key)
        return [each for each in found if each.copied]


def close(ledger: Ledger) -> None:
    assert ledger.rollups.close(FEBRUARY, NOW) is None


@every_database
def test_later_changes_are_corrections_that_outlive_pruning(ledger: Ledger) -> None:
    calls = made()
    store(ledger, calls)
    close(ledger)  # before anything is built, too
    ours = [call for call in calls if call.started_at.month == 2]
    frozen = closed(ledger)
    assert add_up({e.key.meter: e.sums} for e in frozen) == sums_of(*ours)
    assert later(ledger) == later(ledger, "user") == []
    ledger.rollups.build()
    assert later(ledger) == later(ledger, "user") == []

    late = make_call(999, started_at=LATE, tags={"user": "u9"})
    assert late.cost is not None
    store(ledger, [late])
    pico = int(late.cost.total_usd * 10**12)
    assert [each.at for each in later(ledger)] == [None] * 3  # not built yet
    assert amounts(later(ledger)) == {"": pico}
    ledger.rollups.build()
    found = later(ledger)
    assert amounts(found) == {"": pico}
    assert all(each.at is not None for each in found)
    assert amounts(later(ledger, "user")) == {"u9": pico}

    first = ours[1]
    assert first.cost is not None
    ledger.repricing.settle({first.event_id: Decimal(1)}, now=NOW)
    more = 10**12 - int(first.cost.total_usd * 10**12)
    for _ in range(2):
        assert amounts(later(ledger)) == {"": pico + more}
        assert amounts(later(ledger, "user")) == {"u9": pico, "u1": more}
        ledger.rollups.build()

    ledger.prune(dt.datetime(2026, 2, 27, 5, tzinfo=dt.UTC), batch=7)
    for _ in range(2):
        assert amounts(later(ledger)) == {"": pico + more}
        assert amounts(later(ledger, "user")) == {"u9": pico, "u1": more}
        ledger.rollups.build()
    ledger.erase_tag("user", "u1")
    ledger.rollups.build()
    assert amounts(later(ledger, "user")) == {"u9": pico, "": more}
    assert closed(ledger) == frozen
    assert ledger.rollups.verify() == []
    before = len(later(ledger))
    ledger.withdraw([call.event_id for call in ours if call.started_at.day == 28])
    ledger.rollups.build()
    assert len(later(ledger)) > before
    gone = sum(
        int(call.cost.total_usd * 10**12)
        for call in ours
        if call.started_at.day == 28 and call.cost is not None
    )
    assert amounts(later(ledger)) == {"": pico + more - gone}


def test_a_month_is_closed_once(ledger: Ledger) -> None:
    close(ledger)
    known = ledger.rollups.close(FEBRUARY, NOW + DAY)
    assert known is not None
    assert known.at == NOW
    with ledger.reading() as connection:
        assert set(closed_months(connection)) == {FEBRUARY}
    store(ledger, [make_call(1, started_at=LATE, tags={"user": "u"})])
    ledger.rollups.build()
    assert set(amounts(later(ledger, "user"))) == {"u"}
    assert ledger.rollups.forget_tag("user")
    assert later(ledger, "user") == []
    assert set(amounts(later(ledger))) == {""}


def test_a_key_that_is_declared_later_has_no_corrections(
    make_ledger: MakeLedger,
) -> None:
    before = make_ledger(None)
    store(before, made())
    close(before)
    before.close()
    after = make_ledger(None, rollup_tags=("user",))
    after.rollups.build()
    assert later(after, "user") == later(after) == []
