"""Calls can be filtered by the scope they were made in, or by a part of it."""

from __future__ import annotations

import pytest

from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter

from .samples import make_call
from .samples import Store

BOTH = "organization=org_1 project=proj_1 key=ab"
OTHER = "organization=org_1 project=proj_10 key=cd"


@pytest.mark.parametrize(
    ("scope", "count"),
    [
        ("organization=org_1", 2),
        ("project=proj_1", 1),
        ("project=proj_1 key=ab", 1),
        (BOTH, 1),
        ("key=cd", 1),
        # Neither a prefix, nor a pattern, nor another case.
        ("project=proj", 0),
        ("project=proj%", 0),
        ("organization=org-1", 0),
        ("PROJECT=proj_1", 0),
        ("key=\0", 0),
        ("key=\ud800", 0),
    ],
)
def test_a_part_of_a_scope_selects_calls(store: Store, scope: str, count: int) -> None:
    store.fill(make_call(scope=BOTH), make_call(scope=OTHER), make_call())
    with store.reading() as connection:
        assert totals(connection, CallFilter(scope=scope)).calls == count
