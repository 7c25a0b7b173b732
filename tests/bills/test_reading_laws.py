"""What holds for every bill, and how large one may be."""

from __future__ import annotations

import csv
import io
import json
import pickle
import re
import tracemalloc
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost import BillError
from flask_llm_cost.bills import CAUSES
from flask_llm_cost.bills import Document
from flask_llm_cost.bills import KINDS
from flask_llm_cost.bills import read
from flask_llm_cost.bills import SOURCES
from flask_llm_cost.bills.values import literal
from flask_llm_cost.bills.values import parse
from flask_llm_cost.contract import METERS
from flask_llm_cost.contract import MODES

from .samples import FOLDER
from .samples import of_text
from .samples import only
from .samples import sample
from .samples import total

DOCS = Path(__file__).resolve().parents[2] / "docs" / "bills"
SAMPLES = sorted(
    path.name for path in FOLDER.iterdir() if path.suffix in (".csv", ".json")
)

amounts = st.decimals(min_value=-1000, max_value=1000, allow_nan=False, places=18)


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_has_a_page_that_says_whether_it_was_tried(name: str) -> None:
    text = (DOCS / f"{name}.rst").read_text("utf-8")
    tried = "yes" if SOURCES[name].tried else "no"
    assert f"**Tested with a real bill: {tried}.**" in text
    assert re.search("^Permission$", text, re.M)
    assert re.search("^How to get it$", text, re.M)
    assert f"    {name}\n" in (DOCS / "index.rst").read_text("utf-8")


def test_one_page_explains_each_cause_and_what_to_do() -> None:
    text = (DOCS.parent / "causes.rst").read_text("utf-8")
    assert set(re.findall("^``(.*?)``$", text, re.M)) == set(CAUSES)
    kinds = re.split("^-----*$", text, flags=re.M)
    assert all("*What to do" in each for each in kinds[1:])


@pytest.mark.parametrize("name", [each for each in SAMPLES if "usage" not in each])
def test_lines_are_in_our_terms(name: str) -> None:
    statement = only(sample(name))
    assert statement.digest
    for line in (*statement.lines, *statement.usage):
        assert line.kind in KINDS
        assert line.meter is None or line.meter in METERS
        assert line.mode is None or line.mode in MODES
        assert line.start < line.end
        assert statement.start <= line.start
        assert line.end <= statement.end
        assert line.billed_text is None or "E" not in line.billed_text


@given(st.lists(amounts, min_size=1, max_size=30))
def test_amounts_sum_exactly_however_they_are_spread(values: list[Decimal]) -> None:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(
        ["generation_id", "created_at", "cost_total", "byok_usage_inference"]
    )
    for number, value in enumerate(values):
        writer.writerow([f"g{number}", "2026-05-01T00:00:00Z", f"{value:f}", "0"])
    assert total(only(of_text(file.getvalue()))) == sum(values)


@given(amounts)
def test_a_literal_keeps_its_value(value: Decimal) -> None:
    assert parse(literal(value)) == value


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1_000", "1,5", "٣", "nan", "inf", "0x1", "1e99", "--1", "."],
)
def test_what_is_not_a_plain_number_is_not_one(text: str) -> None:
    assert parse(text) is None


def problem(data: bytes, source: str | None = None) -> BillError | None:
    try:
        read([Document.of_bytes("x", data)], source)
    except BillError as error:
        return error
    return None


@given(st.binary(max_size=300))
def test_any_bytes_are_a_bill_or_a_bill_error(data: bytes) -> None:
    error = problem(data)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5) | st.integers(-9, 9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    "object data results result amount value currency has_more starting_at"
                    " ending_at start_time end_time usage byok_usage_inference timeSeries"
                    " properties columns rows schema fields blobs runInfo cost".split()
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
    st.sampled_from(list(SOURCES)),
)
def test_any_json_is_a_bill_or_a_bill_error(value: object, source: str) -> None:
    data = json.dumps(value).encode()
    for name in (None, source):
        problem(data, name)


def test_a_large_bill_needs_little_memory() -> None:
    header, row, *_ = (
        (FOLDER / "aws_cur2_bedrock_synthetic.csv").read_bytes().splitlines()
    )
    rows = [row.replace(b"2026-09-01", b"2026-09-%02d" % day) for day in range(1, 31)]
    # 10 MB of rows, each an hour of another session
    body = b"\n".join(
        each.replace(b"i-0abc123", b"i-%08d" % number)
        for number in range(1500)
        for each in rows
    )
    document = Document.of_bytes("cur.csv", header + b"\n" + body)
    only(sample("aws_cur2_bedrock_synthetic.csv"))  # Loads the book.
    tracemalloc.start()
    try:
        statement = only(document)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(statement.lines) == 30
    assert total(statement) == Decimal("0.011") * 45_000
    assert peak < 10_000_000
