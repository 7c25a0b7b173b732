from __future__ import annotations

import dataclasses
import datetime as dt
import json
import typing as t
import zoneinfo

import pytest
from hypothesis import assume
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.calendar import day_start
from flask_llm_cost.call import Call
from flask_llm_cost.call import OUTCOMES
from flask_llm_cost.call import USAGE_SOURCES
from flask_llm_cost.errors import FilterError
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter

from .samples import ledgers
from .samples import make_call
from .samples import moments
from .samples import Store
from .vectors import FOLDER
from .vectors import vectors

TODAY = dt.date(2026, 4, 20)
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def days(from_: str | None, to: str | None) -> tuple[str, str]:
    where = CallFilter.days(from_, to, BERLIN, TODAY)
    return str(where.first_day), str(where.last_day)


def count(store: Store, where: CallFilter) -> int:
    with store.reading() as connection:
        return totals(connection, where).calls


def test_no_dates_mean_the_last_30_days() -> None:
    assert days(None, None) == ("2026-03-22", "2026-04-20")
    assert days("", "") == ("2026-03-22", "2026-04-20")


def test_from_alone_runs_to_today() -> None:
    assert days("2026-04-18", None) == ("2026-04-18", "2026-04-20")


def test_to_alone_covers_the_30_days_that_end_there() -> None:
    assert days(None, "2026-01-30") == ("2026-01-01", "2026-01-30")


def test_both_dates_are_included() -> None:
    where = CallFilter.days("2026-03-29", "2026-03-29", BERLIN, TODAY)
    assert where.start == dt.datetime(2026, 3, 28, 23, tzinfo=dt.UTC)
    assert where.end == dt.datetime(2026, 3, 29, 22, tzinfo=dt.UTC)  # 23 hours


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "20260418",
        "2026-W16-6",
        "2026-108",
        "2026-4-18",
        "2026-04-18 ",
        " 2026-04-18",
        "2026-04-18T00:00",
        "2026-02-30",
        "+99999-01-01",
        "٢٠٢٦-٠٤-١٨",
        "0001-01-01",
        "9999-12-31",
        "2026-04-18\n",
        "2026-04-18\0",
        "1" * 100_000,
    ],
)
@pytest.mark.parametrize("name", ["from", "to"])
def test_a_date_is_written_in_one_way(name: str, text: str) -> None:
    given_days = {"from": None, "to": None} | {name: text}
    with pytest.raises(FilterError, match=f"^{name}: .*YYYY-MM-DD") as caught:
        days(given_days["from"], given_days["to"])
    assert caught.value.parameter == name
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("from_", "to"), [("2026-04-20", "2026-04-18"), ("2026-04-21", None)]
)
def test_a_reversed_range_is_an_error(from_: str, to: str | None) -> None:
    with pytest.raises(FilterError, match="^from: .* is after "):
        days(from_, to)


def test_ten_years_are_enough() -> None:
    last = dt.date(2026, 4, 20)
    longest = last - dt.timedelta(days=3659)
    assert days(str(longest), str(last)) == (str(longest), str(last))
    with pytest.raises(FilterError, match="^from: .* longer than 3660 days"):
        days(str(longest - dt.timedelta(days=1)), str(last))


@given(
    st.dates(dt.date(1972, 1, 1), dt.date(2037, 12, 31)),
    st.sampled_from(sorted(zoneinfo.available_timezones())),
)
@settings(deadline=None)
def test_days_follow_each_other_in_any_zone(day: dt.date, name: str) -> None:
    zone = zoneinfo.ZoneInfo(name)
    start, end = (day_start(day + dt.timedelta(days=n), zone) for n in (0, 1))
    assert dt.timedelta(0) <= end - start <= dt.timedelta(hours=26)
    if start < end:  # Samoa had no 30 December 2011.
        assert start.astimezone(zone).date() == day


@given(st.dates(dt.date(1980, 1, 1), dt.date(2037, 1, 1)), st.integers(1, 3660))
def test_the_previous_period_is_as_long_and_ends_where_this_begins(
    last: dt.date, length: int
) -> None:
    first = last - dt.timedelta(days=length - 1)
    assume(first.year >= 1972)
    where = CallFilter.days(str(first), str(last), BERLIN, TODAY)
    previous = where.previous()
    assert previous.end == where.start
    assert previous.last_day == first - dt.timedelta(days=1)
    assert previous.first_day == first - dt.timedelta(days=length)


def test_a_bound_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        CallFilter(start=dt.datetime(2026, 4, 20))  # noqa: DTZ001


def test_a_bound_within_a_millisecond_does_not_reach_back(sqlite: Store) -> None:
    at = dt.datetime(2026, 4, 20, 12, 0, 0, 5000, tzinfo=dt.UTC)
    sqlite.fill(make_call(at))
    later = at + dt.timedelta(microseconds=1)
    assert count(sqlite, CallFilter(start=at)) == 1
    assert count(sqlite, CallFilter(start=later)) == 0
    assert count(sqlite, CallFilter(end=at)) == 0
    assert count(sqlite, CallFilter(end=later)) == 1


@pytest.mark.parametrize("name", ["usage_source", "outcome"])
def test_a_word_that_does_not_exist_is_an_error(name: str) -> None:
    with pytest.raises(FilterError, match=f"^{name}: 'bogus' is not one of "):
        CallFilter(**{name: "bogus"})


_texts = st.sampled_from(["openai", "gpt-4o", "claude", "chat", "", "Chat", "t1"])
filters = st.builds(
    dict,
    provider=st.none() | _texts,
    model=st.none() | _texts,
    stream=st.none() | st.booleans(),
    usage_source=st.none() | st.sampled_from(USAGE_SOURCES),
    outcome=st.none() | st.sampled_from(OUTCOMES),
    trace_id=st.none() | _texts,
    tags=st.lists(
        st.tuples(st.sampled_from(["feature", "user"]), _texts), max_size=2
    ).map(tuple),
    priced=st.booleans(),
    unpriced=st.booleans(),
    untagged=st.booleans(),
    with_latency=st.booleans(),
    missing_usage=st.booleans(),
    missing_response_id=st.booleans(),
)


def fits(call: Call, **f: t.Any) -> bool:
    """What a filter means, told without SQL."""
    silent = call.usage is None and call.outcome in ("http_error", "no_response")
    same = all(
        f[name] is None or getattr(call, name) == f[name]
        for name in (
            "provider",
            "model",
            "stream",
            "usage_source",
            "outcome",
            "trace_id",
        )
    )
    return (
        same
        and all(call.tags.get(key) == value for key, value in f["tags"])
        and not (f["priced"] and call.cost is None)
        and not (f["unpriced"] and (call.cost is not None or silent))
        and not (f["untagged"] and call.tags)
        and not (f["with_latency"] and call.latency_ms is None)
        and not (f["missing_usage"] and call.usage is not None)
        and not (f["missing_response_id"] and call.response_id is not None)
    )


@given(ledgers, filters)
@settings(max_examples=60, deadline=None)
def test_a_filter_finds_what_it_says(
    store: Store, found: list[Call], f: dict[str, t.Any]
) -> None:
    store.fill(*found)
    assert count(store, CallFilter(**f)) == sum(fits(call, **f) for call in found)


@given(ledgers, filters, filters, moments, moments)
@settings(max_examples=25, deadline=None)
def test_a_filter_only_narrows(
    store: Store,
    found: list[Call],
    f: dict[str, t.Any],
    more: dict[str, t.Any],
    start: dt.datetime,
    end: dt.datetime,
) -> None:
    store.fill(*found)
    both = [c for c in found if fits(c, **f) and fits(c, **more)]
    where = CallFilter(**f).narrowed(**more)
    assert count(store, where) == len(both)
    within = [c for c in both if start <= c.started_at < end]
    assert count(store, where.between(start, end)) == len(within)


@pytest.mark.parametrize(
    "text", ["gpt\x004o", "\ud800", "gpt-4o ", " gpt-4o", "GPT-4O"]
)
def test_text_matches_exactly_or_not_at_all(store: Store, text: str) -> None:
    store.fill(make_call(tags={"feature": "gpt-4o"}, trace_id="gpt-4o"))
    assert count(store, CallFilter(model=text)) == 0
    assert count(store, CallFilter(trace_id=text)) == 0
    assert count(store, CallFilter(tags=(("feature", text),))) == 0


def test_a_trailing_blank_is_part_of_a_tag(store: Store) -> None:
    store.fill(make_call(tags={"a": "x "}), make_call(tags={"a": "x"}))
    assert count(store, CallFilter(tags=(("a", "x "),))) == 1


def test_a_trace_is_found_as_the_tag_it_was(store: Store) -> None:
    store.fill(make_call(trace_id="t1"), make_call())
    assert count(store, CallFilter(tags=(("trace_id", "t1"),))) == 1


# How a query string becomes these values is asked of the pages.
OF_PAGES = {
    "spaces-trimmed",
    "provider-array",
    "stream-yes",
    "stream-no",
    "stream-TRUE",
    "stream-on",
    "stream-maybe",
    "tag-string",
    "tag-bad-key-blank-value",
    "tag-value-trimmed",
    "tag-nested",
    "tag-array",
    "date-array",
}


DATES = "strict YYYY-MM-DD; a bad value answers 400, it never silently widens the query"
# The vectors that a decision overrides: what is expected instead, and that decision.
DECIDED: dict[str, tuple[t.Any, str]] = {
    "bad-dates": ("from", DATES),
    "basic-format-date": ("from", DATES),
    "week-date": ("from", DATES),
    "ordinal-date": ("from", DATES),
    "year-99999": ("from", DATES),
    "r-bad": ("from", DATES),
    "from-only": ([1, 2, 3], "from alone runs to today"),
    "to-only": ([1, 2], "to alone covers the 30 days that end there"),
    "reversed": ("from", "reversed is a 400"),
    "367-days": ([1, 2, 3, 4], "longer than 3,660 days is a 400"),
    "usage-bogus": ("usage_source", "a bad value answers 400"),
}


def dataset() -> list[Call]:
    doc = json.loads((FOLDER / "filters.json").read_text())["doc"]
    rows = json.loads(doc[doc.index("dataset: ") + 9 :].rstrip("."))
    return [
        make_call(
            row["tracked_at"],
            response_id=str(number),
            provider=row["provider"],
            model=row["model"],
            stream=row["stream"],
            usage_source=row["usage_source"] or "unknown",
            tags=row["tags"],
        )
        for number, row in enumerate(rows, 1)
    ]


def where_of(params: dict[str, t.Any]) -> CallFilter:
    if "from" in params or "to" in params:
        where = CallFilter.days(params.get("from"), params.get("to"), dt.UTC, TODAY)
    else:
        where = CallFilter()
    return dataclasses.replace(
        where,
        provider=params.get("provider"),
        model=params.get("model"),
        usage_source=params.get("usage_source"),
        tags=tuple(params.get("tag", {}).items()),
    )


@pytest.mark.parametrize("vector", vectors("filters.json", "filter", but=OF_PAGES))
def test_filter_vectors(store: Store, vector: dict[str, t.Any]) -> None:
    store.fill(*dataset())
    expected = vector["expected"].get("ids")
    if vector["id"] == "usage-unknown":
        expected = [3, 4]  # the fourth has none, which is kept as unknown
    if vector["id"] in DECIDED:
        expected = DECIDED[vector["id"]][0]
    if isinstance(expected, str):
        with pytest.raises(FilterError, match=f"^{expected}: "):
            where_of(vector["params"])
        return
    found = store.query()
    found = dataclasses.replace(found, filter=where_of(vector["params"]))
    assert sorted(int(row.response_id or 0) for row in found.rows()) == expected


@pytest.mark.parametrize("vector", vectors("filters.json", "overview_range"))
def test_range_vectors(vector: dict[str, t.Any]) -> None:
    params, today = vector["params"], dt.date.fromisoformat(vector["today"])
    if vector["id"] in DECIDED:
        with pytest.raises(FilterError, match="^from: "):
            CallFilter.days(params["from"], params["to"], dt.UTC, today)
        return
    where = CallFilter.days(params["from"], params["to"], dt.UTC, today)
    assert str(where.first_day) == vector["expected"]["from"]
    assert str(where.last_day) == vector["expected"]["to"]


@pytest.mark.parametrize("vector", vectors("tags.json", "by_tags_text_column_sqlite"))
def test_tag_filter_vectors(store: Store, vector: dict[str, t.Any]) -> None:
    rows = [json.loads(r) if isinstance(r, str) else r for r in vector["rows"]]
    store.fill(
        *(
            make_call(tags={k: str(v) for k, v in row.items()}, response_id=str(number))
            for number, row in enumerate(rows, 1)
        )
    )
    expected = {
        # exact match, on every engine, whatever the JSON looked like
        "q-nested-overmatch": [2],
        "q-case-insensitive": [2],
        "q-unicode-escape": [1, 2],
    }.get(vector["id"], vector["expected"]["ids"])
    found = store.query().by_tags(**vector["filter"]).rows()
    assert sorted(int(row.response_id or 0) for row in found) == expected


def test_the_exceptions_exist() -> None:
    if not FOLDER.exists():
        pytest.skip("no ../shared")
    found = json.loads((FOLDER / "filters.json").read_text())["vectors"]
    assert {*DECIDED, *OF_PAGES} <= {v["id"] for v in found}
