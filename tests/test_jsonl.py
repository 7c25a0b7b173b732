from __future__ import annotations

import json
import subprocess
import sys
import typing as t

import pytest
from hypothesis import given

from flask_llm_cost import jsonl
from flask_llm_cost.call import Call
from tests.ledger.samples import calls
from tests.ledger.samples import make_call


@given(calls())
def test_a_call_survives_its_line(call: Call) -> None:
    line = jsonl.encode(call)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert jsonl.decode(line) == call


def test_a_lone_surrogate_survives_its_line() -> None:
    call = make_call(model="gpt\ud800")
    assert jsonl.decode(jsonl.encode(call)).model == "gpt\ud800"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": 2}, "v: line format 2"),
        ({"model": 3}, "model: 3 is not text"),
        ({"model": None}, "model: None is not text"),
        ({"color": "red"}, "color: unknown field"),
        ({"stream": 1}, "stream: 1 is not true or false"),
        ({"latency_ms": -1}, "latency_ms: -1 is not a whole number"),
        ({"latency_ms": True}, "latency_ms: True is not a whole number"),
        ({"outcome": "fine"}, "outcome: 'fine' is not one of ok, "),
        ({"reported_cost": 0.5}, "reported_cost: 0.5 is not a decimal number as text"),
        ({"reported_cost": "NaN"}, "reported_cost: 'NaN' is not a decimal"),
        ({"usage": {"input_tokens": 1.0}}, "usage.input_tokens: 1.0 is not a whole"),
        ({"usage": {"units": {"page": 2}}}, "usage.units.page: 2 is not a decimal"),
        ({"usage": [1]}, r"usage: \[1\] is not an object"),
        ({"cost": {"total_usd": "1"}}, "cost: .*missing.*'parts' and 'source'"),
        ({"tags": {"user": 7}}, "tags.user: 7 is not text"),
        ({"flags": "unpriced"}, "flags: 'unpriced' is not a list"),
        ({"started_at": "2026-03-01T12:00:00"}, "started_at: .* its zone"),
        ({"started_at": "2026-03-01T12:00:00.0001Z"}, "started_at: .* milliseconds"),
        (
            {"started_at": "2026-03-01T12:00:01.000Z"},
            "event_id: .* the time of started_at",
        ),
        (
            {"started_at": "1969-12-31T23:59:59.999Z"},
            "started_at: .* from 1970 to 2261",
        ),
        (
            {"started_at": "2262-01-01T00:00:00.000Z"},
            "started_at: .* from 1970 to 2261",
        ),
        (
            {"started_at": "9999-12-31T23:59:00.000-05:00"},
            "started_at: .* that UTC has",
        ),
        (
            {"started_at": "0001-01-01T00:00:00.000+05:00"},
            "started_at: .* that UTC has",
        ),
        ({"event_id": "x"}, "event_id: 'x' is not a UUIDv7"),
        ({"event_id": None}, "event_id: None is not text"),
    ],
)
def test_a_wrong_line_says_what_is_wrong(
    change: dict[str, t.Any], message: str
) -> None:
    line = json.loads(jsonl.encode(make_call())) | change
    with pytest.raises(ValueError, match=message):
        jsonl.decode(json.dumps(line))


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"\xff\n", b'{"v":1}', b"[" * 9999])
def test_no_line_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="JSON|line: "):
        jsonl.decode(line)


def test_lines_and_spool_load_no_database_code() -> None:
    code = (
        "import sys, flask_llm_cost.jsonl, flask_llm_cost.ledger.spool;"
        "print({'sqlalchemy', 'alembic', 'flask'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert result.stdout.strip() == "set()", result.stderr
