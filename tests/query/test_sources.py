from __future__ import annotations

import contextlib
import datetime as dt
import typing as t
import zoneinfo
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.calendar import edges
from flask_llm_cost.call import Call
from flask_llm_cost.db.tables import calls as calls_table
from flask_llm_cost.db.tables import dirty_marks
from flask_llm_cost.db.tables import meta
from flask_llm_cost.query.aggregate import breakdown
from flask_llm_cost.query.aggregate import series
from flask_llm_cost.query.aggregate import series_by
from flask_llm_cost.query.aggregate import tag_breakdown
from flask_llm_cost.query.aggregate import tag_series
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.heat import heat
from flask_llm_cost.query.latency import percentiles
from flask_llm_cost.query.overview import overview
from flask_llm_cost.query.sources import pruned_before
from flask_llm_cost.query.sources import sources
from flask_llm_cost.query.tags import tag_page
from flask_llm_cost.query.tags import top_values
from flask_llm_cost.query.totals import sum_up
from flask_llm_cost.rollups import tag_rollups
from flask_llm_cost.rollups.build import RollupBuilder
from flask_llm_cost.rollups.dirty_marks import mark_dirty
from flask_llm_cost.rollups.retention import Retention

from . import samples
from .samples import ledgers
from .samples import make_call
from .samples import moments
from .samples import NOON
from .samples import Store

HOUR = dt.timedelta(hours=1)
LATER = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
UTC = zoneinfo.ZoneInfo("UTC")
NEW_YORK = zoneinfo.ZoneInfo("America/New_York")

zones = st.sampled_from(["America/New_York", "UTC", "Asia/Kathmandu"]).map(
    zoneinfo.ZoneInfo
)


class Engines:
    """A store's engine, as a RollupBuilder uses it."""

    def __init__(self, store: Store) -> None:
        self._engine = store.engine

    def prepare(self) -> None:
        pass

    def writing(self) -> sa.Engine:
        return self._engine

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        yield


TAGS = ("feature", "user")


def builder(store: Store, zone: dt.tzinfo) -> RollupBuilder:
    return RollupBuilder(t.cast(t.Any, Engines(store)), zone, TAGS)


def fill(store: Store, found: list[Call], zone: dt.tzinfo) -> None:
    """Hold these calls, all added up."""
    store.fill(*found)
    with store.engine.begin() as connection:
        connection.execute(meta.insert().values(name="rollup_lock", value=""))
    builder(store, zone).rezone()
    builder(store, zone).build(LATER)


def add(store: Store, found: list[Call]) -> None:
    """Add calls that are not added up yet."""
    with store.engine.begin() as connection:
        samples.insert(connection, found)
        if found:
            mark_dirty(connection, [call.started_at for call in found])


@contextlib.contextmanager
def one_by_one(store: Store) -> Iterator[None]:
    """Let nothing be read from sums."""
    with store.engine.begin() as connection:
        [zone] = connection.scalars(
            sa.select(meta.c.value).where(meta.c.name == "timezone")
        )
        connection.execute(sa.delete(meta).where(meta.c.name == "timezone"))
    yield
    with store.engine.begin() as connection:
        connection.execute(sa.insert(meta).values(name="timezone", value=zone))


def answers(store: Store, where: CallFilter) -> list[t.Any]:
    """What every kind of question says."""
    zone = where.zone
    spring = dt.date(2026, 3, 7), dt.date(2026, 3, 12), zone
    autumn = dt.date(2026, 10, 30), dt.date(2026, 11, 5), zone
    with store.reading() as connection:
        found: list[t.Any] = [
            totals(connection, where),
            breakdown(connection, where, "provider", "model"),
            breakdown(connection, where, "model"),
            breakdown(connection, where, "outcome"),
            percentiles(connection, where, "provider", "model"),
            tag_breakdown(connection, where, "feature"),
        ]
        for days in (spring, autumn):
            for span in ("hour", "day", "month"):
                marks = edges(t.cast(t.Any, span), *days)
                found.append(series(connection, where, marks))
                found.append(series_by(connection, where, marks, "model"))
                if span != "hour":
                    found.append(tag_series(connection, where, marks, "user"))
    return found


bounds = st.none() | moments
names = st.none() | st.sampled_from(["openai", "gpt-4o", "mystery"])


@given(ledgers, ledgers, zones, bounds, bounds, names, names)
@settings(max_examples=10, deadline=None)
def test_sums_and_calls_together_say_the_same_as_calls(
    store: Store,
    old: list[Call],
    new: list[Call],
    zone: dt.tzinfo,
    start: dt.datetime | None,
    end: dt.datetime | None,
    provider: str | None,
    model: str | None,
) -> None:
    fill(store, old, zone)
    add(store, new)
    where = CallFilter(start=start, end=end, zone=zone, provider=provider, model=model)
    found = answers(store, where)
    with one_by_one(store):
        assert found == answers(store, where)


@given(ledgers, zones, st.sets(st.integers(0, 11)))
@settings(max_examples=6, deadline=None)
def test_a_call_that_went_is_gone(
    store: Store, found: list[Call], zone: dt.tzinfo, gone: set[int]
) -> None:
    fill(store, found, zone)
    dead = [call for n, call in enumerate(found) if n in gone]
    with store.engine.begin() as connection:
        ids = [call.event_id for call in dead]
        connection.execute(
            sa.delete(calls_table).where(calls_table.c.event_id.in_(ids))
        )
        if dead:
            mark_dirty(connection, [call.started_at for call in dead])
    where = CallFilter(zone=zone)
    seen = answers(store, where)
    assert seen[0].calls == len(found) - len(dead)
    with one_by_one(store):
        assert seen == answers(store, where)


@given(ledgers, ledgers, zones, moments)
@settings(max_examples=6, deadline=None)
def test_what_is_pruned_is_still_told(
    store: Store,
    old: list[Call],
    new: list[Call],
    zone: dt.tzinfo,
    before: dt.datetime,
) -> None:
    fill(store, old, zone)
    add(store, new)
    where = CallFilter(zone=zone)
    kept = told(store, where)
    Retention(builder(store, zone)).prune(before, batch=3)
    assert told(store, where) == kept
    builder(store, zone).build(LATER)
    assert told(store, where) == kept


def told(store: Store, where: CallFilter) -> list[t.Any]:
    """What sums alone can tell: all answers but that by outcome."""
    return [found for n, found in enumerate(answers(store, where)) if n != 3]


def test_an_answer_says_what_it_lacks(store: Store) -> None:
    fill(store, [make_call(), make_call(NOON - 48 * HOUR)], NEW_YORK)
    Retention(builder(store, NEW_YORK)).prune(NOON - 24 * HOUR)
    where = days("2026-04-01", "2026-04-30")
    late = CallFilter(start=NOON, zone=NEW_YORK)
    with store.reading() as connection:
        limit = pruned_before(connection, where, ["event_id"])
        assert limit == NOON - 24 * HOUR
        assert pruned_before(connection, where.narrowed(stream=True)) == limit
        assert pruned_before(connection, where, ["provider", "model"]) is None
        assert pruned_before(connection, late, ["event_id"]) is None
        assert totals(connection, where).calls == 2
        assert totals(connection, where.narrowed(outcome="ok")).calls == 1


@pytest.mark.parametrize("minutes", [0, 1])
def test_a_part_of_an_hour_that_was_pruned_is_lacking(
    store: Store, minutes: int
) -> None:
    fill(store, [make_call(NOON - 48 * HOUR), make_call()], NEW_YORK)
    Retention(builder(store, NEW_YORK)).prune(NOON - 24 * HOUR)
    cut = NOON - 48 * HOUR + minutes * dt.timedelta(minutes=1)
    with store.reading() as connection:
        for where in (
            CallFilter(start=cut, zone=NEW_YORK),
            CallFilter(end=cut, zone=NEW_YORK),
        ):
            assert (pruned_before(connection, where) is not None) == bool(minutes)


def test_one_question_does_not_contradict_itself(store: Store) -> None:
    old, new = NOON - 400 * 24 * HOUR, NOON
    fill(store, [make_call(old), make_call(new)], UTC)
    Retention(builder(store, UTC)).prune(NOON - HOUR)
    query = store.query(timezone=UTC)
    assert query.count() == query.totals().calls == 2
    assert sum(p.calls for p in query.group_by_period("month").values()) == 2
    assert sum(p.calls for p in query.group_by("model").values()) == 2
    assert query.pruned_before() is query.pruned_before("model") is None
    assert len(query.rows()) == query.where(outcome="ok").count() == 1
    for lacking in (
        query.pruned_before("event_id"),
        query.pruned_before("tag:session"),
        query.where(outcome="ok").pruned_before(),
    ):
        assert lacking == NOON - HOUR


def test_all_calls_may_be_gone(store: Store) -> None:
    fill(store, [make_call()], UTC)
    Retention(builder(store, UTC)).prune(NOON + HOUR)
    query = store.query(timezone=UTC)
    assert [p.calls for p in query.group_by_period("day").values()] == [1]
    assert query.where(outcome="ok").group_by_period("day") == {}


def test_nothing_lacks_where_nothing_was_pruned(store: Store) -> None:
    fill(store, [make_call()], NEW_YORK)
    with store.reading() as connection:
        assert pruned_before(connection, CallFilter(), ["event_id"]) is None


def asked(store: Store, where: CallFilter, *by: str) -> tuple[bool, bool]:
    """Whether sums, and whether calls are read."""
    with store.reading() as connection:
        found = sources(connection, where, by)
    return bool(found.rolled), bool(found.spans)


def days(from_: str, to: str, zone: dt.tzinfo = NEW_YORK) -> CallFilter:
    return CallFilter.days(from_, to, zone, NOON.date())


def test_whole_days_are_read_from_sums_alone(store: Store) -> None:
    fill(store, [make_call(), make_call(NOON - 40 * HOUR)], NEW_YORK)
    where = days("2026-04-01", "2026-04-30")
    assert asked(store, where, "provider", "model") == (True, False)
    with store.engine.begin() as connection:
        connection.execute(sa.delete(calls_table))  # and nobody is told
    with store.reading() as connection:
        found = overview(connection, where, now=NOON)
        assert totals(connection, where).calls == found.totals.calls == 2
        assert heat(connection, where).days[19].hours[8].calls == 1
        assert percentiles(connection, where) == {}


def test_other_conditions_are_asked_of_calls(store: Store) -> None:
    fill(store, [make_call()], NEW_YORK)
    plain = days("2026-04-01", "2026-04-30")
    for more in ({"stream": True}, {"tags": (("a", "b"),)}, {"unpriced": True}):
        assert asked(store, plain.narrowed(**more)) == (False, True)
    assert asked(store, plain, "outcome") == (False, True)
    assert asked(store, days("2026-04-01", "2026-04-30", dt.UTC)) == (False, True)


def test_only_the_hour_that_runs_is_read_from_calls(store: Store) -> None:
    fill(store, [make_call(NOON - n * HOUR) for n in range(50)], NEW_YORK)
    add(store, [make_call(NOON)])
    where = days("2026-04-01", "2026-04-30")
    with store.reading() as connection:
        found = sources(connection, where, ["model"])
        assert found.spans == ((NOON, NOON + HOUR),)
        assert totals(connection, where).calls == 51


def test_a_ledger_to_be_added_up_is_read_from_calls(store: Store) -> None:
    hours = [make_call(NOON - n * HOUR) for n in range(250)]
    fill(store, [], NEW_YORK)
    add(store, hours)
    where = CallFilter(zone=NEW_YORK)
    with store.reading() as connection:
        assert sources(connection, where).spans == ((None, None),)
        assert totals(connection, where).calls == 250


def test_edges_within_an_hour_are_asked_of_calls(store: Store) -> None:
    fill(store, [make_call()], NEW_YORK)
    marks = [NOON - HOUR / 2, NOON + HOUR / 2, NOON + HOUR]
    where = CallFilter(zone=NEW_YORK)
    with store.reading() as connection:
        assert not sources(connection, where, (), marks).rolled
        assert [part.calls for part in series(connection, where, marks)] == [1, 0]


def test_nothing_is_read_from_sums_before_there_are_any(store: Store) -> None:
    store.fill(make_call())
    assert asked(store, CallFilter()) == (False, True)
    with store.reading() as connection:
        assert connection.scalars(sa.select(dirty_marks.c.id)).all() == []
        assert totals(connection, CallFilter()).calls == 1


def test_a_few_late_calls_cost_a_few_hours(store: Store) -> None:
    fill(store, [make_call(NOON - n * HOUR) for n in range(100)], NEW_YORK)
    late = [make_call(NOON - n * 24 * HOUR) for n in range(4)]
    add(store, late)
    where = CallFilter(zone=NEW_YORK)
    with store.reading() as connection:
        found = sources(connection, where)
        assert len(found.spans) == 4
        assert totals(connection, where).calls == 104
        parts = breakdown(connection, where, "provider")
        assert sum_up(group.totals for group in parts).calls == 104


def test_a_year_by_tag_is_read_from_sums_alone(store: Store) -> None:
    made = [
        make_call(NOON - n * 24 * HOUR, tags={"feature": "chat" if n % 3 else ""})
        for n in range(1, 40)
    ]
    fill(store, made, NEW_YORK)
    where = days("2025-04-20", "2026-04-19")
    with store.engine.begin() as connection:
        connection.execute(sa.delete(calls_table))  # and nobody is told
    with store.reading() as connection:
        page = tag_page(connection, where, "feature")
        top = top_values(connection, where, "feature")
    assert {v.value: v.totals.calls for v in page.values} == {
        "chat": 26,
        "(untagged)": 13,
    }
    assert [v.totals for v in top.values] == [v.totals for v in page.values]
    assert sum(day.calls for value in page.values for day in value.days) == 39


def test_a_key_that_is_not_declared_is_asked_of_calls(store: Store) -> None:
    fill(store, [make_call(tags={"plan": "free"})], UTC)
    Retention(builder(store, UTC)).prune(NOON + HOUR)
    query = store.query(timezone=UTC)
    assert query.group_by_tag("plan") == {}
    assert query.pruned_before("tag:plan") == NOON + HOUR
    assert query.group_by_tag("feature")["(untagged)"].calls == 1
    assert query.pruned_before("tag:feature") is None
    assert query.where(model="gpt-4o").pruned_before("tag:feature") == NOON + HOUR


def test_what_was_pruned_before_a_key_was_declared_is_said(store: Store) -> None:
    fill(store, [make_call(NOON - 72 * HOUR, tags={"plan": "a"}), make_call()], UTC)
    Retention(builder(store, UTC)).prune(NOON - HOUR)
    with_plan = RollupBuilder(t.cast(t.Any, Engines(store)), UTC, ("plan",))
    with_plan.build(LATER)
    query = store.query(timezone=UTC)
    assert query.pruned_before("tag:plan") == NOON - HOUR
    assert query.pruned_before("tag:feature") is None
    late = query.between(NOON.date(), NOON.date())
    assert late.group_by_tag("plan")["(untagged)"].calls == 1


def test_a_key_with_too_many_values_is_asked_of_calls_from_then_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tag_rollups, "MAX_VALUES", 3)
    few = [make_call(NOON - 48 * HOUR, tags={"user": str(n)}) for n in range(2)]
    many = [make_call(NOON - 24 * HOUR, tags={"user": str(n)}) for n in range(5)]
    fill(store, [*few, *many, make_call(tags={"user": "0"})], UTC)
    with store.reading() as connection:
        [_, user] = tag_rollups.declared_keys(connection)
        assert user.until == NOON - 36 * HOUR
        where = CallFilter(zone=UTC)
        values = tag_breakdown(connection, where, "user")
        assert sum(group.totals.calls for group in values) == 8
    query = store.query(timezone=UTC)
    Retention(builder(store, UTC)).prune(NOON - 40 * HOUR)
    assert query.pruned_before("tag:user") is None
    assert sum(p.calls for p in query.group_by_tag("user").values()) == 8
    Retention(builder(store, UTC)).prune(NOON - HOUR)
    assert query.pruned_before("tag:user") == NOON - HOUR
    builder(store, UTC).build(LATER)
    assert query.group_by_tag("user")["0"].calls == 2
    assert builder(store, UTC).forget_tag("user")
    assert not builder(store, UTC).forget_tag("user")
    assert query.group_by_tag("user")["0"].calls == 1
