from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
import zoneinfo
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.call import Call
from flask_llm_cost.call import Usage
from flask_llm_cost.errors import FilterError
from flask_llm_cost.query.aggregate import BREAKDOWNS
from flask_llm_cost.query.calls import CallQuery

from .samples import cost_of
from .samples import ledgers
from .samples import make_call
from .samples import NOON
from .samples import Store
from .vectors import vectors

NEW_YORK = zoneinfo.ZoneInfo("America/New_York")


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def test_a_question_never_changes(sqlite: Store) -> None:
    sqlite.fill(make_call(), make_call(provider="anthropic"))
    query = sqlite.query()
    assert query.where(provider="openai").count() == 1
    assert query.count() == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        query.filter = query.filter  # type: ignore[misc]


def test_conditions_add_up(store: Store) -> None:
    store.fill(
        make_call(tags={"feature": "chat", "tenant": "a"}),
        make_call(tags={"feature": "chat", "tenant": "b"}),
        make_call(tags={"feature": "chat", "tenant": "a"}, model="mystery", cost=None),
    )
    query = store.query().today().by_tag("feature", "chat").by_tags(tenant="a")
    assert query.count() == 2
    assert query.priced().count() == 1
    assert query.unpriced().where(model="mystery").count() == 1
    assert query.priced().unpriced().count() == 0


def test_incomplete_costs_are_found_without_estimated_ones(store: Store) -> None:
    store.fill(
        make_call(),
        make_call(cost=cost_of("0.1", complete=False), model="cut"),
        make_call(cost=cost_of("0.1", complete=False), usage_source="estimated"),
        make_call(cost=None),
    )
    query = store.query().incomplete()
    assert [row.model for row in query.rows()] == ["cut"]
    assert query.totals().incomplete == query.count() == 1


def test_contradicting_conditions_fit_nothing(store: Store) -> None:
    store.fill(make_call())
    query = store.query().where(provider="openai")
    assert query.where(provider="openai").count() == 1
    assert query.where(provider="anthropic").count() == 0
    assert query.where(provider="anthropic").total_cost() == 0
    assert query.where(provider="anthropic").rows() == []


def test_tag_values_are_compared_as_they_are_kept(sqlite: Store) -> None:
    sqlite.fill(make_call(tags={"user": "42", "beta": "true", "who": ""}))
    query = sqlite.query()
    assert query.by_tags(user=42, beta=True, who=None).count() == 1
    assert query.by_tags(user="42 ").count() == 0
    assert query.by_tags().count() == 1


def test_each_narrowing_finds_its_calls(store: Store) -> None:
    store.fill(
        make_call(tags={"a": "b"}, latency_ms=5, response_id=None),
        make_call(usage=None, cost=None),
        make_call(stream=True, outcome="failed", usage_source="estimated"),
    )
    query = store.query()
    counts = [
        query.untagged(),
        query.with_latency(),
        query.missing_usage(),
        query.missing_response_id(),
        query.where(stream=True),
        query.where(stream=False),
        query.where(outcome="failed"),
        query.where(usage_source="estimated"),
        query.where(trace_id="t"),
    ]
    assert [found.count() for found in counts] == [2, 1, 1, 1, 1, 2, 1, 1, 0]


def test_a_range_of_dates_includes_both_days(store: Store) -> None:
    store.fill(
        make_call("2026-04-18T03:59:59.999Z"),
        make_call("2026-04-18T04:00:00Z"),
        make_call("2026-04-20T03:59:59.999Z"),
        make_call("2026-04-20T04:00:00Z"),
    )
    query = store.query(timezone=NEW_YORK)
    found = query.between(dt.date(2026, 4, 18), dt.date(2026, 4, 19))
    assert found.count() == 2


def test_a_range_of_moments_includes_both(store: Store) -> None:
    store.fill(*(make_call(NOON + n * dt.timedelta(milliseconds=1)) for n in range(5)))
    ms = dt.timedelta(milliseconds=1)
    assert store.query().between(NOON + ms, NOON + 3 * ms).count() == 3
    assert store.query().between(NOON, NOON).count() == 1


def test_a_range_must_make_sense(sqlite: Store) -> None:
    with pytest.raises(FilterError, match="^between: .* has no time zone"):
        sqlite.query().between(NOON.replace(tzinfo=None), NOON)
    with pytest.raises(FilterError, match="^between: .* is after .*; swap them"):
        sqlite.query().between(dt.date(2026, 4, 2), dt.date(2026, 4, 1))


@pytest.mark.parametrize(
    ("week_start", "first"),
    [("monday", "2026-04-20"), ("sunday", "2026-04-19"), ("saturday", "2026-04-18")],
)
def test_a_week_begins_on_the_day_that_is_set(
    sqlite: Store, week_start: str, first: str
) -> None:
    found = sqlite.query(week_start=week_start).this_week().filter
    assert str(found.first_day) == first
    assert (found.last_day or dt.date.min) - (found.first_day or dt.date.min) == (
        dt.timedelta(days=6)
    )


def test_now_is_in_the_zone_of_the_ledger(sqlite: Store) -> None:
    now = at("2026-05-01T03:00:00Z")  # 30 April, 23:00 in New York
    query = sqlite.query(now, timezone=NEW_YORK)
    assert str(query.today().filter.first_day) == "2026-04-30"
    assert str(query.this_month().filter.first_day) == "2026-04-01"
    assert str(query.this_month().filter.last_day) == "2026-04-30"
    assert str(query.last(days=30).filter.first_day) == "2026-04-01"
    assert query.today().filter.end == at("2026-05-01T04:00:00Z")


@pytest.mark.parametrize("days", [0, -5, 3661, True, 1.5, "30"])
def test_days_are_a_whole_number(sqlite: Store, days: t.Any) -> None:
    with pytest.raises(
        FilterError, match="^days: .* not a whole number from 1 to 3660"
    ):
        sqlite.query().last(days=days)
    with pytest.raises(FilterError, match="^days: "):
        sqlite.query().daily_costs(days=days)


def test_a_breakdown_leaves_out_what_is_not_known(store: Store) -> None:
    store.fill(
        make_call(model="a", cost=cost_of("0.5")),
        make_call(model="free", cost=cost_of("0")),
        make_call(model="mystery", cost=None),
    )
    query = store.query()
    assert query.cost_by("model") == {"a": Decimal("0.5"), "free": Decimal(0)}
    assert list(query.group_by("model")) == ["a", "free", "mystery"]
    assert query.group_by("model")["mystery"].unpriced == 1


@given(ledgers)
@settings(max_examples=15, deadline=None)
def test_a_breakdown_adds_up_to_the_total(store: Store, found: list[Call]) -> None:
    store.fill(*found)
    query = store.query()
    total = query.total_cost()
    assert isinstance(total, Decimal)
    for name in BREAKDOWNS:
        assert sum(query.cost_by(name).values()) == total
    for key in ("feature", "user", "nobody"):
        assert sum(query.cost_by_tag(key).values()) == total
    for period in ("hour", "day", "month"):
        parts = query.group_by_period(period).values()
        assert sum(part.spend_usd for part in parts) == total


def test_days_without_calls_are_zeros(store: Store) -> None:
    store.fill(make_call("2026-04-18T12:00Z"), make_call("2026-04-20T12:00Z"))
    days = store.query().group_by_period("day")
    assert {day: part.calls for day, part in days.items()} == {
        "2026-04-18": 1,
        "2026-04-19": 0,
        "2026-04-20": 1,
    }


def test_an_hour_that_comes_twice_stands_twice(store: Store) -> None:
    store.fill(
        make_call("2026-11-01T05:30Z", cost=cost_of("1")),
        make_call("2026-11-01T06:30Z", cost=cost_of("2")),
    )
    hours = store.query(timezone=NEW_YORK).group_by_period("hour")
    assert len(hours) == 25
    assert hours["2026-11-01T01:00-04:00"].spend_usd == 1
    assert hours["2026-11-01T01:00-05:00"].spend_usd == 2


def test_months_are_those_of_the_zone(store: Store) -> None:
    store.fill(make_call("2026-04-01T02:00Z"), make_call("2026-04-30T12:00Z"))
    months = store.query(timezone=NEW_YORK).group_by_period("month")
    assert {month: part.calls for month, part in months.items()} == {
        "2026-03": 1,
        "2026-04": 1,
    }


def test_a_series_keeps_to_the_range(store: Store) -> None:
    store.fill(make_call("2026-04-20T01:00Z"), make_call("2026-04-20T03:00Z"))
    query = store.query().between(at("2026-04-20T02:00Z"), at("2026-04-20T03:00Z"))
    days = query.group_by_period("day")
    assert {day: part.calls for day, part in days.items()} == {"2026-04-20": 1}


def test_a_series_of_nothing_is_empty(store: Store) -> None:
    store.fill()
    assert store.query().group_by_period("day") == {}


def test_a_period_must_exist(sqlite: Store) -> None:
    with pytest.raises(FilterError, match="^period: 'year' is not one of hour, day"):
        sqlite.query().group_by_period("year")


def test_daily_costs_are_of_whole_days_up_to_today(store: Store) -> None:
    store.fill(make_call("2026-04-19T00:00Z"), make_call("2026-04-18T23:59Z"))
    assert store.query().daily_costs(days=3) == {
        "2026-04-18": Decimal("0.01"),
        "2026-04-19": Decimal("0.01"),
        "2026-04-20": 0,
    }
    assert len(store.query().daily_costs()) == 30
    assert len(store.query().this_week().daily_costs()) == 7


def test_latencies_are_means_of_what_is_known(store: Store) -> None:
    store.fill(
        make_call(latency_ms=100),
        make_call(latency_ms=201),
        make_call(model="slow", latency_ms=999),
        make_call(model="unknown", latency_ms=None),
    )
    query = store.query()
    assert query.average_latency_ms() == pytest.approx(1300 / 3)
    assert query.latency_by("model") == {"slow": 999.0, "gpt-4o": 150.5}
    assert query.where(model="unknown").average_latency_ms() is None


def test_rows_go_on_after_the_last_one_seen(store: Store) -> None:
    store.fill(*(make_call(NOON - n * dt.timedelta(seconds=1)) for n in range(7)))
    query = store.query()
    first = query.rows(limit=4)
    rest = query.rows(limit=4, after=first[-1].event_id)
    assert len({row.event_id for row in first + rest}) == 7
    assert [row.started_at for row in first + rest] == sorted(
        (row.started_at for row in first + rest), reverse=True
    )


def test_rows_are_asked_for_rightly(sqlite: Store) -> None:
    with pytest.raises(FilterError, match="^limit: 0 is not a whole number from 1 to"):
        sqlite.query().rows(limit=0)
    with pytest.raises(FilterError, match="^after: 'x' is not a valid event id"):
        sqlite.query().rows(after="x")


def test_a_select_is_free_for_anything_else(store: Store) -> None:
    store.fill(make_call(), make_call(provider="anthropic"))
    select = store.query().where(provider="anthropic").select()
    with store.reading() as connection:
        [row] = connection.execute(select.limit(5))
    assert row.provider == "anthropic"


def test_tokens_are_of_both_sides(store: Store) -> None:
    usage = Usage(input_tokens=1, cache_read_tokens=2, output_tokens=4)
    store.fill(make_call(usage=usage), make_call(usage=None))
    assert store.query().total_tokens() == 7


def names(known: Mapping[str, str]) -> t.Any:
    def ask(ids: Sequence[str]) -> Mapping[str, str]:
        return {id_: known[id_] for id_ in ids if id_ in known}

    return ask


def test_sessions_come_with_names_and_the_rest_is_one_row(store: Store) -> None:
    later = NOON + dt.timedelta(hours=1)
    store.fill(
        make_call(tags={"session": "a"}, cost=cost_of("1"), model="m2"),
        make_call(later, tags={"session": "a"}, cost=cost_of("1"), model="m1"),
        make_call(tags={"session": "b"}, cost=cost_of("3")),
        make_call(later, tags={"session": "c"}, cost=cost_of("4")),
        make_call(cost=cost_of("5")),
    )
    query = store.query(session_names=names({"a": "Alpha"}))
    deleted, unknown, alpha = query.sessions()
    assert (deleted.session_id, deleted.deleted) == ("_deleted_", True)
    assert deleted.totals.spend_usd == 7
    assert (unknown.session_id, unknown.name) == ("unknown", None)
    assert (alpha.session_id, alpha.name) == ("a", "Alpha")
    assert (alpha.first_at, alpha.last_at) == (NOON, later)
    assert alpha.models == ("m1", "m2")
    assert len(query.sessions(limit=1)) == 1


def test_sessions_need_no_names(store: Store) -> None:
    store.fill(make_call(tags={"chat": "a"}), make_call(tags={"session": "b"}))
    found = store.query(session_tag="chat").sessions()
    assert {(s.session_id, s.name) for s in found} == {("a", None), ("unknown", None)}


@given(
    made=st.lists(
        st.tuples(
            st.sampled_from(["", "a", "b", "c", "unknown", "_deleted_", None]),
            st.sampled_from(["m1", "m2", "m3"]),
            st.integers(0, 9),
        ),
        max_size=12,
    ),
    named=st.none() | st.sets(st.sampled_from(["a", "b", "unknown", "_deleted_"])),
    limit=st.integers(1, 4),
)
@settings(max_examples=25, deadline=None)
def test_each_session_has_the_models_of_its_calls(
    store: Store,
    made: list[tuple[str | None, str, int]],
    named: set[str] | None,
    limit: int,
) -> None:
    store.fill(
        *(
            make_call(
                tags={} if name is None else {"session": name},
                model=model,
                cost=cost_of(str(usd)),
            )
            for name, model, usd in made
        )
    )
    expected: dict[str, tuple[set[str], int]] = {}
    for name, model, usd in made:
        shown = name or "unknown"
        if named is not None and shown not in {*named, "unknown"}:
            shown = "_deleted_"
        models, spent = expected.get(shown, (set(), 0))
        expected[shown] = models | {model}, spent + usd
    known = None if named is None else names({name: "N" for name in named})
    found = store.query(session_names=known).sessions(limit=limit)
    assert len(found) == min(limit, len(expected))
    for each in found:
        models, spent = expected[each.session_id]
        assert set(each.models) == models
        assert list(each.models) == sorted(models)
        assert each.totals.spend_usd == spent


def test_sessions_add_up(store: Store) -> None:
    store.fill(*(make_call(tags={"session": str(n % 3)}) for n in range(7)))
    found = store.query(session_names=names({})).sessions()
    assert [(s.session_id, s.totals.calls) for s in found] == [("_deleted_", 7)]


# Malformed tags cannot be in this ledger: they are rows, and not a JSON text.
@pytest.mark.parametrize(
    "vector", vectors("tags.json", "cost_by_tag", but={"cb-bad-json"})
)
def test_cost_by_tag_vectors(store: Store, vector: dict[str, t.Any]) -> None:
    store.fill(
        *(
            make_call(
                tags=row["tags"],
                cost=None
                if row["total_cost"] is None
                else cost_of(repr(row["total_cost"])),
            )
            for row in vector["rows"]
        )
    )
    found = store.query().cost_by_tag(vector["key"])
    expected = {k: Decimal(repr(v)) for k, v in vector["expected"].items()}
    assert list(found.items()) == list(expected.items())


@pytest.mark.parametrize("vector", vectors("tags.json", "tag_key"))
def test_tag_key_vectors(sqlite: Store, vector: dict[str, t.Any]) -> None:
    sqlite.fill()
    query: CallQuery = sqlite.query()
    # Keys match [A-Za-z0-9_.-]{1,200}: one of 300 letters is refused here.
    if vector["expected"] == "valid" and vector["id"] != "k-long":
        assert query.cost_by_tag(vector["key"]) == {}
        return
    with pytest.raises(FilterError, match="^tag: .* is not a valid tag key"):
        query.cost_by_tag(vector["key"])
    with pytest.raises(FilterError, match="^tag: "):
        query.by_tag(vector["key"], "x")
