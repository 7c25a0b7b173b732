"""The samples of ../shared/bills, against sums that are not ours."""

from __future__ import annotations

import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost import BillError
from flask_llm_cost.bills import Document
from tests.corpus import SHARED

from .samples import only
from .samples import total

FOLDER = SHARED / "bills"
COSTROID = "costroid/testdata"
AZURE = f"{COSTROID}/azure-focus/*/devaccount/exports/costroid-demo"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="no ../shared")

# Each total was summed from the files with other tools, not by this package.
TOTALS: t.Final = [
    ("openai_guardian/*.json", "2.98595375"),
    ("openai_line_items_2026_synthetic.json", "2.279152"),
    ("anthropic_cost_report_doc.json", "1.2378912"),
    ("anthropic_analytics_*_doc.json", "41.235075"),
    ("aws_cur2_bedrock_synthetic.csv", "-1.13613"),
    ("google_billing_bigquery_row.json", "0.0018"),
    ("openrouter_activity.json", "0.015"),
    ("openrouter_activity_export_header.csv", "0"),
    ("xai_usage.json", "0.75973725"),
    (f"{COSTROID}/openai-cost/fixture/2026-05*", "139.7067890123456789"),
    (f"{COSTROID}/openai-cost/fixture/2026-06.json", "52.6789"),
    (f"{COSTROID}/openai-cost/fixture/*", "192.3856890123456789"),
    (f"{COSTROID}/openai-cost/restated/*", "166.4289"),
    (f"{COSTROID}/anthropic-cost/fixture/2026-05*", "117.845678"),
    (f"{COSTROID}/anthropic-cost/fixture/2026-06*", "92.005"),
    (f"{COSTROID}/anthropic-cost/restated/*", "207.505"),
    (f"{COSTROID}/focus-csv/focus-1.2.csv", "11"),
    (f"{COSTROID}/focus-csv/focus-1.3.csv", "34"),
    (f"{COSTROID}/focus-csv/focus-1.4.csv", "25"),
    (f"{COSTROID}/focus-csv/focus-1.4-restated.csv", "23"),
    (f"{COSTROID}/gcp-focus-bq/fixture/2026-05.json", "3.123456789012345678"),
    (f"{COSTROID}/gcp-focus-bq/fixture/2026-06.json", "15"),
    (f"{COSTROID}/gcp-focus-bq/restated/2026-06.json", "13"),
    (f"{AZURE.replace('*', 'fixture')}/mtd-snapshot/current/*", "20.5"),
    (f"{AZURE.replace('*', 'fixture')}/20260601-20260630/8*/*", "10"),
    (f"{AZURE.replace('*', 'fixture')}/20260601-20260630/1*/*", "12"),
    (f"{AZURE.replace('*', 'restated')}/mtd-snapshot/regen-42/*", "19.5"),
    # The newer run of June replaces the older one.
    (f"{AZURE.replace('*', 'fixture')}/*/*/*", "32.5"),
]


def files(pattern: str) -> list[Document]:
    found = sorted(FOLDER.glob(pattern))
    assert found, pattern
    return [Document.of_path(path) for path in found]


@pytest.mark.parametrize(("pattern", "expected"), TOTALS)
def test_a_sample_has_its_exact_total(pattern: str, expected: str) -> None:
    assert total(only(*files(pattern))) == Decimal(expected)


def test_every_sample_of_reject_is_refused() -> None:
    rejected = [path for path in FOLDER.rglob("*.json") if path.parent.name == "reject"]
    assert rejected
    for path in rejected:
        with pytest.raises(BillError, match="BilledCost is null"):
            only(Document.of_path(path))


def test_usage_that_is_restated_alone_is_not_a_bill() -> None:
    with pytest.raises(BillError, match="has usage, but no costs"):
        only(*files(f"{COSTROID}/anthropic-cost/restated-usage/*"))
