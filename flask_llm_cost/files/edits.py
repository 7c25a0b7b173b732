"""How monthly files are appended to and rewritten, by any number of processes."""

from __future__ import annotations

import logging
import os
import sys
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import jsonl
from ..call import Call
from ..file_lock import lock

_log = logging.getLogger("flask_llm_cost")

_BINARY: t.Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def append(path: Path, line: bytes) -> None:
    """Append a line as a whole, or leave no trace of it.

    :raises OSError: If it could not be written.
    """
    while not _append(path, line):
        _log.warning(
            "The ledger's file %s was deleted or replaced while a call was appended. The"
            " call is appended to a new one; calls in the old one are missing.",
            path,
        )


def _append(path: Path, line: bytes) -> bool:
    with _locked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as fd:
        size = os.fstat(fd).st_size
        if size and _last_byte(fd, size) != b"\n":  # another process died writing
            line = b"\n" + line
        try:
            written = os.write(fd, line)
            if written < len(line):
                raise OSError(f"{written} of {len(line)} bytes could be written")
        except OSError:
            os.ftruncate(fd, size)
            raise
        return _is_at(fd, path)


def keep_calls(path: Path, keep: Callable[[Call], bool]) -> int:
    """Delete the calls of a file that are not to be kept; return how many there were.

    Lines that are not calls stay. A file without any line is deleted.
    """
    with _locked(path, os.O_RDWR) as fd:
        lines = list(_lines(fd))
        kept = [line for line in lines if _stays(line, keep)]
        if not kept and sys.platform != "win32":
            path.unlink()
        elif len(kept) < len(lines):
            _replace(fd, path, kept)
    return len(lines) - len(kept)


def erase_tag(path: Path, key: str, value: str) -> tuple[int, int]:
    """Erase a value of a tag from the lines of a file.

    :return: How many lines had it, and how many that are not JSON seem to have it.
    """
    erased = unreadable = 0
    with _locked(path, os.O_RDWR) as fd:
        lines: list[bytes] = []
        for line in _lines(fd):
            try:
                changed = jsonl.without_tag(line, key, value)
            except ValueError:
                changed = None
                unreadable += value.encode() in line
            erased += changed is not None
            lines.append(line if changed is None else changed + b"\n")
        if erased:
            _replace(fd, path, lines)
    return erased, unreadable


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[int]:
    """Open the file that is at a path, and lock it."""
    while True:
        try:
            fd = os.open(path, flags | _BINARY, 0o600)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            continue
        try:
            _lock(fd, path, needed=not flags & os.O_APPEND)
            if _is_at(fd, path):
                yield fd
                return
        finally:
            os.close(fd)
        # It was replaced while we waited for the lock: open the new file.


def _lock(fd: int, path: Path, *, needed: bool) -> None:
    try:
        lock(fd)
    except OSError as error:
        # A line is appended in one write, but a file cannot be rewritten meanwhile.
        if needed:
            raise
        if path.parent not in _unlocked:
            _unlocked.add(path.parent)
            _log.warning(
                "%s has no file locks (%s), so calls cannot be deleted from its files. Set"
                " LLM_COST_JSONL_DIR to a folder on a local disk.",
                path.parent,
                error.strerror or error,
            )


_unlocked: set[Path] = set()


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _last_byte(fd: int, size: int) -> bytes:
    os.lseek(fd, size - 1, os.SEEK_SET)
    return os.read(fd, 1)


def _lines(fd: int) -> Iterator[bytes]:
    with os.fdopen(os.dup(fd), "rb") as file:
        yield from file


def _stays(line: bytes, keep: Callable[[Call], bool]) -> bool:
    try:
        return keep(jsonl.decode(line))
    except ValueError:
        return True


def _replace(fd: int, path: Path, lines: Iterable[bytes]) -> None:
    """Replace a locked file by a new one, in one step."""
    new = path.with_suffix(".new")
    out = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o600)
    with os.fdopen(out, "wb") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(out)
    if sys.platform != "win32":
        new.replace(path)
        return
    # Windows replaces no open file. If this is interrupted, the new file stays.
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(new.read_bytes())
    new.unlink()
