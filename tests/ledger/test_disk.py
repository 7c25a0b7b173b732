"""Full, read-only and slow disks, and rejected lines."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_llm_cost.call import Call
from flask_llm_cost.jsonl import encode
from flask_llm_cost.ledger import Ledger
from tests.conftest import every_database
from tests.conftest import MakeLedger

from .samples import make_call
from .test_ledger import spool
from .test_ledger import stored

resource = pytest.importorskip("resource")

_NOBODY: t.Final = 65534


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Fail writes in the middle of a line."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let the process read the folder, but not write to it."""
    root = os.geteuid() == 0
    paths = [folder, *folder.iterdir()]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if root:  # which is allowed everything
        for parent in folder.parents:
            if str(parent).startswith("/tmp/"):
                parent.chmod(0o755)
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in modes.items():
            if path.exists():
                path.chmod(mode)


@every_database
@pytest.mark.parametrize("trouble", [full_disk, read_only])
def test_calls_that_the_disk_rejects_are_written_to_the_database_or_counted(
    trouble: Callable[[Path], t.Any],
    database: str | None,
    make_ledger: MakeLedger,
    tmp_path: Path,
) -> None:
    told: list[Call | None] = []
    ledger = make_ledger(database, failed=lambda call, error: told.append(call))
    (tmp_path / "instance").mkdir(exist_ok=True)
    calls = [make_call(n) for n in range(10)]
    with trouble(tmp_path / "instance"):
        for call in calls[:8]:
            ledger.append(call)
    for call in calls[8:]:
        ledger.append(call)
    assert ledger.flush(60)
    lost = [call for call in told if call is not None]
    # A ledger in a file on that disk cannot store them either.
    assert lost == (calls[:8] if database is None else [])
    assert told
    assert ledger.lost == len(lost)
    assert stored(ledger) == [call for call in calls if call not in lost]
    assert (ledger.queue.count(), ledger.queue.rejected()) == (0, [])


def test_a_rejected_line_leaves_the_spool_only_once_it_is_written(
    ledger: Ledger,
) -> None:
    line = b"{no call" + b"x" * 200
    spool(ledger, [make_call(1)])
    ledger.queue.spool.append(line + b"\n")
    with full_disk(ledger.folder), pytest.raises(OSError, match="too large"):
        ledger.queue.spool.rejected.add(line, "why")
    assert ledger.queue.rejected() == []
    assert ledger.queue.drain().rejected == 1
    [(_, kept, _)] = ledger.queue.spool.rejected
    assert kept == line
    assert os.listdir(ledger.folder) == [ledger.queue.rejected()[0].name]


def test_a_line_corrected_by_hand_is_stored_once(
    ledger: Ledger, make_ledger: MakeLedger
) -> None:
    call = make_call(1)
    ledger.queue.spool.append(encode(call).replace(b"{", b"[", 1))
    assert ledger.queue.drain().rejected == 1
    (path,) = ledger.queue.rejected()
    kept = json.loads(path.read_bytes())
    path.write_text(json.dumps(kept | {"line": encode(call).decode()}))
    before = path.read_bytes()
    # A process may die after queueing it, before its file is deleted: it is queued twice.
    dying = make_ledger()
    assert dying.queue.requeue() == 1
    path.write_bytes(before)
    assert ledger.queue.requeue() == 1
    assert ledger.queue.drain().new + dying.queue.drain().new == 1
    assert stored(ledger) == [call]
    assert (ledger.queue.rejected(), ledger.queue.count()) == ([], 0)


def test_a_line_that_cannot_be_requeued_stays_rejected(ledger: Ledger) -> None:
    lines = [b"{%d%s" % (n, b"x" * 200) for n in range(3)]
    for line in lines:
        ledger.queue.spool.rejected.add(line, "why")
    with full_disk(ledger.folder), pytest.raises(OSError, match="too large"):
        ledger.queue.requeue()
    assert sorted(line for _, line, _ in ledger.queue.spool.rejected) == lines
    assert ledger.queue.count() == 0
    assert ledger.queue.requeue() == 3


@pytest.mark.parametrize("fsync", [False, True])
def test_a_call_is_flushed_to_the_disk_before_its_request_continues(
    fsync: bool, make_ledger: MakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = make_ledger(spool_fsync=fsync)
    synced: list[tuple[bool, int]] = []
    sync = os.fsync

    def watched(fd: int) -> None:
        sync(fd)
        found = os.fstat(fd)
        synced.append((stat.S_ISDIR(found.st_mode), found.st_size))

    monkeypatch.setattr(os, "fsync", watched)
    lines = [encode(make_call(n)) for n in range(2)]
    for line in lines:
        ledger.queue.spool.append(line)
    sizes = [size for folder, size in synced if not folder]
    ends = [len(lines[0]), len(lines[0]) + len(lines[1])]
    assert sizes == (ends if fsync else [])
    # After a power failure, the file's name must exist, too.
    assert [folder for folder, _ in synced[:1]] == ([True] if fsync else [])
    ledger.queue.drain()
    with ledger._engines.writing().connect() as connection:
        # A line is deleted once its row is committed, which is as durable.
        level = connection.exec_driver_sql("PRAGMA synchronous").scalar()
    assert level == (2 if fsync else 1)
