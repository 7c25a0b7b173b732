"""One spool file: appended to, read, locked and deleted by the process that owns it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import sys
import typing as t
import weakref
from pathlib import Path

from .. import file_lock
from ..interrupts import pass_on

_log = logging.getLogger("flask_llm_cost")

_CHUNK: t.Final = 256 * 1024
_OPEN: t.Final = (
    os.O_RDWR | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
_NO_OTHER: t.Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_NEW: t.Final = _OPEN | os.O_CREAT | os.O_EXCL


class SpoolFile:
    """A spool file that this process has locked."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.size = os.fstat(fd).st_size
        self.offset = 0
        """Where the lines that are not stored yet begin."""
        self._fd = fd
        self._torn = False
        # A closed app's spool must not keep its files locked until the process ends.
        self._closer = weakref.finalize(self, os.close, fd)
        self._closer.atexit = False

    def write(self, line: bytes, *, sync: bool = False) -> None:
        """Append one line.

        :raises OSError: If not all of it was written, for example on a full disk.
        """
        if self._torn:  # separate it from the rest of an earlier line
            line = b"\n" + line
        torn = self._torn
        written = os.write(self._fd, line)
        try:
            while written < len(line):
                self._torn = True
                written += os.write(self._fd, line[written:])
        except OSError:
            # Half a line would be rejected as a lost call, but the call is not lost yet.
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            written, self._torn = 0, torn
            raise
        finally:
            self.size += written
        self._torn = False
        if sync:
            os.fsync(self._fd)

    def read(self, limit: int) -> tuple[list[bytes], int]:
        """Read lines from :attr:`offset` on; return them and the offset after them."""
        data = _read_at(self._fd, _CHUNK, self.offset)
        while b"\n" not in data:
            more = _read_at(self._fd, _CHUNK, self.offset + len(data))
            if not more:  # the end: a line without a newline is torn
                return [data] if data else [], self.offset + len(data)
            data += more
        lines = data[: data.rindex(b"\n")].split(b"\n")[:limit]
        return lines, self.offset + sum(map(len, lines)) + len(lines)

    def remove(self) -> None:
        """Delete the file: its lines are stored."""
        gone: tuple[type[OSError], ...] = (FileNotFoundError,)  # with its folder
        if sys.platform == "win32":  # which deletes no file that anyone has open
            self.close()
            gone = (FileNotFoundError, PermissionError)
        with contextlib.suppress(*gone):
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Close and unlock the file; another process may claim it."""
        self._closer()


def create(path: Path) -> SpoolFile | None:
    """Create and lock a file; ``None`` if another process has deleted it meanwhile.

    :raises FileNotFoundError: If its folder does not exist.
    """
    fd = os.open(path, _NEW, 0o600)
    # Until it is locked, the file looks as if its owner were dead.
    if _lock(fd, wait=True) and _is_at(fd, path):
        return SpoolFile(path, fd)
    os.close(fd)
    return None


def claim(path: Path, new_path: Path) -> SpoolFile | None:
    """Lock and rename the file of a dead process; delete it if it is empty.

    :raises OSError: If it may not be read, or is not a file.
    """
    if not file_lock.AVAILABLE:
        # No known system is without them and has several processes.
        with contextlib.suppress(OSError):
            path.rename(new_path)
            return SpoolFile(new_path, os.open(new_path, _OPEN))
        return None
    try:
        fd = _open_file(path)
    except FileNotFoundError:  # another process has stored or claimed it
        return None
    claimed = None
    try:
        if _lock(fd, wait=False) and _is_at(fd, path):
            claimed = _take(fd, path, new_path)
    finally:
        if claimed is None:
            os.close(fd)
    return claimed


def _take(fd: int, path: Path, new_path: Path) -> SpoolFile | None:
    if sys.platform == "win32":  # which renames and deletes no open file
        return SpoolFile(path, fd)
    if os.fstat(fd).st_size == 0:
        path.unlink()
        return None
    path.rename(new_path)
    return SpoolFile(new_path, fd)


def _open_file(path: Path) -> int:
    """Open a spool file of any process, but no link, directory or device.

    A link could lead to a file that is not ours, whose text would then be copied.
    """
    fd = os.open(path, _OPEN | _NO_OTHER)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


def unusable(path: Path) -> str | None:
    """Return why the lines of a file cannot be stored; ``None`` if they can."""
    try:
        os.close(_open_file(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO):
            return "not a regular file"
        return error.strerror or type(error).__name__
    return None


def list_files(directory: Path, suffix: str) -> list[Path]:
    """List the files with a suffix, by name; none if the folder does not exist."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    return [directory / name for name in names if name.endswith(suffix)]


def count_lines(path: Path, offset: int) -> int:
    """Count the lines of a file from an offset on.

    It opens the file again: the writer may close its descriptor at any time, and the number
    of that may then be another file's.

    :raises FileNotFoundError: If the file was stored meanwhile.
    """
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        lines, last = 0, b"\n"
        while data := _read_at(fd, 4 * _CHUNK, offset):
            lines += data.count(b"\n")
            offset += len(data)
            last = data[-1:]
        return lines + (last != b"\n")
    finally:
        os.close(fd)


def write_new(path: Path, data: bytes) -> None:
    """Write a new file and flush it to the disk."""
    fd = os.open(path, _NEW, 0o600)
    try:
        while data:  # on a disk that is nearly full, a write may be short
            data = data[os.write(fd, data) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Flush the entries of a folder to the disk."""
    if sys.platform == "win32":  # which opens no folders
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_at(fd: int, size: int, offset: int) -> bytes:
    if sys.platform != "win32":
        return os.pread(fd, size, offset)
    # This moves only the position for reading: writes are appended.
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, size)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


_warned: set[str] = set()


def _lock(fd: int, *, wait: bool) -> bool:
    """Lock a file until this process closes it; return False if another has locked it."""
    if not file_lock.AVAILABLE:
        return True
    try:
        return file_lock.lock(fd, wait=wait)
    except OSError as error:
        pass_on(error)
        _warn_once(
            f"The spool has no file locks ({error.strerror or error}): the spool files of"
            " killed processes are not stored. Set LLM_COST_SPOOL_DIR to a folder on a"
            " local disk. Then move the remaining files out of the old one, and run"
            " `flask llm-cost calls import FILE`."
        )
        return wait


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        _log.warning("%s", message)
