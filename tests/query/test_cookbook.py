from __future__ import annotations

import pathlib
import re
import textwrap
import typing as t

import pytest

from flask_llm_cost.query.calls import CallQuery

from .samples import make_call
from .samples import Store

COOKBOOK = pathlib.Path(__file__).resolve().parents[2] / "docs" / "query.rst"

BLOCK = re.compile(r"^\.\. code-block:: python\n((?:\n|    .*\n)+)", re.MULTILINE)


class Extension:
    """As much of ``LlmCost`` as a question needs."""

    def __init__(self, calls: CallQuery) -> None:
        self.calls = calls


def test_every_recipe_works(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.fill(
        make_call(tags={"session": "a", "tenant": "acme"}, latency_ms=5),
        make_call(model="mystery", cost=None),
    )
    blocks = BLOCK.findall(COOKBOOK.read_text())
    scope: dict[str, t.Any] = {"llm_cost": Extension(store.query())}
    for block in blocks:
        exec(textwrap.dedent(block), scope)
    assert len(blocks) > 8
    assert "mystery None 1" in capsys.readouterr().out
