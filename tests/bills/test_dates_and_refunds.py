"""Days that can be read in two ways, and money that is given back."""

from __future__ import annotations

import datetime as dt
import io
import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost import BillError
from flask_llm_cost.bills import Document
from flask_llm_cost.bills import read
from flask_llm_cost.bills.statement import Statement
from tests.bills import generator

HEADER: t.Final = (
    "{},MeterName,MeterCategory,UnitOfMeasure,Quantity,CostInBillingCurrency,"
    "BillingCurrency,ChargeType,{}\n"
)
ROW: t.Final = "{},gpt-4o 1120 Inp glbl Tokens,Foundry Models,1K,{},{},USD,Usage,{}\n"
PERIOD: t.Final = "BillingPeriodStartDate,billingPeriodEndDate"


def export(
    *days: str, period: str = "", name: str = "a.csv", **more: t.Any
) -> Document:
    """An export of Azure with a row for each day."""
    header = HEADER.format("Date", PERIOD if period else "Note")
    rows = [ROW.format(day, 10, Decimal(n), period) for n, day in enumerate(days, 1)]
    data = "".join([header, *rows]).encode()
    return Document(name, lambda: io.BytesIO(data), **more)


def days_of(*documents: Document) -> list[str]:
    [statement] = read(documents)
    return [f"{line.start:%m-%d}" for line in statement.lines]


@pytest.mark.parametrize(
    ("days", "period", "found"),
    [
        (["03/04/2026"], "04/01/2026,04/30/2026", ["03-04"]),
        (["04/03/2026"], "04/01/2026,04/30/2026", ["04-03"]),
        (["03/04/2026"], "01/04/2026,30/04/2026", ["04-03"]),
        (["03/04/2026", "5/4/2026"], "2026-04-01,2026-04-30", ["04-03", "04-05"]),
        (["04/03/2026", "4/5/2026"], "2026-04-01,2026-04-30", ["04-03", "04-05"]),
        (["31/08/2026", "1/8/2026"], "2026-08-01,2026-08-31", ["08-01", "08-31"]),
        (["09/01/2026", "9/13/2026"], "", ["09-01", "09-13"]),
        (["09/09/2026"], "", ["09-09"]),
    ],
)
def test_the_exports_own_period_decides(
    days: list[str], period: str, found: list[str]
) -> None:
    assert days_of(export(*days, period=period)) == found


def test_the_folder_of_an_export_names_its_period() -> None:
    folder = "out/20260401-20260430/part_0.csv"
    assert days_of(export("03/04/2026", name=folder)) == ["04-03"]


@pytest.mark.parametrize(("day_first", "found"), [(True, "04-03"), (False, "03-04")])
def test_what_was_said_decides(day_first: bool, found: str) -> None:
    assert days_of(export("03/04/2026", day_first=day_first)) == [found]


def test_another_part_of_the_export_decides() -> None:
    parts = export("09/13/2026"), export("09/03/2026", "09/04/2026", name="b.csv")
    assert days_of(*parts) == ["09-03", "09-04", "09-13"]


@pytest.mark.parametrize(
    "days", [["09/01/2026", "09/02/2026", "09/12/2026"], ["09/04/2026"]]
)
def test_days_in_azures_own_order_are_read_with_a_warning(days: list[str]) -> None:
    [statement] = read([export(*days)])
    assert {line.start.month for line in statement.lines} == {9}
    assert "read as MM/DD/YYYY" in statement.warnings[0]


@pytest.mark.parametrize(
    ("days", "more", "problem"),
    [
        (["01/09/2026", "02/09/2026"], {}, "may be MM/DD/YYYY or DD/MM/YYYY"),
        (["31/08/2026"], {}, "pass --dates DD/MM"),
        (["08/31/2026"], {"day_first": True}, "not DD/MM/YYYY. Leave out --dates"),
        (["08/31/2026", "31/08/2026"], {}, "the export has MM/DD/YYYY"),
    ],
)
def test_an_order_is_never_guessed(days: list[str], more: t.Any, problem: str) -> None:
    with pytest.raises(BillError, match=problem):
        read([export(*days, **more)])


# Money that is given back


def azure(quantity: str) -> str:
    row = ROW.format("2026-09-01", quantity, "-2.5", "")
    return HEADER.format("Date", "Note") + row


def aws(quantity: str) -> str:
    day = dt.date(2026, 9, 1)
    row = generator._aws_row(
        day, "USE1-Nova2.0Lite-output-tokens", Decimal(-2), "Usage"
    )
    row |= {"line_item_usage_amount": quantity, "line_item_unblended_cost": "-2.5"}
    # A row of the same usage type is still usage.
    used = row | {"line_item_usage_amount": "7", "line_item_unblended_cost": "1"}
    return generator.as_csv([used, row])


def focus(quantity: str) -> str:
    return (
        "BilledCost,BillingCurrency,ChargePeriodStart,ChargePeriodEnd,ChargeCategory,"
        "ServiceName,ProviderName,SkuMeter,ConsumedQuantity,ConsumedUnit\n"
        "-2.5,USD,2026-09-01T00:00:00Z,2026-09-02T00:00:00Z,Usage,Amazon Bedrock,AWS,"
        f"USE1-Nova2.0Lite-output-tokens,{quantity},Tokens\n"
    )


def google(quantity: str) -> str:
    row = {
        "usage_start_time": "2026-09-01T00:00:00Z",
        "cost": "-2.5",
        "currency": "USD",
        "service": {"description": "Vertex AI"},
        "sku": {"description": "Gemini 2.5 Flash Text Output - Predictions"},
        "usage": {"unit": "count", "amount": quantity or None},
    }
    return json.dumps([row])


def openai(quantity: str) -> str:
    return (
        '{"object":"page","has_more":false,"data":[{"object":"bucket",'
        '"start_time":1788220800,"end_time":1788307200,"results":[{'
        '"object":"organization.costs.result","amount":{"value":-2.5,"currency":"usd"},'
        f'"line_item":"gpt-5-mini-2025-08-07, input","quantity":{quantity or "null"}}}]}}]}}'
    )


def anthropic(quantity: str) -> str:
    return (
        '{"has_more":false,"data":[{"starting_at":"2026-09-01T00:00:00Z",'
        '"ending_at":"2026-09-02T00:00:00Z","results":[{"amount":"-250","currency":"USD",'
        '"cost_type":"tokens","model":"claude-sonnet-4-20250514",'
        '"token_type":"output_tokens"}]}]}'
    )


def xai(quantity: str) -> str:
    return (
        '{"timeSeries":[{"group":["grok-4"],"dataPoints":['
        '{"timestamp":"2026-09-01T00:00:00Z","values":[-2.5]}]}],"limitReached":false}'
    )


@pytest.mark.parametrize("quantity", ["", "0"])
@pytest.mark.parametrize(
    "write",
    [azure, aws, focus, google, openai, anthropic, xai],
    ids=lambda w: w.__name__,
)
def test_what_is_given_back_without_usage_is_a_credit(
    write: t.Callable[[str], str], quantity: str
) -> None:
    statement = one(write(quantity))
    credits = [line for line in statement.lines if line.kind == "credit"]
    assert [line.billed_usd for line in credits] == [Decimal("-2.5")]
    assert not any(line.quantity for line in credits)
    used = [line.billed_usd for line in statement.lines if line.kind == "usage"]
    assert used == ([Decimal(1)] if write is aws else [])


def one(text: str) -> Statement:
    [statement] = read([Document.of_bytes("bill", text.encode())])
    return statement
