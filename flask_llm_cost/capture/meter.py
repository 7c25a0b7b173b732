"""Follows one HTTP attempt. The core under every client library.

A library's module opens a :class:`Meter` through its :class:`.Tap` before a request leaves
and reports what passes by. The meter makes sure that exactly one :class:`.Call` is
recorded, and that none of this affects the app's own call.
"""

from __future__ import annotations

import os
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextvars import Token
from time import perf_counter

from ..attempt import Recorder
from ..attempt import Snapshot
from ..call import Call
from ..call import Outcome
from ..providers import Exchange
from ..providers import Headers
from .calls import calls_of
from .calls import Ending
from .calls import results_of
from .harmless import harmless
from .suppression import Guard

_Q = t.TypeVar("_Q")


class Meter:
    """Follows one attempt from its send to its end, and records it exactly once.

    Opened by :meth:`.Tap.open`. Of the methods that end it, the first one called counts.
    All but :meth:`abandon` may be called from any thread, and none ever raises.
    """

    __slots__ = (
        "__weakref__",
        "_began",
        "_complete_at",
        "_exchange",
        "_first_byte",
        "_guard",
        "_recorder",
        "_snapshots",
        "_status",
        "_token",
        "asking",
    )

    def __init__(
        self, recorder: Recorder, exchange: Exchange, snapshot: Snapshot, guard: Guard
    ) -> None:
        self.asking: bytes | None = None
        """The body to send instead of the app's, in order to ask for the usage too."""
        self._recorder = recorder
        self._exchange = exchange
        # Whoever pops the snapshot records the call. Popping is atomic and takes no lock,
        # so that it is safe between threads and in __del__ alike.
        self._snapshots = [snapshot]
        self._guard = guard
        self._token: Token[Guard | None] | None = None
        self._status: int | None = None
        self._first_byte: float | None = None
        self._complete_at: float | None = None
        self._began = perf_counter()

    @property
    def open(self) -> bool:
        """Whether the call is not recorded yet."""
        return bool(self._snapshots)

    # Before the answer

    @harmless()
    def asked(self, url: str, headers: Headers | Callable[[], Headers]) -> None:
        """Note whose account the request is sent with."""
        given = headers() if callable(headers) else headers
        self._exchange.begin_request(url, given)

    def start(self, token: Token[Guard | None] | None = None) -> None:
        """The attempt is about to be sent.

        :param token: Of the guard that suppresses captures below it until it is answered.
        """
        self._token = token
        _open.add(self)

    def sending(
        self,
        request: _Q,
        asking: Callable[[_Q, bytes], _Q | None] | None = None,
        status_of: Callable[[BaseException], int | None] | None = None,
    ) -> Sending[_Q]:
        """Wrap the client's own ``send``; an error that it raises ends the attempt.

        :param asking: Makes a request with the body :attr:`asking`, if there is one.
        :param status_of: The HTTP status in an error that the client raised.
        :return: A context manager that gives the request to send.
        """
        if asking is not None and self.asking is not None:
            request = asking(request, self.asking) or request
        return Sending(self, request, status_of)

    def sent(self) -> None:
        """The request is sent: from now on other attempts are captured again.

        For libraries whose callers may send others before they ask for the response.
        """
        self._leave()

    @harmless()
    def respond(self, status: int, headers: Mapping[str, str]) -> None:
        """The response's headers arrived: from now on other attempts are captured again."""
        self._leave()
        self._status = status
        self._exchange.begin_response(status, headers)

    def no_response(self, status: int | None = None) -> None:
        """No response came.

        :param status: Of a response that came, but that the client did not hand out.
        """
        self._leave()
        self._status = status
        self._finish("no_response")

    def _leave(self) -> None:
        token, self._token = self._token, None
        self._guard.leave(token)

    # The body

    def feed(self, data: bytes, *, decoded: bool) -> None:
        """The caller was handed these bytes of the body.

        :param decoded: Their content encoding is already undone.
        """
        if not self._snapshots:
            return
        if self._first_byte is None:
            self._first_byte = perf_counter()
        if self._exchange.feed(data, decoded=decoded):
            self._check_events()

    def _check_events(self) -> None:
        exchange = self._exchange
        if exchange.has_results:
            self._record_results()
        if exchange.done:
            # Do not wait for the end: many clients stop reading here and keep the rest.
            self._finish("ok", complete=True)
        elif self._complete_at is None and exchange.complete and not exchange.goes_on:
            # The usage is final, and usually the end follows at once. If it does not,
            # settle() does not wait long for it.
            self._complete_at = perf_counter()

    def event(self, document: Mapping[str, t.Any]) -> None:
        """The caller was handed this event, already decoded."""
        if not self._snapshots:
            return
        if self._first_byte is None:
            self._first_byte = perf_counter()
        self._exchange.event(document)
        if self._exchange.has_results:
            self._record_results()

    def sends(self, document: Mapping[str, t.Any]) -> None:
        """The caller sends this message, in a session that is one call."""
        if self._snapshots:
            self._exchange.sent(document)

    @property
    def complete(self) -> bool:
        """Whether the usage that was read so far is final."""
        return self._exchange.complete

    # The end

    def end(self) -> None:
        """The body came to its own end."""
        self._finish("ok", complete=True)

    def close(self) -> None:
        """The caller stopped reading."""
        self._finish("interrupted")

    def fail(self) -> None:
        """The connection was lost, or the body could not be read."""
        self._finish("failed")

    def unfinished(self) -> None:
        """The process exits before the end of the response."""
        self._finish("unfinished")

    def settle(self, idle_s: float) -> None:
        """Record a call that is complete, but whose end nobody has read since."""
        at = self._complete_at
        if at is not None and perf_counter() - at >= idle_s:
            self._finish("ok", complete=True)

    def abandon(self) -> None:
        """The caller dropped the response. For ``__del__``: no lock, I/O or logging."""
        self._finish("interrupted", deferred=True)

    def __del__(self) -> None:
        try:
            self.abandon()
        except AttributeError:
            return  # interrupted while it was being made: nothing was sent

    # Recording

    def _finish(
        self, outcome: Outcome, *, complete: bool = False, deferred: bool = False
    ) -> None:
        try:
            snapshot = self._snapshots.pop()
        except IndexError:
            return
        self._guard.on = False
        if deferred:
            self._defer(self._calls(snapshot, outcome, complete), snapshot)
        else:
            self._record(snapshot, outcome, complete)

    @harmless()
    def _record(self, snapshot: Snapshot, outcome: Outcome, complete: bool) -> None:
        _open.discard(self)
        try:
            calls = list(self._calls(snapshot, outcome, complete))
        except BaseException:
            # As in _record_each.
            self._defer(self._calls(snapshot, outcome, complete), snapshot)
            raise
        self._record_each(calls, snapshot)

    @harmless()
    def _record_results(self) -> None:
        """Record the results of a batch, or turns of a session, that were read so far."""
        for snapshot in tuple(self._snapshots):
            self._record_each(list(results_of(self._exchange, snapshot)), snapshot)

    def _record_each(self, calls: list[Call], snapshot: Snapshot) -> None:
        """Record calls. An exception that interrupts it is the app's, and propagates.

        It may be Ctrl-C, or the timeout of a greenlet or a job. The calls were made, so
        those that are left are deferred. If the first is already stored, its id prevents a
        duplicate.
        """
        try:
            while calls:
                self._recorder.record(calls[0], snapshot)
                del calls[0]
        except BaseException:
            self._defer(calls, snapshot)
            raise

    def _defer(self, calls: Iterable[Call], snapshot: Snapshot) -> None:
        # Not `harmless`, which logs.
        try:
            for call in calls:
                self._recorder.record(call, snapshot, deferred=True)
        except Exception:
            return

    def _calls(
        self, snapshot: Snapshot, outcome: Outcome, complete: bool
    ) -> Iterator[Call]:
        first = self._first_byte
        ending = Ending(
            outcome,
            complete,
            self._status,
            latency_ms=_ms(perf_counter() - self._began),
            first_byte_ms=None if first is None else _ms(first - self._began),
        )
        yield from calls_of(self._exchange, snapshot, ending)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


class Sending(t.Generic[_Q]):
    """Wraps the client's own ``send``; made by :meth:`Meter.sending`."""

    __slots__ = ("_meter", "_request", "_status_of")

    def __init__(
        self,
        meter: Meter,
        request: _Q,
        status_of: Callable[[BaseException], int | None] | None,
    ) -> None:
        self._meter = meter
        self._request = request
        self._status_of = status_of

    def __enter__(self) -> _Q:
        return self._request

    def __exit__(
        self, kind: object, error: BaseException | None, traceback: object
    ) -> None:
        if error is not None:
            status_of = self._status_of
            self._meter.no_response(None if status_of is None else status_of(error))


_open: weakref.WeakSet[Meter] = weakref.WeakSet()


def follow(recorder: Recorder, exchange: Exchange, snapshot: Snapshot) -> Meter:
    """Follow a call that the app reports itself: attempts meanwhile are calls of their own."""
    guard = Guard()
    guard.on = False
    meter = Meter(recorder, exchange, snapshot, guard)
    meter.start()
    return meter


def open_meters() -> list[Meter]:
    """The attempts of this process whose end has not been seen."""
    while True:
        try:
            return [meter for meter in _open if meter.open]
        except RuntimeError:
            # Another thread opened one meanwhile.
            continue


def settle(idle_s: float, *, ending: bool = False) -> None:
    """Record what is complete, though its caller never read to the end.

    :param idle_s: Seconds that must have passed since its final usage event.
    :param ending: The process exits: record incomplete calls as unfinished.
    """
    for meter in open_meters():
        meter.settle(idle_s)
        if ending:
            meter.unfinished()


def _after_fork() -> None:
    """In a forked child: the parent's attempts are the parent's to record."""
    global _open
    for meter in open_meters():
        meter._snapshots.clear()
        meter._guard.on = False
    _open = weakref.WeakSet()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
