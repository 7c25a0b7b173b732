"""What a thread of ours loads is loaded whole before the process forks.

The child has no such thread: a module that was half loaded would stay so there, and every
import of it would fail or wait for ever.
"""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

_FORK_SECONDS: t.Final = 60.0
"""Longer than any import takes; and yet an end, should the forking itself be in one."""

_lock = threading.RLock()
_held: list[t.Any] = []
_loads = 0


@contextmanager
def loading() -> Iterator[None]:
    """Import modules, or make something that does. No fork comes in between."""
    global _loads
    with _lock:
        _loads += 1
        yield


def loads() -> int:
    """How often something was loaded; waits for what is being loaded now."""
    if _lock.acquire(timeout=_FORK_SECONDS):
        _lock.release()
    return _loads


def before_fork() -> None:
    """Wait for what is being loaded, and let nothing more begin."""
    if _lock.acquire(timeout=_FORK_SECONDS):
        _held.append(_lock)


def after_fork() -> None:
    """Let it go on, in the parent and in the child."""
    while _held:
        _held.pop().release()
