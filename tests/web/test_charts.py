from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.web import charts

AMOUNTS = st.decimals(0, 10**6, places=9)


def points(amounts: list[Decimal]) -> list[charts.Point]:
    return [charts.Point(f"{i}", f"day {i}", "", a) for i, a in enumerate(amounts)]


@given(st.lists(AMOUNTS, max_size=100))
def test_bars_stay_inside_the_chart(amounts: list[Decimal]) -> None:
    chart = charts.bar_chart(points(amounts))
    for bar in chart.bars:
        assert 0 <= bar.x <= bar.x + bar.width <= 100.001
        assert chart.top - 0.01 <= bar.y <= chart.floor
        assert abs(bar.y + bar.height - chart.floor) < 0.02


@given(st.lists(AMOUNTS, min_size=1, max_size=30))
def test_any_spend_is_visible(amounts: list[Decimal]) -> None:
    for bar in charts.bar_chart(points(amounts)).bars:
        assert (bar.height > 1) == (bar.point.amount > 0)


@given(AMOUNTS.filter(bool))
def test_a_few_round_ticks_cover_the_largest_amount(largest: Decimal) -> None:
    ticks = charts.bar_chart(points([largest])).ticks
    assert 1 <= len(ticks) <= 4
    assert ticks[-1].amount >= largest
    assert all(len(tick.amount.normalize().as_tuple().digits) <= 3 for tick in ticks)


def test_no_spend_has_no_ticks() -> None:
    assert charts.bar_chart(points([Decimal(0)] * 3)).ticks == ()
    assert charts.bar_chart([]).bars == ()


@given(st.lists(st.integers(0, 10**9), max_size=9))
def test_a_mix_fills_its_bar_and_shows_every_part(sizes: list[int]) -> None:
    parts = charts.mix((f"p{i}", size) for i, size in enumerate(sizes))
    assert len(parts) == sum(1 for size in sizes if size)
    if parts:
        assert abs(parts[-1].x + parts[-1].width - 100) < 0.01
        assert all(part.width > 0.4 for part in parts)


def test_a_share_is_a_width() -> None:
    assert charts.share(1, 4) == 25
    assert charts.share(1, 10**9) == 0.5
    assert charts.share(0, 4) == charts.share(None, 4) == charts.share(4, 0) == 0


@given(st.lists(AMOUNTS, max_size=200))
def test_a_sparkline_stays_inside_its_box(amounts: list[Decimal]) -> None:
    line = charts.spark(amounts)
    assert bool(line) == (len(amounts) > 1 and any(amounts))
    for point in line.split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= 96
        assert 0 <= y <= 24
