from __future__ import annotations

import datetime as dt
import zoneinfo
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.web import format

AMOUNTS = st.decimals(0, 10**9, places=12)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "unknown"),
        ("0", "$0.00"),
        ("0.000042", "$0.000042"),
        ("0.00004217", "$0.0000422"),
        ("0.42", "$0.42"),
        ("0.4", "$0.40"),
        ("0.9999", "$1.00"),
        ("1.005", "$1.00"),
        ("1204.5", "$1,204.50"),
        ("0.000000000001", "$0.000000000001"),
        ("-5", "\N{MINUS SIGN}$5.00"),
    ],
)
def test_money_has_significant_digits(amount: str | None, text: str) -> None:
    assert format.money(None if amount is None else Decimal(amount)) == text


@given(AMOUNTS)
def test_spend_is_never_shown_as_zero(amount: Decimal) -> None:
    shown = [format.money(amount), format.aligned(amount, 2), format.exact(amount)]
    for text in shown:
        assert any(digit in text for digit in "123456789") == bool(amount)


@given(AMOUNTS)
def test_exact_money_loses_no_digit(amount: Decimal) -> None:
    assert Decimal(format.exact(amount).lstrip("$").replace(",", "")) == amount


@given(st.lists(AMOUNTS, max_size=5))
def test_decimal_points_align_unless_that_would_show_zero(
    amounts: list[Decimal],
) -> None:
    places = format.column(amounts)
    for amount in amounts:
        text = format.aligned(amount, places)
        assert len(text.partition(".")[2]) >= places


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1K"),
        (12_345, "12.3K"),
        (999_499, "999K"),
        (999_500, "1M"),
        (1_234_567, "1.23M"),
        (120_000_000, "120M"),
        (2_000_000_000, "2B"),
    ],
)
def test_short_counts_keep_three_digits(count: int, text: str) -> None:
    assert format.short(count) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "unknown"),
        (0, "0 ms"),
        (999.4, "999 ms"),
        (999.6, "1.00 s"),
        (1240, "1.24 s"),
        (59_499, "59.5 s"),
        (59_996, "1 min 00 s"),
        (125_000, "2 min 05 s"),
        (3_600_000, "1 h 00 min"),
    ],
)
def test_durations_have_a_unit(ms: float | None, text: str) -> None:
    assert format.duration(ms).replace(format.NARROW, " ") == text


def test_shares_are_never_rounded_to_0_or_100() -> None:
    shares = [0, Decimal("0.0001"), Decimal("0.4237"), Decimal("0.99999"), 1]
    assert [format.percent(share) for share in shares] == [
        "0%",
        "<0.1%",
        "42.4%",
        ">99.9%",
        "100%",
    ]


def test_changes_have_a_sign() -> None:
    changes = ["12.34", "-12.34", "0.04", "250000"]
    shown = [format.delta(Decimal(change)) for change in changes]
    assert shown == ["+12.3%", "\N{MINUS SIGN}12.3%", "0.0%", "+250,000%"]


@pytest.mark.parametrize(
    ("amounts", "shown"),
    [
        (["0.0002", "0.0004"], ["$0.0002", "$0.0004"]),
        (["0.5", "1.0", "1.5"], ["$0.50", "$1.00", "$1.50"]),
        (["500", "1E+3", "1500"], ["$500", "$1K", "$1.5K"]),
        ([], []),
    ],
)
def test_ticks_have_one_format(amounts: list[str], shown: list[str]) -> None:
    assert format.ticks(map(Decimal, amounts)) == shown


def test_estimates_are_rounded() -> None:
    amounts = ["1234.56", "11.4", "4.21", "0.4237", "0.00042", "0"]
    shown = [format.estimate(Decimal(amount)) for amount in amounts]
    assert shown == ["$1,235", "$11", "$4.21", "$0.42", "$0.00042", "$0"]


def test_times_are_in_the_time_zone_of_the_reports() -> None:
    clock = format.Clock(zoneinfo.ZoneInfo("Europe/Berlin"))
    at = dt.datetime(2026, 11, 18, 23, 3, 22, 120_000, tzinfo=dt.UTC)
    assert clock.moment(at) == "2026-11-19 00:03:22"
    assert clock.precise(at) == "2026-11-19 00:03:22.120 CET"
    assert clock.date(at) == dt.date(2026, 11, 19)
    assert format.iso(at) == "2026-11-18T23:03:22.120Z"


def test_a_price_starts_on_a_utc_day() -> None:
    clock = format.Clock(zoneinfo.ZoneInfo("America/New_York"))
    assert clock.since(dt.datetime(2026, 1, 1, tzinfo=dt.UTC)) == "2026-01-01"


def test_date_ranges_show_each_year_once() -> None:
    first, last = dt.date(2025, 12, 30), dt.date(2026, 1, 2)
    assert format.span(first, last) == "30 Dec 2025 – 2 Jan 2026"
    assert format.span(last, last) == "Fri 2 Jan 2026"
    assert format.span(last, dt.date(2026, 2, 1)) == "2 Jan – 1 Feb 2026"
