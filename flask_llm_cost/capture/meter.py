"""What came of one HTTP attempt? The core under every client library.

A library's module opens a :class:`Meter` through its :class:`Tap` before a request
leaves, tells it what passes by, and is done: the meter sees to it that exactly one
:class:`.Call` is recorded, and that nothing of this reaches the app's own call.
"""

from __future__ import annotations

import datetime as dt
import functools
import logging
import os
import typing as t
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from time import perf_counter

from ..call import Attempt
from ..call import Call
from ..call import derive_event_id
from ..call import Outcome
from ..call import Reading
from ..call import Recorder
from ..call import Snapshot
from ..call import TagSource
from ..errors import ConfigError
from ..errors import LlmCostError
from ..interrupts import of_signal
from ..providers import Exchange
from ..providers import NOT_A_CALL
from ..providers import Provider
from ..providers import Route
from ..providers import route

_log = logging.getLogger("flask_llm_cost")

_P = t.ParamSpec("_P")
_R = t.TypeVar("_R")

Hosts: t.TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str] | None]
"""``LLM_COST_PROVIDER_HOSTS``, or a callable that finds those of the current app.

``None`` means that this app captures nothing.
"""


Body: t.TypeAlias = bytes | Callable[[], bytes | None] | None

UNKNOWN_MODEL: t.Final = "unknown"
"""The model of a call that names none anywhere, or only in a body we cannot read."""


class _Guard:
    """Says that captures inside are not wanted, for as long as it is on.

    A task started meanwhile has it in its copy of the context. So what counts is the
    flag, which everyone sees change, and not the variable.
    """

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = True


_guard: ContextVar[_Guard | None] = ContextVar("flask_llm_cost.guard", default=None)


def suppressed() -> bool:
    """Whether an attempt that is sent here is not to be captured."""
    guard = _guard.get()
    return guard is not None and guard.on


@contextmanager
def suppress() -> Iterator[None]:
    """Capture nothing inside a ``with`` block."""
    guard = _Guard()
    token = _guard.set(guard)
    try:
        yield
    finally:
        guard.on = False
        try:
            _guard.reset(token)
        except ValueError:
            # Left in another context than entered (a generator closed elsewhere). The
            # flag is down, so the one that was entered sees again.
            pass


def harmless(
    *, passing: tuple[type[Exception], ...] = ()
) -> Callable[[Callable[_P, _R]], Callable[_P, _R | None]]:
    """Let no error of ours reach the app's call: it is logged, and ``None`` returned.

    :param passing: What is raised on purpose, to stop a call before it is sent.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R | None]:
        @functools.wraps(function)
        def kept(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
            # All of capture's own work comes through here, and the app's call goes on
            # whatever happens in it.
            try:
                return function(*args, **kwargs)
            except passing:
                raise
            except Exception as error:
                if of_signal(error):
                    raise
                complain(error)
                return None

        return kept

    return decorate


def complain(error: Exception) -> None:
    """Log an error of ours: where it happened, and nothing that it may quote."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = "?" if at is None else f"{at.tb_frame.f_code.co_name}:{at.tb_lineno}"
    _log.error(
        "Capture failed with %s in %s. The app's call goes on, its record may be"
        " missing or without usage.",
        type(error).__qualname__,
        where,
    )


class Tap:
    """Where a client's attempts are told apart, tagged and recorded.

    :param recorder: Asked before an LLM call is sent, and told what came of it.
    :param hosts: As ``LLM_COST_PROVIDER_HOSTS``, or a callable that is asked each time.
    :param providers: An app's own, asked before the built-in ones; or a callable that finds
        them each time.
    :param tags: Explicit tags of every call that comes through here.
    :raises ConfigError: If ``tags`` is neither a mapping nor a callable.
    """

    __slots__ = (
        "__weakref__",
        "_name",
        "hosts",
        "providers",
        "recorder",
        "tags",
    )

    def __init__(
        self,
        recorder: Recorder,
        *,
        hosts: Hosts | None = None,
        providers: Sequence[Provider] | Callable[[], Sequence[Provider]] = (),
        tags: TagSource | None = None,
    ) -> None:
        if tags is not None and not callable(tags) and not isinstance(tags, Mapping):
            raise ConfigError(
                "tags must be a mapping, or a callable that returns one, not"
                f" {type(tags).__name__}."
            )
        self.recorder = recorder
        self.hosts = hosts
        self.providers = providers if callable(providers) else tuple(providers)
        self.tags = tags
        self._name = ""

    def __reduce__(self) -> tuple[t.Any, ...]:
        """What a client that is copied or pickled keeps: this very tap, in its process."""
        if not self._name:
            self._name = uuid.uuid4().hex
            _pickled[self._name] = self
        return _unpickled, (self._name,)

    @harmless(passing=(LlmCostError,))
    def open(
        self, method: str, url: str, body: Body, form: Body = None
    ) -> Meter | None:
        """Begin to follow an attempt, before it is sent.

        :param body: What is sent, or ``None`` if it cannot be known without consuming it.
            A callable is asked only if this is an LLM call.
        :param form: What :func:`.form` makes of its fields, if there is no such body.
        :return: ``None`` if it is not to be captured.
        :raises LlmCostError: If the recorder forbids the call, as a spent budget does.
        """
        if suppressed():
            return None
        found = self._route(method, url)
        if found is None:
            return None
        guard = _Guard()
        token = meter = None
        try:
            # Before the recorder is asked: a tag provider may call an LLM itself.
            token = _guard.set(guard)
            meter = self._begin(found, url, body, form, guard)
        finally:
            if meter is None:
                guard.on = False
                if token is not None:
                    _guard.reset(token)
        if meter is not None:
            meter._token = token
            _open.add(meter)
        return meter

    # What an app's own providers raise is no reason to stop a call, whatever it is. So
    # nothing passes but what the recorder itself raises.

    @harmless()
    def _route(self, method: str, url: str) -> Route | None:
        hosts = self.hosts
        if callable(hosts):
            hosts = hosts()
            if hosts is None:
                return None
        own = self.providers
        providers = own() if callable(own) else own
        return route(method, url, hosts=hosts, providers=providers)

    @harmless()
    def _exchange(self, found: Route, sent: bytes | None) -> Exchange:
        return Exchange(found, request_body=sent)

    def _begin(
        self, found: Route, url: str, body: Body, form: Body, guard: _Guard
    ) -> Meter | None:
        sent = _sent(body)
        exchange = self._exchange(found, _sent(form) if sent is None else sent)
        if exchange is None:
            return None
        snapshot = self.recorder.begin(
            Attempt(
                provider=found.provider,
                operation=found.operation,
                request_model=exchange.request_model,
                stream=exchange.stream,
                tags=self.tags,
                body=sent,
                poll=found.poll,
            )
        )
        if snapshot is None:
            return None
        if snapshot.estimate:
            exchange.start_estimate(sent)
        meter = Meter(self.recorder, exchange, snapshot, guard)
        if snapshot.inject:
            meter.asking = _asking(exchange, url, sent)
        return meter


_pickled: weakref.WeakValueDictionary[str, Tap] = weakref.WeakValueDictionary()


def _unpickled(name: str) -> Tap | None:
    tap = _pickled.get(name)
    if tap is None:
        _log.warning(
            "An adapter was unpickled in another process than it was made in: it sends,"
            " but records nothing. Mount one of llm_cost.adapter() there, or wrap its"
            " session again."
        )
    return tap


@harmless()
def _asking(exchange: Exchange, url: str, sent: bytes | None) -> bytes | None:
    return exchange.inject_stream_usage(url, sent)


@harmless()
def _sent(body: Body) -> bytes | None:
    """What is sent. Should it be unreadable to us, the call is still a call."""
    return body() if callable(body) else body


class Meter:
    """Follows one attempt from its send to its end, and records it exactly once.

    Made by :meth:`Tap.open`. Of the methods that end it the first one counts. All but
    :meth:`abandon` may be called from any thread, and none ever raises.
    """

    __slots__ = (
        "__weakref__",
        "_began",
        "_complete_at",
        "_exchange",
        "_first_byte",
        "_guard",
        "_snapshots",
        "_recorder",
        "_status",
        "_token",
        "asking",
    )

    def __init__(
        self, recorder: Recorder, exchange: Exchange, snapshot: Snapshot, guard: _Guard
    ) -> None:
        self.asking: bytes | None = None
        """What is to be sent instead of the app's body: it asks for the usage, too."""
        self._recorder = recorder
        self._exchange = exchange
        # Whoever pops the hold records the call. Popping is atomic and takes no lock,
        # so that it is safe between threads and in __del__ alike.
        self._snapshots = [snapshot]
        self._guard = guard
        self._token: t.Any = None
        self._status: int | None = None
        self._first_byte: float | None = None
        self._complete_at: float | None = None
        self._began = perf_counter()

    @property
    def open(self) -> bool:
        """Whether the call is not recorded yet."""
        return bool(self._snapshots)

    @harmless()
    def respond(self, status: int, headers: Mapping[str, str]) -> None:
        """The answer's headers are there: attempts that begin now are others."""
        self._leave()
        self._status = status
        self._exchange.begin_response(status, headers)

    def feed(self, data: bytes, *, decoded: bool) -> None:
        """The caller was handed these bytes of the body.

        :param decoded: Their content encoding is undone already.
        """
        if not self._snapshots:
            return
        if self._first_byte is None:
            self._first_byte = perf_counter()
        if self._exchange.feed(data, decoded=decoded):
            self._look()

    def _look(self) -> None:
        """See what the events say that were read just now."""
        exchange = self._exchange
        if exchange.route.poll:
            self._take_results()
        if exchange.done:
            # Do not wait for an end: many clients stop reading here and keep the rest.
            self._finish("ok", ended=True)
        elif exchange.complete and self._complete_at is None:
            # The usage is final, and mostly the end follows at once. Where it does not,
            # settle() does not wait for it for long.
            self._complete_at = perf_counter()

    def event(self, document: Mapping[str, t.Any]) -> None:
        """The caller was handed this event, decoded already."""
        if not self._snapshots:
            return
        if self._first_byte is None:
            self._first_byte = perf_counter()
        self._exchange.event(document)

    def end(self) -> None:
        """The body came to its own end."""
        self._finish("ok", ended=True)

    def close(self) -> None:
        """The caller stops reading."""
        self._finish("interrupted")

    def fail(self) -> None:
        """The body broke off, or could not be read."""
        self._finish("failed")

    def no_response(self, status: int | None = None) -> None:
        """No answer came.

        :param status: Of an answer that came, but that the client kept to itself.
        """
        self._leave()
        self._status = status
        self._finish("no_response")

    def unfinished(self) -> None:
        """The process ends before the answer did."""
        self._finish("unfinished")

    def settle(self, idle_s: float) -> None:
        """Record a call that is complete, but that no one has read to its end since."""
        at = self._complete_at
        if at is not None and perf_counter() - at >= idle_s:
            self._finish("ok", ended=True)

    def abandon(self) -> None:
        """The caller let go of the answer. For ``__del__``: no lock, I/O or logging."""
        self._finish("interrupted", deferred=True)

    def __del__(self) -> None:
        try:
            self.abandon()
        except AttributeError:
            return  # something interrupted it while it was made: nothing was sent

    def _leave(self) -> None:
        """Lower the guard: other attempts may be captured in this context again."""
        self._guard.on = False
        token, self._token = self._token, None
        if token is not None:
            try:
                _guard.reset(token)
            except ValueError:
                # The answer arrived in another context; the flag alone must do there.
                pass

    def _finish(
        self, outcome: Outcome, *, ended: bool = False, deferred: bool = False
    ) -> None:
        try:
            snapshot = self._snapshots.pop()
        except IndexError:
            return
        self._guard.on = False
        if deferred:
            self._defer(self._calls(snapshot, outcome, ended), snapshot)
        else:
            self._record(snapshot, outcome, ended)

    def _defer(self, calls: Iterable[Call], snapshot: Snapshot) -> None:
        # Not through `harmless`, which logs.
        try:
            for call in calls:
                self._recorder.record(call, snapshot, deferred=True)
        except Exception:
            return

    def _keep(self, calls: list[Call], snapshot: Snapshot) -> None:
        """Record calls. What keeps it from doing so is the app's, and goes on to it.

        It may be Ctrl-C, or the timeout of a greenlet or a job. The calls were made: those
        that are left wait in memory. Should the first be stored by now, its id says so.
        """
        try:
            while calls:
                self._recorder.record(calls[0], snapshot)
                del calls[0]
        except BaseException:
            self._defer(calls, snapshot)
            raise

    @harmless()
    def _record(self, snapshot: Snapshot, outcome: Outcome, ended: bool) -> None:
        _open.discard(self)
        try:
            calls = list(self._calls(snapshot, outcome, ended))
        except BaseException:
            self._defer(self._calls(snapshot, outcome, ended), snapshot)  # as in _keep
            raise
        self._keep(calls, snapshot)

    @harmless()
    def _take_results(self) -> None:
        """Record the lines of a file of batch results that were read so far."""
        for snapshot in tuple(self._snapshots):
            self._keep(list(self._results(snapshot)), snapshot)

    def _calls(
        self, snapshot: Snapshot, outcome: Outcome, ended: bool
    ) -> Iterator[Call]:
        """What the attempt comes to: mostly one call."""
        if self._exchange.route.operation == NOT_A_CALL:
            self._note_batch(ended)
            return
        call = self._call(snapshot, outcome, ended)
        if self._counts(call, snapshot):
            yield call
        yield from self._results(snapshot)

    def _results(self, snapshot: Snapshot) -> Iterator[Call]:
        for reading in self._exchange.take_results():
            reading = self._dated(reading)
            call = _as_call(reading, snapshot, "ok", None, polled=True)
            if self._counts(call, snapshot):
                yield call

    def _note_batch(self, ended: bool) -> None:
        """Remember when a batch was made: clients look at it before they fetch results."""
        batch = self._reading(ended)
        if batch.response_id is not None and batch.created_at is not None:
            _remember(_made, (batch.provider, batch.response_id), batch.created_at)

    def _dated(self, reading: Reading) -> Reading:
        """A result without a date of its own, with its batch's: so it is one row for ever.

        Where that is not known it has the time of the first look by this process.
        """
        batch = self._exchange.route.batch_id
        if batch is None or reading.created_at is not None:
            return reading
        made = _made.get((reading.provider, batch))
        return replace(reading, created_at=made)

    def _counts(self, call: Call, snapshot: Snapshot) -> bool:
        """Whether this is a call of its own, and not only another look at one.

        An answer that is made in the background is asked for again and again. The first
        look that brings its usage counts, unless an earlier call brought it already.
        """
        route = self._exchange.route
        if call.usage is None or call.response_id is None:
            return not route.poll
        if "repeated" in call.flags:
            return False
        if not route.poll and call.operation not in _POLLED:
            return True
        answer = (snapshot.app_key, call.provider, call.response_id)
        if route.poll and answer in _billed:
            return False
        _remember(_billed, answer, None)
        return True

    def _reading(self, ended: bool) -> Reading:
        exchange = self._exchange
        try:
            return exchange.reading(ended=ended)
        except Exception:
            # It promises not to raise. Should it break that, the call is still a call.
            return Reading(
                provider=exchange.route.provider,
                operation=exchange.route.operation,
                request_model=exchange.request_model,
                model=exchange.request_model,
                stream=exchange.stream,
                flags=frozenset({"reader_error"}),
            )

    def _call(self, snapshot: Snapshot, outcome: Outcome, ended: bool) -> Call:
        now = perf_counter()
        if self._exchange.complete:
            outcome, ended = "ok", True
        if self._status is not None and not 200 <= self._status < 300:
            outcome = "http_error"
        reading = self._reading(ended)
        if self._exchange.route.poll:
            # How long the look took, and not the answer: that is not known.
            return _as_call(reading, snapshot, outcome, self._status, polled=True)
        first = self._first_byte
        return _as_call(
            reading,
            snapshot,
            outcome,
            self._status,
            latency_ms=round((now - self._began) * 1000),
            first_byte_ms=None
            if first is None
            else round((first - self._began) * 1000),
        )


_OLDEST: t.Final = dt.timedelta(days=400)
_SKEW: t.Final = dt.timedelta(days=-1)
"""How long ago an answer that is asked for now may have been made, to be believed."""


def _as_call(
    reading: Reading,
    snapshot: Snapshot,
    outcome: Outcome,
    http_status: int | None,
    *,
    polled: bool = False,
    latency_ms: int | None = None,
    first_byte_ms: int | None = None,
) -> Call:
    event_id, started_at = snapshot.event_id, snapshot.started_at
    if polled and reading.response_id is not None:
        # Whichever process asks, and however often: one answer is one row.
        created_at = reading.created_at
        if created_at is not None and _SKEW < started_at - created_at < _OLDEST:
            started_at = created_at
        name = f"{reading.provider}/{reading.response_id}"
        event_id = derive_event_id(started_at, name)
    return Call(
        event_id=event_id,
        started_at=started_at,
        provider=reading.provider,
        model=reading.model or UNKNOWN_MODEL,
        request_model=reading.request_model,
        operation=reading.operation,
        usage=reading.usage,
        reported_cost=reading.reported_cost,
        latency_ms=latency_ms,
        first_byte_ms=first_byte_ms,
        stream=reading.stream,
        usage_source=reading.usage_source,
        outcome=outcome,
        http_status=http_status,
        response_id=reading.response_id,
        service_tier=reading.service_tier,
        trace_id=snapshot.tags.get("trace_id"),
        tags=snapshot.tags,
        flags=snapshot.flags | reading.flags,
        usage_by_model=reading.usage_by_model,
    )


_open: weakref.WeakSet[Meter] = weakref.WeakSet()

_POLLED: t.Final = ("responses", "assistants")
"""Operations whose answers may be asked for again."""

_REMEMBERED: t.Final = 10_000

_billed: OrderedDict[tuple[int, str, str], None] = OrderedDict()
"""Answers of this process whose usage is recorded, by app; the oldest are forgotten."""

_made: OrderedDict[tuple[str, str], dt.datetime] = OrderedDict()
"""When the batches were made that this process has looked at, by provider and id."""

_K = t.TypeVar("_K")
_V = t.TypeVar("_V")


def _remember(what: OrderedDict[_K, _V], key: _K, value: _V) -> None:
    what[key] = value
    if len(what) > _REMEMBERED:
        what.popitem(last=False)


def follow(recorder: Recorder, exchange: Exchange, snapshot: Snapshot) -> Meter:
    """Follow a call that the app reports itself: attempts meanwhile are others."""
    guard = _Guard()
    guard.on = False
    meter = Meter(recorder, exchange, snapshot, guard)
    _open.add(meter)
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
    """Record what is complete, though its caller never came to the end.

    :param idle_s: How long ago its last event must have been, in seconds.
    :param ending: The process ends: what is not complete is recorded as unfinished.
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
