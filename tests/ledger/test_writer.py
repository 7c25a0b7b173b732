from __future__ import annotations

import dataclasses
import datetime as dt
import gc
import json
import logging
import os
import random
import socket
import subprocess
import sys
import threading
import time
import typing as t
import weakref
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.config import Settings
from flask_llm_cost.db import rows
from flask_llm_cost.db.tables import rollups
from flask_llm_cost.db.tables import tag_sets
from flask_llm_cost.db.tables import tag_values
from flask_llm_cost.errors import StorageError
from flask_llm_cost.jsonl import encode
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger import store
from tests.conftest import every_database
from tests.conftest import MakeLedger

from .samples import make_call
from .test_ledger import spool
from .test_ledger import stored


def test_a_call_is_stored_within_a_second_or_so(ledger: Ledger) -> None:
    ledger.append(make_call())
    until = time.monotonic() + 5
    while ledger.queue.count() and time.monotonic() < until:
        time.sleep(0.05)
    assert len(stored(ledger)) == 1


def rolled(ledger: Ledger) -> int:
    with ledger.reading() as connection:
        query = sa.select(sa.func.count()).select_from(rollups)
        return connection.scalar(query) or 0


def test_the_writer_does_not_use_the_app_random_numbers(ledger: Ledger) -> None:
    state = random.getstate()
    ledger.append(make_call())
    until = time.monotonic() + 10
    while not rolled(ledger) and time.monotonic() < until:
        time.sleep(0.05)
    assert rolled(ledger)
    ledger.close()  # waits for the writer
    assert random.getstate() == state


@every_database
def test_lines_of_a_dead_process_are_stored(
    database: str | None, make_ledger: MakeLedger
) -> None:
    dead, alive = make_ledger(database), make_ledger(database)
    spool(dead, [make_call(n) for n in range(3)])
    assert alive.queue.drain().new == 0
    assert alive.queue.count() == 3
    dead.queue.spool.close()
    assert alive.queue.drain().new == 3
    assert os.listdir(alive.queue.spool.directory) == []


@every_database
def test_a_crash_between_commit_and_delete_duplicates_nothing(
    database: str | None, make_ledger: MakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = make_ledger(database)
    spool(dead, [make_call(n) for n in range(1200)])
    with monkeypatch.context() as crash:
        crash.setattr(dead.queue.spool, "remove", lambda file: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            dead.queue.drain()
    dead.queue.spool.close()
    drained = make_ledger(database).queue.drain()
    assert (drained.new, drained.duplicate) == (0, 1200)
    assert len(stored(dead)) == 1200


def _dear(usd: str) -> dict[str, t.Any]:
    part = Part(Decimal(1), Decimal(1), Decimal(usd))
    return {"cost": Cost(part.amount_usd, {"output": part}, "file")}


@every_database
def test_only_the_invalid_line_is_rejected(
    database: str | None, make_ledger: MakeLedger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = make_ledger(database)
    good = [make_call(n) for n in range(4)]
    poison = [
        b"{nonsense}\n",
        encode(make_call(9, **_dear("99999999"))),
        encode(make_call(9)).replace(b"1000,", b"%d," % 2**63),
        encode(dataclasses.replace(make_call(9), event_id=make_call(8).event_id)),
    ]
    for call, line in zip(good, poison, strict=True):
        spool(ledger, [call])
        ledger.queue.spool.append(line)
    drained = ledger.queue.drain()
    assert (drained.new, drained.rejected) == (4, 4)
    assert stored(ledger) == good
    assert ledger.queue.count() == 0
    assert ledger.queue.requeue() == 4
    assert ledger.queue.rejected() == []
    assert ledger.queue.drain().rejected == 4
    kept = [json.loads(path.read_text()) for path in ledger.queue.rejected()]
    assert {k["line"] + "\n" for k in kept} == {line.decode() for line in poison}
    assert "Rejected lines: 4." in caplog.text


@every_database
def test_only_the_call_that_the_database_rejects_is_rejected(
    database: str | None, make_ledger: MakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    values_of = store.values_of

    def broken(call: Call) -> tuple[t.Any, ...]:
        values = dict(zip(rows.COLUMNS, values_of(call), strict=True))
        return tuple(
            (values | {"provider": None} if call.model == "bad" else values).values()
        )

    monkeypatch.setattr(store, "values_of", broken)
    ledger = make_ledger(database)
    spool(ledger, [make_call(1), make_call(2, model="bad"), make_call(3)])
    drained = ledger.queue.drain()
    assert (drained.new, drained.duplicate, drained.rejected) == (2, 0, 1)
    (path,) = ledger.queue.rejected()
    assert "provider" in json.loads(path.read_text())["reason"]


def test_a_torn_line_does_not_affect_others(ledger: Ledger) -> None:
    spool(ledger, [make_call(0)])
    ledger.queue.spool.append(encode(make_call(1))[:50])
    ledger.queue.spool.close()
    drained = ledger.queue.drain()
    assert (drained.new, drained.rejected) == (1, 1)


@every_database
def test_text_that_some_database_rejects_is_stored(
    database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(database)
    odd = make_call(model="a\0b\ud800😀" + "x" * 300, tags={"who": "\0\ud800😀 "})
    ledger.append(odd)
    assert ledger.flush(60)
    (call,) = stored(ledger)
    assert call.model.startswith("a\ufffdb\ufffd")
    assert call.flags == {"truncated_text"}
    assert call.tags["who"].endswith("😀 ")


@every_database
def test_tag_sets_with_the_same_hash_are_distinct(
    database: str | None, make_ledger: MakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag_set_of = rows.tag_set_of

    def colliding(tags: t.Any) -> t.Any:
        tag_set = tag_set_of(tags)
        return tag_set and dataclasses.replace(tag_set, id=rows.BIGGEST)

    monkeypatch.setattr(store, "tag_set_of", colliding)
    ledger = make_ledger(database)
    made = [make_call(n, tags={"n": str(n)}) for n in range(3)]
    spool(ledger, made)
    ledger.queue.drain()
    spool(make_ledger(database), [make_call(3, tags={"n": "1"}), make_call(4)])
    ledger.append(make_call(5, tags={"n": "2"}))
    assert ledger.flush(60)
    assert [call.tags["n"] for call in stored(ledger)] == ["0", "1", "2", "2"]
    with ledger.reading() as connection:
        assert len(connection.execute(sa.select(tag_sets)).all()) == 3
        assert len(connection.execute(sa.select(tag_values)).all()) == 3


def test_an_old_tag_set_is_marked_as_seen(
    ledger: Ledger, make_ledger: MakeLedger
) -> None:
    ledger.append(make_call())
    assert ledger.flush(60)
    with ledger._engines.writing().begin() as connection:
        connection.execute(sa.text("UPDATE llm_cost_tag_sets SET seen_at = 1"))
    other = make_ledger()
    other.append(make_call(7))
    assert other.flush(60)
    with ledger.reading() as connection:
        (seen,) = connection.scalars(sa.select(tag_sets.c.seen_at)).all()
    assert seen.year > 2000


def test_calls_are_queued_while_the_database_is_unavailable(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    told: list[tuple[Call | None, Exception]] = []
    folder = tmp_path / "mount"
    uri = f"sqlite:///{folder}/costs.db"
    folder.mkdir()
    make_ledger(uri).schema.upgrade()
    ledger = make_ledger(uri, failed=lambda *args: told.append(args))
    folder.rename(tmp_path / "gone")
    ledger.append(make_call())
    assert not ledger.flush(3)
    assert ledger.queue.count() == 1
    assert [(call, type(error)) for call, error in told] == [(None, StorageError)]
    (tmp_path / "gone").rename(folder)
    assert ledger.flush(60)
    assert len(stored(ledger)) == 1


def test_first_calls_at_once_start_one_thread(make_ledger: MakeLedger) -> None:
    started: list[threading.Thread] = []
    at_once = threading.Barrier(8)

    def first_call(ledger: Ledger) -> None:
        at_once.wait()
        ledger.append(make_call())

    for _ in range(8):
        before = set(threading.enumerate())
        ledger = make_ledger()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(first_call, [ledger] * 8))
        new = set(threading.enumerate()) - before
        started += [thread for thread in new if thread.name == "llm-cost-writer"]
        ledger.close()
    assert len(started) == 8


def _writer_threads() -> list[threading.Thread]:
    return [
        thread for thread in threading.enumerate() if thread.name == "llm-cost-writer"
    ]


def test_apps_on_one_ledger_share_a_thread_until_the_last_is_closed(
    make_ledger: MakeLedger, tmp_path: Path
) -> None:
    before = len(_writer_threads())
    ledgers = [make_ledger() for _ in range(4)]
    for number, ledger in enumerate(ledgers):
        ledger.append(make_call(number))
    assert len(_writer_threads()) == before + 1
    for ledger in ledgers[:3]:
        ledger.close()
    ledgers[3].append(make_call(7))
    assert ledgers[3].flush(60)
    assert len(stored(ledgers[3])) == 5
    ledgers[3].close()
    assert len(_writer_threads()) == before
    ledgers[0].append(make_call(8))  # a closed one opens again
    assert ledgers[0].flush(60)
    assert len(_writer_threads()) == before + 1


def test_an_app_that_flushes_on_the_thread_does_not_wait_for_itself(
    make_ledger: MakeLedger, tmp_path: Path
) -> None:
    flushed: list[tuple[bool, float]] = []

    def gather(timeout: float) -> bool:
        if threading.current_thread().name == "llm-cost-writer" and not flushed:
            flushed.append((False, 0))
            began = time.monotonic()
            other.append(make_call(1))
            flushed[0] = other.flush(), time.monotonic() - began
        return True

    other = make_ledger()
    one = Ledger(Settings(), instance_path=str(tmp_path / "instance"), gather=gather)
    try:
        other.append(make_call(0))
        one.append(make_call(2))
        assert one.flush(60)
        assert flushed[0][0]
        assert flushed[0][1] < 9  # its timeout is 10 s
        assert len(stored(one)) == 3
    finally:
        one.close()


def test_a_deleted_app_leaves_neither_thread_nor_file(
    ledger: Ledger, tmp_path: Path
) -> None:
    gone = Ledger(Settings(), instance_path=str(tmp_path / "instance"))
    gone.append(make_call())
    reference = weakref.ref(gone)
    del gone
    until = time.monotonic() + 60
    while reference() is not None and time.monotonic() < until:
        gc.collect()
        time.sleep(0.05)
    assert reference() is None
    assert len(stored(ledger)) == 1
    assert ledger.queue.count() == 0


def test_a_deleted_app_leaves_no_connection(tmp_path: Path) -> None:
    """Python 3.13 warns of one that is not closed."""
    gone = Ledger(Settings(), instance_path=str(tmp_path / "instance"))
    gone.append(make_call())
    assert gone.flush(20)
    pools = [engine.pool for engine in gone._engines._made.values()]
    assert any(pool.checkedin() for pool in pools)  # type: ignore[attr-defined]
    del gone
    until = time.monotonic() + 20
    while any(pool.checkedin() for pool in pools):  # type: ignore[attr-defined]
        assert time.monotonic() < until
        gc.collect()
        time.sleep(0.01)


def test_two_ledgers_of_one_folder_do_not_mix(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    one = make_ledger(f"sqlite:///{tmp_path}/one.db")
    two = make_ledger(f"sqlite:///{tmp_path}/two.db")
    for ledger in (one, two):
        ledger.schema.upgrade()
    spool(one, [make_call(1)])
    one.queue.spool.close()
    spool(two, [make_call(2)])
    assert two.queue.drain().new == 1
    assert one.queue.drain().new == 1
    assert stored(one) == [make_call(1, event_id=stored(one)[0].event_id)]


def test_a_forked_child_records_for_itself(ledger: Ledger) -> None:
    ledger.append(make_call(0))
    assert ledger.flush(60)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ledger.append(make_call(1))
            status = 0 if ledger.flush() else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    ledger.append(make_call(2))
    assert ledger.flush(60)
    assert len(stored(ledger)) == 3


@every_database
def test_a_sync_write_is_stored_at_once(
    database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(database, write="sync")
    ledger.append(make_call())
    assert stored(ledger) == [make_call(event_id=stored(ledger)[0].event_id)]
    assert not ledger.queue.spool.directory.exists()


def test_a_sync_write_that_fails_is_queued(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    told: list[t.Any] = []
    uri = f"sqlite:///{tmp_path}/host.db"
    ledger = make_ledger(uri, write="sync", failed=lambda *args: told.append(args))
    ledger.append(make_call(0))
    ledger.append(make_call(1))
    assert ledger.queue.count() == 2
    assert "db upgrade" in str(told[0][1])
    ledger.schema.upgrade()
    assert ledger.flush(60)
    assert len(stored(ledger)) == 2


def test_an_invalid_call_of_a_sync_write_is_rejected(make_ledger: MakeLedger) -> None:
    told: list[t.Any] = []
    ledger = make_ledger(write="sync", failed=lambda *args: told.append(args))
    poison = make_call(**_dear("99999999"))
    ledger.append(poison)
    assert len(ledger.queue.rejected()) == 1
    assert told[0][0] is poison


def test_without_a_spool_calls_are_written_directly(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    told: list[t.Any] = []
    (tmp_path / "file").touch()
    ledger = make_ledger(
        spool_dir=tmp_path / "file" / "spool", failed=lambda *args: told.append(args)
    )
    for n in range(3):
        ledger.append(make_call(n))
    assert ledger.flush(60)
    assert len(stored(ledger)) == 3
    assert ledger.lost == 0
    assert ["LLM_COST_SPOOL_DIR" in str(error) for _, error in told] == [True]


def test_without_spool_and_database_calls_do_not_wait(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    """A server that accepts connections and never answers costs one timeout in all."""
    told: list[t.Any] = []
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        ledger = make_ledger(
            f"mysql+pymysql://me:hush@127.0.0.1:{mute.getsockname()[1]}/costs",
            spool_dir=tmp_path / "file" / "spool",
            engine_options={"connect_args": {"connect_timeout": 1, "read_timeout": 1}},
            failed=lambda *args: told.append(args),
        )
        ledger.append(make_call(0))
        began = time.monotonic()
        for n in range(1, 20):
            ledger.append(make_call(n))
        assert time.monotonic() - began < 10
    assert ledger.lost == len(told) == 20
    assert "a moment ago" in str(told[-1][1])


def test_relative_folders_are_in_the_instance_folder(
    tmp_path: Path, make_ledger: MakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ledger = make_ledger(spool_dir=Path("lines"))
    spool(ledger, [make_call()])
    assert len(list((tmp_path / "instance" / "lines").iterdir())) == 1
    assert not (tmp_path / "lines").exists()
    assert ledger.folder == tmp_path / "instance" / "lines"


@pytest.mark.parametrize("year", [1969, 2262, 9999])
@pytest.mark.parametrize("write", ["spool", "sync"])
def test_a_call_with_an_impossible_time_is_rejected(
    make_ledger: MakeLedger, year: int, write: str
) -> None:
    ledger = make_ledger(write=write)
    at = dt.datetime(year, 12, 31, 23, 59, tzinfo=dt.UTC)
    ledger.append(dataclasses.replace(make_call(), started_at=at))
    ledger.append(make_call(1))
    ledger.flush()
    assert len(stored(ledger)) == 1
    (path,) = ledger.queue.rejected()
    assert "a time from 1970 to 2261" in path.read_text()


def test_a_call_that_cannot_be_encoded_is_reported(make_ledger: MakeLedger) -> None:
    told: list[t.Any] = []
    ledger = make_ledger(failed=lambda *args: told.append(args))
    ledger.append(make_call(tags={"user": object()}))
    assert ledger.lost == 1
    assert isinstance(told[0][1], TypeError)


def test_queued_calls_are_written_at_exit(ledger: Ledger, tmp_path: Path) -> None:
    code = (
        "import sys; from flask_llm_cost.ledger import Ledger\n"
        "from flask_llm_cost.config import Settings\n"
        "from tests.ledger.samples import make_call\n"
        "l = Ledger(Settings(), instance_path=sys.argv[1])\n"
        "l.append(make_call(1)); l.append(make_call(2))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "instance")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ledger.queue.count() == 0
    assert len(stored(ledger)) == 2


def test_flush_returns_false_if_a_line_was_rejected(ledger: Ledger) -> None:
    ledger.queue.spool.append(b"{}\n")
    assert not ledger.flush()
    ledger.append(make_call())
    assert ledger.flush(60)


def test_an_error_contains_no_tag(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ledger.append(make_call(tags={"user": "MARKER"}))
    assert ledger.flush(60)
    with ledger._engines.writing().begin() as connection:
        connection.exec_driver_sql("DROP TABLE llm_cost_calls")
    ledger.append(make_call(2, tags={"user": "MARKER"}))
    assert not ledger.flush(2)
    assert "MARKER" not in caplog.text


def test_a_closed_ledger_opens_again(ledger: Ledger) -> None:
    ledger.append(make_call(0))
    ledger.close()
    ledger.append(make_call(1))
    assert ledger.flush(60)
    assert len(stored(ledger)) == 2


def test_rollups_of_a_sync_write_are_built_by_the_writer(
    make_ledger: MakeLedger,
) -> None:
    ledger = make_ledger(write="sync")
    ledger.append(make_call())
    ledger.queue.wake()
    until = time.monotonic() + 10
    found: list[t.Any] = []
    while not found and time.monotonic() < until:
        time.sleep(0.05)
        with ledger.reading() as connection:
            found = list(connection.execute(sa.select(rollups)))
    assert {row.kind for row in found} == {"hour", "day"}
