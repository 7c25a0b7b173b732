from __future__ import annotations

import dataclasses
import json
import threading
import typing as t
from pathlib import Path

import sqlalchemy as sa

from flask_llm_cost.config import Settings
from flask_llm_cost.db.tables import metadata
from flask_llm_cost.files.monthly import JsonlLedger
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.query.aggregate import tag_breakdown
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.totals import Totals
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON
from tests.ledger.test_ledger import spool
from tests.rollups.test_tag_rollups import DAY
from tests.rollups.test_tag_rollups import kept

WHO = "person-4711"


def everything(ledger: Ledger) -> str:
    """The content of all tables."""
    with ledger.reading() as connection:
        rows = [
            tuple(row)
            for table in metadata.sorted_tables
            for row in connection.execute(sa.select(table))
        ]
    return repr(rows)


def answers(ledger: Ledger) -> tuple[Totals, dict[str, Totals]]:
    with ledger.reading() as connection:
        groups = tag_breakdown(connection, CallFilter(), "user")
        return totals(connection, CallFilter()), {g.key[0]: g.totals for g in groups}


def of_people(count: int) -> list[t.Any]:
    people = [WHO, "other", "", None]
    made = []
    for n in range(count):
        tags = {"feature": "chat"} if n % 3 else {}
        who = people[n % 4]
        if who is not None:
            tags["user"] = who
        made.append(make_call(n, started_at=NOON - n * DAY / 7, tags=tags))
    return made


@every_database
def test_a_person_is_erased_and_totals_stay(
    database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(database, rollup_tags=("user",))
    spool(ledger, of_people(40))
    ledger.queue.drain()
    ledger.prune(NOON - 3 * DAY)
    ledger.rollups.build()
    before, users = answers(ledger)
    assert WHO in everything(ledger)
    steps: list[int] = []
    erased = ledger.erase_tag(
        "user", WHO, progress=lambda so_far: steps.append(so_far.calls)
    )
    assert WHO not in everything(ledger)
    after, rest = answers(ledger)
    assert after == before
    assert rest["(untagged)"] == users["(untagged)"] + users[WHO]
    assert rest["other"] == users["other"]
    assert erased.sets == 2
    assert 0 < erased.calls < users[WHO].calls  # some were pruned
    assert erased.rollups > 0
    assert steps
    assert ledger.rollups.verify() == []
    ledger.rollups.build()
    assert answers(ledger) == (after, rest)
    again = ledger.erase_tag("user", WHO)
    assert (again.sets, again.calls, again.rollups) == (0, 0, 0)


@every_database
def test_a_call_without_other_tags_has_no_tag_set(ledger: Ledger) -> None:
    spool(ledger, [make_call(n, tags={"user": WHO}) for n in range(3)])
    ledger.queue.drain()
    assert ledger.erase_tag("user", WHO).calls == 3
    with ledger.reading() as connection:
        assert totals(connection, CallFilter(untagged=True)).calls == 3


def test_a_writer_that_knows_the_tag_set_stores_calls_without_the_value(
    ledger: Ledger,
) -> None:
    spool(ledger, [make_call(1, tags={"user": WHO, "feature": "chat"})])
    ledger.queue.drain()
    ledger.erase_tag("user", WHO)
    spool(ledger, [make_call(2, tags={"user": WHO, "feature": "chat"})])
    ledger.queue.drain()
    assert WHO not in everything(ledger)
    with ledger.reading() as connection:
        chats = totals(connection, CallFilter(tags=(("feature", "chat"),)))
    assert chats.calls == 2


@every_database
def test_values_are_erased_while_calls_are_written(
    database: str | None, ledger: Ledger, make_ledger: MakeLedger
) -> None:
    other = make_ledger(database, rollup_tags=("user",))
    done = threading.Event()
    written: list[int] = []

    def write() -> None:
        n = 0
        while not done.is_set():
            made = [
                make_call(n + k, tags={"user": WHO, "n": str(k)}) for k in range(10)
            ]
            written.append(other._store.write(made).new)
            other.rollups.build()
            n += 10

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            ledger.erase_tag("user", WHO)
    finally:
        done.set()
        thread.join()
    ledger.erase_tag("user", WHO)
    other.rollups.build()
    assert WHO not in everything(ledger)
    assert answers(ledger)[0].calls == sum(written)
    assert kept(ledger, "user") == {"": sum(written)}
    assert ledger.rollups.verify() == []


@every_database
def test_trace_ids_are_erased(ledger: Ledger) -> None:
    made = [make_call(n, trace_id=WHO, tags={"trace_id": WHO}) for n in range(3)]
    spool(ledger, made)
    ledger.queue.drain()
    ledger.erase_tag("trace_id", WHO)
    assert WHO not in everything(ledger)


def test_queued_and_rejected_lines_are_erased(
    ledger: Ledger, make_ledger: MakeLedger
) -> None:
    call = make_call(1, tags={"user": WHO, "feature": "chat"})
    bad = dataclasses.replace(call, latency_ms=2**70)
    other = make_ledger()  # it has stopped; its line is still queued
    spool(other, [make_call(2, tags={"user": WHO})])
    spool(ledger, [call, bad])
    ledger.queue.spool.append(b'{"v":1,"tags":{"user":"' + WHO.encode() + b'"},"torn\n')
    ledger.queue.drain()
    assert len(ledger.queue.rejected()) == 2
    erased = ledger.erase_tag("user", WHO, timeout=0)
    assert (erased.lines, erased.unreadable, erased.queued) == (2, 0, 1)
    files = ledger.queue.rejected()
    assert len(files) == 2
    assert not any(WHO in path.read_text() for path in files)
    [kept_tags] = [
        json.loads(line)["tags"]
        for line in (json.loads(path.read_text())["line"] for path in files)
        if "torn" not in line
    ]
    assert kept_tags == {"feature": "chat"}
    other.close()
    ledger.erase_tag("user", WHO)
    assert WHO not in everything(ledger)


def test_monthly_files_are_erased(tmp_path: Path) -> None:
    settings = Settings(storage="jsonl")
    ledger = JsonlLedger(settings, instance_path=str(tmp_path))
    for call in of_people(20):
        ledger.append(call)
    before, users = answers(ledger)
    erased = ledger.erase_tag("user", WHO)
    assert erased.lines == 5
    assert not any(WHO in path.read_text() for path in ledger.files())
    assert WHO not in everything(ledger)
    after, rest = answers(ledger)
    assert after == before
    assert rest["(untagged)"] == users["(untagged)"] + users[WHO]
    ledger.close()
