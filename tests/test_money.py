from __future__ import annotations

import decimal
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.money import ceil_pico
from flask_llm_cost.money import digits
from flask_llm_cost.money import floor_pico
from flask_llm_cost.money import from_pico
from flask_llm_cost.money import MAX_PICO
from flask_llm_cost.money import round_pico
from flask_llm_cost.money import to_pico

PICO = Decimal("1e-12")
picos = st.integers(-MAX_PICO, MAX_PICO)
amounts = st.decimals(0, 10**6, places=15)


@given(picos)
def test_stored_money_converts_without_loss(pico: int) -> None:
    assert to_pico(from_pico(pico)) == pico


@given(amounts)
def test_rounding_moves_an_amount_by_less_than_a_pico_dollar(usd: Decimal) -> None:
    floor, ceiling = from_pico(floor_pico(usd)), from_pico(ceil_pico(usd))
    assert usd - PICO < floor <= usd <= ceiling < usd + PICO
    assert abs(from_pico(round_pico(usd)) - usd) <= PICO / 2


def test_half_a_pico_dollar_is_rounded_to_even() -> None:
    assert [round_pico(Decimal(n) * PICO / 2) for n in (1, 3, 5)] == [0, 2, 2]


@pytest.mark.parametrize("usd", ["1e-13", "1e7", "-1e7", "1e999999", "NaN", "Infinity"])
def test_an_amount_that_no_column_can_store_is_refused(usd: str) -> None:
    with pytest.raises(ValueError, match="USD"):
        to_pico(Decimal(usd))


def test_rounded_limits_stop_at_what_a_column_can_store() -> None:
    assert floor_pico(Decimal("1e12")) == ceil_pico(Decimal("1e12")) == MAX_PICO


def test_the_context_of_the_thread_does_not_matter() -> None:
    with decimal.localcontext(decimal.Context(prec=3)):
        assert to_pico(from_pico(123_456_789)) == 123_456_789
        assert floor_pico(Decimal("1.2345678")) == 1_234_567_800_000


@pytest.mark.parametrize(
    ("number", "text"),
    [("2.50", "2.5"), ("1E+3", "1000"), ("100", "100"), ("1e-12", "0.000000000001")],
)
def test_digits_are_shown_without_exponent_or_trailing_zeros(
    number: str, text: str
) -> None:
    assert digits(Decimal(number)) == text
