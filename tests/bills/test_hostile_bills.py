"""Bills of every source that somebody changed: an error that helps, and nothing is lost."""

from __future__ import annotations

import copy
import json
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
from flask import Flask

from flask_llm_cost import BillError
from flask_llm_cost.bills import Document
from flask_llm_cost.bills import read
from tests.conftest import MakeApp

from .samples import FOLDER
from .samples import only
from .samples import total


def text_of(name: str) -> str:
    return (FOLDER / name).read_text()


CUR: t.Final = text_of("aws_cur2_bedrock_synthetic.csv")
AZURE: t.Final = (
    "Date,MeterName,MeterCategory,UnitOfMeasure,Quantity,CostInBillingCurrency,"
    "BillingCurrency,ChargeType\n"
    "2026-08-01,gpt-4o 1120 Inp glbl Tokens,Foundry Models,1K,1000,2.5,USD,Usage\n"
)
FOCUS: t.Final = (
    "BilledCost,BillingCurrency,ChargePeriodStart,ChargePeriodEnd,ChargeCategory,"
    "ServiceName,ProviderName,SkuMeter,ConsumedQuantity,ConsumedUnit\n"
    "1.5,USD,2026-08-01T00:00:00Z,2026-08-02T00:00:00Z,Usage,Amazon Bedrock,AWS,"
    "USE1-Nova2.0Lite-output-tokens,1000,Tokens\n"
)
GENERATIONS: t.Final = (
    "generation_id,created_at,cost_total,model_permaslug,byok_usage_inference\n"
    "g1,2026-08-05T10:00:00Z,0.5,openai/gpt-4o,0\n"
)
GOOGLE: t.Final = text_of("google_billing_bigquery_row.json")
ANTHROPIC: t.Final = text_of("anthropic_cost_report_doc.json")
ACTIVITY: t.Final = text_of("openrouter_activity.json")
XAI: t.Final = text_of("xai_usage.json")
OPENAI: t.Final = json.dumps(
    {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": 1788220800,
                "end_time": 1788307200,
                "results": [
                    {
                        "object": "organization.costs.result",
                        "amount": {"value": "1.5", "currency": "usd"},
                        "line_item": "gpt-5-mini-2025-08-07, input",
                        "quantity": 9,
                    }
                ],
            }
        ],
        "has_more": False,
    }
)
NUMBER: t.Final = "not a number within bounds: at most 60 digits and a decimal point"
TWICE: t.Final = "is twice in one object"
OPPOSITE: t.Final = "one of them is negative. Export the bill again"

REFUSED: t.Final[dict[str, list[tuple[str, str, str]]]] = {
    OPENAI: [
        ('"value": "1.5"', '"value": "1.5", "value": "9"', f"the key 'value' {TWICE}"),
        ('"results": [', '"results": [], "results": [', f"the key 'results' {TWICE}"),
        ('"1.5"', '"-1.5"', f"amount is -1.5, but the quantity is 9: {OPPOSITE}"),
        ('"quantity": 9', '"quantity": -9', "quantity is '-9'; a quantity is not neg"),
        ('"quantity": 9', '"quantity": "1,000"', f"quantity is '1,000', .*{NUMBER}"),
        ('"amount"', '"cost"', "results\\[0\\].amount: it is null instead of an obj"),
        ('"1.5"', '"1,234.50"', f"value is '1,234.50', which is {NUMBER}"),
        ('"1.5"', '"$1.50"', "value is '\\$1.50', .*without .* a currency sign"),
        ('"1.5"', '"1e99"', f"value is '1e99', which is {NUMBER}"),
        ('"1.5"', "9" * 5000, "value is '9999.*\\.\\.\\..*9', which is not a number"),
        ('"1.5"', "1e12", "value is '1e12', which is too large for a bill"),
        ('"1.5"', "null", "value is null, which is not a number"),
        ('"1.5"', "true", "value is True, which is not a number"),
        ('"usd"', "null", "currency is null; write it as USD or EUR"),
        ("1788220800", "1788220801", "not midnight in UTC. Request whole UTC days"),
        ("1788220800", '"2026-09-01"', "start_time is '2026-09-01', which is not"),
        ("1788307200", "1788220800", "it ends before it starts"),
    ],
    ANTHROPIC: [
        ('"amount":', '"amount":"1","amount":', f"the key 'amount' {TWICE}"),
        ('"123.78912"', '"1,237.89"', f"amount is '1,237.89', which is {NUMBER}"),
        ('"123.78912"', '""', f"amount is empty, which is {NUMBER}"),
        ('"USD"', '"US dollars"', "currency is 'US dollars'; write it as USD or EUR"),
        ("00:00:00Z", "00:00:00+02:00", "2025-07-31T22:00:00Z, which is not midnight"),
        ('"amount"', '"total"', "it has neither an amount nor tokens"),
    ],
    CUR: [
        (",0.011,", ',"1,000.011",', "row 2: line_item_unblended_cost is '1,000.011'"),
        (",0.011,", ",=1+1,", "row 2: line_item_unblended_cost is '=1\\+1'"),
        (",0.011,", ",,", "row 2: line_item_unblended_cost is empty"),
        (",0.011,", f",{'9' * 70},", "row 2: line_item_unblended_cost is '999"),
        (
            ",0.011,",
            ",1e13,",
            "line_item_unblended_cost is '1E\\+13', which is too large",
        ),
        (",0.011,", ",-0.011,", f"InputTokenCount-Units: .*{OPPOSITE}"),
        (
            "Units,2,",
            "Units,-2,",
            f"amount is 0.011, but the quantity is -2000: {OPPOSITE}",
        ),
        ("Units,2,", "Units,two,", "row 2: line_item_usage_amount is 'two'"),
        ("line_item_line_item_type", "type", "no column line_item_line_item_type. Add"),
        (
            "line_item_unblended_cost",
            "cost",
            "first row should be the names of the col",
        ),
        (
            "1.148,1K tokens,USD",
            "1.148,1K tokens,EUR",
            "are in EUR and USD. Export one",
        ),
        ("line_item_net_unblended_cost", "tags", "two columns 'tags'"),
        ("2026-09-01T10:00:00Z,1", "01/09/2026,1", "'01/09/2026', which is not an ISO"),
        ("\n", "\r", "its lines end in CR only. Save it with"),
        ("line_item", "AWS costs\nline_item", "first row .* is 'AWS costs'"),
    ],
    CUR.replace("line_item_net_unblended_cost", "pricing_public_on_demand_cost"): [
        ("0.0099", "n/a", "row 2: pricing_public_on_demand_cost is 'n/a'"),
    ],
    AZURE: [
        (",2.5,", ',"2,5",', f"costinbillingcurrency is '2,5', which is {NUMBER}"),
        (",2.5,", ",-2.5,", f"gpt-4o 1120 Inp glbl Tokens: .*{OPPOSITE}"),
        (",1000,", ",-1000,", OPPOSITE),
        (",USD,", ",,", "billingcurrency is null; write it as USD or EUR"),
        ("2026-08-01", "31/08/2026", "date is '31/08/2026'; the export has MM/DD/YYYY"),
        ("2026-08-01", "2026-08-01T05:00Z", "which is not a day in UTC"),
        ("Billing", "My", "its source cannot be recognized"),
    ],
    FOCUS: [
        ("1.5,", ",", f"BilledCost is empty, which is {NUMBER}"),
        ("1.5,", "-1.5,", OPPOSITE),
        (
            "ServiceName",
            "Service",
            "no column ServiceName. Export all columns of FOCUS",
        ),
        ("ChargeCategory", "Category", "it has no column ChargeCategory"),
        ("BillingCurrency", "Currency", "it has no column BillingCurrency"),
        ("ChargePeriodEnd", "End", "it has no column ChargePeriodEnd"),
        ("2026-08-02", "2026-07-02", "ChargePeriodEnd is before ChargePeriodStart"),
    ],
    GOOGLE: [
        ('"cost":', '"cost":1,"cost":', f"the key 'cost' {TWICE}"),
        ('"cost":', '"COST":1,"cost":', "a name is in it twice, in upper and lower"),
        ('"cost":0.0021', '"cost":"0,0021"', f"cost is '0,0021', which is {NUMBER}"),
        ('"cost":0.0021', '"cost":-1', OPPOSITE),
        ('"service":', '"s":', "costs '0.0021', but has no service.description"),
        ('"sku":', '"s":', "but has no sku.description, which says what for"),
        ('"credits":[', '"credits":"x","c":[', "credits is not JSON"),
        ('"amount":-0.0003', '"sum":-0.0003', "credits\\[0\\]: amount is null"),
        ('"currency":"USD"', '"currency":"$"', "currency is '\\$'; write it as USD"),
    ],
    ACTIVITY: [
        ('"usage":0.015', '"usage":null', f"usage is null, which is {NUMBER}"),
        ('"usage":', '"usage":1,"usage":', f"the key 'usage' {TWICE}"),
        ('"2026-08-05"', '"2026-08-05 07:00"', "which is not a day in UTC"),
        ('"prompt_tokens":50', '"prompt_tokens":-5', "prompt_tokens is '-5'; a quant"),
        ('"data":', '"rows":', "its source cannot be recognized"),
    ],
    GENERATIONS: [
        (",0.5,", ",$0.5,", f"row 2: cost_total is '\\$0.5', which is {NUMBER}"),
        (",0.5,", ",,", "row 2: cost_total is empty"),
        (",0\n", ",no\n", "row 2: byok_usage_inference is 'no'"),
        ("2026-08-05T10:00:00Z", "", "created_at is empty, which is not an ISO 8601"),
        ("g1,", ",", "generation_id is empty, which is not an id"),
    ],
    XAI: [
        ("[0.75973725]", "[null]", f"values is null, which is {NUMBER}"),
        ('"values":', '"values":[1],"values":', f"the key 'values' {TWICE}"),
        (
            "T00:00:00Z",
            "T00:00:00+05:30",
            "which is not midnight in UTC. Request it with",
        ),
        ('"limitReached":false', '"limitReached":true', "the source left rows out"),
        ('"dataPoints"', '"points"', "dataPoints: it is null instead of a list"),
    ],
}


def changed(text: str, old: str, new: str) -> Document:
    assert old in text, (old, text)
    return Document.of_bytes("the-file", text.replace(old, new).encode())


@pytest.mark.parametrize(
    ("bill", "old", "new", "problem"),
    [(bill, *case) for bill, cases in REFUSED.items() for case in cases],
    ids=lambda value: value[:20].encode("ascii", "replace").decode(),
)
def test_a_changed_bill_is_refused(bill: str, old: str, new: str, problem: str) -> None:
    only(changed(bill, old, old))  # Without the change, it is read.
    with pytest.raises(BillError, match=problem) as caught:
        only(changed(bill, old, new))
    assert caught.value.file == "the-file"


READ: t.Final = [
    (OPENAI, '"1.5"', "15e-1", "1.5"),
    (OPENAI, '"1.5"', f'"1.{"0" * 20}1"', f"1.{'0' * 20}1"),
    (ANTHROPIC, '"123.78912"', '"1.2378912e2"', "1.2378912"),
    (CUR, ",0.011,", ",1.1E-2,", "-1.13613"),
    (CUR, ",", "|", "-1.13613"),
    (CUR, "line_item_usage_start", "sep=,\nline_item_usage_start", "-1.13613"),
    (CUR, "line_item_usage_start", "\ufeffline_item_usage_start", "-1.13613"),
    (AZURE, ",2.5,", ",2.50E+0,", "2.5"),
    (AZURE, "2026-08-01", "8/31/2026", "2.5"),
    # A correction of an earlier day takes back quantity and amount.
    (AZURE, ",1000,2.5,", ",-1000,-2.5,", "-2.5"),
    (FOCUS, "1.5,", "0,", "0"),
    (GOOGLE, '"cost":0.0021', '"cost":"2.1E-3"', "0.0018"),
    (ACTIVITY, '"usage":0.015', '"usage":1.5e-2', "0.015"),
    (XAI, "0.75973725", "7.5973725e-1", "0.75973725"),
]


@pytest.mark.parametrize(("bill", "old", "new", "usd"), READ)
def test_another_spelling_is_read_right(
    bill: str, old: str, new: str, usd: str
) -> None:
    assert total(only(changed(bill, old, new))) == Decimal(usd)


@pytest.mark.parametrize(("old", "new"), [("MeterName", "Name"), ("Quantity", "Qty")])
def test_an_export_without_a_column_is_a_total_and_says_so(old: str, new: str) -> None:
    bill = only(changed(AZURE, old, new))
    assert (total(bill), bill.lines[0].quantity) == (Decimal("2.5"), None)
    assert f"no column {old.lower()}, so only totals" in bill.warnings[0]


def test_a_day_that_the_bill_has_a_part_of_is_not_comparable() -> None:
    bill = only(changed(OPENAI, "1788307200", "1788303600"))
    assert list(bill.not_comparable.values()) == [
        "The bill covers this day only until 23:00:00 UTC."
    ]


def test_a_bill_of_another_source_is_refused() -> None:
    with pytest.raises(BillError, match="it is a bill of openai, not of aws"):
        read([Document.of_bytes("x", OPENAI.encode())], "aws")


# As somebody meets it who uses the commands for the first time

COMMANDS: t.Final = [
    ("reconcile", "Name the files of a bill, or fetch it with --live"),
    ("reconcile none.json", "none.json: cannot be opened: No such file"),
    ("reconcile .", ".: is a folder. Name the files in it"),
    ("reconcile bill.json bill.json", "it is the same as bill.json. Name each file"),
    (
        "reconcile bill.json --source gold",
        "'gold' is not a source of bills. Sources: op",
    ),
    (
        "reconcile bill.json --source aws",
        "it is a bill of openai, not of aws. Omit",
    ),
    ("reconcile bill.json --rate 1,08", "'1,08' is not a number above 0, such as 1.08"),
    (
        "reconcile bill.json --rate 2",
        "--rate is for one currency other than USD; these",
    ),
    ("reconcile bill.json --from 2026-01-01", "--from, --to and --team need --live"),
    ("reconcile bill.json --format yaml", "'yaml' is not one of 'text', 'json'"),
    ("reconcile --live openai", "--live needs --from and --to"),
    ("reconcile --live openai --from 2026-02-01 --to 2026-01-01", "Swap them"),
    ("reconcile --live openai --from 2026-02 --to 2026-03", "'2026-02' does not match"),
    (
        "reconcile --live aws --from 2026-02-01 --to 2026-02-02",
        "aws: it has no API for",
    ),
    ("reconcile --live openai bill.json --from 2026-02-01 --to 2026-02-02", "not both"),
    (
        "reconcile --live openai --from 2026-02-01 --to 2026-02-02",
        "set OPENAI_ADMIN_KEY",
    ),
    ("reconcile words.txt", "Its first row should be the names of the columns, and is"),
    ("reconcile object.json", "It should be an unchanged answer of a provider's API"),
    ("bills show openai", "No bill has the key 'openai'. Known bills: none"),
    ("bills forget ../x", "No bill has the key '../x'. Known bills: none. See `flask"),
    ("bills show", "Missing argument 'KEY'"),
    ("bills delete openai", "No such command 'delete'"),
    ("ledger close", "Missing argument 'YYYY-MM'"),
    (
        "ledger close 2026-13",
        "'2026-13' is not a valid month; use YYYY-MM, from 1970-01",
    ),
    ("ledger close 2026-1", "'2026-1' is not a valid month; use YYYY-MM"),
    ("ledger close 2026-10-01", "'2026-10-01' is not a valid month; use YYYY-MM"),
    ("ledger close october", "'october' is not a valid month; use YYYY-MM"),
    ("ledger close 0000-01", "'0000-01' is not a valid month; use YYYY-MM"),
    ("ledger close 2026-09 2026-10", "Got unexpected extra argument (2026-10)"),
    ("ledger close 2100-01", "2100-01 is not over before 2100-02-01"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    (tmp_path / "bill.json").write_text(OPENAI)
    (tmp_path / "words.txt").write_text("hello\n")
    (tmp_path / "object.json").write_text("{}")
    return tmp_path


def run(app: Flask, line: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["llm-cost", *line.split()])
    return result.exit_code, result.output


def test_each_command_that_is_used_wrongly_says_how(app: Flask, folder: Path) -> None:
    for line, answer in COMMANDS:
        status, output = run(app, line)
        assert answer in output, (line, output)
        assert status in (1, 2), line
        assert "Traceback" not in output
    assert "No bills are stored" in run(app, "bills list")[1]


def test_a_key_that_several_bills_begin_with_names_them(
    app: Flask, folder: Path
) -> None:
    later = copy.deepcopy(OPENAI).replace("1.5", "2.5")
    (folder / "later.json").write_text(later)
    run(app, "reconcile bill.json")
    run(app, "reconcile later.json")
    assert "2 bills begin with 'openai-': openai-" in run(app, "bills show openai-")[1]
    assert (
        "No bill has the key 'x'. Known bills: openai-" in run(app, "bills show x")[1]
    )


def test_an_id_that_the_bill_lacks_is_named(make_app: MakeApp, folder: Path) -> None:
    app = make_app(LLM_COST_BILL_SCOPES={"*": "proj_typo"})
    bill = OPENAI.replace('"quantity"', '"project_id": "proj_web", "quantity"')
    (folder / "bill.json").write_text(bill)
    status, output = run(app, "reconcile bill.json")
    assert "LLM_COST_BILL_SCOPES maps to 'proj_typo', but no line of the bill" in output
    assert "Ids on the bill: proj_web." in output


def test_an_empty_bill_says_so(app: Flask, folder: Path) -> None:
    empty = json.dumps({"object": "page", "data": [], "has_more": False})
    (folder / "bill.json").write_text(empty)
    status, output = run(app, "reconcile bill.json")
    assert "bill.json: it has no lines. Check which days were requested" in output
    assert "openai: no days" in output
    assert status == 1
