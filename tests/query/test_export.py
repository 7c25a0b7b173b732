"""CSV for people: all columns, no cell a spreadsheet runs, nothing lost in quoting."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import pathlib
import typing as t
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.query.export import cells
from flask_llm_cost.query.export import COLUMNS
from flask_llm_cost.query.export import csv_line
from flask_llm_cost.query.export import csv_lines
from flask_llm_cost.query.export import safe
from flask_llm_cost.query.listing import CallRow

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"

ROW = CallRow(
    event_id="019a0000-0000-7000-8000-000000000000",
    started_at=dt.datetime(2026, 11, 18, 14, 3, 22, 120_000, tzinfo=dt.UTC),
    provider="openai",
    model="gpt-4o",
    operation="chat",
    outcome="ok",
    http_status=200,
    stream=True,
    usage_source="stream_final",
    latency_ms=840,
    input_tokens=100,
    cache_read_tokens=1024,
    cache_write_tokens=0,
    cache_write_1h_tokens=0,
    output_tokens=30,
    other_tokens=0,
    reasoning_tokens=10,
    total_input_tokens=1124,
    total_output_tokens=30,
    cost_pico=1_230_000_001,
    cost_source="bundled",
    cost_complete=True,
    response_id="chatcmpl-1",
    trace_id=None,
    tags={"feature": "=1+1", "who": 'a "b"'},
    flags=("borrowed_price", "derived"),
)


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_a_row_has_every_column() -> None:
    head, line = read("".join(csv_lines([ROW])))
    assert head == list(COLUMNS)
    values = dict(zip(head, line, strict=True))
    assert values["started_at"] == "2026-11-18T14:03:22.120Z"
    assert values["total_tokens"] == "1154"
    assert values["stream"] == "yes"
    assert values["flags"] == "borrowed_price derived"
    assert json.loads(values["tags"]) == ROW.tags


def test_money_is_exact_and_never_in_exponents() -> None:
    cost = cells(ROW)[COLUMNS.index("cost_usd")]
    assert csv_line([cost]) == "0.001230000001\n"
    assert csv_line([Decimal("1E-12")]) == "0.000000000001\n"
    assert csv_line([Decimal("0E-12")]) == "0\n"
    assert csv_line([Decimal(1000)]) == "1000\n"


def test_unknown_is_an_empty_cell_and_not_0() -> None:
    assert csv_line([None, 0, "x"]) == ",0,x\n"


@pytest.mark.parametrize(
    "text",
    [
        "=1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "  =1",
        "\u00a0=1",
        "\ufeff=1",
        "\u200b=1",
        "\uff1d1",
        "\ufe0f=1",
        "\u3164=1",
        "\0=1",
    ],
)
def test_what_a_spreadsheet_would_run_is_defused(text: str) -> None:
    assert safe(text) == "'" + text


@pytest.mark.parametrize("text", ["gpt-4o", "'=1", "a=1", "{}", "|cmd", "", "é"])
def test_plain_text_is_left_alone(text: str) -> None:
    assert safe(text) == text


def test_negative_numbers_are_no_formulas() -> None:
    assert csv_line([-1, Decimal("-0.5")]) == "-1,-0.5\n"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2))
def test_a_line_reads_back_as_it_was(texts: list[str]) -> None:
    kept = [text.replace("\0", "") for text in texts]
    assert read(csv_line(kept)) == [[safe(text) for text in kept]]


def _vectors() -> list[dict[str, t.Any]]:
    path = SHARED / "vectors" / "csv.json"
    if not path.exists():
        return []
    found: list[dict[str, t.Any]] = json.loads(path.read_text())["vectors"]
    return [v for v in found if v["kind"] == "cell"]


@pytest.mark.skipif(not SHARED.exists(), reason="no ../shared")
def test_cells_hold_as_recorded() -> None:
    for vector in _vectors():
        if "better" in vector:
            # Decided otherwise: "prefix when first char OR first non-space char is
            # dangerous", "strip all Unicode space/format characters before the test".
            assert safe(vector["cell"]) == "'" + vector["cell"], vector["id"]
        else:
            line = csv_line([vector["cell"]])
            assert line == vector["expected"]["line"], vector["id"]
