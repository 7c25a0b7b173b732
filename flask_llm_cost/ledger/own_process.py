"""State that a forked child must not share with its parent."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class OwnProcess:
    """State of one process, made when it is first needed. A forked child starts anew."""

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()

    def after_fork(self) -> None:
        """Forget the parent's state, in a forked child."""
        self._reset()

    @contextmanager
    def _own_process(self) -> Iterator[None]:
        """Read and change the state of this process, one thread at a time."""
        self._reset_if_forked()
        with self._lock:
            yield

    def _reset_if_forked(self) -> None:
        if self._pid != os.getpid():  # by something that ran no hooks
            self.after_fork()
