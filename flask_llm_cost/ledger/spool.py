"""Queue calls in files until they are in the database.

A line is appended in one write. Every file has one owner, which holds a lock on it
(``flock``). The lock ends with its process, however that ends, and any other process may
then claim the file. A file is deleted only after its lines are stored.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import hashlib
import logging
import os
import re
import secrets
import socket
import threading
import typing as t
import weakref
from collections.abc import Iterator
from pathlib import Path

from .. import file_system
from ..interrupts import Busy
from ..interrupts import within
from . import spool_file
from .destination import UNKNOWN
from .rejected import RejectedLines
from .spool_file import SpoolFile

SUFFIX: t.Final = ".jsonl"

ROTATE_BYTES: t.Final = 64 * 1024 * 1024
"""A file is sealed at this size even if no one drains it."""

ADVICE: t.Final = (
    "If it belongs to another user, such as root after a cron job, give it to the app's"
    " user (chown) or run `flask llm-cost drain` as its owner. If it is not a file of"
    " calls, move it out of the spool."
)
"""What to do about a file that cannot be read."""

NETWORK_ADVICE: t.Final = (
    "Its file locks may be missing or delayed, so calls of a killed process may stay"
    " queued or be read twice. Set LLM_COST_SPOOL_DIR to a folder on a local disk."
)

_log = logging.getLogger("flask_llm_cost")

_SEAL_SECONDS: t.Final = 1.0
"""How long the writer waits for a line that is being written."""


class Waiting(t.NamedTuple):
    """A spool file that waits for another database."""

    path: Path
    lines: int
    since: dt.datetime
    """When it was last written to: aware UTC."""


class Spool:
    """The spool files of one ledger in one process, and those of its dead siblings.

    :param directory: Their folder; created when the first line is appended.
    :param destination: The ledger that the lines are for. In a shared folder, files of
        other destinations are ignored, but those of an unknown one are claimed.
    :param fsync: Flush each line to the disk.
    """

    def __init__(
        self, directory: Path, destination: str = "ledger", *, fsync: bool = False
    ) -> None:
        self.directory = directory
        self.ledger = (destination, str(directory) if destination == UNKNOWN else "")
        """Which ledger its lines are for, as far as that is known."""
        self._destination = _digest(destination)
        self._accepted = {self._destination, _digest(UNKNOWN)}
        self.rejected = RejectedLines(directory, self._destination, self._accepted)
        self._fsync = fsync
        self._reset()
        _spools.add(self)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._writing = False
        self._current: SpoolFile | None = None
        self._sealed: list[SpoolFile] = []
        self._skipped: dict[Path, str] = {}

    def after_fork(self) -> None:
        """In a forked child: close the inherited files, which stay the parent's."""
        inherited = self._own()
        self._reset()
        for file in inherited:
            file.close()

    def _own(self) -> list[SpoolFile]:
        current = self._current
        return [*self._sealed, *([] if current is None else [current])]

    def append(self, line: bytes) -> None:
        """Append one line, which ends in a newline, to this process's file.

        :raises OSError: If not all of it could be written.
        """
        if os.getpid() != self._pid:  # a fork that ran no hooks
            self.after_fork()
        with self._lock:
            nested, self._writing = self._writing, True
            try:
                file = self._current
                if file is None:
                    file = self._current = self._create()
                file.write(line, sync=self._fsync)
            except OSError as error:
                if error.errno == errno.ESTALE and not nested:
                    # Another machine took it over, on a network file system.
                    self._current = None
                raise
            finally:
                self._writing = nested
            if file.size >= ROTATE_BYTES:
                self._seal()

    @property
    def pending(self) -> bool:
        """Whether this process has lines that are not stored yet."""
        current = self._current
        return bool(self._sealed) or (current is not None and current.size > 0)

    def sealed(self) -> list[SpoolFile]:
        """List this process's files that accept no more lines, oldest first."""
        return list(self._sealed)

    def seal(self) -> list[SpoolFile]:
        """Let the next line start a new file, so that the lines so far can be stored."""
        self.seal_current(_SEAL_SECONDS)
        return self.sealed()

    def seal_current(self, timeout: float) -> bool:
        """Do the same, and say whether all lines so far can be stored.

        :param timeout: How many seconds to wait for a line that is being written.
        """
        try:
            with within(self._lock, timeout):
                return self._seal()
        except Busy:
            return False

    def _seal(self) -> bool:
        if self._writing:
            # A signal handler interrupted this thread, which will go on writing.
            return False
        if self._current is not None and self._current.size > 0:
            self._sealed.append(self._current)
            self._current = None
        return True

    def remove(self, file: SpoolFile) -> None:
        """Delete a file whose lines are stored."""
        # Without the lock: a signal handler waits for this while its thread holds it.
        with contextlib.suppress(ValueError):
            self._sealed.remove(file)
        file.remove()

    def claim(self) -> Iterator[SpoolFile]:
        """Take over the files of dead processes."""
        file_system.warn_of_network(self.directory, NETWORK_ADVICE)
        for path in self._paths():
            if any(file.path == path for file in self._own()):
                continue
            try:
                file = spool_file.claim(path, self._new_path())
            except OSError as error:
                self.skip(path, error)
                continue
            if file is not None:
                self._sealed.append(file)
                yield file

    def count(self) -> int:
        """Count the queued lines, in files of every process."""
        offsets = {file.path: file.offset for file in self._own()}
        lines = 0
        for path in self._usable():
            with contextlib.suppress(FileNotFoundError):  # stored meanwhile
                lines += spool_file.count_lines(path, offsets.get(path, 0))
        return lines

    def oldest(self) -> float | None:
        """Return when the least recently written file was last written to.

        As long as the writers work, that is moments ago.

        :return: Seconds since 1970; ``None`` if nothing is queued.
        """
        found = []
        for path in self._usable():
            with contextlib.suppress(FileNotFoundError):  # stored meanwhile
                stat = path.stat()
                if stat.st_size:
                    found.append(stat.st_mtime)
        return min(found, default=None)

    def other_databases(self) -> list[Waiting]:
        """List the files of the folder whose lines are for other destinations."""
        found = []
        for path in spool_file.list_files(self.directory, SUFFIX):
            if self._is_accepted(path) or spool_file.unusable(path) is not None:
                continue
            with contextlib.suppress(FileNotFoundError):  # stored meanwhile
                since = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
                if lines := spool_file.count_lines(path, 0):
                    found.append(Waiting(path, lines, since))
        return found

    def lines(self) -> Iterator[bytes]:
        """Read the queued lines, in files of every process."""
        for path in self._usable():
            with contextlib.suppress(FileNotFoundError):  # stored meanwhile
                yield from path.read_bytes().split(b"\n")

    def requeue(self) -> int:
        """Append the rejected lines again; return how many there were.

        :raises OSError: If one cannot be appended. It stays rejected then.
        :raises ValueError: If a file does not contain a rejected line.
        """
        rejected = list(self.rejected)
        for path, line, _ in rejected:
            self.append(line.rstrip(b"\n") + b"\n")
            path.unlink()
        return len(rejected)

    def close(self) -> None:
        """Close all files; delete those without a line."""
        with self._lock:
            files = self._own()
            self._current = None
            self._sealed = []
        for file in files:
            if file.size == 0:
                file.remove()
            file.close()

    def _paths(self) -> list[Path]:
        """List the spool files of every process, by name."""
        return [
            path
            for path in spool_file.list_files(self.directory, SUFFIX)
            if self._is_accepted(path)
        ]

    def _is_accepted(self, path: Path) -> bool:
        return bool(self._accepted.intersection(path.name.split(".")[-3:-2]))

    def _usable(self) -> list[Path]:
        return [path for path in self._paths() if spool_file.unusable(path) is None]

    def unusable(self) -> list[tuple[Path, str]]:
        """List what is in the way of a file's lines, with the reason.

        For example, a file that a job of another user left, or a directory.
        """
        found = {path: spool_file.unusable(path) for path in self._paths()}
        skipped = {path: self._skipped.get(path) for path in found}
        return [
            (path, reason)
            for path, why in found.items()
            if (reason := why or skipped[path]) is not None
        ]

    def skip(self, path: Path, error: OSError) -> None:
        """Note that a file cannot be read, and log it once. Others are not held up."""
        reason = spool_file.unusable(path) or error.strerror or str(error)
        if self._skipped.get(path) != reason:
            _log.warning("%s is skipped: %s. %s", path, reason, ADVICE)
        self._skipped[path] = reason

    def _new_path(self) -> Path:
        host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:40]
        name = f"{host}.{self._destination}.{secrets.token_hex(8)}{SUFFIX}"
        return self.directory / name

    def _create(self) -> SpoolFile:
        while True:
            try:
                file = spool_file.create(self._new_path())
            except FileNotFoundError:
                self.directory.mkdir(0o700, parents=True, exist_ok=True)
                continue
            if file is not None:
                if self._fsync:
                    spool_file.sync_directory(self.directory)
                return file


_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


def _after_fork() -> None:
    for spool in list(_spools):
        spool.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _digest(destination: str) -> str:
    text = destination.encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:8]
