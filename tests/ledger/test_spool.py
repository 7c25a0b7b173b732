from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_llm_cost import file_lock
from flask_llm_cost.ledger import spool as spool_module
from flask_llm_cost.ledger.spool import Spool
from flask_llm_cost.ledger.spool_file import SpoolFile

MakeSpool: t.TypeAlias = Callable[..., Spool]


@pytest.fixture
def make_spool(tmp_path: Path) -> Iterator[MakeSpool]:
    """Spools in one folder, as of several processes; closed at the end."""
    spools: list[Spool] = []

    def make(destination: str = "ledger", **options: t.Any) -> Spool:
        spools.append(Spool(tmp_path / "spool", destination, **options))
        return spools[-1]

    yield make
    for spool in spools:
        spool.close()


def _lines(files: t.Iterable[SpoolFile]) -> list[bytes]:
    found = []
    for file in files:
        while lines := file.read(2)[0]:
            file.offset = file.read(2)[1]
            found += lines
    return found


def test_lines_are_read_in_order_and_deleted_with_their_file(
    make_spool: MakeSpool,
) -> None:
    spool = make_spool()
    for n in range(5):
        spool.append(b"%d\n" % n)
    assert spool.count() == 5
    (file,) = spool.seal()
    assert _lines([file]) == [b"0", b"1", b"2", b"3", b"4"]
    assert spool.count() == 0
    spool.remove(file)
    assert not spool.pending
    assert os.listdir(spool.directory) == []


def test_only_the_owner_can_read_the_spool(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.append(b"1\n")
    bad = spool.rejected.add(b"2", "why")
    (file,) = spool.seal()
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (spool.directory, file.path, bad)]
    assert modes == [0o700, 0o600, 0o600]


def test_a_file_of_a_living_process_is_not_claimed(make_spool: MakeSpool) -> None:
    owner, other = make_spool(), make_spool()
    owner.append(b"1\n")
    assert list(other.claim()) == []
    assert other.count() == 1
    owner.close()
    assert _lines(other.claim()) == [b"1"]
    assert list(make_spool().claim()) == []


def test_a_file_for_another_ledger_is_ignored(make_spool: MakeSpool) -> None:
    one, two = make_spool("one"), make_spool("two")
    one.append(b"1\n")
    one.close()
    assert list(two.claim()) == []
    assert two.count() == 0
    assert one.count() == 1


def test_lines_of_a_killed_process_are_claimed(make_spool: MakeSpool) -> None:
    spool = make_spool()
    code = (
        "import os, signal, sys, pathlib; from flask_llm_cost.ledger.spool import Spool;"
        "s = Spool(pathlib.Path(sys.argv[1])); s.append(b'1\\n'); s.append(b'2\\n');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(spool.directory)], check=False)
    assert _lines(spool.claim()) == [b"1", b"2"]


def test_a_forked_child_has_a_file_of_its_own(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.append(b"parent\n")
    pid = os.fork()
    if pid == 0:
        spool.append(b"child\n")
        os._exit(0)
    os.waitpid(pid, 0)
    assert _lines(spool.claim()) == [b"child"]
    assert b"parent" in _lines(spool.seal())


def test_a_living_child_does_not_lock_its_dead_parents_file(
    make_spool: MakeSpool,
) -> None:
    spool = make_spool()
    code = (
        "import os, sys, time, pathlib; from flask_llm_cost.ledger.spool import Spool\n"
        "s = Spool(pathlib.Path(sys.argv[1])); s.append(b'1\\n'); r, w = os.pipe()\n"
        "if os.fork() == 0: os.write(w, b'x'); time.sleep(60)\n"
        "else: os.read(r, 1); os._exit(0)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(spool.directory)], start_new_session=True
    )
    child.wait()
    try:
        assert _lines(spool.claim()) == [b"1"]
    finally:
        os.killpg(child.pid, 9)


def test_a_short_write_is_undone(
    make_spool: MakeSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make_spool()
    spool.append(b"one\n")
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) < 8:  # a full disk
            raise OSError(28, "No space left on device")
        return write(fd, data[:4])

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            spool.append(b"two-two\n")
    spool.append(b"three\n")
    assert _lines(spool.seal()) == [b"one", b"three"]


def test_a_file_that_grows_too_big_is_sealed(
    make_spool: MakeSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "ROTATE_BYTES", 10)
    spool = make_spool()
    for _ in range(5):
        spool.append(b"12345\n")
    assert len(spool.sealed()) == 2
    assert spool.count() == 5


def test_a_long_line_is_read_as_a_whole(make_spool: MakeSpool) -> None:
    spool = make_spool()
    line = b"x" * 700_000
    spool.append(line + b"\n")
    spool.append(b"y\n")
    assert _lines(spool.seal()) == [line, b"y"]


def test_a_line_rejected_twice_is_one_file(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.append(b"1\n")
    assert spool.rejected.add(b"\xff", "why") == spool.rejected.add(b"\xff", "why")
    assert len(spool.rejected.files()) == 1


def test_threads_and_claimers_lose_and_duplicate_nothing(make_spool: MakeSpool) -> None:
    spool, other = make_spool(fsync=True), make_spool()
    done = threading.Event()
    stored: list[bytes] = []

    def drain() -> None:
        while not done.is_set():
            assert list(other.claim()) == []
            for file in spool.seal():
                stored.extend(_lines([file]))
                spool.remove(file)

    def write(thread: int) -> None:
        for n in range(200):
            spool.append(b"%d.%d\n" % (thread, n))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    drainer = threading.Thread(target=drain)
    for thread in [drainer, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    drainer.join()
    stored.extend(_lines(spool.seal()))
    assert sorted(stored) == sorted(
        b"%d.%d" % (a, b) for a in range(4) for b in range(200)
    )


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        Spool(tmp_path / "file" / "spool").append(b"1\n")


def test_lines_can_be_counted_while_they_are_stored(make_spool: MakeSpool) -> None:
    spool = make_spool()
    done = threading.Event()

    def store() -> None:
        for _ in range(300):
            spool.append(b"line\n")
            for file in spool.seal():
                spool.remove(file)
        done.set()

    writer = threading.Thread(target=store)
    writer.start()
    while not done.is_set():
        assert spool.count() in (0, 1)
    writer.join()


def test_where_the_platform_has_no_locks_a_file_is_claimed_by_renaming_it(
    make_spool: MakeSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_lock, "AVAILABLE", False)
    dead, alive = make_spool(), make_spool()
    dead.append(b"1\n")
    dead.close()
    (file,) = alive.claim()
    assert _lines([file]) == [b"1"]
    alive.remove(file)
    assert os.listdir(alive.directory) == []


def left_behind(make_spool: MakeSpool, line: bytes) -> Path:
    """The file of a process that was killed."""
    dead = make_spool()
    dead.append(line)
    (path,) = (file.path for file in dead.seal())
    dead.sealed()[0].close()
    return path


def in_the_way(path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put something that is no spool file of ours at a path."""
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        secret = path.with_name("secret")
        secret.write_text("password\n")
        path.symlink_to(secret)
    elif kind == "broken link":
        path.symlink_to(path.with_name("nowhere"))
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            # The address of a socket is short.
            monkeypatch.chdir(path.parent)
            made.bind(path.name)
    else:
        path.write_bytes(b"x\n")
        real = os.open

        def refuse(name: t.Any, *args: t.Any, **options: t.Any) -> int:
            if str(name) == str(path):
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(name, *args, **options)

        monkeypatch.setattr(os, "open", refuse)


@pytest.mark.parametrize(
    "kind", ["directory", "fifo", "link", "broken link", "socket", "another user's"]
)
def test_what_cannot_be_read_does_not_stop_the_others(
    make_spool: MakeSpool,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before, a file of root's cron job stopped the adoption of all that sort after it."""
    path = left_behind(make_spool, b"one\n")
    destination = path.name.split(".")[-3]
    first = path.with_name(f"a.{destination}.{'0' * 16}.jsonl")
    in_the_way(first, kind, monkeypatch)
    spool = make_spool()
    assert [_lines_of(file) for file in spool.claim()] == [[b"one"]]
    assert list(spool.claim()) == []
    assert spool.count() == 1
    assert list(filter(None, spool.lines())) == [b"one"]
    [(unusable, reason)] = spool.unusable()
    assert unusable == first
    assert reason in ("not a regular file", "Permission denied")
    assert caplog.text.count("is skipped") == 1
    assert os.path.lexists(first)
    assert spool.rejected.files() == []


def _lines_of(file: SpoolFile) -> list[bytes]:
    return file.read(100)[0]
