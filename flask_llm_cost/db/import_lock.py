"""Finish imports of our threads before the process forks.

A forked child does not have the thread: a module that it had half imported would stay so,
and every import of it would fail or block forever.
"""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

_FORK_SECONDS: t.Final = 60.0
"""Longer than any import takes, but finite: the fork itself may happen during one."""

_lock = threading.RLock()
_acquired: list[t.Any] = []
_loads = 0


@contextmanager
def loading() -> Iterator[None]:
    """Import modules, or call what does, without a fork in between."""
    global _loads
    with _lock:
        _loads += 1
        yield


def loads() -> int:
    """Wait for the imports that are running; return how many there have been."""
    if _lock.acquire(timeout=_FORK_SECONDS):
        _lock.release()
    return _loads


def before_fork() -> None:
    """Wait for the imports that are running, and block new ones."""
    if _lock.acquire(timeout=_FORK_SECONDS):
        _acquired.append(_lock)


def after_fork() -> None:
    """Allow imports again, in the parent and in the child."""
    while _acquired:
        _acquired.pop().release()
