"""Sums by day give the same answers as the calls, whatever happens to those."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import replace
from decimal import Decimal

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from flask_llm_cost.call import Call
from flask_llm_cost.db.day_tables import day_marks
from flask_llm_cost.db.day_tables import tag_key_days
from flask_llm_cost.db.day_tables import tag_value_days
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger.store import Store
from flask_llm_cost.query import day_sources
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.listing import call_page
from flask_llm_cost.query.listing import count as count_calls
from flask_llm_cost.query.quality import quality
from flask_llm_cost.query.sessions import sessions
from flask_llm_cost.query.tags import tag_keys
from flask_llm_cost.query.tags import tag_page
from tests.conftest import every_database
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON

DAY = dt.timedelta(days=1)
MIDNIGHT = NOON.replace(hour=0, minute=0, second=0, microsecond=0)
WHERE = CallFilter(start=MIDNIGHT, end=MIDNIGHT + 4 * DAY)

QUESTIONS: dict[str, t.Any] = {
    "quality": quality,
    "a model's quality": lambda c, w: quality(c, replace(w, model="gpt-4o")),
    "keys": tag_keys,
    "feature": lambda c, w: tag_page(c, w, "feature"),
    "rare": lambda c, w: tag_page(c, w, "rare"),
    "expensive": lambda c, w: call_page(c, w, sort="expensive", per=25),
    "models": lambda c, w: count_calls(c, replace(w, model="o3")),
    "sessions": lambda c, w: sessions(c, w, "session"),
    "no sessions": lambda c, w: sessions(c, w, "trace_id"),
}


def put(ledger: Ledger, count: int, start: dt.datetime = MIDNIGHT) -> list[Call]:
    """Calls of three days and many kinds."""
    made = []
    for n in range(count):
        at = start + n % 3 * DAY + dt.timedelta(minutes=n % 700, milliseconds=n)
        tags = {"feature": f"f{n % 3}", "session": f"s{n % 11}", "e": "x" * (n % 2)}
        tags |= {"rare": "1"} if n % 3 == 1 else {}
        call = make_call(
            n,
            started_at=at,
            event_id=mint_event_id(at),
            model=("gpt-4o", "o3")[n % 2],
            response_id=f"r{n // 2 % 4}",
            tags=tags if n % 5 else {},
            flags=frozenset(["cut"] if n % 7 == 0 else []),
            latency_ms=None if n % 4 == 0 else n,
        )
        made.append(replace(call, cost=None) if n % 9 == 0 else call)
    assert Store(ledger._engines).write(made).new == count
    return made


def answers(ledger: Ledger) -> dict[str, t.Any]:
    with ledger.reading() as connection:
        return {name: ask(connection, WHERE) for name, ask in QUESTIONS.items()}


def both(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> tuple[t.Any, t.Any]:
    """The answers from sums, and those from calls only."""
    summed = answers(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(day_sources.sums, "begun", lambda connection: False)
        return summed, answers(ledger)


def count(ledger: Ledger, table: sa.Table) -> int:
    with ledger._engines.reading().connect() as connection:
        query = sa.select(sa.func.count()).select_from(table)
        return connection.scalar(query) or 0


@every_database
def test_sums_answer_like_the_calls(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put(ledger, 120)
    ledger.rollups.build()
    assert count(ledger, day_marks) == 0
    summed, read = both(ledger, monkeypatch)
    assert summed == read
    assert summed["quality"].duplicates > 0
    assert len(summed["sessions"]) == 12
    assert ledger.rollups.verify() == []

    put(ledger, 10, MIDNIGHT + dt.timedelta(hours=20))  # some days are dirty now
    summed, read = both(ledger, monkeypatch)
    assert summed == read
    assert summed["keys"].calls == 130

    ledger.erase_tag("session", "s3")
    summed, read = both(ledger, monkeypatch)
    assert summed == read
    assert "s3" not in {session.session_id for session in summed["sessions"]}
    ledger.rollups.build()
    assert both(ledger, monkeypatch) == (summed, read)

    costs = {call.event_id: Decimal(3) for call in made[:20]}
    assert ledger.repricing.settle(costs, now=NOON).changed > 0
    assert both(ledger, monkeypatch)[0]["quality"].totals.spend_usd > 50
    ledger.prune(MIDNIGHT + DAY)
    ledger.rollups.build()
    summed, read = both(ledger, monkeypatch)
    assert summed == read
    assert ledger.rollups.verify() == []


def test_sums_read_no_calls(ledger: Ledger) -> None:
    put(ledger, 60)
    ledger.rollups.build()
    found: list[str] = []

    def note(*args: t.Any) -> None:
        found.append(args[2])

    event.listen(sa.Engine, "before_cursor_execute", note)
    answers_without_trace = [
        name for name in QUESTIONS if name not in ("no sessions", "expensive")
    ]
    with ledger.reading() as connection:
        for name in answers_without_trace:
            QUESTIONS[name](connection, WHERE)
    event.remove(sa.Engine, "before_cursor_execute", note)
    assert not [text for text in found if "llm_cost_calls" in text]


def test_values_that_are_too_many_are_read_from_calls(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_llm_cost.rollups.days._FEW", 5)
    put(ledger, 90)
    ledger.rollups.build()
    with ledger._engines.reading().connect() as connection:
        k = tag_key_days.c
        many = sa.select(k.key).where(~k.summed).distinct()
        assert "session" in set(connection.scalars(many))
    summed, read = both(ledger, monkeypatch)
    assert summed == read


def test_verify_finds_a_wrong_sum(ledger: Ledger) -> None:
    put(ledger, 30)
    ledger.rollups.build()
    with ledger._engines.writing().begin() as connection:
        connection.execute(sa.update(tag_value_days).values(calls=99))
    found = ledger.rollups.verify()
    assert any("tag value days differ from the calls" in line for line in found)
