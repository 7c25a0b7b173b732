"""Folders on network file systems, and on ones without file locks."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest
from flask.testing import FlaskCliRunner

from flask_llm_cost import file_lock
from flask_llm_cost import file_system
from flask_llm_cost.config import Settings
from flask_llm_cost.files.monthly import JsonlLedger
from tests.conftest import MakeApp
from tests.conftest import MakeLedger

from .samples import make_call
from .test_ledger import stored

# As in proc(5), mountinfo; the optional fields before the dash are 0 to n.
ROOT = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw"


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel says is mounted."""
    path = tmp_path / "mountinfo"
    path.write_text(f"{ROOT}\n")
    monkeypatch.setattr(file_system, "_MOUNTS", path)
    return path


def mount(mounts: Path, point: Path | str, kind: str, optional: str = "") -> None:
    escaped = str(point).replace("\\", "\\134").replace(" ", "\\040")
    with mounts.open("a") as file:
        file.write(f"40 27 0:50 / {escaped} rw{optional} - {kind} server:/x rw\n")


@pytest.mark.parametrize(
    "kind",
    "nfs nfs4 cifs smb3 9p ceph fuse.sshfs fuse.glusterfs fuse.s3fs fuse fuse.rclone"
    " virtiofs vboxsf lustre fuse.juicefs".split(),
)
def test_network_file_systems_are_recognized(
    mounts: Path, tmp_path: Path, kind: str
) -> None:
    mount(mounts, tmp_path / "share", kind, " shared:12 master:3")
    assert file_system.network_type(tmp_path / "share" / "a" / "b") == kind
    assert file_system.network_type(tmp_path / "share") == kind
    assert file_system.network_type(tmp_path / "shared") is None
    assert file_system.network_type(tmp_path) is None


@pytest.mark.parametrize("kind", "ext4 xfs btrfs zfs tmpfs overlay fuseblk".split())
def test_local_file_systems_are_not(mounts: Path, tmp_path: Path, kind: str) -> None:
    mount(mounts, tmp_path, "nfs4")
    mount(mounts, tmp_path / "disk", kind)
    assert file_system.network_type(tmp_path / "disk" / "spool") is None
    assert file_system.network_type(tmp_path / "other") == "nfs4"


def test_the_last_mount_at_a_point_counts(mounts: Path, tmp_path: Path) -> None:
    mount(mounts, "/", "nfs4")
    assert file_system.network_type(tmp_path) == "nfs4"
    mount(mounts, "/", "ext4")
    assert file_system.network_type(tmp_path) is None


def test_links_and_names_with_spaces_are_followed(mounts: Path, tmp_path: Path) -> None:
    share = tmp_path / "a share\\x"
    share.mkdir()
    mount(mounts, share, "cifs")
    (tmp_path / "link").symlink_to(share)
    assert file_system.network_type(tmp_path / "link" / "spool") == "cifs"


@pytest.mark.parametrize("text", ["", "\n\n", "nonsense", "1 2 3 - nfs", "- - -"])
def test_what_the_kernel_never_says_is_local(
    mounts: Path, tmp_path: Path, text: str
) -> None:
    mounts.write_text(text)
    assert file_system.network_type(tmp_path) is None


def test_a_system_without_mountinfo_is_local(mounts: Path, tmp_path: Path) -> None:
    mounts.unlink()
    assert file_system.network_type(tmp_path) is None


def test_a_spool_on_a_network_warns_once_and_stores_its_calls(
    mounts: Path,
    tmp_path: Path,
    make_ledger: MakeLedger,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mount(mounts, tmp_path / "share", "nfs4")
    with caplog.at_level(logging.WARNING):
        for number in range(2):
            ledger = make_ledger(spool_dir=str(tmp_path / "share"))
            ledger.append(make_call(number))
            assert ledger.flush(60)
            ledger.queue.drain()
    [record] = caplog.records
    assert "share is on a network file system (nfs4)." in record.message
    assert "Set LLM_COST_SPOOL_DIR to a folder on a local disk." in record.message
    assert len(stored(ledger)) == 2


def test_a_sqlite_file_on_a_network_warns(
    mounts: Path,
    tmp_path: Path,
    make_ledger: MakeLedger,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mount(mounts, tmp_path / "share", "fuse.sshfs")
    ledger = make_ledger(f"sqlite:///{tmp_path}/share/llm_cost.db")
    ledger.append(make_call(1))
    ledger.queue.drain()
    assert "(fuse.sshfs). SQLite needs a local disk" in caplog.text


def test_monthly_files_on_a_network_warn(
    mounts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mount(mounts, tmp_path, "9p")
    ledger = JsonlLedger(Settings(), instance_path=str(tmp_path))
    for number in range(3):
        assert ledger.append(make_call(number))
    assert caplog.text.count("is on a network file system (9p).") == 1
    assert "LLM_COST_JSONL_DIR" in caplog.text


@pytest.mark.parametrize("storage", ["database", "jsonl"])
def test_doctor_names_what_is_on_a_network(
    mounts: Path, make_app: MakeApp, storage: str
) -> None:
    app = make_app(LLM_COST_STORAGE=storage)
    runner: FlaskCliRunner = app.test_cli_runner()
    assert "network" not in runner.invoke(args=["llm-cost", "doctor"]).output
    mount(mounts, Path(app.instance_path), "nfs")
    output = runner.invoke(args=["llm-cost", "doctor"]).output
    assert "is on a network file system (nfs)" in output
    key = "LLM_COST_JSONL_DIR" if storage == "jsonl" else "LLM_COST_SPOOL_DIR"
    assert f"Set {key} to a folder" in " ".join(output.split())


def no_locks(fd: int, *, wait: bool = True) -> bool:
    """As a file system that was mounted with ``nolock``, or whose lock server is away."""
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_a_spool_without_locks_stores_its_own_calls(
    make_ledger: MakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_lock, "lock", no_locks)
    ledger, other = make_ledger(), make_ledger()
    other.queue.spool.append(b"{}\n")
    ledger.append(make_call(1))
    assert ledger.flush(60)
    assert len(stored(ledger)) == 1
    # Its owner may be alive: without a lock, no one can tell.
    assert (ledger.queue.drain().rejected, other.queue.count()) == (0, 1)


def test_monthly_files_without_locks_take_calls_but_are_not_rewritten(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before, each call was lost."""
    monkeypatch.setattr("flask_llm_cost.files.edits.lock", no_locks)
    ledger = JsonlLedger(Settings(), instance_path=str(tmp_path))
    for number in range(3):
        assert ledger.append(make_call(number))
    assert len(list(ledger.query())) == 3
    assert caplog.text.count("has no file locks") == 1
    with pytest.raises(OSError, match="locks"):
        ledger.clear("all")
    assert len(list(ledger.query())) == 3


def test_a_spool_file_that_another_machine_took_over_is_let_go(
    make_ledger: MakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS answers ESTALE for good. The call is written to the database at once."""
    ledger = make_ledger()
    write, stale = os.write, [True]

    def once(fd: int, data: bytes) -> int:
        if stale and b"event_id" in data:
            stale.clear()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return write(fd, data)

    monkeypatch.setattr(os, "write", once)
    for number in range(3):
        ledger.append(make_call(number))
    assert not stale
    assert ledger.flush(60)
    assert len(stored(ledger)) == 3
    assert ledger.lost == 0


def test_a_monthly_file_deleted_during_an_append_is_reported_and_made_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = JsonlLedger(Settings(), instance_path=str(tmp_path))
    assert ledger.append(make_call(0))
    [path] = ledger.files()
    write = os.write

    def delete_first(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        path.unlink()
        return write(fd, data)

    monkeypatch.setattr(os, "write", delete_first)
    call = make_call(1)
    assert ledger.append(call)
    assert list(ledger.query()) == [call]
    assert "was deleted or replaced while a call was appended" in caplog.text
