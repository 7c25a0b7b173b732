"""The thread of a process that runs the writers of all apps on one ledger, in turn."""

from __future__ import annotations

import os
import threading
import time
import typing as t
import weakref
from queue import Empty
from queue import SimpleQueue

if t.TYPE_CHECKING:
    from .writer import Writer


class WriterThread:
    """Runs writers while any of them exists and is not closed.

    :param key: Which ledger it is for.
    """

    def __init__(self, key: tuple[object, ...]) -> None:
        self._key = key
        # Not an event: setting one takes a lock, which a signal handler may interrupt.
        self._wake: SimpleQueue[None] = SimpleQueue()
        # Weak references, so that the thread does not keep a closed app alive; but a new
        # writer has calls to store.
        self._writers: list[weakref.ref[Writer]] = []
        self._new: list[Writer] = []
        self._thread = threading.Thread(
            target=self._run, name="llm-cost-writer", daemon=True
        )

    def wake(self) -> None:
        """Have the thread look at once which writers are due."""
        self._wake.put(None)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on this thread."""
        return self._thread is threading.current_thread()

    def join(self, timeout: float) -> None:
        """Wait until the thread ends, if no writer needs it any longer."""
        if not self._open():
            self._thread.join(timeout)

    def _open(self) -> list[Writer]:
        found = (*(reference() for reference in self._writers), *self._new)
        return [writer for writer in found if writer is not None and not writer.closed]

    def _run(self) -> None:
        pid = os.getpid()
        while os.getpid() == pid:
            with _lock:
                writers = self._open()
                if not writers:
                    _threads.pop(self._key, None)
                    return
                self._writers = [weakref.ref(writer) for writer in writers]
                self._new = []
            for writer in writers:
                writer.run_if_due(time.monotonic())
            left = min(writer.due_at for writer in writers) - time.monotonic()
            # If an app is gone, keep its ledger alive until its calls are stored.
            kept = [writer for writer in writers if writer.pending]
            writers.clear()
            del writer
            self._wait(max(0.0, left))
            del kept

    def _wait(self, seconds: float) -> None:
        try:
            self._wake.get(timeout=seconds)
            while True:
                self._wake.get_nowait()
        except Empty:
            return


_threads: dict[tuple[object, ...], WriterThread] = {}
_lock = threading.RLock()


def join_thread(writer: Writer, ledger: tuple[object, ...]) -> WriterThread | None:
    """Have the thread of a ledger run a writer, and start it if it does not run yet.

    :return: ``None`` if no thread can be started.
    """
    with _lock:
        key = (os.getpid(), *ledger)
        thread = _threads.get(key)
        if thread is not None:
            thread._new.append(writer)
            thread.wake()
            return thread
        # Before its start, which lets other threads run, and finalizers that record calls
        # on this one.
        _threads[key] = thread = WriterThread(key)
        thread._new.append(writer)
        try:
            thread._thread.start()
        except RuntimeError:  # at interpreter exit, or no threads are left
            return None
        finally:
            if thread._thread.ident is None:
                _threads.pop(key, None)
        return thread


def _after_fork() -> None:
    """In a forked child: the threads are the parent's, and one may have held the lock."""
    global _lock
    _lock = threading.RLock()
    _threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
