"""What both storages of calls share: reporting failures, and the hooks at fork and exit."""

from __future__ import annotations

import atexit
import functools
import os
import typing as t
import weakref
from collections.abc import Callable

from .call import Call

EXIT_SECONDS: t.Final = 5.0
"""How long the end of a process may wait for queued calls to be stored."""

Failed: t.TypeAlias = Callable[[Call | None, Exception], None]
"""Receives a call that could not be stored, or ``None`` if the storage is unavailable and
calls are queued meanwhile."""


class Reporter:
    """Reports what could not be stored, and counts the calls that are lost.

    :param failed: Must not raise.
    """

    def __init__(self, failed: Failed | None) -> None:
        self.lost = 0
        self._failed = failed

    def report(self, call: Call | None, error: Exception) -> None:
        """Report an error."""
        if self._failed is not None:
            self._failed(call, error)

    def lose(self, call: Call, error: Exception) -> None:
        """Report an error that costs a call."""
        self.lost += 1
        self.report(call, error)


class Process(t.Protocol):
    """A storage that is open in this process."""

    def after_fork(self) -> None:
        """Forget what was inherited, in a forked child."""

    def flush_at_exit(self) -> None:
        """Store what is queued, at the end of the process."""


_open: weakref.WeakSet[Process] = weakref.WeakSet()


def register(storage: Process) -> None:
    """Call a storage after a fork and at exit, for as long as it is referenced."""
    _install_hooks()
    _open.add(storage)


# Not at import: hooks run in the order of their registration (at exit: in reverse), and
# those of the ledger's writer must be registered before.
@functools.cache
def _install_hooks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)
    atexit.register(_flush_all)


def _after_fork() -> None:
    for storage in list(_open):
        storage.after_fork()


def _flush_all() -> None:
    for storage in list(_open):
        storage.flush_at_exit()
