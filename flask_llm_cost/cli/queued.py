"""What ``doctor`` checks about the calls that are not in the ledger yet."""

from __future__ import annotations

import datetime as dt
import errno
import os
import tempfile
import typing as t
from collections.abc import Iterator
from pathlib import Path

from ..storage import queued_calls
from .findings import Finding
from .text import count

if t.TYPE_CHECKING:
    from ..query.host import Host

_TRIAL_BYTES: t.Final = 4096

_STUCK: t.Final = dt.timedelta(minutes=1)
"""A call that is queued for longer is not being written."""


def spool(host: Host) -> Iterator[Finding]:
    """Check that calls can be queued, and are written to the ledger."""
    files = host.settings.storage == "jsonl"
    if host.settings.write != "spool" and not files:
        yield Finding(
            "ok", "spool", "not used: calls are written to the database at once."
        )
        return
    folder = host.ledger.folder
    try:
        _try_to_write(folder)
        queued, queue = queued_calls(host.ledger), host.ledger.queue
        since = None if queue is None else queue.since()
        unusable = [] if queue is None else queue.unusable()
    except OSError as error:
        reason = error.strerror or error
        when = "" if files else " when the database cannot be reached"
        key = "LLM_COST_JSONL_DIR" if files else "LLM_COST_SPOOL_DIR"
        yield Finding(
            "error",
            "spool",
            f"{folder} cannot be written ({reason}), so calls are lost{when}. Free some"
            f" disk space, make it writable, or set {key}.",
        )
        return
    yield _queued(folder, queued, since)
    for problem in unusable:
        yield Finding("error", "spool", f"Calls may be missing. Skipped {problem}")


def _queued(folder: Path, queued: int, since: dt.datetime | None) -> Finding:
    if not queued or since is None:
        message = f"{folder} is writable, and no calls are queued."
        return Finding("ok", "spool", message)
    # Compared with the time of files, not with the app's clock.
    age = max(dt.datetime.now(dt.UTC) - since, dt.timedelta())
    message = f"{count(queued, 'call')} queued in {folder}"
    if age < _STUCK:
        return Finding("ok", "spool", f"{message}.")
    minutes = age.total_seconds() / 60
    return Finding(
        "warn",
        "spool",
        f"{message}, the oldest for {minutes:,.0f} min. Run `flask llm-cost drain` to find"
        " out why.",
    )


def other_databases(host: Host) -> Iterator[Finding]:
    """Check for calls in the same folder that wait for another database.

    An app that got another database leaves them behind. Where several apps share a folder,
    those of the others are stored within moments.
    """
    queue = host.ledger.queue
    if queue is None:
        return
    try:
        waiting = queue.other_databases()
    except OSError:
        return  # reported by spool()
    files = [file for file in waiting if dt.datetime.now(dt.UTC) - file.since > _STUCK]
    if files:
        lines = sum(file.lines for file in files)
        yield Finding(
            "warn",
            "other databases",
            f"{count(lines, 'call')} in {count(len(files), 'file')} of {queue.folder} are"
            " queued for another database. Run `flask llm-cost drain` with its settings. If"
            " this database replaced it, run `flask llm-cost calls import FILE` and delete"
            f" the file, for example {files[0].path}.",
        )


def _try_to_write(folder: Path) -> None:
    """Write and delete a small file in a folder, or in its parent if it does not exist.

    The folder is not created, because it would belong to the user who runs the command.

    :raises OSError: If this fails.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    fd, name = tempfile.mkstemp(prefix=".llm-cost-doctor-", dir=existing)
    try:
        # Large enough to need a block on the disk, not only a directory entry.
        if os.write(fd, bytes(_TRIAL_BYTES)) < _TRIAL_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    finally:
        os.close(fd)
        os.unlink(name)


def rejected(host: Host) -> Iterator[Finding]:
    """Check for calls that could not be stored."""
    queue = host.ledger.queue
    if queue is None:
        return
    try:
        files = queue.rejected()
        lines = sum(len(path.read_bytes().splitlines()) for path in files)
    except OSError as error:
        yield Finding("error", "rejected", f"cannot be read: {error}.")
        return
    if files:
        more = f" and {count(len(files) - 1, 'more file')}" if files[1:] else ""
        yield Finding(
            "warn",
            "rejected",
            f"{count(lines, 'line')} could not be stored; see {files[0]}{more}. Run `flask"
            " llm-cost ledger requeue` to retry.",
        )


def lost(host: Host) -> Iterator[Finding]:
    """Check whether this process lost calls."""
    if host.ledger.lost:
        yield Finding(
            "error",
            "lost",
            f"{count(host.ledger.lost, 'call')} of this process could be neither queued nor"
            " stored. The log has the reasons (logger flask_llm_cost).",
        )
