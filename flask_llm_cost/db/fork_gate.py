"""Prevent a fork while one of the process's connections to an SQLite file is in use.

SQLite remembers in the process which locks its connections hold. A child inherits that
memory, and not the thread that would release them: it could never write to the file.
"""

from __future__ import annotations

import os
import threading
import time
import typing as t

if t.TYPE_CHECKING:
    import sqlalchemy as sa

_FORK_SECONDS: t.Final = 2.0
"""How long a fork waits. A statement takes milliseconds, but a lock may take forever."""

_STEP_SECONDS: t.Final = 0.002

# The process and the thread by the record of the connection. Only operations that are
# atomic: a signal handler may fork at any bytecode.
_in_use: dict[int, tuple[int, int]] = {}
_forks: list[float] = []


def watch(engine: sa.Engine) -> None:
    """Watch the connections of an engine of a SQLite file."""
    from sqlalchemy import event

    event.listen(engine, "checkout", _enter)
    event.listen(engine, "checkin", _leave)


def _enter(connection: t.Any, record: t.Any, proxy: t.Any) -> None:
    while True:
        _in_use[id(record)] = os.getpid(), threading.get_ident()
        if not any(time.monotonic() < until for until in list(_forks)):
            return
        del _in_use[id(record)]
        time.sleep(_STEP_SECONDS)


def _leave(connection: t.Any, record: t.Any) -> None:
    _in_use.pop(id(record), None)


def before_fork() -> None:
    """Wait until none is in use by another thread, and let none begin."""
    until = time.monotonic() + _FORK_SECONDS
    _forks.append(until)
    mine = os.getpid(), threading.get_ident()
    while time.monotonic() < until:
        users = list(_in_use.values())
        # Those of another process were inherited.
        if all(user == mine or user[0] != mine[0] for user in users):
            return
        time.sleep(_STEP_SECONDS)


def after_fork() -> None:
    """Let them begin again, in the parent and in the child."""
    if _forks:
        _forks.pop()
