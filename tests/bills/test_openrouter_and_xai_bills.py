"""Bills of OpenRouter and xAI."""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost import BillError
from flask_llm_cost.bills import Document
from flask_llm_cost.bills import read

from .samples import FOLDER
from .samples import of_json
from .samples import of_text
from .samples import only
from .samples import sample
from .samples import total

HEADER = (
    "generation_id,created_at,cost_total,byok_usage_inference,tokens_prompt,"
    "model_permaslug,api_key_name,app_name\n"
)
ROW = "gen-1,2026-08-05 10:00:01,0.0000139,0,10,openai/gpt-4.1-2025-04-14,web,shop\n"


def test_the_bill_of_openrouter_is_usage_alone() -> None:
    statement = only(sample("openrouter_activity.json"))
    [line] = statement.lines
    assert (line.billed_text, line.requests, line.model) == (
        "0.015",
        5,
        "openai/gpt-4.1",
    )
    # 25 reasoning tokens are a part of the 125.
    assert {each.meter: each.quantity for each in statement.usage} == {
        "input": 50,
        "output": 125,
    }
    assert not statement.warnings


def test_a_day_that_two_answers_have_is_refused() -> None:
    name = "openrouter_activity.json"
    first = sample(name)
    rows = json.loads((FOLDER / name).read_text())["data"]
    row = {"date": "2026-08-06", "model": "m", "usage": 1, "byok_usage_inference": 0}
    later = of_json({"data": [row, *rows]}, "later.json")
    with pytest.raises(BillError, match=r"2026-08-05 of .* is also in"):
        read([first, later])


def test_inference_with_a_key_of_ones_own_is_a_warning() -> None:
    row = {"date": "2026-08-05", "model": "m", "usage": 0, "byok_usage_inference": 3}
    statement = only(of_json({"data": [row | {"byok_requests": 2}]}))
    assert total(statement) == 0
    assert "on the invoice of the key's provider" in statement.warnings[0]


def test_generations_have_ids_and_times() -> None:
    statement = only(of_text(HEADER + ROW + ROW.replace("gen-1", "gen-2")))
    assert [line.response_id for line in statement.lines] == ["gen-1", "gen-2"]
    line = statement.lines[0]
    assert line.start.isoformat() == "2026-08-05T10:00:01+00:00"
    assert line.billed_text == "0.0000139"
    assert line.scope == {"api_key_name": "web", "app": "shop"}


def test_an_export_without_rows_is_an_empty_bill() -> None:
    statement = only(of_text(HEADER))
    assert statement.lines == () == tuple(statement.covered)
    assert statement.start == statement.end


def test_a_day_of_xai_is_read() -> None:
    statement = only(sample("xai_usage.json"))
    [line] = statement.lines
    assert (line.billed_text, line.model, line.name) == (
        "0.75973725",
        "grok-4",
        "Chat grok-4",
    )


def series(*values: t.Any, timestamp: str = "2026-10-01T00:00:00Z") -> dict[str, t.Any]:
    point = {"timestamp": timestamp, "values": list(values)}
    return {
        "limitReached": False,
        "timeSeries": [
            {"group": ["x"], "groupLabels": ["X tool"], "dataPoints": [point]}
        ],
    }


def test_a_group_of_xai_that_is_not_a_model_keeps_its_name() -> None:
    [line] = only(of_json(series("0.5"))).lines
    assert (line.model, line.name, line.scope) == (None, "X tool", {"group": "x"})


REFUSED: t.Final = [
    (
        of_text(HEADER + ROW + ROW),
        "row 3: generation_id is gen-1, which is given twice",
    ),
    (of_text(HEADER + ROW.replace("0.0000139", "=2+3")), "cost_total is '=2[+]3'"),
    (of_text(HEADER + ROW.replace(",web,shop", "")), "row 2: it has 6 cells"),
    (of_json({"metadata": {"truncated": True}, "data": [{"usage": 1}]}), "recognized"),
    (
        of_json(
            {
                "metadata": {"truncated": True},
                "data": [{"usage": 1, "byok_usage_inference": 0}],
            }
        ),
        "truncated is true",
    ),
    (of_json(series("1") | {"limitReached": True}), "limitReached is true"),
    (of_json(series("1", "2")), "it has 2 values"),
    (of_json(series("1", timestamp="2026-10-01T05:00:00Z")), "not midnight in UTC"),
    (of_json([series("1"), series("1")]), "is also in"),
]


@pytest.mark.parametrize(("document", "problem"), REFUSED)
def test_what_is_not_a_whole_bill_is_refused(document: Document, problem: str) -> None:
    with pytest.raises(BillError, match=problem):
        only(document)


def test_activity_and_generations_together_would_count_twice() -> None:
    with pytest.raises(BillError, match="the same bill twice"):
        only(sample("openrouter_activity.json"), of_text(HEADER + ROW))


def test_a_file_given_twice_is_refused() -> None:
    with pytest.raises(BillError, match="it is the same as bill.json"):
        only(of_json(series("1")), of_json(series("1")))
    assert total(only(of_json(series("1")))) == Decimal(1)
