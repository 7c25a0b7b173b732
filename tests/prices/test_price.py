from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost import Cost
from flask_llm_cost import Usage
from flask_llm_cost.completeness import INCOMPLETE
from flask_llm_cost.money import divide
from flask_llm_cost.money import round_pico
from flask_llm_cost.prices.book import PriceBook
from flask_llm_cost.prices.layers import make_layer
from flask_llm_cost.prices.meters import Malformed
from flask_llm_cost.prices.meters import MODES
from flask_llm_cost.prices.meters import parse_key
from flask_llm_cost.prices.meters import parse_rate
from flask_llm_cost.prices.meters import RateKey
from flask_llm_cost.prices.price import DailyWindow

PICO = Decimal("1e-12")


def book_of(entry: t.Any, key: str = "openai/m") -> PriceBook:
    return PriceBook([make_layer("override", {key: entry}, "test")])


def price(entry: t.Any, usage: Usage, **options: t.Any) -> Cost:
    cost = book_of(entry).cost("openai", "m", usage, **options)
    assert cost is not None
    return cost


@pytest.mark.parametrize(
    ("key", "meaning"),
    [
        ("input", RateKey(None, "input", 0)),
        ("batch_output", RateKey("batch", "output", 0)),
        ("input_above_200k", RateKey(None, "input", 200_000)),
        ("priority_input_above_272k", RateKey("priority", "input", 272_000)),
        ("cached_input", RateKey(None, "cache_read", 0)),
        ("batch_cache_creation_input", RateKey("batch", "cache_write", 0)),
        ("fast_input_audio", RateKey("fast", "input_audio", 0)),
        ("off_peak_cache_write_1h", RateKey("off_peak", "cache_write_1h", 0)),
        ("cache_write_12h_above_272k", RateKey(None, "cache_write_12h", 272_000)),
        ("web_search", RateKey(None, "web_search", 0)),
    ],
)
def test_a_rate_key_has_a_mode_a_meter_and_a_tier(key: str, meaning: RateKey) -> None:
    assert parse_key(key) == meaning


@pytest.mark.parametrize(
    "key",
    ["", "imput", "input_above_", "input_above_0k", "turbo_input", "batch", "batch_"],
)
def test_anything_else_is_not_a_rate_key(key: str) -> None:
    assert parse_key(key) is None


def test_every_key_reads_back_as_it_is_written() -> None:
    for mode in (None, *MODES):
        key = RateKey(mode, "cache_write_1h", 200_000)
        assert parse_key(str(key)) == key


@pytest.mark.parametrize(
    "value", [-1, "-0.1", "NaN", "inf", "two", None, True, [], "1e30", "1e-30"]
)
def test_an_invalid_rate_is_rejected_by_name(value: object) -> None:
    with pytest.raises(Malformed, match=r"m: input must .* not"):
        parse_rate(value, "m: input")


def test_a_float_in_a_python_config_counts_as_it_prints() -> None:
    assert parse_rate(0.1, "input") == Decimal("0.1")


def test_parts_are_exact_and_add_up() -> None:
    usage = Usage(input_tokens=1000, cache_read_tokens=200, output_tokens=500)
    cost = price({"input": 2.5, "cache_read": "1.25", "output": 10}, usage)
    assert cost.total_usd == Decimal("0.00775")
    assert cost.parts["cache_read"].amount_usd == Decimal("0.00025")
    assert cost.complete
    assert cost.flags == frozenset()


def test_one_token_at_half_a_cent_is_not_rounded_away() -> None:
    cost = price({"input": "0.005"}, Usage(input_tokens=1))
    assert cost.total_usd == Decimal("0.000000005")


def test_a_rate_with_more_decimals_rounds_once_half_to_even() -> None:
    # 0.0000005 USD per 1M is half a pico-dollar a token.
    half = {"input": "0.0000005", "output": "0.0000005"}
    assert price(half, Usage(input_tokens=1)).total_usd == 0
    assert price(half, Usage(input_tokens=3)).total_usd == 2 * PICO
    assert price(half, Usage(input_tokens=2_000_000)).total_usd == Decimal("1e-6")


def test_the_tier_is_strictly_above_and_for_the_whole_request() -> None:
    entry = {"input": 1, "input_above_200k": 2, "output": 10, "output_above_200k": 15}
    at = price(entry, Usage(input_tokens=150_000, cache_read_tokens=50_000))
    assert (at.tier, at.total_usd) == (None, Decimal("0.2"))
    above = price(entry, Usage(input_tokens=200_001, output_tokens=1_000_000))
    assert above.tier == "above_200k"
    assert above.total_usd == Decimal("15.400002")


def test_cached_input_counts_for_the_tier() -> None:
    entry = {"input": 1, "input_above_200k": 2, "cache_read": "0.1"}
    cost = price(entry, Usage(input_tokens=1, cache_read_tokens=200_000))
    assert cost.parts["input"].rate == 2


def test_the_highest_of_several_tiers_wins() -> None:
    entry = {"input": 1, "input_above_32k": 2, "input_above_128k": 3}
    assert price(entry, Usage(input_tokens=128_001)).parts["input"].rate == 3
    assert price(entry, Usage(input_tokens=128_000)).parts["input"].rate == 2


def test_a_mode_has_its_own_rates_and_flags_missing_ones() -> None:
    entry = {"input": 1, "output": 2, "batch_input": "0.5"}
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    cost = price(entry, usage, mode="batch")
    assert cost.total_usd == Decimal("2.5")
    assert cost.mode == "batch"
    assert cost.flags == {"mode_fallback"}


def test_a_modes_own_rate_for_a_tier_takes_precedence() -> None:
    entry = {"input": 1, "input_above_200k": 2, "batch_input_above_200k": 1}
    cost = price(entry, Usage(input_tokens=300_000), mode=" Batch ")
    assert cost.parts["input"].rate == 1


@pytest.mark.parametrize(
    ("more", "usd", "flag"),
    [
        # Half the price stays half the price above the threshold.
        ({"input": 2, "input_above_200k": 3, "batch_input": 1}, "0.45", "derived"),
        ({"input": 2, "input_above_200k": 3}, "0.9", "mode_fallback"),
        ({"input_above_200k": 3, "batch_input": 1}, "0.9", "mode_fallback"),
        ({"input": 0, "input_above_200k": 3, "batch_input": 1}, "0.9", "mode_fallback"),
        ({"input": 2, "batch_input": 1}, "0.3", None),
        ({"input": 2, "batch_input": 1, "batch_input_above_200k": 2}, "0.6", None),
        # Of three tiers, the mode has rates for the lower two.
        (
            {"input": 2, "input_above_32k": 4, "input_above_200k": 6}
            | {"batch_input": 1, "batch_input_above_32k": 3},
            "1.35",
            "derived",
        ),
    ],
)
def test_a_modes_rate_of_a_lower_tier_is_raised_like_the_standard_one(
    more: dict[str, t.Any], usd: str, flag: str | None
) -> None:
    cost = price(more, Usage(input_tokens=300_000), mode="batch")
    assert cost.total_usd == Decimal(usd)
    assert cost.flags == ({flag} if flag else set())
    assert cost.complete is (flag != "mode_fallback")


def test_below_the_threshold_a_modes_own_rate_is_not_a_fallback() -> None:
    entry = {"input": 2, "input_above_200k": 3, "batch_input": 1}
    cost = price(entry, Usage(input_tokens=200_000), mode="batch")
    assert (cost.total_usd, cost.flags) == (Decimal("0.2"), set())


def test_a_ratio_that_does_not_terminate_can_be_recomputed() -> None:
    entry = {"input": 3, "input_above_200k": 5, "batch_input": 1}
    cost = price(entry, Usage(input_tokens=300_000), mode="batch")
    part = cost.parts["input"]
    assert part.amount_usd == cost.total_usd == Decimal("0.5")
    assert len(part.rate.as_tuple().digits) == 28


def test_claudes_write_in_a_batchs_tier_follows_the_raised_input() -> None:
    entry = {"input": 4, "input_above_200k": 8, "cache_write": 5, "batch_input": 2}
    cost = claude(entry, Usage(cache_write_tokens=1_000_000), "batch")
    assert (cost.total_usd, cost.flags) == (5, {"derived"})


def test_an_unknown_mode_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of batch, flex.*not 'bulk'"):
        price({"input": 1}, Usage(input_tokens=1), mode="bulk")


def test_a_missing_hour_write_is_twice_the_input_for_claude() -> None:
    book = book_of({"input": 3, "output": 15}, "anthropic/claude-x")
    cost = book.cost("anthropic", "claude-x", Usage(cache_write_1h_tokens=1_000_000))
    assert cost is not None
    assert cost.total_usd == 6
    assert cost.flags == {"derived"}


def test_a_missing_write_is_a_quarter_more_than_input_for_claude() -> None:
    book = book_of({"input": 4}, "bedrock/us.anthropic.claude-x")
    usage = Usage(cache_write_tokens=1_000_000)
    cost = book.cost("bedrock", "us.anthropic.claude-x", usage)
    assert cost is not None
    assert (cost.total_usd, cost.flags) == (5, {"derived"})


@pytest.mark.parametrize(("mode", "usd"), [(None, "0.4"), ("batch", "0.2")])
def test_a_missing_read_is_a_tenth_of_the_input_for_claude(
    mode: str | None, usd: str
) -> None:
    # https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching#pricing
    entry = {"input": 4, "batch_input": 2}
    cost = claude(entry, Usage(cache_read_tokens=1_000_000), mode)
    assert (cost.total_usd, cost.flags) == (Decimal(usd), {"derived"})


def claude(entry: t.Any, usage: Usage, mode: str | None = None) -> Cost:
    book = book_of(entry, "anthropic/claude-x")
    cost = book.cost("anthropic", "claude-x", usage, mode=mode)
    assert cost is not None
    return cost


@pytest.mark.parametrize(
    ("more", "usd", "flag"),
    [
        ({"batch_cache_write_1h": 4}, "4", None),
        ({"batch_input": "1.5"}, "3", "derived"),
        ({"batch_input": "1.5", "cache_write_1h": 6}, "3", "derived"),
        ({"batch_output": 7, "cache_write_1h": 6}, "6", "mode_fallback"),
        ({"batch_output": 7}, "6", "derived"),
    ],
)
def test_claudes_hour_write_in_a_batch_follows_the_batchs_input(
    more: dict[str, t.Any], usd: str, flag: str | None
) -> None:
    usage = Usage(cache_write_1h_tokens=1_000_000)
    cost = claude({"input": 3, "output": 15, **more}, usage, "batch")
    assert cost.total_usd == Decimal(usd)
    assert cost.flags == ({flag} if flag else set())


@pytest.mark.parametrize(
    ("more", "usd", "flag"),
    [
        ({}, "6", None),
        ({"input_above_200k": 5}, "10", "derived"),
        ({"input_above_200k": 5, "cache_write_1h_above_200k": 9}, "9", None),
        ({"batch_input_above_200k": 2}, "6", None),
    ],
)
def test_claudes_hour_write_in_a_tier_follows_the_tiers_input(
    more: dict[str, t.Any], usd: str, flag: str | None
) -> None:
    entry = {"input": 3, "cache_write_1h": 6, **more}
    cost = claude(entry, Usage(cache_write_1h_tokens=1_000_000))
    assert cost.total_usd == Decimal(usd)
    assert cost.flags == ({flag} if flag else set())


def test_claudes_write_in_a_batchs_tier_follows_the_batchs_input_there() -> None:
    entry = {"input": 4, "cache_write": 5, "cache_write_above_200k": 10}
    entry |= {"batch_input": 2, "batch_input_above_200k": 4, "batch_cache_write": 2}
    cost = claude(entry, Usage(cache_write_tokens=1_000_000), "batch")
    assert (cost.total_usd, cost.flags) == (5, {"derived"})


def test_other_caches_have_no_known_ratio_and_keep_the_standard_rate() -> None:
    entry = {"input": 4, "cache_read": 1, "cache_write_1h": 3, "batch_input": 2}
    usage = Usage(cache_read_tokens=1_000_000, cache_write_1h_tokens=1_000_000)
    cost = price(entry, usage, mode="batch")
    assert (cost.total_usd, cost.flags) == (4, {"mode_fallback"})


def test_cached_input_without_a_rate_costs_as_input_and_is_flagged() -> None:
    cost = price({"input": 2}, Usage(cache_read_tokens=500_000))
    assert (cost.total_usd, cost.flags) == (1, {"cache_fallback"})


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_audio_tokens=1_000_000),
        Usage(input_image_tokens=1_000_000),
        Usage(other_tokens={"input_video": 1_000_000}),
        Usage(other_tokens={"input_hologram": 1_000_000}),
    ],
)
def test_a_modality_without_a_rate_costs_as_text_and_is_flagged(usage: Usage) -> None:
    cost = price({"input": 2, "output": 8}, usage)
    assert (cost.total_usd, cost.flags) == (2, {"modality_fallback"})


def test_a_modality_with_a_rate_uses_it() -> None:
    cost = price(
        {"output": 10, "output_audio": 80}, Usage(output_audio_tokens=1_000_000)
    )
    assert (cost.total_usd, cost.flags) == (80, frozenset())


def test_reasoning_with_a_rate_of_its_own_is_a_part_of_the_output() -> None:
    usage = Usage(output_tokens=1_000_000, reasoning_tokens=400_000)
    cost = price({"output": 1, "reasoning": 3}, usage)
    assert cost.total_usd == Decimal("1.8")
    assert cost.parts["output"].quantity == 600_000


def test_a_standard_reasoning_rate_does_not_apply_to_a_mode() -> None:
    usage = Usage(output_tokens=1_000_000, reasoning_tokens=1_000_000)
    entry = {"output": 4, "reasoning": 4, "flex_output": 2}
    assert price(entry, usage, mode="flex").total_usd == 2


def test_reasoning_without_a_rate_is_not_billed_twice() -> None:
    usage = Usage(output_tokens=1_000_000, reasoning_tokens=400_000)
    assert price({"output": 1}, usage).total_usd == 1


def test_units_cost_their_rate_each() -> None:
    units = {"web_search": Decimal(3), "audio_second": Decimal("1.5")}
    cost = price({"web_search": "0.01", "audio_second": "0.0001"}, Usage(units=units))
    assert cost.total_usd == Decimal("0.03015")


def test_a_request_fee_is_charged_once() -> None:
    assert price({"request": "0.005"}, Usage()).total_usd == Decimal("0.005")
    twice = Usage(units={"request": Decimal(2)})
    assert price({"request": "0.005"}, twice).total_usd == Decimal("0.01")


def test_custom_units_are_priced() -> None:
    usage = Usage(units={"robot_hour": Decimal(2)})
    assert price({"units": {"robot_hour": "1.5"}}, usage).total_usd == 3


def test_a_used_meter_without_a_rate_makes_the_cost_a_floor() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=1, units={"page": Decimal(1)})
    cost = price({"input": 1}, usage)
    assert not cost.complete
    assert cost.total_usd == 1
    assert set(cost.parts) == {"input"}


def test_without_any_rate_there_is_no_cost() -> None:
    assert book_of({"input": 1}).cost("openai", "m", Usage(output_tokens=1)) is None


def test_a_free_model_has_an_explicit_zero() -> None:
    cost = price({"input": 0, "output": 0}, Usage(input_tokens=5, output_tokens=5))
    assert (cost.total_usd, cost.complete) == (0, True)


def test_a_region_multiplies_every_rate() -> None:
    book = book_of({"input": 10, "multipliers": {"region.us": "1.1"}})
    usage = Usage(input_tokens=1_000_000)
    here = book.quote("openai", "m", usage, flags={"region.us"}).cost
    there = book.quote("openai", "m", usage).cost
    assert here is not None
    assert there is not None
    assert (here.total_usd, there.total_usd) == (11, 10)


@pytest.mark.parametrize(
    ("at", "rate"),
    [
        ("2026-11-20T16:29:00+00:00", 2),
        ("2026-11-20T16:30:00+00:00", 1),
        ("2026-11-21T00:29:59+00:00", 1),
        ("2026-11-21T00:30:00+00:00", 2),
        ("2026-11-20T08:29:00-08:00", 2),
        ("2026-11-20T08:30:00-08:00", 1),
        ("2026-11-20T17:00:00", 1),
    ],
)
def test_a_window_applies_at_its_hours(at: str, rate: int) -> None:
    entry = {"input": 2, "windows": [{"hours": "16:30-00:30", "input": 1}]}
    cost = price(entry, Usage(input_tokens=1), at=dt.datetime.fromisoformat(at))
    assert cost.parts["input"].rate == rate


def test_a_window_may_apply_on_some_days() -> None:
    window = {"hours": ["00:00-24:00"], "weekdays": [6, 7], "input": 1}
    entry = {"input": 2, "windows": [window]}
    sunday = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
    assert price(entry, Usage(input_tokens=1), at=sunday).parts["input"].rate == 1
    monday = sunday + dt.timedelta(days=1)
    assert price(entry, Usage(input_tokens=1), at=monday).parts["input"].rate == 2


@pytest.mark.parametrize(
    ("at", "rate"),
    [
        # 15:00 on the last day of the calendar, and 23:30 on the day before the first.
        ("9999-12-31T23:00:00+08:00", 2),
        ("9999-12-31T23:00:00-01:00", 1),
        ("0001-01-01T00:30:00+01:00", 1),
        ("0001-01-01T00:30:00-01:00", 2),
    ],
)
def test_a_window_works_at_the_ends_of_the_calendar(at: str, rate: int) -> None:
    window = {"hours": "16:30-00:30", "weekdays": [6, 7], "input": 1}
    entry = {"input": 2, "windows": [window]}
    cost = price(entry, Usage(input_tokens=1), at=dt.datetime.fromisoformat(at))
    assert cost.parts["input"].rate == rate


@given(
    at=st.datetimes(
        dt.datetime(2, 1, 1),  # noqa: DTZ001 - the zone is drawn, too
        dt.datetime(9998, 12, 31),  # noqa: DTZ001
        timezones=st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(
            dt.timezone
        ),
    )
)
def test_a_window_is_in_utc_for_any_zone(at: dt.datetime) -> None:
    spans = ((30, 600), (1000, 10))
    there = at.astimezone(dt.UTC)
    for day in range(1, 8):
        window = DailyWindow(spans, frozenset((day,)), {})
        minute = there.hour * 60 + there.minute
        within = 30 <= minute < 600 or minute >= 1000 or minute < 10
        assert window.contains(at) == (within and there.isoweekday() == day)


# Laws

rates = st.decimals(min_value=0, max_value=1000, places=6)
fine_rates = st.decimals(min_value=0, max_value=1000, places=11)
counts = st.integers(min_value=0, max_value=10**9)
METERS = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "output": "output_tokens",
    "input_audio": "input_audio_tokens",
    "output_audio": "output_audio_tokens",
    "input_image": "input_image_tokens",
    "output_image": "output_image_tokens",
}
usages = st.builds(
    Usage,
    **dict.fromkeys(METERS.values(), counts),
    reasoning_tokens=counts,
    other_tokens=st.dictionaries(
        st.sampled_from(["input_video", "cache_write_12h", "output_video"]), counts
    ),
    units=st.dictionaries(
        st.sampled_from(["web_search", "page", "audio_second"]),
        st.decimals(min_value=0, max_value=10**6, places=3),
    ),
)
keys = st.sampled_from([*METERS, "reasoning", "input_video", "web_search", "page"])
entries = st.dictionaries(keys, fine_rates)


@given(entries, usages)
def test_the_total_is_the_sum_of_the_parts(
    entry: dict[str, Decimal], usage: Usage
) -> None:
    cost = book_of(entry).cost("openai", "m", usage)
    if cost is not None:
        assert cost.total_usd == sum(part.amount_usd for part in cost.parts.values())


@given(entries, usages)
def test_a_part_is_quantity_times_rate_to_half_a_pico(
    entry: dict[str, Decimal], usage: Usage
) -> None:
    cost = book_of(entry).cost("openai", "m", usage)
    for meter, part in {} if cost is None else cost.parts.items():
        per = 1 if meter in usage.units else 10**6
        off = abs(part.amount_usd * per - part.quantity * part.rate)
        assert off <= PICO * per / 2


@given(entries, usages)
def test_a_missing_rate_never_counts_as_zero(
    entry: dict[str, Decimal], usage: Usage
) -> None:
    cost = book_of(entry).cost("openai", "m", usage)
    used = {name for name, field in METERS.items() if getattr(usage, field)}
    used |= {name for name, n in (usage.other_tokens | usage.units).items() if n}
    if cost is None:
        assert used or not entry
    elif cost.complete:
        assert used - set(cost.parts) <= {"output"}
    else:
        assert used - set(cost.parts) or cost.flags & set(INCOMPLETE)


def add(one: Usage, other: Usage) -> Usage:
    return Usage(
        **{f: getattr(one, f) + getattr(other, f) for f in METERS.values()},
        units={
            name: one.units.get(name, Decimal(0)) + other.units.get(name, Decimal(0))
            for name in {*one.units, *other.units}
        },
    )


everything = st.fixed_dictionaries(
    {**dict.fromkeys(METERS, fine_rates), "web_search": rates, "page": rates}
)
plain_usages = st.builds(
    Usage,
    **dict.fromkeys(METERS.values(), counts),
    units=st.dictionaries(
        st.sampled_from(["web_search", "page"]),
        st.decimals(min_value=0, max_value=10**6, places=3),
    ),
)


@given(everything, plain_usages, plain_usages)
def test_costs_are_additive_to_a_pico_a_part(
    entry: dict[str, Decimal], one: Usage, other: Usage
) -> None:
    apart = price(entry, one).total_usd + price(entry, other).total_usd
    together = price(entry, add(one, other))
    assert abs(together.total_usd - apart) <= PICO * max(1, len(together.parts))


@given(everything, plain_usages, st.sampled_from(sorted(METERS.values())), counts)
def test_more_use_never_costs_less(
    entry: dict[str, Decimal], usage: Usage, field: str, more: int
) -> None:
    grown = dataclasses.replace(usage, **{field: getattr(usage, field) + more})
    assert price(entry, grown).total_usd >= price(entry, usage).total_usd


@given(st.integers(0, 10**30), st.integers(1, 10**15))
def test_division_is_half_to_even(top: int, bottom: int) -> None:
    quotient = divide(top, bottom)
    off = abs(quotient * bottom - top) * 2
    assert off < bottom or (off == bottom and quotient % 2 == 0)


@given(st.decimals(min_value=0, max_value=10**9, places=14))
def test_usd_rounds_to_the_nearest_pico(usd: Decimal) -> None:
    assert abs(round_pico(usd) * PICO - usd) <= PICO / 2


def walk(value: t.Any) -> t.Iterator[object]:
    yield value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from walk(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk(key)
            yield from walk(item)
    elif isinstance(value, (tuple, list, frozenset)):
        for item in value:
            yield from walk(item)


@given(entries, usages)
def test_there_is_no_float_in_a_cost(entry: dict[str, Decimal], usage: Usage) -> None:
    cost = book_of(entry).cost("openai", "m", usage)
    assert not [each for each in walk(cost) if isinstance(each, float)]


def test_parts_are_an_ordinary_mapping() -> None:
    cost = price({"input": 1}, Usage(input_tokens=1))
    assert cost.parts == dict(cost.parts)
    assert "output" not in cost.parts
    assert len(cost.parts) == 1
    assert repr(cost.parts).startswith("{'input': Part(")
