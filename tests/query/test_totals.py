from __future__ import annotations

import datetime as dt
import typing as t
import zoneinfo
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.calendar import edges
from flask_llm_cost.call import Call
from flask_llm_cost.call import CostSource
from flask_llm_cost.call import Usage
from flask_llm_cost.errors import FilterError
from flask_llm_cost.query.aggregate import breakdown
from flask_llm_cost.query.aggregate import BREAKDOWNS
from flask_llm_cost.query.aggregate import series
from flask_llm_cost.query.aggregate import series_by
from flask_llm_cost.query.aggregate import tag_breakdown
from flask_llm_cost.query.aggregate import tag_series
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.aggregate import UNTAGGED
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.totals import change
from flask_llm_cost.query.totals import sum_up
from flask_llm_cost.query.totals import Totals

from .samples import cost_of
from .samples import ledgers
from .samples import make_call
from .samples import NOON
from .samples import Store

EVERYTHING = CallFilter()
NEW_YORK = zoneinfo.ZoneInfo("America/New_York")


def ask(store: Store, question: Callable[..., t.Any], *args: t.Any) -> t.Any:
    with store.reading() as connection:
        return question(connection, *args)


def counted(found: list[Call]) -> Totals:
    """The totals of calls, worked out one by one."""
    return sum_up(map(_one, found))


def _one(call: Call) -> Totals:
    usage = call.usage or Usage()
    silent = call.outcome in ("http_error", "no_response") and call.usage is None
    pico = 0 if call.cost is None else int(call.cost.total_usd.scaleb(12))
    unpriced = call.cost is None and not silent
    meter = None if call.cost is None else next(iter(call.cost.parts))
    cost = call.cost
    reported = cost is not None and cost.source in ("provider", "bill")
    if cost is not None and call.usage_source == "estimated" and not reported:
        return Totals(
            calls=1,
            estimated=1,
            estimated_tokens=usage.total_tokens,
            estimated_pico=pico,
            **_limits(call, known=0),
            **_tokens(call, usage),
        )
    return Totals(
        calls=1,
        priced=call.cost is not None,
        unpriced=unpriced,
        unpriced_with_usage=unpriced and call.usage is not None,
        unpriced_tokens=usage.total_tokens if unpriced else 0,
        failed=call.cost is None and silent,
        incomplete=call.cost is not None and not call.cost.complete,
        spend_pico=pico,
        cost_input_pico=pico if meter == "input" else 0,
        cost_cache_read_pico=pico if meter == "cache_read" else 0,
        cost_output_pico=pico if meter == "output_audio" else 0,
        cost_units_pico=pico if meter == "web_search" else 0,
        **_limits(call, known=pico),
        **_tokens(call, usage),
    )


def _limits(call: Call, known: int) -> dict[str, int]:
    """How much more than what is known a call can have cost."""
    if call.cost is None:
        return {}
    if call.cost.ceiling_usd is None:
        return {"unbounded": 1}
    return {"open_pico": int(call.cost.ceiling_usd.scaleb(12)) - known}


def _tokens(call: Call, usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.total_input_tokens,
        "output_tokens": usage.total_output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "with_usage": call.usage is not None,
        "with_latency": call.latency_ms is not None,
        "latency_sum_ms": call.latency_ms or 0,
    }


@given(ledgers)
@settings(max_examples=40, deadline=None)
def test_totals_are_what_adding_up_by_hand_gives(
    store: Store, found: list[Call]
) -> None:
    store.fill(*found)
    assert ask(store, totals, EVERYTHING) == counted(found)


@given(ledgers)
@settings(max_examples=40, deadline=None)
def test_the_ceiling_of_totals_is_the_sum_of_the_ceilings(
    store: Store, found: list[Call]
) -> None:
    store.fill(*found)
    whole = ask(store, totals, EVERYTHING)
    limits = [
        call.cost.ceiling_usd if call.cost is not None else None
        for call in found
        if call.cost is not None or call.unpriced
    ]
    known = [limit for limit in limits if limit is not None]
    if len(known) < len(limits):
        assert whole.ceiling_usd is None
    else:
        assert whole.ceiling_usd == sum(known)
        assert whole.spend_usd <= whole.ceiling_usd


def test_an_estimated_call_counts_with_its_ceiling(sqlite: Store) -> None:
    sqlite.fill(
        make_call(cost=cost_of("0.25")),
        make_call(
            cost=cost_of("4", complete=False, more="2"), usage_source="estimated"
        ),
    )
    found = sqlite.query().totals()
    assert (found.spend_usd, found.ceiling_usd) == (Decimal("0.25"), Decimal("6.25"))


def test_what_was_estimated_stands_apart(sqlite: Store) -> None:
    sqlite.fill(
        make_call(cost=cost_of("0.25")),
        make_call(cost=cost_of("4", complete=False), usage_source="estimated"),
    )
    found = sqlite.query().totals()
    assert (found.calls, found.priced, found.incomplete, found.estimated) == (
        2,
        1,
        0,
        1,
    )
    assert (found.spend_usd, found.estimated_usd) == (Decimal("0.25"), Decimal(4))
    assert found.average_usd == Decimal("0.25")
    assert found.usd_per_million == Decimal("0.25") / 110 * 1_000_000
    assert sqlite.query().total_cost() == Decimal("0.25")
    assert sqlite.query().cost_by("model") == {"gpt-4o": Decimal("0.25")}


@pytest.mark.parametrize("source", ["provider", "bill"])
def test_a_cost_that_is_known_is_not_estimated(
    sqlite: Store, source: CostSource
) -> None:
    cost = cost_of("4", source=source)
    sqlite.fill(make_call(cost=cost, usage_source="estimated"))
    found = sqlite.query().totals()
    assert (found.spend_usd, found.estimated, found.ceiling_usd) == (4, 0, 4)


def test_estimates_alone_are_no_known_cost(sqlite: Store) -> None:
    sqlite.fill(make_call(cost=cost_of("4"), usage_source="estimated"))
    found = sqlite.query().totals()
    assert (found.cost_usd, found.average_usd) == (None, None)
    assert found.estimated_usd == 4
    assert sqlite.query().cost_by("model") == {}


@given(ledgers)
@settings(max_examples=15, deadline=None)
def test_the_total_is_the_sum_over_any_breakdown(
    store: Store, found: list[Call]
) -> None:
    store.fill(*found)
    with store.reading() as connection:
        whole = totals(connection, EVERYTHING)
        ways = [breakdown(connection, EVERYTHING, name) for name in BREAKDOWNS]
        ways.append(breakdown(connection, EVERYTHING, "provider", "model"))
        ways += [
            tag_breakdown(connection, EVERYTHING, key)
            for key in ("feature", "user", "trace_id", "nobody")
        ]
    assert all(sum_up(group.totals for group in way) == whole for way in ways)
    for way in ways:
        assert len({group.key for group in way}) == len(way)


@given(ledgers, st.sampled_from(["hour", "day", "week", "month"]))
@settings(max_examples=20, deadline=None)
def test_the_total_is_the_sum_over_any_series(
    store: Store, found: list[Call], span: t.Any
) -> None:
    store.fill(*found)
    first, last = dt.date(2026, 3, 7), dt.date(2026, 11, 4)
    marks = edges(span, first, last, NEW_YORK)
    assert sum_up(ask(store, series, EVERYTHING, marks)) == counted(found)


@given(ledgers, st.sampled_from(["America/New_York", "UTC", "Asia/Kathmandu"]))
@settings(max_examples=20, deadline=None)
def test_a_day_of_a_series_is_the_day_of_the_filter(
    store: Store, found: list[Call], name: str
) -> None:
    store.fill(*found)
    zone = zoneinfo.ZoneInfo(name)
    marks = edges("day", dt.date(2026, 10, 31), dt.date(2026, 11, 2), zone)
    days = [f"2026-{day}" for day in ("10-31", "11-01", "11-02")]
    wheres = [CallFilter.days(day, day, zone, NOON.date()) for day in days]
    with store.reading() as connection:
        found_days = series(connection, EVERYTHING, marks)
        assert found_days == tuple(totals(connection, where) for where in wheres)
    local = [c.started_at.astimezone(zone).date().isoformat() for c in found]
    assert [day.calls for day in found_days] == [local.count(day) for day in days]


def test_money_is_exact_beyond_64_bits(store: Store) -> None:
    amount = Decimal("9000000.000000000001")
    store.fill(*(make_call(cost=cost_of(amount)) for _ in range(3)))
    assert ask(store, totals, EVERYTHING).spend_usd == 3 * amount


def test_millions_do_not_round_up(store: Store) -> None:
    amount = Decimal("0.000001999999")  # MySQL's a / b would say 2.0000 here
    store.fill(make_call(cost=cost_of(amount)))
    assert ask(store, totals, EVERYTHING).spend_usd == amount


def test_nothing_costs_nothing(store: Store) -> None:
    store.fill()
    found = ask(store, totals, EVERYTHING)
    assert found == Totals()
    assert found.spend_usd == 0
    assert found.average_usd is None
    assert found.average_latency_ms is None
    assert found.cache_hit_rate is None


def test_an_unknown_cost_is_none_and_not_0(sqlite: Store) -> None:
    sqlite.fill(make_call(model="mystery", cost=None), make_call(cost=cost_of("0")))
    free, unknown = ask(sqlite, breakdown, EVERYTHING, "model")
    assert (free.key, free.totals.cost_usd) == (("gpt-4o",), 0)
    assert (unknown.key, unknown.totals.cost_usd) == (("mystery",), None)


def test_a_refused_attempt_is_neither_free_nor_unpriced(sqlite: Store) -> None:
    sqlite.fill(make_call(cost=None, usage=None, outcome="http_error"))
    found = ask(sqlite, totals, EVERYTHING)
    assert (found.failed, found.priced, found.unpriced) == (1, 0, 0)
    assert found.cost_usd == 0


def test_the_average_cost_leaves_out_unknown_ones(sqlite: Store) -> None:
    sqlite.fill(make_call(cost=cost_of("0.03")), make_call(cost=None))
    assert ask(sqlite, totals, EVERYTHING).average_usd == Decimal("0.03")


def test_the_most_expensive_comes_first_with_its_share(store: Store) -> None:
    store.fill(
        make_call(model="a", cost=cost_of("1")),
        make_call(model="b", cost=cost_of("3")),
        make_call(model="c", cost=None),
    )
    rows = ask(store, breakdown, EVERYTHING, "provider", "model")
    assert [(row.key, row.share) for row in rows] == [
        (("openai", "b"), Decimal("0.75")),
        (("openai", "a"), Decimal("0.25")),
        (("openai", "c"), Decimal("0")),
    ]


def test_an_empty_tag_counts_as_untagged(store: Store) -> None:
    store.fill(
        make_call(tags={"feature": ""}),
        make_call(tags={"other": "x"}),
        make_call(),
        make_call(tags={"feature": "chat"}),
    )
    rows = ask(store, tag_breakdown, EVERYTHING, "feature")
    assert {row.key[0]: row.totals.calls for row in rows} == {UNTAGGED: 3, "chat": 1}
    for row in rows:  # each of them alone
        [only] = ask(store, tag_breakdown, EVERYTHING, "feature", row.key)
        assert (only.key, only.totals) == (row.key, row.totals)


@pytest.mark.parametrize("key", [";DROP TABLE", "a b", "größe", "a\n", "", "k" * 201])
def test_a_breakdown_needs_a_possible_tag_key(sqlite: Store, key: str) -> None:
    sqlite.fill()
    with pytest.raises(FilterError, match="^tag: "):
        ask(sqlite, tag_breakdown, EVERYTHING, key)


def test_a_breakdown_needs_a_known_name(sqlite: Store) -> None:
    with pytest.raises(FilterError, match=r"^by: 'color' is not one of provider"):
        ask(sqlite, breakdown, EVERYTHING, "color")


def test_the_cache_hit_rate_is_of_all_input(sqlite: Store) -> None:
    usage = Usage(input_tokens=25, cache_read_tokens=75, output_tokens=1000)
    sqlite.fill(make_call(usage=usage))
    assert ask(sqlite, totals, EVERYTHING).cache_hit_rate == Decimal("0.75")


def test_a_million_tokens_cost_what_they_cost(sqlite: Store) -> None:
    sqlite.fill(make_call(cost=cost_of("0.0011")))
    assert ask(sqlite, totals, EVERYTHING).usd_per_million == Decimal(10)
    sqlite.fill(make_call(cost=cost_of("0.0011")), make_call(cost=None))
    assert ask(sqlite, totals, EVERYTHING).usd_per_million == Decimal(10)
    sqlite.fill(make_call(cost=None))
    assert ask(sqlite, totals, EVERYTHING).usd_per_million is None


def test_unpriced_calls_are_held_against_the_priced_ones(sqlite: Store) -> None:
    sqlite.fill(
        make_call(cost=cost_of("0.11")),  # of 110 tokens
        make_call(cost=None, usage=Usage(input_tokens=7)),
        make_call(cost=None, usage=None, outcome="interrupted"),
    )
    found = ask(sqlite, totals, EVERYTHING)
    assert found.possible_usd == Decimal("0.007") + Decimal("0.11")
    sqlite.fill(make_call(cost=None))
    assert ask(sqlite, totals, EVERYTHING).possible_usd is None
    assert Totals().possible_usd == 0


@given(ledgers)
@settings(max_examples=10, deadline=None)
def test_a_series_by_group_adds_up_to_the_series(
    store: Store, found: list[Call]
) -> None:
    store.fill(*found)
    marks = edges("day", dt.date(2026, 10, 31), dt.date(2026, 11, 3), NEW_YORK)
    with store.reading() as connection:
        whole = series(connection, EVERYTHING, marks)
        ways = [
            series_by(connection, EVERYTHING, marks, "provider", "model"),
            tag_series(connection, EVERYTHING, marks, "feature"),
            tag_series(connection, EVERYTHING, marks, "trace_id"),
        ]
    for way in ways:
        days = zip(*way.values(), strict=True)
        assert tuple(map(sum_up, days)) == (whole if way else ())
        assert sum_up(map(sum_up, way.values())) == sum_up(whole)


def test_a_change_is_in_percent_of_what_was() -> None:
    assert change(Decimal(1), Decimal(4)) == -75
    assert change(Decimal(1), Decimal(0)) is None
