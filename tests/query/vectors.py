"""The cases of the shared test data, as parameters of tests."""

from __future__ import annotations

import json
import pathlib
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Call
from flask_llm_cost.call import Usage

from .samples import cost_of
from .samples import make_call
from .samples import NOON

FOLDER = pathlib.Path(__file__).resolve().parents[3] / "shared" / "vectors"

Vector: t.TypeAlias = dict[str, t.Any]


def vectors(name: str, *kinds: str, but: t.Container[str] = ()) -> list[t.Any]:
    """Those of some kinds, or one that skips where there are none."""
    path = FOLDER / name
    if not path.exists():
        return [pytest.param({}, marks=pytest.mark.skip("no ../shared"))]
    return [
        pytest.param(vector, id=vector["id"])
        for vector in json.loads(path.read_text())["vectors"]
        if vector.get("kind") in (kinds or (None,)) and vector["id"] not in but
    ]


def call_of(row: Vector) -> Call:
    """A row of a vector as a call."""
    cost = row.get("total_cost")
    return make_call(
        row.get("tracked_at", NOON),
        provider=row.get("provider", "openai"),
        model=row.get("model", "gpt-4o"),
        cost=None if cost is None else cost_of(Decimal(repr(cost))),
        latency_ms=row.get("latency_ms"),
        stream=row.get("stream", False),
        usage_source=row.get("usage_source") or "unknown",
        usage=None if row.get("usage_source") is None else Usage(),
        response_id=row.get("provider_response_id"),
        tags=row.get("tags", {}),
    )
