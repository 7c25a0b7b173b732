"""How long one call of the app may wait for the ledger, all steps together."""

from __future__ import annotations

import threading

CALL_SECONDS = 0.23
"""How long a call waits for a database that is locked, silent or unavailable."""


class WaitLimit:
    """The remaining time that one call may wait, in seconds."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = CALL_SECONDS
        """Answers of the database do not take from it, but its silence does."""


class _Here(threading.local):
    limit: WaitLimit | None = None
    """That of the call which this thread is about.

    Set it in a ``try``, and set it back in its ``finally``. A ``with`` would call functions,
    in which a signal handler may raise: that call's limit would hold for all calls after it.
    """


here = _Here()
