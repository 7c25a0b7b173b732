"""Where a call waits until it is in the database: a line in a file of this process.

A line is appended in one write. Every file has one living owner, who holds a lock on
it (``flock``); the lock ends with its process, however that ends, and then any other
process may claim the file. A file leaves the disk only after its lines are stored.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import socket
import sys
import threading
import typing as t
import weakref
from collections.abc import Iterator
from pathlib import Path

from .destination import UNKNOWN

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be renamed: that tells, too
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger("flask_llm_cost")

SUFFIX: t.Final = ".jsonl"
BAD_SUFFIX: t.Final = ".bad"

ROTATE_BYTES: t.Final = 64 * 1024 * 1024
"""A file is sealed at this size even if no one drains it."""

_CHUNK: t.Final = 256 * 1024
_OPEN: t.Final = (
    os.O_RDWR | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)


class SpoolFile:
    """A spool file that this process holds."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.size = os.fstat(fd).st_size
        self.offset = 0
        """How far its lines are stored."""
        self._fd = fd
        self._torn = False
        # A closed app's spool must not keep its files locked until the process ends.
        self._closer = weakref.finalize(self, _close, fd)
        self._closer.atexit = False

    def write(self, line: bytes, *, sync: bool = False) -> None:
        """Append one line.

        :raises OSError: If it is not wholly written, such as on a full disk.
        """
        if self._torn:  # what is left of an earlier line stays a line of its own
            line = b"\n" + line
        torn = self._torn
        written = os.write(self._fd, line)
        try:
            while written < len(line):
                self._torn = True
                written += os.write(self._fd, line[written:])
        except OSError:
            # Half a line would be set aside as a call that is lost; it is not yet.
            os.ftruncate(self._fd, self.size)
            written, self._torn = 0, torn
            raise
        finally:
            self.size += written
        self._torn = False
        if sync:
            os.fsync(self._fd)

    def read(self, limit: int) -> tuple[list[bytes], int]:
        """Up to so many lines from :attr:`offset` on, and the offset behind them."""
        data = _read_at(self._fd, _CHUNK, self.offset)
        while b"\n" not in data:
            more = _read_at(self._fd, _CHUNK, self.offset + len(data))
            if not more:  # the end; a line without one is torn, and is for the reader
                return [data] if data else [], self.offset + len(data)
            data += more
        lines = data[: data.rindex(b"\n")].split(b"\n")[:limit]
        return lines, self.offset + sum(map(len, lines)) + len(lines)

    def remove(self) -> None:
        """Delete the file: its lines are stored."""
        if fcntl is None:  # Windows deletes no open file
            self.close()
        with contextlib.suppress(FileNotFoundError):  # by hand, or with its folder
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Let go of the file; whoever comes next may claim it."""
        self._closer()


class Spool:
    """The spool files of one ledger in one process, and those of its dead siblings.

    :param directory: Where they are; made when the first line is appended.
    :param destination: Which ledger the lines are for. Files of other destinations in
        the same folder are left alone, but those of which it could not be told are
        taken over.
    :param fsync: Flush each line to the disk.
    """

    def __init__(
        self, directory: Path, destination: str = "ledger", *, fsync: bool = False
    ) -> None:
        self.directory = directory
        self.destination = _digest(destination)
        self._accepted = {self.destination, _digest(UNKNOWN)}
        self._fsync = fsync
        self._fresh()
        _spools.add(self)

    def _fresh(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._current: SpoolFile | None = None
        self._sealed: list[SpoolFile] = []

    def let_go(self) -> None:
        """In a forked child: close what was inherited, which stays the parent's."""
        inherited = [self._current, *self._sealed]
        self._fresh()
        for file in inherited:
            if file is not None:
                file.close()

    def append(self, line: bytes) -> None:
        """Append one line, which ends in a newline, to this process's file.

        :raises OSError: If it could not be wholly written.
        """
        if os.getpid() != self._pid:  # forked by something that ran no hooks
            self.let_go()
        with self._lock:
            file = self._current
            if file is None:
                file = self._current = self._create()
            file.write(line, sync=self._fsync)
            if file.size >= ROTATE_BYTES:
                self._seal()

    @property
    def pending(self) -> bool:
        """Whether this process has lines that are not stored yet."""
        current = self._current
        return bool(self._sealed) or (current is not None and current.size > 0)

    def sealed(self) -> list[SpoolFile]:
        """This process's files that take no more lines, oldest first."""
        return list(self._sealed)

    def seal(self) -> list[SpoolFile]:
        """Let the next line begin a new file, so that the lines so far can be stored."""
        with self._lock:
            self._seal()
            return list(self._sealed)

    def _seal(self) -> None:
        if self._current is not None and self._current.size > 0:
            self._sealed.append(self._current)
            self._current = None

    def remove(self, file: SpoolFile) -> None:
        """Delete a file whose lines are stored."""
        with self._lock:
            if file in self._sealed:
                self._sealed.remove(file)
        file.remove()

    def claim(self) -> Iterator[SpoolFile]:
        """Take over the files of processes that are gone; each is then this process's."""
        for path in self._paths():
            if self._is_mine(path):
                continue
            file = self._claim(path)
            if file is not None:
                with self._lock:
                    self._sealed.append(file)
                yield file

    def waiting(self) -> int:
        """How many lines wait for the database, in files of every process."""
        mine = [f for f in [self._current, *self._sealed] if f is not None]
        offsets = {file.path: file.offset for file in mine}
        lines = 0
        for path in self._paths():
            # By a descriptor of its own: the writer may close the file's at any time,
            # and its number may then be another file's.
            with contextlib.suppress(FileNotFoundError):  # stored meanwhile
                fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
                try:
                    lines += _count(fd, offsets.get(path, 0))
                finally:
                    os.close(fd)
        return lines

    def oldest(self) -> float | None:
        """When the file was last written to that waits the longest; seconds since 1970.

        A writer that works lets none wait for longer than a moment. ``None`` if no lines
        wait.
        """
        found = []
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):  # stored meanwhile
                seen = path.stat()
                if seen.st_size:
                    found.append(seen.st_mtime)
        return min(found, default=None)

    def strange(self) -> list[Path]:
        """Files in the same folder whose lines are for another ledger."""
        return [
            p for p in self._list(SUFFIX) if p.name.split(".")[-3] not in self._accepted
        ]

    def set_aside(self, line: bytes, reason: str) -> Path:
        """Keep a line that cannot be stored in a file of its own, with the reason.

        The file is named after the line: setting it aside again changes nothing.
        """
        name = f"{self.destination}.{hashlib.sha256(line).hexdigest()[:16]}{BAD_SUFFIX}"
        path = self.directory / name
        text = json.dumps(
            {"reason": reason, "line": line.decode("utf-8", "surrogateescape")}
        )
        self.directory.mkdir(0o700, parents=True, exist_ok=True)
        # Its name only when it is whole: the line leaves the spool for it.
        made = path.with_suffix(f".{secrets.token_hex(8)}")
        try:
            _write_whole(made, text.encode() + b"\n")
            made.replace(path)
        except OSError:
            made.unlink(missing_ok=True)
            raise
        return path

    def bad(self) -> list[Path]:
        """The files of lines that were set aside."""
        return [
            path
            for path in self._list(BAD_SUFFIX)
            if path.name.split(".")[0] in self._accepted
        ]

    def aside(self) -> Iterator[tuple[Path, bytes, str]]:
        """The lines that were set aside, each with its file and the reason.

        :raises ValueError: If such a file is not as :meth:`set_aside` left it.
        """
        for path in self.bad():
            try:
                found = json.loads(path.read_bytes())
                line = found["line"].encode("utf-8", "surrogateescape")
                reason = str(found["reason"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path} holds no line that was set aside") from error
            yield path, line, reason

    def lines(self) -> Iterator[bytes]:
        """The lines that wait for the database, in files of every process."""
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):  # stored meanwhile
                yield from path.read_bytes().split(b"\n")

    def requeue(self) -> int:
        """Append the lines that were set aside once more; how many they are.

        :raises OSError: If they cannot be appended. They stay where they are then.
        :raises ValueError: If such a file is not as :meth:`set_aside` left it.
        """
        count = 0
        for path, line, _ in list(self.aside()):
            self.append(line.rstrip(b"\n") + b"\n")
            path.unlink()
            count += 1
        return count

    def close(self) -> None:
        """Let go of all files; one that holds no line is deleted."""
        with self._lock:
            files = [f for f in [self._current, *self._sealed] if f is not None]
            self._current = None
            self._sealed = []
        for file in files:
            if file.size == 0:
                file.remove()
            file.close()

    def _is_mine(self, path: Path) -> bool:
        return any(
            file is not None and file.path == path
            for file in [self._current, *self._sealed]
        )

    def _paths(self) -> list[Path]:
        return [
            p for p in self._list(SUFFIX) if p.name.split(".")[-3] in self._accepted
        ]

    def _list(self, suffix: str) -> list[Path]:
        try:
            names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return []
        return [
            self.directory / name
            for name in names
            if name.endswith(suffix)
            and name.count(".") >= (3 if suffix == SUFFIX else 2)
        ]

    def _name(self) -> Path:
        host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:40]
        return self.directory / (
            f"{host}.{self.destination}.{secrets.token_hex(8)}{SUFFIX}"
        )

    def _create(self) -> SpoolFile:
        """A new file, locked."""
        while True:
            path = self._name()
            try:
                fd = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
            except FileNotFoundError:
                self.directory.mkdir(0o700, parents=True, exist_ok=True)
                continue
            # Between these two lines it looks like a dead owner's: then it was deleted.
            if _lock(fd, wait=True) and _is_at(fd, path):
                if self._fsync:
                    _sync_directory(self.directory)
                return SpoolFile(path, fd)
            os.close(fd)

    def _claim(self, path: Path) -> SpoolFile | None:
        if fcntl is None:
            return self._claim_unlocked(path)
        try:
            fd = os.open(path, _OPEN)
        except FileNotFoundError:  # stored or claimed by another meanwhile
            return None
        claimed = None
        try:
            if _lock(fd, wait=False) and _is_at(fd, path):
                claimed = self._take(path, fd)
        finally:
            if claimed is None:
                os.close(fd)
        return claimed

    def _take(self, path: Path, fd: int) -> SpoolFile | None:
        if os.fstat(fd).st_size == 0:
            path.unlink()
            return None
        mine = self._name()
        path.rename(mine)
        return SpoolFile(mine, fd)

    def _claim_unlocked(self, path: Path) -> SpoolFile | None:
        """On Windows, which renames no file that its owner has open."""
        mine = self._name()
        try:
            path.rename(mine)
        except OSError:
            return None
        return SpoolFile(mine, os.open(mine, _OPEN))


_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


def _let_go() -> None:
    for spool in list(_spools):
        spool.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _write_whole(path: Path, data: bytes) -> None:
    """Write a new file, to the disk. A write on a disk that gets full may be a short one."""
    fd = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_at(fd: int, size: int, offset: int) -> bytes:
    if sys.platform != "win32":
        return os.pread(fd, size, offset)
    # The position is for reading only: what is appended goes to the end.
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, size)


def _digest(destination: str) -> str:
    text = destination.encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:8]


def _close(fd: int) -> None:
    os.close(fd)


def _count(fd: int, offset: int) -> int:
    lines, last = 0, b"\n"
    while data := _read_at(fd, 4 * _CHUNK, offset):
        lines += data.count(b"\n")
        offset += len(data)
        last = data[-1:]
    return lines + (last != b"\n")


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


_warned: set[str] = set()


def _lock(fd: int, *, wait: bool) -> bool:
    """Lock a file for as long as this process holds it open; False if another does."""
    if fcntl is None:
        _warn_once(
            "This platform has no file locks: spool files of a process that was killed"
            " are taken over by trying to rename them."
        )
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        _warn_once(
            f"The spool's file system has no file locks ({error}): spool files of a"
            " process that was killed are not taken over. Set LLM_COST_SPOOL_DIR to a"
            " folder on a local disk."
        )
        return wait
    return True


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        _log.warning("%s", message)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
