"""Restoring pruned calls undoes a prune, and nothing is counted twice."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import sqlalchemy as sa

from flask_llm_cost.call import Call
from flask_llm_cost.db import tables
from flask_llm_cost.errors import StorageError
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.rollups.dropping import announce
from flask_llm_cost.rollups.dropping import Dropping
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.db.test_partitions import _split
from tests.db.test_partitions import calls_around
from tests.db.test_partitions import ever
from tests.db.test_partitions import kept
from tests.db.test_partitions import month
from tests.db.test_partitions import with_partitions
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON
from tests.ledger.test_ledger import spool
from tests.rollups.test_build import calls_over
from tests.rollups.test_build import HOUR
from tests.rollups.test_build import raw
from tests.rollups.test_build import rolled

LATER = NOON + 100 * HOUR


def tagged(hours: int) -> list[Call]:
    """Calls of all kinds, with and without the declared tag."""
    return [
        dataclasses.replace(call, tags={"feature": f"f{n % 3}"} if n % 4 else {})
        for n, call in enumerate(calls_over(hours, every=6))
    ]


def everything(ledger: Ledger, *kinds: str) -> list[tuple[object, ...]]:
    """All rollups of these kinds, row by row."""
    found: list[tuple[object, ...]] = []
    with ledger.reading() as connection:
        for table in (tables.rollups, tables.rollup_latencies, tables.tag_rollups):
            columns = [c for c in table.columns if c.name != "number"]
            query = sa.select(*columns).where(table.c.kind.in_(kinds))
            found += sorted(map(tuple, connection.execute(query)))
    return found


@pytest.fixture
def filled(database: str | None, make_ledger: MakeLedger) -> Ledger:
    """A ledger of 30 hours with rollups, also by a tag."""
    ledger = make_ledger(database, rollup_tags=("feature",))
    spool(ledger, tagged(30))
    ledger.queue.drain()
    ledger.rollups.build()
    return ledger


@every_database
def test_restoring_all_calls_undoes_a_prune(filled: Ledger) -> None:
    before = everything(filled, "hour", "day", "pruned")
    assert filled.prune(NOON + 20.5 * HOUR) > 100
    pruned = everything(filled, "pruned")
    old = [call for call in tagged(30) if call.started_at < NOON + 20.5 * HOUR]
    stored = filled.restore(old)
    assert (stored.new, stored.duplicate, stored.rejected) == (len(old), 0, [])
    assert everything(filled, "pruned") == []
    filled.rollups.build()
    assert everything(filled, "hour", "day", "pruned") == before
    assert filled.rollups.verify() == []
    filled.prune(NOON + 20.5 * HOUR, batch=7)
    assert everything(filled, "pruned") == pruned


@every_database
def test_restoring_some_calls_changes_no_total(filled: Ledger) -> None:
    days = everything(filled, "day")
    filled.prune(LATER)
    some = tagged(30)[3::5]
    assert filled.restore(some).new == len(some) == raw(filled)["calls"]
    again = filled.restore([*some, *tagged(30)[4::5]])
    assert again.duplicate == len(some)
    filled.rollups.build()
    assert everything(filled, "day") == days
    assert rolled(filled, "hour") == raw(filled)
    assert filled.rollups.verify() == []


@every_database
def test_two_concurrent_restores_store_each_call_once(
    filled: Ledger, database: str | None, make_ledger: MakeLedger
) -> None:
    days = everything(filled, "day")
    filled.prune(LATER)
    new: list[int] = []

    def restore() -> None:
        mine = make_ledger(database, rollup_tags=("feature",))
        new.append(sum(mine.restore([call]).new for call in tagged(4)))

    threads = [threading.Thread(target=restore) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == len(tagged(4)) == raw(filled)["calls"]
    filled.rollups.build()
    assert everything(filled, "day") == days
    assert filled.rollups.verify() == []


def test_a_call_that_the_rollups_do_not_include_is_rejected(filled: Ledger) -> None:
    filled.prune(LATER)
    pruned = everything(filled, "pruned")
    strange = [
        make_call(1, model="never-seen"),
        make_call(2, started_at=NOON + 50 * HOUR),  # there was no call then
        make_call(3, started_at=LATER + HOUR),  # nothing was pruned then
        dataclasses.replace(tagged(1)[1], tags={"feature": "another"}),
    ]
    stored = filled.restore(strange)
    assert stored.new == 0
    assert [call for call, _ in stored.rejected] == strange
    assert everything(filled, "pruned") == pruned
    [good] = tagged(1)[1:2]
    assert filled.restore([*strange[:3], good]).new == 1


def test_a_key_that_was_declared_later_has_the_same_totals(
    ledger: Ledger, database: str | None, make_ledger: MakeLedger
) -> None:
    spool(ledger, tagged(30))
    ledger.queue.drain()
    ledger.rollups.build()
    ledger.prune(NOON + 5 * HOUR)
    later = make_ledger(database, rollup_tags=("feature",))
    later.rollups.build()
    later.prune(NOON + 8 * HOUR)
    pruned = everything(later, "pruned")
    old = [call for call in tagged(30) if call.started_at < NOON + 8 * HOUR]
    for _ in range(2):
        assert later.restore(old).new == len(old)
        later.rollups.build()
        assert later.rollups.verify() == []
        later.prune(NOON + 8 * HOUR)
        assert everything(later, "pruned") == pruned


def test_a_month_that_is_being_dropped_rejects_calls(filled: Ledger) -> None:
    filled.prune(LATER)
    with filled._engines.writing().begin() as connection:
        announce(connection, Dropping(NOON - HOUR, LATER))
    with pytest.raises(StorageError, match="being dropped"):
        filled.restore(tagged(1))
    assert raw(filled)["calls"] == 0


@with_partitions
def test_calls_of_a_dropped_month_can_be_restored_and_pruned(ledger: Ledger) -> None:
    ledger.partitions.apply()
    _split(ledger, 5)
    made = calls_around(*(month(n) for n in range(5)))
    kept(ledger, made)
    before = ever(ledger)
    limit = month(2) + 1.5 * HOUR
    gone = ledger.prune(limit)
    for _ in range(2):
        old = [call for call in made if call.started_at < limit]
        stored = ledger.restore(old)
        assert (stored.new, stored.rejected) == (gone, [])
        assert ever(ledger) == before
        ledger.rollups.build()
        assert rolled(ledger, "pruned")["calls"] == 0
        assert ledger.partitions.plan() == []
        assert ledger.rollups.verify() == []
        assert ledger.prune(limit) == gone
        assert ever(ledger) == before
    ledger.rollups.build()
    assert ledger.rollups.verify() == []
