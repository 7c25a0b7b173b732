"""The calls of an attempt: usually one, sometimes none, many for batch results."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal

from ..attempt import Snapshot
from ..call import Call
from ..call import Outcome
from ..call import Reading
from ..call import SILENT_OUTCOMES
from ..call import Usage
from ..event_id import derive_event_id
from ..event_id import mint_event_id
from ..interrupts import pass_on
from ..money import add
from ..providers import Exchange
from ..providers import NOT_A_CALL
from ..providers import ScopeReader
from ..tags import TRACE_KEY

UNKNOWN_MODEL: t.Final = "unknown"
"""The model of a call that names none anywhere, or only in a body we cannot read."""

_MAX_AGE: t.Final = dt.timedelta(days=400)
_MAX_SKEW: t.Final = dt.timedelta(days=-1)
"""Creation times of polled answers are trusted only if their age is between these."""

_POLLED: t.Final = ("responses", "assistants", "predictions")
"""Operations whose answers a client may ask for again."""

_REMEMBERED: t.Final = 10_000
_K = t.TypeVar("_K")
_V = t.TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Ending:
    """How and when an attempt ended."""

    outcome: Outcome
    complete: bool
    """The body came to its own end."""
    http_status: int | None = None
    latency_ms: int | None = None
    first_byte_ms: int | None = None


@dataclass(frozen=True, slots=True)
class _Parent:
    created_at: dt.datetime | None
    model: str | None


_CUT: t.Final = frozenset(("interrupted", "failed", "unfinished"))
"""Outcomes of a stream that was cut: its provider may bill more than it has reported."""

_RESULT: t.Final = Ending("ok", complete=True)
"""The ending of a call in a batch's results."""


def calls_of(exchange: Exchange, snapshot: Snapshot, ending: Ending) -> Iterator[Call]:
    """The calls to record at the end of an attempt."""
    if exchange.route.operation == NOT_A_CALL:
        _note_parent(_reading(exchange, ending.complete))
        return
    outcome, status = ending.outcome, ending.http_status
    if exchange.complete:
        outcome = "ok"
    if status is not None and not 200 <= status < 300:
        outcome = "http_error"
    reading = _reading(exchange, exchange.complete or ending.complete)
    if exchange.route.operation == "agents" and exchange.route.parent_id is None:
        _note_parent(reading)
    reading = _with_parent(reading, exchange)
    call = _as_call(
        reading, snapshot, ending, outcome, exchange.scope, polled=exchange.route.poll
    )
    if exchange.has_results:
        yield from results_of(exchange, snapshot)
    if _counts(call, exchange, snapshot):
        yield _with_new_containers(call, reading, snapshot)


def results_of(exchange: Exchange, snapshot: Snapshot) -> Iterator[Call]:
    """The calls in a batch's results, or in a session, that were read so far.

    The last turn of a session is the call of the snapshot. The others have the same date.
    """
    for reading in exchange.take_results():
        reading = _with_parent(reading, exchange)
        if reading.response_id is None:
            mine = replace(snapshot, event_id=mint_event_id(snapshot.started_at))
        else:
            mine = snapshot
        outcome, scope = _RESULT.outcome, exchange.scope
        call = _as_call(reading, mine, _RESULT, outcome, scope, polled=True)
        if _counts(call, exchange, snapshot):
            yield _with_new_containers(call, reading, snapshot)


def _reading(exchange: Exchange, complete: bool) -> Reading:
    try:
        return exchange.reading(ended=complete)
    except Exception as error:
        pass_on(error)
        # It promises not to raise. If it breaks that promise, the call is still a call.
        return Reading(
            provider=exchange.route.provider,
            operation=exchange.route.operation,
            request_model=exchange.request_model,
            model=exchange.request_model,
            stream=exchange.stream,
            flags=frozenset({"reader_error"}),
        )


def _as_call(
    reading: Reading,
    snapshot: Snapshot,
    ending: Ending,
    outcome: Outcome,
    scope: ScopeReader,
    *,
    polled: bool,
) -> Call:
    event_id, started_at = snapshot.event_id, snapshot.started_at
    if polled and reading.response_id is not None:
        # Whichever process asks, and however often: one answer is one row.
        created_at = reading.created_at
        if created_at is not None and _MAX_SKEW < started_at - created_at < _MAX_AGE:
            started_at = created_at
        name = f"{reading.provider}/{reading.response_id}"
        event_id = derive_event_id(started_at, name)
    flags = snapshot.flags | reading.flags
    silent = reading.usage is None and outcome in SILENT_OUTCOMES
    bound = None if silent else reading.bound
    open_ = reading.stream and reading.usage_source != "stream_final"
    if outcome in _CUT and (open_ or bound is not None):
        flags |= {"cut"}
    return Call(
        event_id=event_id,
        started_at=started_at,
        provider=reading.provider,
        model=reading.model or UNKNOWN_MODEL,
        request_model=reading.request_model,
        operation=reading.operation,
        usage=reading.usage,
        reported_cost=reading.reported_cost,
        # For a poll this would be the duration of the poll, not of the answer.
        latency_ms=None if polled else ending.latency_ms,
        first_byte_ms=None if polled else ending.first_byte_ms,
        stream=reading.stream,
        usage_source=reading.usage_source,
        outcome=outcome,
        http_status=ending.http_status,
        response_id=reading.response_id,
        service_tier=reading.service_tier,
        trace_id=snapshot.tags.get(TRACE_KEY),
        tags=snapshot.tags,
        flags=flags,
        usage_by_model=reading.usage_by_model,
        bound=bound,
        estimate=None if silent else reading.estimate,
        scope=scope.text,
        key_digest=scope.key_digest,
    )


def _counts(call: Call, exchange: Exchange, snapshot: Snapshot) -> bool:
    """Whether this is a separate call, not just another look at an earlier one.

    A background answer is polled repeatedly. The first poll that brings its usage counts,
    unless an earlier call brought it already.
    """
    poll = exchange.route.poll
    if call.usage is None or call.response_id is None:
        return not poll
    if "repeated" in call.flags:
        return False
    if not poll and call.operation not in _POLLED:
        return True
    answer = (snapshot.app_key, call.provider, call.response_id)
    if poll and answer in _recorded_answers:
        return False
    _remember(_recorded_answers, answer, None)
    if exchange.route.parent_id is not None:
        # A session that has ended has the usage of all of its requests.
        _remember(_recorded_answers, (*answer[:2], exchange.route.parent_id), None)
    return True


def _with_new_containers(call: Call, reading: Reading, snapshot: Snapshot) -> Call:
    """Count only containers that no earlier call of this process has counted."""
    known = 0
    for name in reading.containers:
        container = (snapshot.app_key, call.provider, name)
        known += container in _counted_containers
        _remember(_counted_containers, container, None)
    if not known or call.usage is None:
        return call
    parts = {
        model: _with_fewer(used, known) for model, used in call.usage_by_model.items()
    }
    return replace(call, usage=_with_fewer(call.usage, known), usage_by_model=parts)


def _with_fewer(usage: Usage, known: int) -> Usage:
    units = dict(usage.units)
    left = add(units.pop(_CONTAINER, Decimal(0)), Decimal(-known))
    if left > 0:
        units[_CONTAINER] = left
    return replace(usage, units=units)


def _note_parent(parent: Reading) -> None:
    """Remember what is known of a batch or session: its answers may not say it."""
    if parent.response_id is not None:
        known = _Parent(parent.created_at, parent.model)
        _remember(_parents, (parent.provider, parent.response_id), known)


def _with_parent(reading: Reading, exchange: Exchange) -> Reading:
    """Give an answer its batch's date, so that it always gets the same row, or its
    session's model.

    If the date is unknown, the answer gets the time at which this process first saw it.
    """
    named = exchange.route.parent_id
    parent = None if named is None else _parents.get((reading.provider, named))
    if parent is None:
        return reading
    return replace(
        reading,
        created_at=reading.created_at or parent.created_at,
        model=reading.model or parent.model,
    )


_recorded_answers: OrderedDict[tuple[int, str, str], None] = OrderedDict()
"""Answers whose usage this process has recorded, by app. The oldest are forgotten."""

_counted_containers: OrderedDict[tuple[int, str, str], None] = OrderedDict()
"""Containers that calls of this process were billed for, by app."""

_CONTAINER: t.Final = "code_interpreter"
"""The unit that counts containers."""

_parents: OrderedDict[tuple[str, str], _Parent] = OrderedDict()
"""The batches and sessions that this process has seen, by provider and id."""


def _remember(cache: OrderedDict[_K, _V], key: _K, value: _V) -> None:
    cache[key] = value
    if len(cache) > _REMEMBERED:
        cache.popitem(last=False)
