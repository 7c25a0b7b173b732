"""Finish imports of our threads before the process forks.

A forked child does not have the thread: a module that it had half imported would stay so,
and every import of it would fail or block forever.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import typing as t

from ..interrupts import acquire_into
from ..interrupts import Busy
from ..interrupts import Lock
from ..interrupts import within

_FORK_SECONDS: t.Final = 60.0
"""Longer than any import takes, but finite: the fork itself may happen during one."""

_lock = threading.RLock()
_acquired: list[Lock] = []
_numbers = itertools.count(1)
_loads = 0


# The lock itself, for a `with` statement: between a lock and the block that a generator or
# a method takes it for, a signal handler may raise, and leave it locked.
def loading() -> threading.RLock:
    """Return the lock in which to import modules, or call what does: no fork in between."""
    global _loads
    _loads = next(_numbers)
    return _lock


def loads() -> int:
    """Wait for the imports that are running; return how many there have been."""
    with contextlib.suppress(Busy), within(_lock, _FORK_SECONDS):
        pass
    return _loads


def before_fork() -> None:
    """Wait for the imports that are running, and block new ones."""
    acquire_into(_acquired, _lock, _FORK_SECONDS)


def after_fork() -> None:
    """Allow imports again, in the parent and in the child."""
    while _acquired:
        _acquired.pop().release()
