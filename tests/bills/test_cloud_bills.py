"""Bills of AWS, Azure and Google, and FOCUS."""

from __future__ import annotations

import csv
import io
import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost import BillError
from flask_llm_cost.bills import Document
from flask_llm_cost.bills.models import book_model
from flask_llm_cost.bills.models import model_key
from flask_llm_cost.bills.sources.aws import usage_sku
from flask_llm_cost.bills.sources.azure import meter_sku
from flask_llm_cost.bills.sources.google import sku_of

from .samples import of_json
from .samples import of_text
from .samples import only
from .samples import sample
from .samples import total

Row = dict[str, t.Any]


def table(*rows: Row, name: str = "bill.csv") -> Document:
    """Return a CSV file with these rows."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return of_text(file.getvalue(), name)


# Names: from the AWS price list, CUR users' code, Azure's exports and Google's SKUs
SKUS: t.Final = [
    (usage_sku("USE1-MP:USE1_InputTokenCount-Units"), None, "input", None, "us-east-1"),
    (usage_sku("USE1-MP:USE1_OutputTokenCount_Global-Units"), None, "output", None)
    + ("global",),
    (usage_sku("USE1-MP:USE1_CacheReadInputTokenCount-Units"), None, "cache_read", None)
    + ("us-east-1",),
    (usage_sku("USE1-MP:USE1_CacheWrite1hInputTokenCount_Global-Units"), None)
    + ("cache_write_1h", None, "global"),
    (
        usage_sku("USE1-MP:USE1_InputTokenCount_Global_Batch-Units"),
        None,
        "input",
        "batch",
    )
    + ("global",),
    (usage_sku("USE1-MP:USE1_MillionBatchInputTokens-Units"), None, "input", "batch")
    + ("us-east-1",),
    (
        usage_sku("USE1_input_tokens_global_standard-Units"),
        None,
        "input",
        None,
        "global",
    ),
    (usage_sku("cache_read_tokens_standard-Units"), None, "cache_read", None, None),
    (usage_sku("USE1-Claude4.6Sonnet-cache-write-input-token-count"),)
    + ("anthropic.claude-sonnet-4-6", "cache_write", None, "us-east-1"),
    (usage_sku("USE1-Nova2.0Lite-output-tokens-flex"), "amazon.nova-2-lite-v1:0")
    + ("output", "flex", "us-east-1"),
    (usage_sku("USE1-Nova2.0Lite-mantle-input-tokens-priority"),)
    + ("amazon.nova-2-lite-v1:0", "input", "priority", "us-east-1"),
    # The sale of a Marketplace model has its name beside the usage type.
    (
        usage_sku("USE1-MP:x-Units", "", "Claude Opus 4.8 (Amazon Bedrock Edition)"),
        "anthropic.claude-opus-4-8",
        None,
        None,
        None,
    ),
    (meter_sku("gpt-4o 1120 Inp glbl Tokens"), "gpt-4o-2024-11-20", "input", None)
    + ("global",),
    (meter_sku("gpt-4o-mini-0718-Batch-Outp-DZone Tokens"), "gpt-4o-mini-2024-07-18")
    + ("output", "batch", "datazone"),
    (meter_sku("5.5 ShortCo inp Gl 1M Tokens"), "gpt-5.5", "input", None, "global"),
    (meter_sku("Grok 4.1 Outp DZone Tokens"), "Grok 4.1", "output", None, "datazone"),
    (meter_sku("gpt 4.1 mini cached Inp regnl Tokens"), "gpt-4.1-mini", "cache_read")
    + (None, "regional"),
    (meter_sku("text-embedding-3-small-glbl Tokens"), "text-embedding-3-small", "input")
    + (None, "global"),
    (meter_sku("Claude Consumption Unit"), None, None, None, None),
    (sku_of("Gemini 2.5 Pro Thinking Text Output (Long) - Batch Predictions"),)
    + ("gemini-2.5-pro", "output", "batch", None),
    (sku_of("Gemini 2.5 Flash Image Output"), "gemini-2.5-flash", "output_image", None)
    + (None,),
    (sku_of("Claude Sonnet 4.5 Cache Write 1h Tokens"), "claude-sonnet-4-5")
    + ("cache_write_1h", None, None),
    (sku_of("Generate content input token count gemini 2.5 pro short input text"),)
    + ("gemini-2.5-pro", "input", None, None),
]


@pytest.mark.parametrize(("sku", "model", "meter", "mode", "region"), SKUS)
def test_a_clouds_name_says_model_meter_mode_and_region(
    sku: t.Any,
    model: str | None,
    meter: str | None,
    mode: str | None,
    region: str | None,
) -> None:
    assert (sku.model, sku.meter, sku.mode, sku.region) == (model, meter, mode, region)


def test_other_tiers_and_kinds_are_named() -> None:
    assert sku_of("Gemini 2.5 Pro Text Input (Long)").tier == "long_context"
    assert meter_sku("Provisioned Managed Global Unit").kind == "commitment"
    assert usage_sku("USE1-Guardrail-ContentPolicyUnitsConsumed").kind == "tool_fee"


def test_two_snapshots_are_not_one_model() -> None:
    assert book_model("bedrock", "Claude3.5Sonnet") is None
    assert usage_sku("USE1-Claude3.5Sonnet-input-tokens").model == "Claude3.5Sonnet"


def test_a_bills_name_and_a_calls_name_have_one_key() -> None:
    call = model_key("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0")
    assert call == model_key("bedrock", "Claude4.5Sonnet")
    assert call != model_key("bedrock", "Claude4.6Sonnet")


# AWS


def test_a_cur_has_gross_amounts_by_day_and_role() -> None:
    statement = only(sample("aws_cur2_bedrock_synthetic.csv"))
    kinds = {line.kind: line.billed for line in statement.lines if line.kind != "usage"}
    assert kinds == {"credit": Decimal("-1.25"), "tax": Decimal("0.1")}
    unnamed, named = (line for line in statement.lines if line.kind == "usage")
    # Without a model it is a total. The session is not a part of the scope.
    assert (unnamed.model, unnamed.billed_text, unnamed.quantity) == (
        None,
        "0.011",
        2000,
    )
    assert unnamed.scope == {
        "account": "111122223333",
        "principal": "arn:aws:sts::111122223333:assumed-role/PaymentsAppRole",
    }
    assert (named.model, named.meter, named.region) == (
        "amazon.nova-2-lite-v1:0",
        "output",
        "global",
    )
    assert (named.billed_text, named.quantity) == ("0.00287", 1148)
    assert named.scope["tag:iamPrincipal/team"] == "data"


def cur(**changes: t.Any) -> Row:
    return {
        "line_item_usage_start_date": "2026-09-01T10:00:00Z",
        "line_item_usage_end_date": "2026-09-01T11:00:00Z",
        "line_item_line_item_type": "Usage",
        "line_item_product_code": "AmazonBedrock",
        "line_item_usage_type": "USE1-Claude4.6Sonnet-input-tokens",
        "line_item_usage_amount": "1",
        "pricing_unit": "1M tokens",
        "line_item_currency_code": "USD",
        "line_item_unblended_cost": "3",
        "pricing_public_on_demand_cost": "3.3",
        "line_item_iam_principal": "",
        "tags": "",
    } | changes


def test_rows_that_are_alike_are_summed_to_the_last_digit() -> None:
    tiny = "0.000000000000000001"
    later = cur(
        line_item_usage_start_date="2026-09-01T23:00:00.000Z",
        line_item_usage_end_date="2026-09-02T00:00:00.000Z",
        line_item_unblended_cost=tiny,
    )
    ec2 = cur(line_item_product_code="AmazonEC2", tags='{"a": "1"}')
    statement = only(table(cur(), later, ec2, ec2 | {"tags": '{"a": "2"}'}))
    used, ignored = statement.lines
    assert (used.billed_text, used.quantity) == ("3.000000000000000001", 2_000_000)
    assert used.listed_text == "6.6"
    assert (ignored.kind, ignored.name, ignored.billed_text) == (
        "ignored",
        "AmazonEC2",
        "6",
    )


@pytest.mark.parametrize(
    ("line_type", "kind"),
    [
        ("DiscountedUsage", "usage"),
        ("EdpDiscount", "adjustment"),
        ("SavingsPlanRecurringFee", "commitment"),
        ("Refund", "credit"),
        ("SomethingNew", "adjustment"),
    ],
)
def test_the_type_of_a_line_says_its_kind(line_type: str, kind: str) -> None:
    [line] = only(table(cur(line_item_line_item_type=line_type))).lines
    assert line.kind == kind


def test_a_fee_keeps_its_month() -> None:
    fee = cur(
        line_item_line_item_type="Fee",
        line_item_usage_start_date="2026-09-01T00:00:00Z",
        line_item_usage_end_date="2026-10-01T00:00:00Z",
    )
    statement = only(table(fee))
    assert statement.lines[0].end.isoformat() == "2026-10-01T00:00:00+00:00"
    assert len(statement.covered) == 30


def test_two_exports_of_one_period_are_refused() -> None:
    day = [cur(line_item_usage_start_date=f"2026-09-0{day}") for day in range(1, 5)]
    newer = [*day[:3], day[3] | {"line_item_unblended_cost": "4"}]
    with pytest.raises(BillError, match="3 of its 4 lines are also in a.csv"):
        only(table(*day, name="a.csv"), table(*newer, name="b.csv"))
    assert (
        total(only(table(*day[:2], name="a.csv"), table(*day[2:], name="b.csv"))) == 12
    )


# Azure


def azure(**changes: t.Any) -> Row:
    return {
        "Date": "08/15/2026",
        "MeterCategory": "Foundry Models",
        "MeterName": "gpt-4o 1120 Inp glbl Tokens",
        "UnitOfMeasure": "1K",
        "Quantity": "1000",
        "CostInBillingCurrency": "2.196547028072500",
        "BillingCurrency": "EUR",
        "costInUsd": "2.5",
        "ChargeType": "Usage",
        "ResourceId": "/subscriptions/s/resourceGroups/rg/x/accounts/Shop-AI",
        "Tags": '"team": "data"',
    } | changes


def test_cost_details_keep_both_currencies() -> None:
    row = azure(UnitOfMeasure="1M", Quantity="1", MeterName="5.5 inp Gl 1M Tokens")
    vm = azure(MeterCategory="Virtual Machines", MeterName="D2s", costInUsd="9")
    statement = only(table(azure(), row, vm))
    assert statement.currency == "EUR"
    first, second, ignored = statement.lines
    assert (first.billed_text, first.usd_text) == ("2.1965470280725", "2.5")
    assert first.billed_usd == Decimal("2.5")
    assert (first.model, first.quantity) == ("gpt-4o-2024-11-20", 1_000_000)
    assert first.scope == {"resource": "shop-ai", "tag:team": "data"}
    assert (second.model, second.quantity) == ("gpt-5.5", 1_000_000)
    assert (ignored.kind, ignored.name) == ("ignored", "Virtual Machines")


def query(
    *rows: list[t.Any], next_link: str | None = None, name: str = "q"
) -> Document:
    names = ["Cost", "CostUSD", "UsageDate", "MeterCategory", "Meter", "Currency"]
    columns = [{"name": each, "type": "String"} for each in names]
    properties = {"columns": columns, "rows": rows, "nextLink": next_link}
    return of_json({"properties": properties}, name)


ANSWER: t.Final = [0.1, 0.2, 20260815, "Foundry Models", "Grok 4.1 Outp Tokens", "EUR"]


def test_pages_of_the_query_api_are_one_statement() -> None:
    first = query(ANSWER, next_link="https://x?2")
    statement = only(first, query([0.3, *ANSWER[1:]], name="2"))
    [line] = statement.lines
    assert (line.billed_text, line.usd_text, line.model) == ("0.4", "0.4", "Grok 4.1")
    with pytest.raises(BillError, match="nextLink names a page"):
        only(first)


# Google


def test_credits_of_google_are_lines_of_their_own() -> None:
    statement = only(sample("google_billing_bigquery_row.json"))
    used, credit = statement.lines
    assert (used.billed_text, used.listed_text, used.quantity) == (
        "0.0021",
        "0.0021",
        7000,
    )
    assert (used.meter, used.model, used.scope) == (
        "input",
        "gemini 3 flash",
        {"project": "p", "label:tenant": "acme"},
    )
    assert (credit.kind, credit.name, credit.billed_text) == (
        "credit",
        "promo",
        "-0.0003",
    )
    assert statement.account == "01AAAA-BBBBBB-CCCCCC"


def google(**changes: t.Any) -> Row:
    return {
        "service.description": "Vertex AI",
        "sku.description": "Gemini 2.5 Pro Text Input - Predictions",
        "usage_start_time": "2026-09-20 10:00:00 UTC",
        "cost": "1.1",
        "currency": "EUR",
        "currency_conversion_rate": "0.88",
        "cost_type": "regular",
        "usage.amount": "7000",
        "usage.unit": "count",
        "credits": "",
    } | changes


def test_flat_rows_of_google_are_read_and_converted_at_their_rate() -> None:
    other = google(**{"sku.description": "E2 Instance Core", "cost": "2"})
    rounding = google(cost_type="rounding_error", cost="-0.01")
    statement = only(table(google(), other, rounding))
    used, ignored, rounded = statement.lines
    assert (used.billed_usd, used.quantity, used.model) == (
        Decimal("1.25"),
        7000,
        "gemini-2.5-pro",
    )
    assert (ignored.kind, rounded.kind) == ("ignored", "rounding")


def test_a_row_per_line_is_streamed() -> None:
    rows = [json.dumps(google(cost=cost)) for cost in (1, 2)]
    assert total(only(of_text("\n".join(rows)))) == 3


# FOCUS


def focus(**changes: t.Any) -> Row:
    return {
        "BilledCost": "3",
        "ListCost": "4",
        "BillingCurrency": "USD",
        "BillingAccountId": "1",
        "ChargePeriodStart": "2026-05-01T00:00:00Z",
        "ChargePeriodEnd": "2026-05-01T01:00Z",
        "ChargeCategory": "Usage",
        "ChargeClass": "",
        "ChargeDescription": "Bedrock",
        "ServiceName": "Amazon Bedrock",
        "ProviderName": "AWS",
        "ConsumedQuantity": "1",
        "ConsumedUnit": "1M Tokens",
        "SkuMeter": "USE1-Claude4.6Sonnet-input-tokens",
    } | changes


def test_focus_reads_a_clouds_own_names() -> None:
    other = {"ServiceName": "Foundry Models", "ProviderName": "Microsoft"}
    row = focus(**other, SkuMeter="5.5 inp Gl 1M Tokens", ConsumedUnit="1K Tokens")
    fix = focus(BilledCost="-1", ChargeClass="Correction")
    statement = only(table(focus(), row, fix, focus(ServiceName="Amazon EC2")))
    used, second, fixed, ignored = statement.lines
    assert (used.provider, used.model, used.quantity) == (
        "bedrock",
        "anthropic.claude-sonnet-4-6",
        1_000_000,
    )
    assert (used.billed_text, used.listed_text) == ("3", "4")
    assert (second.provider, second.model, second.quantity) == (
        "azure",
        "gpt-5.5",
        1000,
    )
    assert (fixed.kind, ignored.kind) == ("adjustment", "ignored")


def bigquery(*values: str | None, **more: t.Any) -> Document:
    fields = [
        {"name": "BilledCost", "type": "NUMERIC", "mode": "NULLABLE"},
        {"name": "ChargePeriodStart", "type": "TIMESTAMP", "mode": "NULLABLE"},
        {"name": "ChargePeriodEnd", "type": "TIMESTAMP", "mode": "NULLABLE"},
        {"name": "BillingCurrency", "type": "STRING", "mode": "NULLABLE"},
        {
            "name": "x_Labels",
            "type": "RECORD",
            "mode": "REPEATED",
            "fields": [{"name": "Key", "type": "STRING", "mode": "NULLABLE"}],
        },
    ]
    cells = [*values, "1777593600000000", "1777597200000000", "USD"]
    row = {"f": [{"v": cell} for cell in cells] + [{"v": [{"v": {"f": [{"v": "k"}]}}]}]}
    return of_json({"schema": {"fields": fields}, "rows": [row]} | more)


def test_an_answer_of_bigquery_is_a_table() -> None:
    statement = only(bigquery("1.123456789012345678"))
    assert total(statement) == Decimal("1.123456789012345678")
    assert statement.start.isoformat() == "2026-05-01T00:00:00+00:00"


def manifest(run: str, submitted: str, rows: int = 1) -> Document:
    blob = {"blobName": f"export/{run}/part.csv", "dataRowCount": rows}
    info = {"startDate": "2026-05-01T00:00:00", "submittedTime": submitted}
    value = {"blobs": [blob], "runInfo": info, "exportConfig": {"exportName": "e"}}
    return of_json(value, f"/x/export/{run}/manifest.json")


def test_a_newer_run_of_an_export_replaces_the_older_one() -> None:
    old = table(focus(), name="/x/export/a/part.csv")
    new = table(focus(BilledCost="5"), name="/x/export/b/part.csv")
    runs = manifest("a", "2026-06-01T00:00:00.1234567Z")
    newer = manifest("b", "2026-06-02T00:00:00.1234567Z")
    statement = only(newer, new, old, runs)
    assert total(statement) == 5
    assert statement.warnings == (
        "/x/export/a/manifest.json: a newer run replaces it.",
    )


REFUSED: t.Final = [
    ([bigquery(None)], "BilledCost is null"),
    ([bigquery("1", pageToken="x")], "there are more rows"),
    ([bigquery("1", totalRows="5")], "it has 1 of 5 rows"),
    ([manifest("a", "2026-06-01")], "it names part.csv, which is not beside it"),
    (
        [manifest("a", "2026-06-01", 2), table(focus(), name="/x/export/a/part.csv")],
        "it has 1 rows, but its manifest counts 2",
    ),
    (
        [table(cur(line_item_unblended_cost="1e999999"))],
        "row 2: line_item_unblended_cost",
    ),
    ([table(cur(line_item_unblended_cost="=SUM(A1)"))], "is '=SUM.A1.', which is not"),
    (
        [table(cur(), cur(line_item_usage_amount="ten"))],
        "row 3: line_item_usage_amount",
    ),
    ([table(cur(), cur(line_item_currency_code="EUR"))], "in EUR and USD"),
    ([table(cur(line_item_usage_start_date="soon"))], "not an ISO 8601 time"),
    ([table(cur(line_item_unblended_cost="9" * 15))], "too large for a bill"),
    (
        [table({k: v for k, v in cur().items() if k != "pricing_unit"})],
        "no column pricing",
    ),
    ([table(azure(Date="2026-08-15T05:00"))], "not a day in UTC"),
    ([table(google(credits="{"))], "credits is not JSON"),
    ([table(focus(ChargePeriodEnd="2026-04-01"))], "before ChargePeriodStart"),
]


@pytest.mark.parametrize(("documents", "problem"), REFUSED)
def test_what_is_not_a_whole_bill_is_refused(
    documents: list[Document], problem: str
) -> None:
    with pytest.raises(BillError, match=problem):
        only(*documents)
