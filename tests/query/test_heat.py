from __future__ import annotations

import zoneinfo
from decimal import Decimal

import pytest

from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.heat import Heat
from flask_llm_cost.query.heat import heat
from flask_llm_cost.query.totals import sum_up

from .samples import cost_of
from .samples import make_call
from .samples import NOON
from .samples import Store

NEW_YORK = zoneinfo.ZoneInfo("America/New_York")


def ask(store: Store, from_: str, to: str) -> Heat:
    where = CallFilter.days(from_, to, NEW_YORK, NOON.date())
    with store.reading() as connection:
        found = heat(connection, where)
        whole = totals(connection, where)
    assert sum_up(hour for day in found.days for hour in day.hours) == whole
    return found


def test_each_hour_is_that_of_the_clock(store: Store) -> None:
    store.fill(
        make_call("2026-04-20T12:30Z", cost=cost_of("1")),
        make_call("2026-04-20T03:59Z", cost=cost_of("2")),
    )
    found = ask(store, "2026-04-19", "2026-04-20")
    assert found.days[1].hours[8].spend_usd == 1
    assert found.days[0].hours[23].spend_usd == 2
    assert (found.most_usd, found.most_tokens) == (2, 110)


def test_an_hour_that_comes_twice_is_one_cell(store: Store) -> None:
    store.fill(make_call("2026-11-01T05:30Z"), make_call("2026-11-01T06:30Z"))
    [day] = ask(store, "2026-11-01", "2026-11-01").days
    assert day.hours[1].calls == 2
    assert len(day.hours) == 24


def test_an_hour_that_is_skipped_is_empty(store: Store) -> None:
    store.fill(make_call("2026-03-08T07:30Z"))
    [day] = ask(store, "2026-03-08", "2026-03-08").days
    assert (day.hours[2].calls, day.hours[3].calls) == (0, 1)


@pytest.mark.parametrize(
    ("value", "level"),
    [
        ("0", 0),
        ("0.07", 1),
        ("0.08", 2),
        ("0.25", 3),
        ("0.5", 4),
        ("0.75", 5),
        ("1", 5),
    ],
)
def test_shades_begin_at_parts_of_the_most(
    sqlite: Store, value: str, level: int
) -> None:
    sqlite.fill(make_call(cost=cost_of("1")))
    found = ask(sqlite, "2026-04-20", "2026-04-20")
    assert found.level(Decimal(value), found.most_usd) == level


def test_an_empty_map_is_pale(sqlite: Store) -> None:
    sqlite.fill()
    found = ask(sqlite, "2026-04-19", "2026-04-20")
    assert (len(found.days), found.most_usd, found.most_tokens) == (2, 0, 0)
    assert found.level(0, found.most_tokens) == 0


def test_an_open_range_has_no_map(sqlite: Store) -> None:
    with sqlite.reading() as connection, pytest.raises(ValueError, match="both ends"):
        heat(connection, CallFilter())
