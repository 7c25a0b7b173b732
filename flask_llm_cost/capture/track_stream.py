"""Streams that the app reports itself, because no supported client library sends them."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from types import TracebackType

from ..attempt import Attempt
from ..attempt import Recorder
from ..attempt import Snapshot
from ..call import Call
from ..call import TagSource
from ..call import Usage
from ..errors import LlmCostError
from ..interrupts import pass_on
from ..money import parse_int
from ..providers import chat_route
from ..providers import Exchange
from ..providers import known_name
from ..providers import Provider
from ..recurring import report
from .calls import UNKNOWN_MODEL
from .manual import check_name
from .manual import latency_of
from .meter import follow
from .meter import Meter

_MAX_EVENT: t.Final = 1024 * 1024
"""An incomplete event of more characters than this is discarded."""


class _StreamRecorder:
    """The recorder of a stream's meter: the stream completes the call."""

    def __init__(self, stream: TrackedStream) -> None:
        self._stream = stream

    def begin(self, attempt: Attempt) -> Snapshot | None:
        return self._stream._recorder.begin(attempt)

    def record(self, call: Call, snapshot: Snapshot, *, deferred: bool = False) -> None:
        self._stream._record(call, snapshot, deferred)


class TrackedStream:
    """A stream that the app reports event by event, recorded once when its block ends.

    Created by :meth:`.LlmCost.track_stream`. It is a context manager, plain and async.
    However its block is left, the call is recorded, and the app's own error propagates.

    :param recorder: Asked before the stream begins, and handed the call at its end.
    :param providers: An app's own, tried before the built-in ones.
    :param hosts: As in ``LLM_COST_PROVIDER_HOSTS``, which names the app's gateways.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        provider: str,
        model: str | None = None,
        tags: TagSource | None = None,
        latency_ms: int | None = None,
        providers: Sequence[Provider] = (),
        hosts: Mapping[str, str] | None = None,
    ) -> None:
        check_name("provider", provider)
        self.model = model
        self.response_id = None
        self.call: Call | None = None
        """The call, once the block has ended; ``None`` if nothing is recorded. Of a session
        with many answers, which are recorded as they end, the last one."""
        self._recorder = recorder
        self._provider = known_name(provider, providers)
        self._hosts = hosts
        self._tags = tags
        self._latency_ms = latency_of(latency_ms)
        self._providers = providers
        self._meter: Meter | None = None
        self._usage: Usage | None = None
        self._pending = ""
        self._state: t.Literal["new", "open", "ended"] = "new"
        self._flags: set[str] = set()

    @property
    def model(self) -> str | None:
        """The model, if the events do not name one.

        :raises ValueError: If it is set to something other than a non-empty string.
        """
        return self._model

    @model.setter
    def model(self, model: str | None) -> None:
        if model is not None:
            check_name("model", model)
        self._model = model

    @property
    def response_id(self) -> str | None:
        """The response's id, if the events do not name one.

        :raises ValueError: If it is set to something other than a non-empty string.
        """
        return self._response_id

    @response_id.setter
    def response_id(self, response_id: str | None) -> None:
        if response_id is not None:
            check_name("response_id", response_id)
        self._response_id = response_id

    def event(self, data: t.Any, type: str | None = None) -> None:
        """Report an event as it arrives: its usage, model and id are recorded.

        :param data: A mapping, JSON as text or bytes, server-sent events in pieces of any
            size, or an SDK's object; ``None`` is ignored.
        :param type: The event's name, if it is not in the data.
        :raises LlmCostError: Before and after the block.
        """
        self._need_open()
        if self._meter is None:
            return  # nothing is recorded
        for document in self._documents(data):
            if type is not None and "type" not in document:
                document = {**document, "type": type}
            self._meter.event(document)

    def usage(self, usage: Usage | None = None, **buckets: t.Any) -> None:
        """Report the usage. It replaces that of the events and any reported before.

        In a session with many answers, that is the usage of the last one.

        :param usage: All buckets; or give those of :class:`.Usage` by name.
        :raises ValueError: If a count is not valid, or if both are given.
        :raises LlmCostError: Before and after the block.
        """
        self._need_open()
        if usage is not None and buckets:
            raise ValueError("Give usage, or its buckets by name, not both.")
        if usage is not None and not isinstance(usage, Usage):
            raise ValueError(
                f"usage must be a Usage, not {usage!r}; give buckets by name:"
                " usage(input_tokens=3)"
            )
        self._usage = Usage(**buckets) if usage is None else usage

    def _need_open(self) -> None:
        if self._state != "open":
            when = "not begun" if self._state == "new" else "ended and is recorded"
            raise LlmCostError(
                f"This stream has {when}. Report its events and usage inside its with"
                " block."
            )

    def __enter__(self) -> t.Self:
        if self._state != "new":
            raise LlmCostError(
                "A tracked stream is one call. Create another one with track_stream()."
            )
        route = chat_route(self._provider, providers=self._providers, hosts=self._hosts)
        exchange = Exchange(route, request_body=None)
        snapshot = self._recorder.begin(
            Attempt(
                provider=self._provider,
                operation=exchange.route.operation,
                request_model=self.model,
                stream=True,
                tags=self._tags,
            )
        )
        self._asked_model = self.model
        if snapshot is not None:
            self._meter = follow(_StreamRecorder(self), exchange, snapshot)
        self._state = "open"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._state = "ended"
        if self._meter is None:
            return
        if error is None:
            self._meter.end()
        elif isinstance(error, Exception):
            self._meter.fail()
        else:
            # A closed generator, a cancelled task, Ctrl-C: the app stopped reading.
            self._meter.close()

    async def __aenter__(self) -> t.Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _record(self, call: Call, snapshot: Snapshot, deferred: bool) -> None:
        """Add what the app reported, and record the call."""
        model = call.model
        if model == UNKNOWN_MODEL:
            model = self.model or UNKNOWN_MODEL
        call = dataclasses.replace(call, model=model, request_model=self._asked_model)
        if call.event_id == snapshot.event_id:
            call = self._as_reported(call)
        self.call = call
        # A recorder may return the call as it was recorded: with its cost.
        record: Callable[..., t.Any] = self._recorder.record
        recorded = record(call, snapshot, deferred=deferred)
        if isinstance(recorded, Call):
            self.call = recorded

    def _as_reported(self, call: Call) -> Call:
        """Add to the last answer what the app reported itself."""
        call = dataclasses.replace(
            call,
            response_id=call.response_id or self.response_id,
            flags=call.flags | self._flags,
        )
        if self._latency_ms is not None:
            call = dataclasses.replace(call, latency_ms=self._latency_ms)
        if self._usage is not None:
            call = dataclasses.replace(
                call,
                usage=self._usage,
                usage_source="manual",
                flags=call.flags - {"no_usage"},
                bound=None,
                estimate=None,
            )
        return call

    # Reading events of any form

    def _documents(self, data: t.Any) -> list[Mapping[str, t.Any]]:
        if data is None:
            return []
        if isinstance(data, Mapping):
            return [data]
        if isinstance(data, (bytes, bytearray, memoryview)):
            data = bytes(data).decode("utf-8", "replace")
        if isinstance(data, str):
            return self._lines(data)
        document = _dumped(data)
        if document is not None:
            return [document]
        if "unreadable_event" not in self._flags:
            report(
                "An event of type %s cannot be read, so its usage is missing. Report a"
                " mapping or JSON, or use stream.usage().",
                type(data).__qualname__,
            )
        self._flags.add("unreadable_event")
        return []

    def _lines(self, text: str) -> list[Mapping[str, t.Any]]:
        """The documents in a text: JSON, JSON lines, or server-sent events.

        Lines may come one by one without line ends, or cut anywhere: incomplete JSON is kept
        until the rest arrives.
        """
        if not text.startswith(("data:", "event:")):
            text = self._pending + text
        # Otherwise a new field begins, and pending text will never be completed.
        self._pending = ""
        document = _parsed(text)
        if document is not None:
            return _mappings(document)
        found: list[Mapping[str, t.Any]] = []
        lines = text.splitlines()
        for number, line in enumerate(lines, 1):
            last = number == len(lines)
            body = line.removeprefix("data:").strip()
            document = _parsed(body)
            if document is not None:
                found += _mappings(document)
            elif last and _may_go_on(line) and len(line) < _MAX_EVENT:
                self._pending = line
        return found


def _parsed(text: str) -> t.Any:
    """A JSON object or array; ``None`` if it is neither or incomplete."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text, parse_int=parse_int)
    except (ValueError, RecursionError):
        return None


def _may_go_on(line: str) -> bool:
    """Whether an incomplete line may be the beginning of an event."""
    body = line.removeprefix("data:").strip()
    return body.startswith(("{", "[")) or "data:".startswith(line.strip())


def _mappings(document: t.Any) -> list[Mapping[str, t.Any]]:
    items = document if isinstance(document, list) else [document]
    return [item for item in items if isinstance(item, Mapping)]


def _dumped(data: object) -> Mapping[str, t.Any] | None:
    """An SDK's object as JSON data."""
    for dump in (
        lambda: t.cast(t.Any, data).model_dump(by_alias=True),
        lambda: t.cast(t.Any, data).to_dict(),
        lambda: dataclasses.asdict(t.cast(t.Any, data)),
    ):
        try:
            document = dump()
        except Exception as error:
            pass_on(error)
            # Not our code. Another method may work; if none does, a warning is logged.
            continue
        if isinstance(document, Mapping):
            return document
    return None
