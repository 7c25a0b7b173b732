"""State that a forked child must not share with its parent."""

from __future__ import annotations

import os
import threading


class OwnProcess:
    """State of one process, made when it is first needed. A forked child starts anew."""

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()

    def after_fork(self) -> None:
        """Forget the parent's state, in a forked child."""
        self._reset()

    # The lock itself, for a `with` statement: between a lock and the block that a generator
    # or a method takes it for, a signal handler may raise, and leave it locked.
    def _own_process(self) -> threading.RLock:
        """Return the lock of this process's state, to read and change it."""
        self._reset_if_forked()
        return self._lock

    def _reset_if_forked(self) -> None:
        if self._pid != os.getpid():  # by something that ran no hooks
            self.after_fork()
