"""The temporary folder of a ledger whose app has its database in memory."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import typing as t
import weakref
from collections.abc import Callable


class TemporaryFolder:
    """Created when it is first needed, and removed with its ledger."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._path: str | None = None
        self._finalize: Callable[[], t.Any] | None = None

    def __call__(self) -> str:
        """Return its path."""
        with self._lock:
            if self._path is None:
                self._path = tempfile.mkdtemp(prefix="llm_cost_")
                finalize = weakref.finalize(self, _remove, self._path, os.getpid())
                finalize.atexit = False  # not before what is queued is stored
                self._finalize = finalize
            return self._path

    def remove(self) -> None:
        """Remove it, if it exists. A forked child leaves that of its parent."""
        if self._finalize is not None:
            self._finalize()


def _remove(path: str, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(path, ignore_errors=True)
