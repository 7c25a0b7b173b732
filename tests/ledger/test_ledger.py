from __future__ import annotations

import json
from collections.abc import Iterable

import sqlalchemy as sa

from flask_llm_cost.call import Call
from flask_llm_cost.db.rows import call_of
from flask_llm_cost.db.tables import calls
from flask_llm_cost.db.tables import tag_sets
from flask_llm_cost.jsonl import encode
from flask_llm_cost.ledger import Ledger
from tests.conftest import every_database

from .samples import make_call


def stored(ledger: Ledger) -> list[Call]:
    """All calls in the ledger, by time."""
    query = sa.select(calls, tag_sets.c.tags).outerjoin_from(
        calls, tag_sets, calls.c.tag_set_id == tag_sets.c.id
    )
    with ledger.reading() as connection:
        rows = connection.execute(query.order_by(calls.c.started_at)).all()
    return [call_of(row, json.loads(row.tags or "{}")) for row in rows]


def spool(ledger: Ledger, made: Iterable[Call]) -> None:
    """Append calls as a process whose writer has not stored them."""
    for call in made:
        ledger.queue.spool.append(encode(call))


@every_database
def test_what_is_appended_is_in_the_ledger_after_a_flush(ledger: Ledger) -> None:
    made = [make_call(n) for n in range(20)] + [
        make_call(20, usage=None, cost=None, tags={})
    ]
    for call in made:
        ledger.append(call)
    assert ledger.flush(60)
    assert stored(ledger) == made
    assert ledger.queue.count() == 0


@every_database
def test_a_replayed_line_counts_once(ledger: Ledger) -> None:
    made = [make_call(n) for n in range(20)]
    spool(ledger, [*made[:8], *made, *made[5:]])
    drained = ledger.queue.drain()
    assert (drained.new, drained.duplicate, drained.rejected) == (20, 23, 0)
    spool(ledger, made[:3])
    assert ledger.queue.drain().duplicate == 3
    assert stored(ledger) == made


@every_database
def test_texts_that_differ_in_a_blank_or_in_case_are_distinct(ledger: Ledger) -> None:
    names = ["a", "a ", "A", "ä", "😀"]
    for number, name in enumerate(names):
        ledger.append(make_call(number, model=name))
    assert ledger.flush(60)
    with ledger.reading() as connection:
        grouped = sa.select(calls.c.model).group_by(calls.c.model)
        assert set(connection.scalars(grouped)) == set(names)
        exact = sa.select(calls.c.model).where(calls.c.model == "a")
        assert connection.scalars(exact).all() == ["a"]
