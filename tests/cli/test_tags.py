"""``tags``: values erased, keys forgotten; and what the doctor says of tags."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost.calendar import from_ms
from flask_llm_cost.db.tables import tag_sets
from flask_llm_cost.db.tables import tag_values
from flask_llm_cost.query import tags as tag_questions
from flask_llm_cost.rollups import tag_rollups
from tests.cli.conftest import Run

from .test_ledger import added_up
from .test_ledger import Shown


def test_a_value_is_erased(shop: Flask, run: Run, shown: Shown) -> None:
    added_up(shop)
    before = shown("report", "--by", "tag:feature")
    assert "chat" in before
    assert "Erased from" in shown("tags", "erase", "feature", "chat")
    after = shown("report", "--by", "tag:feature")
    assert "chat" not in after
    assert "(untagged)" in after
    assert before.splitlines()[3] == after.splitlines()[3]  # the total
    assert "Erased from 0 calls" in shown("tags", "erase", "feature", "chat")


def test_a_key_is_forgotten(shop: Flask, run: Run, shown: Shown) -> None:
    ledger = added_up(shop)
    result = run("tags", "forget", "feature")
    assert result.exit_code == 2
    assert "LLM_COST_ROLLUP_TAGS" in result.stderr
    assert run("tags", "forget", "plan").exit_code == 1
    with ledger._engines.writing().begin() as connection:
        tag_rollups.declare_keys(connection, ["plan"], None)
    ledger.rollups.build()
    assert "no longer aggregated" in shown("tags", "forget", "plan")
    with ledger.reading() as connection:
        assert [known.key for known in tag_rollups.declared_keys(connection)] == [
            "feature"
        ]


def test_a_tag_that_differs_with_each_call_is_named(
    shop: Flask, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "sets of tags" not in run("doctor").stdout
    monkeypatch.setattr(tag_questions, "MANY_SETS", 5)
    sets = [
        {"id": n, "tags": f'{{"request":"{n}"}}', "seen_at": from_ms(0)}
        for n in range(1, 60)
    ]
    with added_up(shop)._engines.writing().begin() as connection:
        connection.execute(sa.insert(tag_sets), sets)
        connection.execute(
            sa.insert(tag_values),
            [
                {"tag_set_id": one["id"], "key": "request", "value": str(one["id"])}
                for one in sets
            ],
        )
    said = run("doctor").stdout
    assert "the tag request alone has 59 values" in said
    assert "trace_id" in said


@pytest.fixture
def one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tag_rollups, "MAX_VALUES", 1)


# First `one_value`: the app may add up its calls as soon as it has some.
def test_a_key_with_too_many_values_is_named(
    one_value: None, shop: Flask, run: Run
) -> None:
    added_up(shop)
    said = run("doctor").stdout
    assert "feature had more than 1 values in a day" in said
    assert "tags forget feature" in said
