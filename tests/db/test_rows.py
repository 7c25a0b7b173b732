from __future__ import annotations

import datetime as dt
import json
import types
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.db import rows
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.money import to_pico
from tests.ledger.samples import calls
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON
from tests.query.samples import cost_of

GROUPS = (
    "cost_input",
    "cost_cache_read",
    "cost_cache_write",
    "cost_output",
    "cost_units",
)


@given(calls())
def test_a_call_survives_its_row(call: Call) -> None:
    row = types.SimpleNamespace(**rows.row_of(call))
    back = rows.call_of(row, call.tags)
    if rows.TRUNCATED not in back.flags:
        assert back == call


@given(calls())
def test_the_groups_of_a_cost_add_up(call: Call) -> None:
    row = rows.row_of(call)
    if call.cost is None:
        assert row["cost_total"] is None
    else:
        assert row["cost_total"] == to_pico(call.cost.total_usd)
        assert sum(row[name] for name in GROUPS) == row["cost_total"]


@given(calls())
def test_only_an_incomplete_cost_has_a_ceiling_of_its_own(call: Call) -> None:
    row, cost = rows.row_of(call), call.cost
    if cost is None or cost.complete or cost.ceiling_usd is None:
        assert row["cost_ceiling"] is None
    else:
        assert row["cost_ceiling"] == to_pico(cost.ceiling_usd)


@pytest.mark.parametrize("ceiling", ["0.99", "1.0000000000001", "1e9"])
def test_an_impossible_ceiling_is_rejected(ceiling: str) -> None:
    cost = replace(cost_of("1", complete=False), ceiling_usd=Decimal(ceiling))
    with pytest.raises(ValueError, match="USD|ceiling_usd: 0.99 is less than"):
        rows.row_of(make_call(cost=cost))


@given(calls())
def test_totals_of_counts_are_those_of_the_usage(call: Call) -> None:
    row, usage = rows.row_of(call), call.usage
    if usage is None:
        assert row["total_input_tokens"] is row["total_output_tokens"] is None
    else:
        assert row["total_input_tokens"] == usage.total_input_tokens
        assert row["total_output_tokens"] == usage.total_output_tokens
        assert row["other_tokens"] == sum(usage.other_tokens.values())


def test_equal_moments_in_two_zones_keep_their_texts() -> None:
    def since(moment: dt.datetime) -> str:
        cost = Cost(Decimal(0), {}, "file", price_key="a/b", valid_from=moment)
        text: str = json.loads(rows.row_of(make_call(cost=cost))["details"])[
            "valid_from"
        ]
        return text

    there = dt.timezone(dt.timedelta(hours=2))
    at = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
    for moment in (at, at.astimezone(there), at, at + dt.timedelta(days=1)):
        assert since(moment) == moment.isoformat()


@pytest.mark.parametrize(
    ("meter", "group"),
    [
        ("input_audio", "cost_input"),
        ("cache_read_audio", "cost_cache_read"),
        ("cache_write_12h", "cost_cache_write"),
        ("reasoning", "cost_output"),
        ("output_image", "cost_output"),
        ("web_search", "cost_units"),
        ("reported", "cost_units"),
    ],
)
def test_a_meter_counts_in_its_group(meter: str, group: str) -> None:
    assert rows.cost_group(meter) == group


def test_details_contain_the_rest() -> None:
    part = Part(Decimal(3), Decimal("0.5"), Decimal("0.0000015"))
    row = rows.row_of(
        make_call(
            usage=Usage(
                other_tokens={"input_video": 3}, units={"page": Decimal("1.5")}
            ),
            cost=Cost(part.amount_usd, {"input_video": part}, "file", price_key="a/b"),
            reported_cost=Decimal("0.10"),
        )
    )
    assert json.loads(row["details"]) == {
        "other_tokens": {"input_video": 3},
        "units": {"page": "1.5"},
        "parts": {"input_video": ["3", "0.5", 1500000]},
        "price_key": "a/b",
        "reported_cost": "0.10",
    }


def test_a_call_without_usage_and_cost_has_neither_nor_details() -> None:
    row = rows.row_of(make_call(usage=None, cost=None))
    assert row["input_tokens"] is row["cost_total"] is row["details"] is None


@pytest.mark.parametrize("model", ["m" * 300, "a\0b", "a\ud800"])
def test_text_that_does_not_fit_is_cut_and_flagged(model: str) -> None:
    row = rows.row_of(make_call(model=model))
    assert row["flags"] == "truncated_text"
    assert len(row["model"]) <= 255
    row["model"].encode()


def test_flags_are_never_cut() -> None:
    many = frozenset(f"flag_number_{n}" for n in range(40))
    kept = rows.row_of(make_call(flags=many))["flags"]
    assert len(kept) <= 255
    assert set(kept.split()) <= many | {"truncated_text"}
    assert "truncated_text" in kept.split()


@pytest.mark.parametrize("usd", ["9223372.036854775808", "0.0000000000001"])
def test_an_amount_that_the_ledger_cannot_store_is_rejected(usd: str) -> None:
    part = Part(Decimal(1), Decimal(1), Decimal(usd))
    with pytest.raises(ValueError, match="pico|exceeds what the ledger"):
        rows.row_of(make_call(cost=Cost(Decimal(usd), {"output": part}, "file")))


def test_a_total_that_is_not_the_sum_of_its_parts_is_rejected() -> None:
    with pytest.raises(
        ValueError, match=r"not the sum of its parts \(1.0* USD apart\)"
    ):
        rows.row_of(make_call(cost=Cost(Decimal(1), {}, "file")))


def test_an_id_from_another_time_is_rejected() -> None:
    with pytest.raises(ValueError, match="does not contain the time of started_at"):
        rows.row_of(make_call(1, event_id=mint_event_id(NOON)))


@given(st.dictionaries(st.text("ab", min_size=1), st.text("xyz"), min_size=1))
def test_a_tag_set_does_not_depend_on_order(tags: dict[str, str]) -> None:
    one = rows.tag_set_of(tags)
    assert one == rows.tag_set_of(dict(reversed(tags.items())))
    assert one is not None
    assert 0 <= one.id < 2**63
    assert json.loads(one.text) == tags


def test_without_tags_there_is_no_tag_set() -> None:
    assert rows.tag_set_of({}) is None


def test_a_long_tag_is_cut_at_a_character() -> None:
    tag_set = rows.tag_set_of({"city": "é" * 600})
    assert tag_set is not None
    assert tag_set.tags["city"] == "é" * 512
