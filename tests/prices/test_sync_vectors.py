"""The predecessor's sync cases hold, except those listed with a reason."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost.prices.fetch import FetchResult
from flask_llm_cost.prices.fetch import READERS
from flask_llm_cost.prices.sync_plan import plan_sync
from flask_llm_cost.prices.sync_plan import SyncPlan

SHARED = Path(__file__).resolve().parents[3] / "shared"
VECTORS = SHARED / "vectors" / "price_sync.json"
NOW = dt.datetime(2026, 4, 22, tzinfo=dt.UTC)

HELD = "moves over 3x are held back"
OTHERWISE: dict[str, tuple[str, dict[str, list[str]]]] = {
    "manual-with-upstream-match": (
        "`_source: manual` entries are untouched",
        {},
    ),
    "flagged-3x-up": (HELD, {"held": ["gpt-4o"]}),
    "flagged-3x-down": (HELD, {"held": ["gpt-4o"]}),
    "litellm-prefix-openai": (HELD, {"held": ["gpt-4o"]}),
    # 150 USD is what o1-pro costs; the problem here is the jump.
    "rejected-input-150": (HELD, {"held": ["gpt-4o"]}),
    "new-zero-not-flagged": ("Refused: a drop to zero", {"rejected": ["gpt-4o"]}),
    "discrepancy-min-zero": (
        "Refused: a drop to zero",
        {"rejected": ["gpt-4o"], "discrepancies": ["gpt-4o input"]},
    ),
    "negative-accepted": ("Refused: negative", {"rejected": ["gpt-4o"]}),
    "openrouter-negative-one": ("Refused: OpenRouter's -1", {"rejected": ["gpt-4o"]}),
    "string-price-openrouter": ("Refused: non-numeric", {"rejected": ["gpt-4o"]}),
    "litellm-missing-output-key": (
        "covers every chat, responses, embedding, audio, image and rerank model",
        {},
    ),
    "litellm-vertex-gemini-shadow": (
        "better: try candidates until one is supported",
        {"changed": ["gemini-2.5-flash"]},
    ),
    "alias-2024-05-13": (
        "better: no aliases across price-different snapshots",
        {"orphaned": ["gpt-4o-2024-05-13"]},
    ),
}
ERRORS: dict[str, tuple[str, dict[str, list[str]]]] = {
    "fixture-litellm-down-strict": ("strict", {"failed": ["litellm"]}),
    "rejected-strict": (HELD, {"held": ["gpt-4o"]}),
    "litellm-null-price": ("better: treat as missing", {}),
}


def cases() -> list[t.Any]:
    if not VECTORS.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason="no ../shared"))]
    vectors = json.loads(VECTORS.read_bytes(), parse_float=Decimal)["vectors"]
    return [pytest.param(each, id=each["id"]) for each in vectors]


def answer(case: dict[str, t.Any], name: str) -> FetchResult:
    error = case.get(f"{name}_error")
    sheet = None
    if error is None:
        given = case[name]
        try:
            document = json.loads(given) if isinstance(given, str) else given
            sheet = READERS[name](document)
        except ValueError as problem:
            error = str(problem)
    return FetchResult(
        name, name, NOW, version=case.get(f"{name}_etag"), sheet=sheet, error=error
    )


def outcome(made: SyncPlan) -> dict[str, list[str]]:
    found = {
        "changed": sorted({change.model for change in made.changes}),
        "held": sorted(made.held_back),
        "rejected": sorted(made.rejected),
        "orphaned": list(made.orphaned),
        "failed": sorted(made.failed),
        "discrepancies": sorted(f"{d.model} {d.rate}" for d in made.discrepancies),
    }
    return {name: value for name, value in found.items() if value}


def expected(case: dict[str, t.Any]) -> dict[str, list[str]]:
    said = case["expected"]
    found = {
        "changed": said["updated_models"],
        "held": [each["model"] for each in said["flagged"]],
        "rejected": [each["model"] for each in said["rejected"]],
        "orphaned": said["orphaned"],
        "failed": sorted(said["failed_sources"]),
        "discrepancies": sorted(
            f"{d['model']} {d['field']}" for d in said["discrepancies"]
        ),
    }
    # An override allows the jump, which is then not flagged.
    return {name: value for name, value in found.items() if value}


@pytest.mark.parametrize("case", cases())
def test_a_sync_case_of_the_predecessor_holds(case: dict[str, t.Any]) -> None:
    answers = [answer(case, name) for name in ("litellm", "openrouter")]
    made = plan_sync(case["registry"], answers, now=NOW)
    found = outcome(made)
    if case["id"] in ERRORS:
        for name, value in ERRORS[case["id"]][1].items():
            assert found[name] == value
    elif case["id"] in OTHERWISE:
        assert found == OTHERWISE[case["id"]][1]
    else:
        assert found == expected(case)
