"""How long one call of the app may wait for the ledger: one time for all of its steps."""

from __future__ import annotations

import threading

CALL_SECONDS = 0.23
"""How long a call waits for a database that is locked, silent or away."""

_local = threading.local()


class WaitLimit:
    """What is left of the time that one call may wait."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = CALL_SECONDS
        """Seconds. Answers of the database do not take from it, but its silence does."""


class waiting:
    """Let what waits inside the block take from this, or from that of an outer block."""

    # Not a generator: each call enters two of these.

    __slots__ = ("_given", "_outer")

    def __init__(self, wait_limit: WaitLimit) -> None:
        self._given = wait_limit

    def __enter__(self) -> WaitLimit:
        self._outer = outer = current()
        mine = _local.wait_limit = outer or self._given
        return mine

    def __exit__(self, *exception: object) -> None:
        _local.wait_limit = self._outer


def current() -> WaitLimit | None:
    """Return that of the call which this thread is about."""
    return getattr(_local, "wait_limit", None)
