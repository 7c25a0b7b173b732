"""``ledger`` and ``prune``: the ledger itself, kept in order."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost.db.tables import calls
from flask_llm_cost.db.tables import tag_dirty_marks
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.rollups.dirty_marks import dirty_hours
from tests.cli.conftest import Run
from tests.conftest import MakeApp

Shown = Callable[..., str]


def added_up(app: Flask) -> Ledger:
    """The app's ledger, hours and days of tags added up. The writer may be at it, too."""
    ledger: Ledger = app.extensions["llm_cost"].ledger
    assert ledger.flush(20)
    tags = sa.select(tag_dirty_marks.c.start).limit(1)
    for _ in range(500):
        ledger.rollups.build()
        with ledger.reading() as connection:
            if not dirty_hours(connection) and connection.execute(tags).first() is None:
                return ledger
        time.sleep(0.02)
    raise AssertionError("some hours are never added up")


def test_sums_that_are_right_are_said_to_be(shop: Flask, shown: Shown) -> None:
    added_up(shop)
    assert shown("ledger", "verify") == "The rollups match the calls.\n"


def test_sums_that_differ_fail(shop: Flask, run: Run) -> None:
    ledger = added_up(shop)
    with ledger._engines.writing().begin() as connection:
        connection.execute(sa.update(calls).values(cost_total=1))
    result = run("ledger", "verify")
    assert result.exit_code == 1
    assert "found." in result.stderr
    assert "2026-11-08" in result.stdout


def test_a_changed_zone_is_followed_by_rezone(
    shop: Flask, make_app: MakeApp, shown: Shown
) -> None:
    added_up(shop)
    uri = f"sqlite:///{pathlib.Path(shop.instance_path) / 'llm_cost.db'}"
    moved = make_app(LLM_COST_DATABASE_URI=uri, LLM_COST_TIMEZONE="Asia/Tokyo")
    assert "Asia/Tokyo" in shown("ledger", "rezone", app=moved)
    assert shown("ledger", "verify", app=moved).startswith("The rollups match")


def test_prune_says_first_and_does_then(shown: Shown) -> None:
    shown("drain")
    assert shown("prune", "--older-than", "7d", "--dry-run").startswith("1 call before")
    assert shown("prune", "--older-than", "7d") == (
        "1 call before 2026-11-13 12:00 UTC deleted.\n"
    )
    assert shown("prune", "--older-than", "7d").startswith("0 calls")
    left = shown("calls", "export", "--format", "jsonl", "--days", "3660")
    assert len(left.splitlines()) == 4


@pytest.mark.parametrize("age", ["0d", "90", "-1d", "abc", "1.5d", ""])
def test_an_age_that_is_none_deletes_nothing(run: Run, age: str) -> None:
    result = run("prune", "--older-than", age)
    assert result.exit_code == 2
    assert "is not a valid age" in result.stderr


def test_a_month_that_is_over_can_be_closed(run: Run, shown: Shown) -> None:
    empty = run("ledger", "close", "2026-10")
    assert empty.exit_code == 1
    assert "2026-10 has no calls" in empty.stderr
    close = "ledger", "close", "2026-10", "--empty"
    assert shown(*close) == "2026-10 is closed (UTC).\n"
    assert "2026-10 was already closed at 2026-" in shown(*close)
    early = run("ledger", "close", "2099-12")
    assert early.exit_code == 1
    assert "2099-12 is not over before 2100-01-01" in early.stderr
    assert run("ledger", "close", "10/2026").exit_code == 2
