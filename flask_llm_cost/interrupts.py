"""What may interrupt our work at any bytecode: signal handlers, and what they raise.

RQ's ``JobTimeoutException`` and Celery's ``SoftTimeLimitExceeded`` are plain exceptions that a
handler raises wherever the process happens to be. They are meant for the app, and must not
be mistaken for an error in capture.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import signal
import sys
import threading
import time
import typing as t
from collections.abc import Iterator
from types import CodeType
from types import FrameType

Lock: t.TypeAlias = "threading.Lock | threading.RLock"

_FRESH_SECONDS: t.Final = 1.0
"""How long the handlers that were found are assumed to be still set."""


def pass_on(error: BaseException) -> None:
    """Raise the exception of a signal handler, if one interrupted our work.

    Call it wherever an exception is caught that need not be one of ours. SQLAlchemy and
    drivers wrap what passes through them: the app gets its own exception, as it was.
    """
    found = _raised_by_handler(error)
    if found is None:
        return
    context = found.__context__
    try:
        raise found
    finally:
        found.__context__ = context


def _raised_by_handler(error: BaseException) -> BaseException | None:
    """Find the exception that a signal handler raised: this one, or what it wraps."""
    if threading.current_thread() is not threading.main_thread():
        return None  # handlers run only in the main thread
    codes = _handlers()
    found = None
    for each in _wrapped(error):
        # A wrapper may have the traceback of what it wraps, so the innermost counts.
        if _left_handler(each, codes):
            found = each
    return found


def _wrapped(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = getattr(at, "orig", None) or at.__cause__ or at.__context__


def _left_handler(error: BaseException, codes: frozenset[CodeType]) -> bool:
    """Whether an exception left a signal handler. What one handles itself begins in it."""
    at = None if error.__traceback__ is None else error.__traceback__.tb_next
    while at is not None:
        if at.tb_frame.f_code in codes or _was_given_its_caller(at.tb_frame):
            return True
        at = at.tb_next
    return False


def _was_given_its_caller(frame: FrameType) -> bool:
    """Whether a function was called with the frame that it interrupted.

    Only signal handlers are. This one may have been replaced since, often by itself.
    """
    caller = frame.f_back
    if caller is None:
        return False
    for value in list(frame.f_locals.values()):
        if value is caller or (type(value) is tuple and caller in value[:3]):
            return True
    return False


def in_handler() -> bool:
    """Whether this thread is inside a signal handler or a ``__del__``.

    It may have interrupted anything, on any thread, with any lock held.
    """
    codes: frozenset[CodeType] = frozenset()
    if threading.current_thread() is threading.main_thread():
        codes = _recent_handlers()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not _forked_in:
        code = frame.f_code
        if code.co_name == "__del__" or (
            code in codes and _was_given_its_caller(frame)
        ):
            return True
        frame = frame.f_back
    return False


_forked_in: FrameType | None = None
"""Where this process was forked. What is below never returns to what it interrupted: a
server may fork its workers in a handler."""


def _after_fork() -> None:
    global _forked_in
    _forked_in = sys._getframe(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _handlers() -> frozenset[CodeType]:
    found = {_code(signal.getsignal(number)) for number in range(1, signal.NSIG)}
    return frozenset(code for code in found if code is not None)


def _recent_handlers() -> frozenset[CodeType]:
    # Asking for all of them takes longer than what it is asked for.
    global _recent
    at, codes = _recent
    if time.monotonic() - at > _FRESH_SECONDS:
        codes = _handlers()
        _recent = time.monotonic(), codes
    return codes


_recent: tuple[float, frozenset[CodeType]] = (-_FRESH_SECONDS, frozenset())


def _code(handler: object) -> CodeType | None:
    function = getattr(handler, "__func__", handler)
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(vars(type(handler)).get("__call__"), "__code__", None)
    return code if isinstance(code, CodeType) else None


class Busy(Exception):
    """A lock could not be had in time."""


def within(lock: Lock, seconds: float) -> contextlib.AbstractContextManager[bool]:
    """Have a lock for a ``with`` statement, if it is free within some seconds.

    After ``if lock.acquire(timeout=1):`` a signal handler may raise before the ``try``, and
    the lock stays locked. Here, it may raise before the lock is taken, or inside the block
    that releases it, and nowhere else: no function of Python is called in between.

    :raises Busy: At the begin of the block, if the lock is not free in time.
    """
    timed: t.Any = _TimedLock(lock, max(0.0, seconds))
    return t.cast("contextlib.AbstractContextManager[bool]", timed)


class _TimedLock:
    __slots__ = ("__enter__", "__exit__")

    def __init__(self, lock: Lock, seconds: float) -> None:
        acquired = map(lock.acquire, (True,), (seconds,))
        first = itertools.chain(filter(None, acquired), _busy())
        self.__enter__ = functools.partial(next, first)
        self.__exit__ = lock.__exit__


def _busy() -> Iterator[bool]:
    raise Busy
    yield False


def acquire_into(held: list[Lock], lock: Lock, seconds: float) -> None:
    """Do the same for a lock that is released elsewhere: what is held is in a list."""
    acquired = map(lock.acquire, (True,), (seconds,))
    held.extend(itertools.compress((lock,), acquired))


class Section:
    """Work that a signal handler must not begin again on the same thread.

    The thread may be inside a lock, or the work half done. The handler only leaves a note of
    what is to be done then.
    """

    def __init__(self) -> None:
        # With the frame that is inside: what a handler raises amid __enter__ or __exit__
        # leaves an entry, which ends with its frame.
        self._entries: list[tuple[int, FrameType]] = []

    @property
    def entered(self) -> bool:
        """Whether this thread is inside."""
        if not self._entries:
            return False  # nearly always
        mine = threading.get_ident()
        found = [entry for entry in list(self._entries) if entry[0] == mine]
        inside = [entry for entry in found if _runs(entry[1])]
        for entry in found:
            if entry not in inside:
                self._entries.remove(entry)
        return bool(inside)

    def __enter__(self) -> None:
        self._entries.append((threading.get_ident(), sys._getframe(1)))

    def __exit__(self, *exception: object) -> None:
        try:
            self._entries.remove((threading.get_ident(), sys._getframe(1)))
        except ValueError:
            return  # another greenlet of this thread has


def _runs(frame: FrameType) -> bool:
    """Whether a frame is on the stack of this thread."""
    at: FrameType | None = sys._getframe(1)
    while at is not None and at is not frame:
        at = at.f_back
    return at is not None
