"""Bills with a line for each answer, compared call by call."""

from __future__ import annotations

import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.bills.calls import compare_calls
from flask_llm_cost.bills.calls import HeldCall
from flask_llm_cost.bills.calls import Matched
from tests.bills.months import a_line
from tests.bills.months import START

DAY: t.Final = START.date()


def compared(*pairs: tuple[str, str], **more: t.Any) -> Matched:
    """Compare calls, given what was billed and what the ledger says."""
    lines = [
        (a_line(DAY, billed, model="m", response_id=f"r{n}"), Decimal(billed))
        for n, (billed, _) in enumerate(pairs)
    ]
    status = more.pop("status", "complete")
    calls = [
        HeldCall(f"e{n}", f"r{n}", DAY, "m", Decimal(cost), status, **more)
        for n, (_, cost) in enumerate(pairs)
    ]
    return compare_calls(lines, calls)


def causes(found: Matched) -> dict[str, Decimal]:
    return {each.cause: each.amount_usd for each in found.residuals}


def test_one_ratio_of_several_calls_is_a_price() -> None:
    found = compared(("1.1", "1"), ("2.2", "2"), ("3", "3"))
    assert causes(found) == {"price": Decimal("0.3")}
    assert found.costs == {"e0": Decimal("1.1"), "e1": Decimal("2.2")}


@pytest.mark.parametrize(
    "pairs",
    [
        [("1", "1"), ("7.77", "1")],
        [("1.1", "1"), ("2.4", "2")],
        [("1.1", "1"), ("2.2", "2"), ("5", "0")],
    ],
)
def test_one_call_or_several_ratios_are_no_price(pairs: list[tuple[str, str]]) -> None:
    assert set(causes(compared(*pairs))) == {"unexplained"}


def test_an_incomplete_call_costs_at_most_its_ceiling() -> None:
    found = compared(("1.5", "1"), status="incomplete", most=Decimal("0.5"))
    assert causes(found) == {"incomplete": Decimal("0.5")}


@pytest.mark.parametrize("billed", ["0.9", "1.51"])
def test_what_an_incomplete_call_cannot_cost_is_unexplained(billed: str) -> None:
    found = compared((billed, "1"), status="incomplete", most=Decimal("0.5"))
    assert set(causes(found)) == {"unexplained"}


@pytest.mark.parametrize("billed", ["-1", "99999999"])
def test_what_the_ledger_cannot_store_is_not_settled(billed: str) -> None:
    assert compared((billed, "1")).costs == {}
