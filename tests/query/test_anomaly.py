from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Call
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.anomaly import anomalies
from flask_llm_cost.query.anomaly import Anomaly
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.overview import overview

from .samples import cost_of
from .samples import make_call
from .samples import NOON
from .samples import Store
from .vectors import call_of
from .vectors import vectors

FLOOR = "floor: require >= 1.5x and >= $1 (or 1% of slice)"
DOLLARS = "treat new spend as infinite ratio or rank by dollars"
EVERY_DAY = "every day in the range is examined, also of a short one (issue 20)"
DECIDED: dict[str, t.Any] = {
    "short-slice": (("gpt-4o", Decimal(10), Decimal(0)), EVERY_DAY),
    "7-days-refused": (("gpt-4o", Decimal(12), Decimal(1)), EVERY_DAY),
    "flat-tiny-rise": (None, FLOOR),
    "new-model-loses-to-ratio": (("b", Decimal(500), Decimal(0)), DOLLARS),
}


def ask(store: Store, from_: str, to: str, *tags: str) -> Anomaly | None:
    where = CallFilter.days(from_, to, dt.UTC, NOON.date())
    with store.reading() as connection:
        spend = totals(connection, where).spend_usd
        found = anomalies(connection, where, spend, tags=tags)
    return next((each for each in found if each.day == where.last_day), None)


@pytest.mark.parametrize("vector", vectors("anomaly.json"))
def test_anomaly_vectors(store: Store, vector: dict[str, t.Any]) -> None:
    store.fill(*map(call_of, vector["rows"]))
    found = ask(store, vector["from"], vector["to"])
    expected = vector["expected"]
    if expected is not None:
        spends = expected["latest_spend"], expected["baseline_mean"]
        expected = (expected["model"], *(Decimal(repr(usd)) for usd in spends))
    if vector["id"] in DECIDED:
        expected = DECIDED[vector["id"]][0]
    if found is None:
        assert expected is None
        return
    assert (found.model, found.rise.latest_usd, found.rise.mean_usd) == expected
    assert found.provider == "openai"
    assert found.day == dt.date.fromisoformat(vector["to"])


def week(latest: str, **changes: t.Any) -> list[Call]:
    """Seven days of a dollar, and a last one."""
    days = [
        make_call(f"2026-04-{day}T12:00Z", cost=cost_of("1")) for day in range(13, 20)
    ]
    return [*days, make_call(cost=cost_of(latest), **changes)]


@pytest.mark.parametrize(("latest", "rises"), [("1.49", False), ("1.5", True)])
def test_a_steady_week_leaves_room_for_a_half(
    sqlite: Store, latest: str, rises: bool
) -> None:
    sqlite.fill(*week(latest))
    assert (ask(sqlite, "2026-04-13", "2026-04-20") is not None) is rises


def test_cents_are_not_worth_a_banner(sqlite: Store) -> None:
    sqlite.fill(make_call(cost=cost_of("0.99")))
    assert ask(sqlite, "2026-04-01", "2026-04-20") is None
    sqlite.fill(make_call(cost=cost_of("1")))
    found = ask(sqlite, "2026-04-01", "2026-04-20")
    assert found is not None
    assert found.rise.ratio is None


def test_a_rise_within_the_noise_of_the_whole_is_none(sqlite: Store) -> None:
    big = make_call("2026-04-02T12:00Z", model="big", cost=cost_of("10000"))
    sqlite.fill(big, *week("12"))
    assert ask(sqlite, "2026-04-01", "2026-04-20") is None


def test_an_open_range_has_no_anomaly(sqlite: Store) -> None:
    with sqlite.reading() as connection:
        assert anomalies(connection, CallFilter(), Decimal(9)) == ()


def test_the_tag_behind_most_of_a_rise_is_its_cause(store: Store) -> None:
    tags = {"feature": "import", "user": "7"}
    store.fill(*week("8", tags=tags), make_call(cost=cost_of("5")))
    found = ask(store, "2026-04-13", "2026-04-20", "tenant", "feature")
    assert found is not None
    assert found.rise.excess_usd == 12
    assert found.cause is not None
    assert (found.cause.key, found.cause.value) == ("feature", "import")
    assert found.cause.rise.excess_usd == 8


def test_many_small_tags_are_no_cause(sqlite: Store) -> None:
    small = [make_call(cost=cost_of("3"), tags={"user": str(n)}) for n in range(4)]
    sqlite.fill(*week("1"), *small)
    found = ask(sqlite, "2026-04-13", "2026-04-20", "user")
    assert found is not None
    assert found.cause is None


def test_the_overview_brings_it_along(sqlite: Store) -> None:
    sqlite.fill(*week("12", tags={"feature": "import"}))
    where = CallFilter.days(None, None, dt.UTC, NOON.date())
    with sqlite.reading() as connection:
        found = overview(connection, where, tags=["feature"], now=NOON)
    assert found.anomalies[0].cause is not None
    assert found.projection is not None
    assert [value.value for value in found.tags[0].values] == ["import", "(untagged)"]


def test_a_spike_is_still_reported_on_the_days_after_it(store: Store) -> None:
    store.fill(*week("200", tags={"feature": "agent"}))
    for last in ("2026-04-20", "2026-04-21", "2026-05-15"):
        where = CallFilter.days("2026-04-18", last, dt.UTC, NOON.date())
        with store.reading() as connection:
            found = anomalies(connection, where, Decimal(201), tags=["feature"])
        assert [(str(each.day), each.rise.latest_usd) for each in found] == [
            ("2026-04-20", Decimal(200))
        ]
        assert found[0].cause is not None
        assert found[0].cause.value == "agent"
