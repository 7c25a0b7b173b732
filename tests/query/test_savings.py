"""Savings: exact, disjoint, and never more than was spent."""

from __future__ import annotations

import datetime as dt
import functools
import typing as t
from decimal import Decimal

import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from sqlalchemy.pool import StaticPool

from flask_llm_cost.call import Call
from flask_llm_cost.call import Usage
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.savings import Line
from flask_llm_cost.query.savings import Savings
from flask_llm_cost.query.savings import savings
from flask_llm_cost.query.whatif import whatif

from . import samples
from .samples import make_call
from .samples import NOON
from .samples import Store

DAY = dt.timedelta(days=1)
RATES = {
    "input": "2",
    "output": "8",
    "cache_read": "0.5",
    "cache_write": "3",
    "batch_input": "1",
    "batch_output": "4",
}
BOOK = PriceBook.layered(
    overrides={
        "openai/gpt-4o": RATES,
        "openai/mini": {"input": "1", "output": "1"},
        "openai/live": {"input": "2", "output": "8"},
    }
)


@functools.cache
def memory() -> Store:
    return Store(sa.create_engine("sqlite://", poolclass=StaticPool))


def priced(day: int = 0, *, model: str = "gpt-4o", **changes: t.Any) -> Call:
    usage = changes.pop("usage", Usage(input_tokens=1_000_000))
    at = NOON - day * DAY
    cost = BOOK.cost("openai", model, usage, at=at)
    return make_call(at, model=model, usage=usage, cost=cost, **changes)


def found(*made: Call, **options: t.Any) -> Savings:
    memory().fill(*made)
    return savings(memory().reading, CallFilter(), BOOK, **options)


def only(answer: Savings) -> Line:
    [line] = answer.lines
    return line


def test_failed_calls_that_were_billed_are_a_line() -> None:
    answer = found(priced(outcome="interrupted"), priced(), make_call(cost=None))
    line = only(answer)
    assert (line.kind, line.subject) == ("failed", "openai/gpt-4o, interrupted")
    assert (line.calls, line.saving_usd, answer.spend_usd) == (1, 2, 4)


def test_calls_that_can_wait_cost_less_in_a_batch() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    made = [
        priced(usage=usage, tags={"feature": "import"}),
        priced(usage=usage, tags={"feature": "chat"}),
        priced(usage=usage, tags={"feature": "import"}, model="live"),
    ]
    assert found(*made).lines == []
    line = only(found(*made, deferrable=[("feature", "import")]))
    assert (line.kind, line.calls) == ("batch", 1)
    assert (line.saving_usd, line.arithmetic) == (5, "10 - 5")


def test_caching_is_shown_net_of_writes() -> None:
    usage = Usage(
        input_tokens=10, cache_read_tokens=3_000_000, cache_write_tokens=1_000_000
    )
    answer = found(priced(usage=usage, tags={"tenant": "a"}), tags=["tenant", "x"])
    [(model, caching)] = answer.caching
    assert (model, caching.calls) == ("openai/gpt-4o", 1)
    assert caching.saved_usd("read") == Decimal("4.5")
    assert caching.saved_usd("write") == -1
    assert caching.saved_usd() == Decimal("3.5")
    assert caching.arithmetic == (
        "3,000,000 read x (2 - 0.5) / 1M + 1,000,000 write x (2 - 3) / 1M"
    )
    assert [subject for subject, _ in answer.caching_by_tag] == [
        "tenant=a: openai/gpt-4o",
        "x=(untagged): openai/gpt-4o",
    ]
    assert answer.lines == []


def test_writes_that_were_never_read_are_a_line() -> None:
    # All of the input was written: the rate of uncached input is that of the book.
    line = only(found(priced(usage=Usage(cache_write_tokens=1_000_000))))
    assert (line.kind, line.saving_usd, line.spend_usd) == ("cache_writes", 1, 3)


def test_days_on_which_the_hit_rate_fell_are_lines() -> None:
    usual = Usage(input_tokens=200_000, cache_read_tokens=800_000)
    fell = Usage(input_tokens=900_000, cache_read_tokens=100_000)
    made = [priced(day, usage=usual) for day in (0, 1, 3, 4)]
    line = only(found(*made, priced(2, usage=fell)))
    assert line.kind == "hit_rate"
    assert line.subject == f"openai/gpt-4o, {NOON.date() - 2 * DAY}"
    # 700,000 tokens at 2 instead of 0.5.
    assert line.saving_usd == Decimal("1.05")
    assert "10% instead of 80%" in line.arithmetic


@settings(max_examples=60, deadline=None)
@given(
    st.lists(samples.calls, max_size=8),
    st.lists(
        st.builds(
            priced,
            st.integers(0, 4),
            model=st.sampled_from(["gpt-4o", "live"]),
            outcome=st.sampled_from(["ok", "interrupted"]),
            tags=st.sampled_from([{}, {"feature": "chat"}]),
            usage=st.builds(
                Usage,
                input_tokens=st.integers(0, 9),
                cache_read_tokens=st.integers(0, 9),
                cache_write_tokens=st.integers(0, 9),
                output_tokens=st.integers(0, 9),
            ),
        ),
        max_size=12,
    ),
)
def test_lines_are_disjoint_and_never_exceed_the_spend(
    any_calls: list[Call], more: list[Call]
) -> None:
    answer = found(
        *any_calls, *more, tags=["feature"], deferrable=[("feature", "chat")]
    )
    assert sum(line.calls for line in answer.lines) <= answer.calls
    assert answer.saving_usd <= answer.spend_usd
    assert sum(line.spend_usd for line in answer.lines) <= answer.spend_usd
    for line in answer.lines:
        assert 0 < line.saving_usd <= line.spend_usd


def test_whatif_prices_the_real_mix_at_another_models_rates() -> None:
    memory().fill(
        priced(usage=Usage(input_tokens=1_000_000, output_tokens=500_000)),
        priced(usage=Usage(input_tokens=500_000)),
        priced(model="live"),
        make_call(model="gpt-4o", cost=None, usage=None),
    )
    pairs = [("openai/gpt-4o", "openai/mini")]
    [answer] = whatif(memory().reading, CallFilter(), BOOK, pairs, NOON)
    assert (answer.calls, answer.skipped, answer.incomplete) == (2, 1, 0)
    assert (answer.before_usd, answer.after_usd) == (7, 2)
    assert answer.difference_usd == -5
