from __future__ import annotations

import csv
import io
import json
import tracemalloc
from decimal import Decimal

from flask import Flask
from flask.testing import FlaskClient

from flask_llm_cost.call import Usage

from .conftest import a_call
from .conftest import Record

COLUMNS = (
    "started_at,event_id,provider,model,operation,input_tokens,cache_read_tokens,"
    "cache_write_tokens,cache_write_1h_tokens,output_tokens,other_tokens,reasoning_tokens,"
    "total_tokens,cost_usd,ceiling_usd,complete,cost_source,latency_ms,stream,"
    "usage_source,outcome,response_id,trace_id,scope,flags,tags"
)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_file_has_the_columns_of_the_design(
    visitor: FlaskClient, record: Record
) -> None:
    usage = Usage(input_tokens=900, input_audio_tokens=100, output_tokens=50)
    call = record(usage=usage, cost="0.00000042", trace_id="t1")
    response = visitor.get("/llm-costs/calls.csv")
    assert response.content_type == "text/csv; charset=utf-8"
    assert response.text.splitlines()[0] == COLUMNS
    [row] = rows(response.text)
    assert row["event_id"] == call.event_id
    assert row["started_at"] == "2026-11-18T11:00:00.000Z"
    assert (row["input_tokens"], row["output_tokens"]) == ("1000", "50")
    assert Decimal(row["cost_usd"]) == Decimal("0.00000042")
    assert json.loads(row["tags"]) == {"feature": "chat"}


def test_the_file_name_has_the_dates(visitor: FlaskClient) -> None:
    response = visitor.get("/llm-costs/calls.csv?from=2026-11-01")
    disposition = response.headers["Content-Disposition"]
    assert disposition.endswith('"llm-calls-2026-11-01-to-2026-11-18.csv"')


def test_the_file_has_exactly_the_matching_calls(
    visitor: FlaskClient, record: Record
) -> None:
    record(cost=None, model="mystery")
    record(model="other")
    record(model="other", minutes=60 * 24 * 60)
    assert len(rows(visitor.get("/llm-costs/calls.csv").text)) == 2
    page = visitor.get("/llm-costs/calls.csv?sort=unknown_pricing&per=25").text
    assert [row["model"] for row in rows(page)] == ["mystery"]


def test_unknown_is_empty(visitor: FlaskClient, record: Record) -> None:
    record(cost=None, usage=None, latency_ms=None, response_id=None, tags={})
    [row] = rows(visitor.get("/llm-costs/calls.csv").text)
    empty = ("input_tokens", "total_tokens", "cost_usd", "ceiling_usd", "complete")
    for column in (*empty, "latency_ms"):
        assert row[column] == ""
    assert row["tags"] == "{}"


def test_no_cell_is_a_formula(visitor: FlaskClient, record: Record) -> None:
    record(model="=1+1", provider="@SUM(A1)", response_id="\t=1", trace_id="＝1")
    [row] = rows(visitor.get("/llm-costs/calls.csv").text)
    assert row["model"] == "'=1+1"
    assert row["provider"] == "'@SUM(A1)"
    assert row["response_id"] == "'\t=1"
    assert row["trace_id"] == "'＝1"


def test_memory_stays_flat_while_rows_are_streamed(
    visitor: FlaskClient, site: Flask
) -> None:
    ledger = site.extensions["llm_cost"].ledger
    for number in range(6000):
        ledger.append(a_call(minutes=number + 1, tags={}))
    assert ledger.flush(60)
    tracemalloc.start()
    seen = 0
    for chunk in visitor.get("/llm-costs/calls.csv", buffered=False).response:
        assert isinstance(chunk, bytes)
        seen += chunk.count(b"\n")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == 6001
    # A thousand rows at a time. All rows at once would take five times as much.
    assert peak < 8_000_000
