from __future__ import annotations

import datetime as dt
import typing as t

from flask_llm_cost.query import choices as room
from flask_llm_cost.query.choices import Choices
from flask_llm_cost.query.choices import choices
from flask_llm_cost.query.filters import CallFilter

from .samples import cost_of
from .samples import make_call
from .samples import NOON
from .samples import Store

MONTH = CallFilter.days("2026-04-01", "2026-04-30", dt.UTC, NOON.date())


def offered(store: Store, most: int = 100, **narrower: t.Any) -> Choices:
    with store.reading() as connection:
        return choices(
            connection, MONTH.narrowed(**narrower), ("feature", "tenant"), most=most
        )


def fill(store: Store) -> None:
    store.fill(
        make_call(cost=cost_of("2"), tags={"feature": "chat", "tenant": "a:b"}),
        make_call(provider="azure", model="gpt-4o", stream=True, tags={"tenant": "é"}),
        make_call(
            provider="gemini", model="flash", tags={"feature": "find", "user": "u"}
        ),
        make_call(provider="gemini", model="pro", outcome="interrupted"),
        make_call("2026-01-01T00:00:00Z", provider="old", tags={"feature": "gone"}),
    )


def test_a_range_offers_what_is_in_it_the_most_expensive_first(store: Store) -> None:
    fill(store)
    found = offered(store)
    assert found.providers == ("openai", "azure", "gemini")
    assert set(found.models) == {"gpt-4o", "flash", "pro"}
    assert found.tags[0] == "feature:chat"
    assert set(found.tags) == {"feature:chat", "feature:find", "tenant:a:b", "tenant:é"}


def test_each_list_heeds_every_filter_but_its_own(store: Store) -> None:
    fill(store)
    found = offered(store, provider="gemini")
    assert found.providers == ("openai", "azure", "gemini")
    assert set(found.models) == {"flash", "pro"}
    assert found.tags == ("feature:find",)
    found = offered(store, model="gpt-4o")
    assert found.providers == ("openai", "azure")
    assert found.tags == ("feature:chat", "tenant:a:b", "tenant:é")


def test_other_filters_are_heeded_too(store: Store) -> None:
    fill(store)
    assert offered(store, outcome="interrupted") == Choices(("gemini",), ("pro",), ())
    assert offered(store, stream=True) == Choices(
        ("azure",), ("gpt-4o",), ("tenant:é",)
    )


def test_a_tag_that_is_asked_for_is_not_offered_again(store: Store) -> None:
    fill(store)
    found = offered(store, tags=(("feature", "chat"),))
    assert found == Choices(("openai",), ("gpt-4o",), ("tenant:a:b",))


def test_lists_are_cut(store: Store) -> None:
    fill(store)
    found = offered(store, most=1)
    assert found == Choices(("openai",), (found.models[0],), ("feature:chat",))


def test_only_the_latest_calls_are_looked_through(
    store: Store, monkeypatch: t.Any
) -> None:
    monkeypatch.setattr(room, "MOST_CALLS", 1)
    store.fill(
        make_call("2026-04-02T00:00:00Z", model="early", stream=True),
        make_call("2026-04-03T00:00:00Z", model="late", stream=True),
        make_call("2026-04-04T00:00:00Z", model="whole"),
    )
    assert offered(store, stream=True).models == ("late",)
