"""Anthropic's cost and usage reports, and their analytics successors."""

from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost import BillError
from flask_llm_cost.bills import Document

from .samples import of_json
from .samples import only
from .samples import sample
from .samples import total


def bucket(*results: t.Any, day: int = 1) -> dict[str, t.Any]:
    return {
        "starting_at": f"2026-05-{day:02}T00:00:00Z",
        "ending_at": f"2026-05-{day + 1:02}T00:00:00Z",
        "results": list(results),
    }


def cost(amount: str, **more: t.Any) -> dict[str, t.Any]:
    return {
        "amount": amount,
        "currency": "USD",
        "cost_type": "tokens",
        "model": "claude-opus-4-6",
        "token_type": "output_tokens",
        "service_tier": "standard",
    } | more


def page(
    *buckets: t.Any, next_page: str | None = None, name: str = "p.json"
) -> Document:
    more = next_page is not None
    return of_json({"data": buckets, "has_more": more, "next_page": next_page}, name)


def test_amounts_are_cents() -> None:
    statement = only(sample("anthropic_cost_report_doc.json"))
    [line] = statement.lines
    assert line.billed_text == "1.2378912"
    assert (line.model, line.meter, line.region) == (
        "claude-sonnet-4-20250514",
        "input",
        None,
    )
    assert line.scope == {"workspace": "wrkspc_01JwQvzr7rXLA5AGx3HKfFUJ"}


def test_analytics_have_list_amounts_a_watermark_and_an_account() -> None:
    statement = only(
        sample("anthropic_analytics_cost_doc.json"),
        sample("anthropic_analytics_usage_doc.json"),
    )
    [line] = statement.lines
    assert (line.billed_text, line.listed_text) == ("41.235075", "45.81675")
    assert (line.meter, line.cache_ttl, line.mode, line.region) == (
        "cache_write_1h",
        "1h",
        "fast",
        "us",
    )
    assert statement.account == "org_x"
    assert statement.watermark == dt.datetime(2026, 10, 31, 8, tzinfo=dt.UTC)
    assert {each.meter: each.quantity for each in statement.usage} == {
        "input": 1284500,
        "cache_write_1h": 1000,
        "cache_write": 500,
        "cache_read": 3200000,
        "output": 891000,
        "web_search": 10,
    }


def test_usage_is_joined_across_what_only_it_distinguishes() -> None:
    used = {"model": "claude-opus-4-6", "service_tier": "standard", "output_tokens": 7}
    usage = [used | {"inference_geo": "us"}, used | {"inference_geo": "eu"}]
    usage.append(used | {"service_tier": "priority", "output_tokens": 99})
    batch = cost("5", service_tier="batch")
    costs = page(bucket(cost("100"), batch, cost("20")))
    statement = only(costs, page(bucket(*usage), name="u.json"))
    standard, other = statement.lines
    assert (standard.billed_text, standard.quantity) == ("1.2", 14)
    assert (other.mode, other.quantity) == ("batch", None)
    assert [(each.mode, each.quantity) for each in statement.usage] == [
        ("reserved", 99)
    ]


@pytest.mark.parametrize(
    ("fields", "kind", "meter"),
    [
        ({"cost_type": "web_search", "token_type": None}, "tool_fee", "web_search"),
        ({"cost_type": "code_execution", "token_type": None}, "tool_fee", None),
        ({"cost_type": "session_usage", "token_type": None}, "session_fee", None),
        ({"cost_type": "gold", "token_type": None}, "usage", None),
        ({"token_type": "thinking_tokens"}, "usage", None),
        (
            {"cost_type": None, "token_type": None, "model": None, "amount": "-250"},
            "credit",
            None,
        ),
    ],
)
def test_other_costs_are_named_by_their_type(
    fields: dict[str, t.Any], kind: str, meter: str | None
) -> None:
    statement = only(page(bucket(cost("100") | fields)))
    [line] = statement.lines
    assert (line.kind, line.meter) == (kind, meter)
    assert abs(line.billed or 0) in (1, Decimal("2.5"))


@pytest.mark.parametrize(
    ("fields", "mode", "tier"),
    [
        ({"service_tier": "batch"}, "batch", None),
        ({"service_tier": "flex_discount"}, "flex", None),
        ({"service_tier": "priority_on_demand"}, "priority", None),
        ({"service_tier": "priority"}, "reserved", None),
        ({"service_tier": "golden"}, None, "golden"),
        ({"speed": "fast"}, "fast", None),
        ({"context_window": "200k-1M"}, None, "long_context"),
    ],
)
def test_tiers_speed_and_context_are_told_apart(
    fields: dict[str, t.Any], mode: str | None, tier: str | None
) -> None:
    [line] = only(page(bucket(cost("100") | fields))).lines
    assert (line.mode, line.tier) == (mode, tier)


def test_a_bucket_may_continue_on_the_next_page() -> None:
    first = page(bucket(cost("1")), next_page="b")
    second = page(bucket(cost("2", model="claude-haiku-4-5")), name="2.json")
    assert total(only(second, first)) == Decimal("0.03")


REFUSED: t.Final = [
    ([page(bucket(cost("1")), next_page="b")], "next page is not among the files"),
    (
        [
            page(bucket(cost("1")), next_page="b"),
            page(bucket(cost("1")), name="2.json"),
        ],
        "is also in",
    ),
    (
        [
            of_json(
                {
                    "type": "error",
                    "error": {"type": "gone", "message": "410: the cursor expired"},
                }
            )
        ],
        "request the first page again",
    ),
    ([page(bucket(cost("1", rbac_group_id="g")))], "Such groups overlap"),
    (
        [page(bucket(cost("1") | {"amount": {"value": "5"}}))],
        "amount is {.*not a number",
    ),
    ([page(bucket({"currency": "USD"}))], "neither an amount nor tokens"),
    (
        [
            page(bucket(cost("1"))),
            page(bucket(cost("1", currency="EUR"), day=2), name="2"),
        ],
        "amounts are in EUR and USD",
    ),
]


@pytest.mark.parametrize(("documents", "problem"), REFUSED)
def test_what_is_not_a_whole_bill_is_refused(
    documents: list[Document], problem: str
) -> None:
    with pytest.raises(BillError, match=problem):
        only(*documents)


def test_no_data_yet_covers_nothing() -> None:
    fields = {"data": [bucket()], "has_more": False, "data_refreshed_at": None}
    statement = only(of_json(fields))
    assert statement.watermark == statement.start


def test_cents_read_as_dollars_are_found_out() -> None:
    used = {
        "model": "claude-opus-4-6",
        "service_tier": "standard",
        "output_tokens": 1_000_000,
    }
    usage = page(bucket(used), name="u.json")
    assert total(only(page(bucket(cost("2500"))), usage)) == 25
    with pytest.raises(BillError, match=r"0.01 times the list price"):
        only(page(bucket(cost("25"))), usage)
