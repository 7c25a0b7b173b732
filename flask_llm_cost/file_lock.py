"""Lock files against other processes, on POSIX and on Windows."""

from __future__ import annotations

import errno
import importlib
import os
import time
import typing as t


def _module(name: str) -> t.Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_fcntl: t.Any = _module("fcntl")
_msvcrt: t.Any = _module("msvcrt")

AVAILABLE: t.Final = _fcntl is not None or _msvcrt is not None
"""Whether this platform has file locks."""

# Windows lets no one read what is locked, so this is a byte that hardly any file has.
_BYTE: t.Final = 2**31 - 2
_WAIT_SECONDS: t.Final = 0.01


def lock(fd: int, *, wait: bool = True) -> bool:
    """Lock a file until it is closed, at the latest by the end of the process.

    :param wait: Wait until no one else has locked it.
    :return: False if someone has, and this was not to wait.
    :raises OSError: If the platform or the file system has no locks.
    """
    if _fcntl is not None:
        try:
            _fcntl.flock(fd, _fcntl.LOCK_EX | (0 if wait else _fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True
    if _msvcrt is None:
        raise OSError(errno.ENOLCK, "this platform has no file locks")
    while not _lock_byte(fd):
        if not wait:
            return False
        time.sleep(_WAIT_SECONDS)  # its own way to wait gives up after ten seconds
    return True


def _lock_byte(fd: int) -> bool:
    at = os.lseek(fd, 0, os.SEEK_CUR)
    try:
        os.lseek(fd, _BYTE, os.SEEK_SET)
        _msvcrt.locking(fd, _msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EDEADLK):
            raise
        return False
    finally:
        os.lseek(fd, at, os.SEEK_SET)
    return True
