"""Hours that repeat or are missing, while several processes write and build rollups."""

from __future__ import annotations

import datetime as dt
import random
import threading
import typing as t
import zoneinfo
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_llm_cost.budgets import read_budgets
from flask_llm_cost.budgets.policy import Policy
from flask_llm_cost.calendar import edges
from flask_llm_cost.calendar import HOUR
from flask_llm_cost.call import Call
from flask_llm_cost.config import Settings
from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.money import to_pico
from flask_llm_cost.query.aggregate import series
from flask_llm_cost.query.filters import CallFilter
from tests.conftest import SERVERS
from tests.ledger.samples import make_call

CHANGES: t.Final = [
    ("America/New_York", "2026-03-08"),  # 2:00 is missing
    ("America/New_York", "2026-11-01"),  # 1:00 comes twice
    ("Australia/Lord_Howe", "2026-04-05"),  # by half an hour
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Havana", "2026-03-08"),  # midnight is missing
    ("America/Havana", "2026-11-01"),  # midnight comes twice
    ("America/Santiago", "2026-09-06"),
    ("Pacific/Apia", "2011-12-30"),  # the whole day is missing
    ("Asia/Kathmandu", "2026-06-01"),  # no change, but not a whole hour from UTC
]


def calls_around(zone: zoneinfo.ZoneInfo, day: dt.date, count: int) -> list[Call]:
    """Calls within a day and a half of the change, some on the edges of hours."""
    rng = random.Random(f"{zone.key}{day}")
    noon = dt.datetime(day.year, day.month, day.day, 12, tzinfo=zone)
    start = noon.astimezone(dt.UTC) - 36 * HOUR
    found = []
    for number in range(count):
        at = start + dt.timedelta(minutes=30 * rng.randrange(144))
        at += dt.timedelta(
            milliseconds=rng.choice([0, 1, -1, rng.randrange(1_800_000)])
        )
        found.append(make_call(number, started_at=at))
    return found


def spent(calls: t.Iterable[Call]) -> int:
    return sum(to_pico(call.cost.total_usd) for call in calls if call.cost is not None)


def write_and_build(ledgers: list[Ledger], calls: list[Call]) -> None:
    """Each ledger, as of a process of its own, writes its part and builds rollups."""
    failures: list[BaseException] = []

    def work(ledger: Ledger, part: list[Call]) -> None:
        try:
            for n in range(0, len(part), 20):
                for call in part[n : n + 20]:
                    ledger.append(call)
                assert ledger.flush(60)
                ledger.rollups.build(seconds=1)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(ledger, calls[n :: len(ledgers)]))
        for n, ledger in enumerate(ledgers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(
    ("empty_database", "name", "day"),
    [
        *(("SQLITE", *change) for change in CHANGES),
        *((server, *change) for server in SERVERS for change in CHANGES[2:3]),
        *(
            pytest.param(server, *change, marks=pytest.mark.stress)
            for server in SERVERS
            for change in CHANGES
        ),
    ],
    indirect=["empty_database"],
)
def test_days_hours_and_budgets_are_exact_around_a_change(
    database: str | None, tmp_path: Path, name: str, day: str
) -> None:
    zone, changes = zoneinfo.ZoneInfo(name), dt.date.fromisoformat(day)
    budgets = [
        {"name": period, "limit_usd": 1000, "period": period, "timezone": name}
        for period in ("hour", "day", "week", "month")
    ]
    policy = read_budgets(Settings.read({"LLM_COST_BUDGETS": budgets}))
    ledgers = [
        Ledger(
            Settings(database_uri=database, timezone=zone),
            instance_path=str(tmp_path / "instance"),
            policy=Policy(policy),
        )
        for _ in range(2)
    ]
    calls = calls_around(zone, changes, 120)
    try:
        write_and_build(ledgers, calls)
        ledger = ledgers[0]
        ledger.rollups.build(seconds=60)
        assert ledger.rollups.verify() == []
        days = changes - dt.timedelta(3), changes + dt.timedelta(3)
        with ledger.reading() as connection:
            for span in ("hour", "day"):
                bounds = edges(t.cast(t.Any, span), *days, zone)
                found = series(connection, CallFilter(), bounds)
                for start, end, total in zip(bounds, bounds[1:], found, strict=False):
                    within = [c for c in calls if start <= c.started_at < end]
                    assert total.calls == len(within), start
                    assert total.spend_pico == spent(within), start
            assert ledger.budgets is not None
            assert ledger.budgets.verify(connection)[0] == []
            rows = connection.execute(sa.select(budget_windows)).all()
    finally:
        for each in ledgers:
            each.close()
    # Every call is in one window of each budget.
    totals = Counter[str]()
    for row in rows:
        totals[row.name] += row.spent
    assert totals == dict.fromkeys(("hour", "day", "week", "month"), spent(calls))
