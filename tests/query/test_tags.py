from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings

from flask_llm_cost.call import Call
from flask_llm_cost.errors import FilterError
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.tags import tag_keys
from flask_llm_cost.query.tags import tag_page
from flask_llm_cost.query.tags import top_values
from flask_llm_cost.query.totals import sum_up

from .samples import cost_of
from .samples import ledgers
from .samples import make_call
from .samples import NOON
from .samples import Store
from .vectors import vectors

EVERYTHING = CallFilter()
WEEK = CallFilter.days("2026-04-14", "2026-04-20", dt.UTC, NOON.date())


@pytest.mark.parametrize("vector", vectors("tags.json", "tag_keys"))
def test_key_vectors(store: Store, vector: dict[str, t.Any]) -> None:
    store.fill(*(make_call(tags=tags) for tags in vector["rows"]))
    with store.reading() as connection:
        found = tag_keys(connection, EVERYTHING)
    assert [
        {"key": k.key, "calls_count": k.calls, "distinct_values": k.values}
        for k in found.keys
    ] == vector["expected"]


@given(ledgers)
@settings(max_examples=15, deadline=None)
def test_keys_cover_what_they_cover(store: Store, found: list[Call]) -> None:
    store.fill(*found)
    with store.reading() as connection:
        seen = tag_keys(connection, EVERYTHING)
    assert seen.calls == len(found)
    assert seen.untagged == sum(not call.tags for call in found)
    for key in seen.keys:
        having = [call.tags[key.key] for call in found if key.key in call.tags]
        assert (key.calls, key.values) == (len(having), len(set(having) - {""}))
        assert key.coverage == Decimal(len(having)) / len(found)


def test_an_empty_ledger_has_no_keys(store: Store) -> None:
    store.fill()
    with store.reading() as connection:
        found = tag_keys(connection, EVERYTHING)
    assert (found.keys, found.calls, found.untagged) == ((), 0, 0)


def test_a_key_shows_its_values_and_where_they_go(store: Store) -> None:
    before = NOON - dt.timedelta(days=7)
    store.fill(
        make_call(tags={"feature": "chat"}, cost=cost_of("3")),
        make_call(before, tags={"feature": "chat"}, cost=cost_of("2")),
        make_call(tags={"feature": ""}, cost=cost_of("1")),
    )
    with store.reading() as connection:
        found = tag_page(connection, WEEK, "feature")
    chat, rest = found.values
    assert (chat.value, chat.share, chat.spend_change) == ("chat", Decimal("0.75"), 50)
    assert [day.spend_usd for day in chat.days] == [0, 0, 0, 0, 0, 0, 3]
    assert (rest.untagged, rest.spend_change) == (True, None)
    assert found.totals.spend_usd == 4


def test_a_key_of_many_values_lists_the_most_expensive(store: Store) -> None:
    store.fill(
        *(make_call(tags={"user": str(n)}, cost=cost_of(str(n))) for n in range(10))
    )
    with store.reading() as connection:
        found = tag_page(connection, WEEK, "user", limit=3)
        top = top_values(connection, WEEK, "user", limit=3)
    assert [value.value for value in found.values] == ["9", "8", "7"]
    assert (found.other_count, found.others.spend_usd) == (7, 21)
    assert [value.value for value in top.values] == ["9", "8", "7"]
    assert (top.others, top.totals) == (found.others, found.totals)


@given(ledgers)
@settings(max_examples=10, deadline=None)
def test_a_key_adds_up_to_the_total(store: Store, found: list[Call]) -> None:
    store.fill(*found)
    closed = CallFilter.days("2026-03-08", "2026-11-03", dt.UTC, NOON.date())
    with store.reading() as connection:
        for where in (EVERYTHING, closed):
            page = tag_page(connection, where, "feature", limit=1)
            whole = totals(connection, where)
            listed = sum_up(value.totals for value in page.values)
            assert listed + page.others == page.totals == whole


def test_a_key_must_be_possible(sqlite: Store) -> None:
    with sqlite.reading() as connection:
        for ask in (tag_page, top_values):
            with pytest.raises(FilterError, match="^tag: "):
                ask(connection, WEEK, "a b")
