"""Why spend changed: the contributions sum to the difference exactly."""

from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.query.change import effects
from flask_llm_cost.query.change import what_changed
from flask_llm_cost.query.comparison import compare
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.totals import Totals

from .samples import cost_of
from .samples import make_call
from .samples import NOON
from .samples import Store

Pairs: t.TypeAlias = dict[tuple[str, ...], tuple[Totals, Totals]]

_amounts = st.integers(0, 10**13)
_tokens = st.integers(0, 10**6)


@st.composite
def _totals(draw: st.DrawFn) -> Totals:
    names = ("input", "cache_read", "cache_write", "output", "units")
    costs = {f"cost_{name}_pico": draw(_amounts) for name in names}
    read, written = draw(_tokens), draw(_tokens)
    return Totals(
        calls=1,
        priced=draw(st.integers(0, 1)),
        spend_pico=sum(costs.values()),
        input_tokens=draw(_tokens) + read + written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=draw(_tokens),
        **costs,
    )


@given(st.dictionaries(st.sampled_from("abc"), st.tuples(_totals(), _totals())))
@settings(max_examples=100)
def test_effects_sum_to_the_difference(found: dict[str, tuple[Totals, Totals]]) -> None:
    pairs: Pairs = {("openai", name): pair for name, pair in found.items()}
    whole = sum(now.spend_pico - then.spend_pico for then, now in pairs.values())
    assert sum(share.pico for share in effects(pairs)) == whole


def half(tokens: int, usd: str) -> Totals:
    pico = int(Decimal(usd).scaleb(12))
    return Totals(
        calls=1, priced=1, input_tokens=tokens, spend_pico=pico, cost_input_pico=pico
    )


def usd(pairs: Pairs) -> dict[str, Decimal]:
    return {share.key[0]: share.usd for share in effects(pairs)}


def test_twice_the_tokens_is_volume() -> None:
    assert usd({("a", "m"): (half(100, "1"), half(200, "2"))}) == {"volume": 1}


def test_the_same_tokens_at_twice_the_price_is_price() -> None:
    assert usd({("a", "m"): (half(100, "1"), half(100, "2"))}) == {"price": 1}


def test_moving_to_a_dearer_model_is_mix() -> None:
    cheap, dear = (half(50, "1"), half(0, "0")), (half(50, "3"), half(100, "6"))
    assert usd({("a", "cheap"): cheap, ("a", "dear"): dear}) == {"mix": 2}


def test_a_new_model_is_not_a_new_price() -> None:
    old, new = (half(100, "1"), half(0, "0")), (Totals(), half(100, "5"))
    assert usd({("a", "old"): old, ("a", "new"): new}) == {"mix": 4}


def test_more_of_the_input_from_a_cache_is_part_of_the_mix() -> None:
    then = Totals(
        priced=1,
        input_tokens=200,
        cache_read_tokens=100,
        spend_pico=110,
        cost_input_pico=100,
        cost_cache_read_pico=10,
    )
    now = Totals(
        priced=1,
        input_tokens=200,
        cache_read_tokens=200,
        spend_pico=20,
        cost_cache_read_pico=20,
    )
    [share] = effects({("a", "m"): (then, now)})
    assert (share.key, share.pico) == (("cache",), -90)


def test_every_list_of_contributions_sums_to_the_difference(store: Store) -> None:
    store.fill(
        *(
            make_call(
                NOON - dt.timedelta(days=n),
                model=f"m{n % 7}",
                cost=cost_of(f"{n}.000000000001"),
                tags={"feature": f"f{n % 6}"},
            )
            for n in range(20)
        )
    )
    where = CallFilter.days("2026-04-11", "2026-04-20", dt.UTC, NOON.date())
    with store.reading() as connection:
        before = compare(connection, where, where.edges("day"), "previous", NOON)
        found = what_changed(connection, where, before, tags=["feature"], most=3)
    # The call of ten days ago at noon has no counterpart yet: today, noon is now.
    assert found.usd == sum(range(10)) - sum(range(11, 20)) + Decimal("1E-12")
    for shares in (found.effects, found.models, found.meters, found.tags[0][1]):
        assert sum(share.pico for share in shares) == found.pico
    assert len(found.models) == 4
    assert found.models[-1].key == ()
