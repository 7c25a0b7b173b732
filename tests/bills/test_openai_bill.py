"""OpenAI's costs and usage pages."""

from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost import BillError
from flask_llm_cost.bills import Document
from flask_llm_cost.bills.openai_items import parse_item

from .samples import of_json
from .samples import only
from .samples import sample
from .samples import total

DAY = 86_400
START = 1_777_593_600  # 2026-05-01


def bucket(day: int = 0, *results: t.Any) -> dict[str, t.Any]:
    start = START + day * DAY
    return {
        "object": "bucket",
        "start_time": start,
        "end_time": start + DAY,
        "results": list(results),
    }


def cost(
    value: t.Any, line_item: str | None = "gpt-4o, input", **more: t.Any
) -> dict[str, t.Any]:
    return {
        "object": "organization.costs.result",
        "amount": {"value": value, "currency": "usd"},
        "line_item": line_item,
    } | more


def page(
    *buckets: t.Any,
    next_page: str | None = None,
    name: str = "page.json",
    **more: t.Any,
) -> Document:
    fields = {"object": "page", "data": list(buckets), "next_page": next_page}
    return of_json(fields | {"has_more": next_page is not None} | more, name)


# Read 2026-11-29: real strings, and which meter each is
ITEMS: t.Final = [
    ("gpt-5.5-2026-04-23, input", "usage", "gpt-5.5-2026-04-23", "input", None, None),
    ("gpt-5.5-2026-04-23, cached input", "usage", "gpt-5.5-2026-04-23", "cache_read")
    + (None, None),
    ("gpt-4.1-2025-04-14, output", "usage", "gpt-4.1-2025-04-14", "output", None, None),
    ("web search tool calls", "tool_fee", None, "web_search", None, None),
    ("web search tool call", "tool_fee", None, "web_search", None, None),
    ("priority | gpt-5.6-sol, output, long context", "usage", "gpt-5.6-sol", "output")
    + ("priority", "long_context"),
    ("gpt-5.6-sol, cache writes", "usage", "gpt-5.6-sol", "cache_write", None, None),
    ("gpt-image-2.5-flare image, output", "usage", "gpt-image-2.5-flare")
    + ("output_image", None, None),
    ("gpt-image-2.5-sunburst text, cached input", "usage", "gpt-image-2.5-sunburst")
    + ("cache_read", None, None),
    ("Vector storage", "storage", None, None, None, None),
    ("gpt-6-astra, input_tokens", "usage", "gpt-6-astra", "input", None, None),
    ("gpt-audio-mini-2025-12-15 audio, input", "usage", "gpt-audio-mini-2025-12-15")
    + ("input_audio", None, None),
    (
        "ft-gpt-4o-2024-08-06, input",
        "usage",
        "ft:gpt-4o-2024-08-06",
        "input",
        None,
        None,
    ),
    ("assistants api | file search", "tool_fee", None, None, None, None),
    # Nothing says what this is: it keeps its name and amount.
    ("Promotional credit", "usage", None, None, None, None),
    ("gpt-4o, gold plating", "usage", None, None, None, None),
]


@pytest.mark.parametrize(("name", "kind", "model", "meter", "mode", "tier"), ITEMS)
def test_a_line_item_says_model_meter_mode_and_tier(
    name: str,
    kind: str,
    model: str | None,
    meter: str | None,
    mode: str | None,
    tier: str | None,
) -> None:
    assert parse_item(name) == (kind, model, meter, mode, tier)


def test_the_real_bill_ties_and_three_days_contradict_their_usage() -> None:
    statement = only(sample("openai_costs.json"), sample("openai_usage.json"))
    assert total(statement) == Decimal("2.98595375")
    by_day = {line.start.day: line.billed_text for line in statement.lines}
    assert by_day == {
        5: "0.895874",
        6: "0.56177125",
        7: "0.569788",
        8: "0.5455665",
        10: "0.3409",
        11: "0.072054",
    }
    assert [day.day for day in sorted(statement.not_comparable)] == [5, 6, 8]
    assert "$0.24726 at list price" in statement.not_comparable[dt.date(2025, 10, 5)]
    assert [day.day for day in sorted(statement.covered)] == [*range(5, 13)]


def test_totals_with_one_discount_do_not_contradict_their_usage() -> None:
    usage = {
        "object": "organization.usage.completions.result",
        "model": "gpt-4o-2024-08-06",
        "input_tokens": 1_000_000,
        "num_model_requests": 1,
    }
    costs = page(*(bucket(day, cost(2, None)) for day in range(3)))
    used = page(*(bucket(day, usage) for day in range(3)), name="usage.json")
    assert not only(costs, used).not_comparable  # 20 % less than $2.50 on each day
    other = page(bucket(0, cost(2, None)), bucket(1, cost(1, None)))
    assert len(only(other, used).not_comparable) == 2


def test_quantities_are_joined_where_both_name_the_same_cell() -> None:
    costs = page(bucket(0, cost("1.5", "gpt-4o, cached input", project_id="p")))
    result = {
        "object": "organization.usage.completions.result",
        "model": "gpt-4o",
        "project_id": "p",
        "input_tokens": 1100,
        "input_cached_tokens": 1000,
        "output_tokens": 5,
        "num_model_requests": 3,
    }
    statement = only(costs, page(bucket(0, result), name="usage.json"))
    [line] = statement.lines
    assert (line.quantity, line.requests, line.billed_text) == (1000, 3, "1.5")
    assert {each.meter: each.quantity for each in statement.usage} == {
        "input": 100,
        "output": 5,
    }


def test_amounts_keep_every_digit_and_credits_are_named() -> None:
    body = (
        b'{"object":"page","has_more":false,"next_page":null,"data":[{"object":"bucket",'
        b'"start_time":1777593600,"end_time":1777680000,"results":[{"object":'
        b'"organization.costs.result","amount":{"value":123.4567890123456789,"currency":'
        b'"usd"},"line_item":"gpt-4o, output","quantity":1234567890123456789},'
        b'{"object":"organization.costs.result","amount":{"value":"-3.25","currency":'
        b'"USD"},"line_item":"Promotional credit","quantity":null}]}]}'
    )
    statement = only(Document.of_bytes("costs.json", body))
    [line, credit] = statement.lines
    assert line.billed_text == "123.4567890123456789"
    assert line.quantity == 1234567890123456789
    assert (credit.kind, credit.name, credit.billed) == (
        "credit",
        "Promotional credit",
        Decimal("-3.25"),
    )


@pytest.mark.parametrize(
    ("unit", "quantity"), [("tokens", 7), ("1000_tokens", 7000), ("parsecs", None)]
)
def test_quantities_are_in_our_units(unit: str, quantity: int | None) -> None:
    statement = only(page(bucket(0, cost(1, quantity=7, quantity_unit=unit))))
    assert statement.lines[0].quantity == quantity


def test_pages_in_any_order_are_one_statement() -> None:
    first = page(bucket(0, cost(1)), next_page="b", name="1.json")
    last = page(bucket(1, cost(2)), bucket(2), name="2.json")
    statement = only(last, first)
    assert total(statement) == 3
    assert statement.digest == only(first, last).digest
    assert len(statement.covered) == 3


INCOMPLETE: t.Final = [
    ([page(bucket(0, cost(1)), next_page="b")], "next page is not among the files"),
    (
        [
            page(bucket(0, cost(1)), next_page="b"),
            page(bucket(2, cost(1)), name="3.json"),
        ],
        "next page is not among the files",
    ),
    ([page(bucket(0, cost(1)), has_more=True)], "there is no next_page"),
    (
        [
            page(bucket(0, cost(1)), next_page="b"),
            page(bucket(1, cost(2)), next_page="b", name="2.json"),
        ],
        "same next page as page.json",
    ),
    ([page(bucket(0, cost(1))), page(bucket(0, cost(2)), name="2.json")], "is also in"),
    ([page(bucket(0, cost(1)), truncated=True)], "truncated is true"),
    (
        [of_json({"error": {"message": "no", "type": "invalid", "code": "401"}})],
        "error response .401: invalid: no",
    ),
    (
        [of_json({"object": "page", "data": [{"object": "bucket"}]})],
        "start_time is null",
    ),
    (
        [page(bucket(0, cost(1), {"object": "organization.x"}))],
        "neither costs nor usage",
    ),
    (
        [page(bucket(0, cost("1e999999")))],
        r"value is '1e999999', which is not a number",
    ),
    ([page(bucket(0, cost("=1+1")))], "value is '=1[+]1', which is not a number"),
    ([page(bucket(0, cost(1, quantity=-5)))], "a quantity is not negative"),
    ([page(bucket(0, cost(1) | {"amount": 5}))], "instead of an object"),
]


@pytest.mark.parametrize(("documents", "problem"), INCOMPLETE)
def test_what_is_not_a_whole_bill_is_refused(
    documents: list[Document], problem: str
) -> None:
    with pytest.raises(BillError, match=problem):
        only(*documents)


def test_usage_alone_is_not_a_bill() -> None:
    with pytest.raises(BillError, match="has usage, but no costs"):
        only(sample("openai_usage.json"))


def test_a_bare_list_of_buckets_is_read() -> None:
    assert total(only(of_json([bucket(0, cost("0.1")), bucket(1, cost("0.2"))]))) == (
        Decimal("0.3")
    )


def test_several_organizations_are_refused() -> None:
    one = bucket(0, cost(1)) | {"organization_id": "org-a"}
    other = bucket(1, cost(1)) | {"organization_id": "org-b"}
    with pytest.raises(BillError, match="several organizations: org-a, org-b"):
        only(page(one, other))


def test_cents_instead_of_dollars_are_refused() -> None:
    rows = [
        cost(250, "gpt-4o-2024-08-06, input", quantity=1_000_000),
        cost(1000, "gpt-4o-2024-08-06, output", quantity=1_000_000),
    ]
    with pytest.raises(BillError, match="100 times the list price"):
        only(page(bucket(0, *rows)))
    rows[0]["amount"]["value"], rows[1]["amount"]["value"] = 2.5, 10
    assert total(only(page(bucket(0, *rows)))) == Decimal("12.5")
