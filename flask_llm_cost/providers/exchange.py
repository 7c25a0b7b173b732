"""What does one HTTP exchange with a provider mean, read while it passes by?

Bytes go in as the app reads them: decoded, cut into documents, sifted for the few that
say something, read by a dialect. Memory is bounded and nothing here ever raises.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping
from decimal import Decimal

from ..call import from_ms
from ..call import Reading
from ..call import Usage
from ..call import UsageSource
from . import sparse
from .buffer import BoundedBuffer
from .decoding import Decoding
from .decoding import Unreadable
from .dialect import Notes
from .estimate import Estimate
from .framing import detect_framing
from .framing import EVENT_ENDS
from .framing import Framing
from .paths import NOT_A_CALL
from .paths import Path
from .request import inject_stream_usage
from .request import parse_request
from .routes import chat_route
from .routes import Provider
from .routes import Route
from .routes import route

__all__ = [
    "Exchange",
    "NOT_A_CALL",
    "Path",
    "Provider",
    "Route",
    "read_exchange",
    "route",
    "chat_route",
]

_GREETINGS: t.Final = 4
"""So many events are read in any case: the first ones name the model and the id."""

_MOST_RESULTS: t.Final = 10_000
"""So many results of a batch are kept for who asks for them."""

_MEDIA: t.Final = ("audio/", "image/", "video/")
"""Bodies that say nothing of usage."""


class Exchange:
    """The reading of one exchange, built up while its bytes pass by.

    :param route: What :func:`route` found for its URL.
    :param request_body: The body that was sent, if it can be known.
    """

    def __init__(self, route: Route, *, request_body: bytes | None) -> None:
        self.route = route
        self.request_model: str | None = route.model
        self.stream = route.stream
        """The request asks for a stream."""
        self._dialect = route.dialect
        self._searches = tuple(needle.search for needle in route.dialect.needles)
        self._notes = Notes(
            provider=route.provider,
            operation=route.operation,
            response_id=route.response_id,
        )
        self._decoding: Decoding | None = None
        self._framing: Framing | None = None
        self._start = b""
        self._deaf = False
        self._ok = True
        self._events = 0
        self._done = False
        self._results: list[Reading] = []
        self._estimate: Estimate | None = None
        if request_body:
            try:
                self._request(request_body)
            except Exception as error:
                self._failed(error)
        self._notes.request_model = self.request_model

    @property
    def complete(self) -> bool:
        """A terminal event was read: the usage is final, though the body may go on."""
        return self._notes.complete

    @property
    def done(self) -> bool:
        """The stream said that nothing comes any more (``[DONE]``)."""
        return self._done

    def start_estimate(self, request_body: bytes | None) -> None:
        """Estimate what a stream uses whose provider does not say: from its beginning on."""
        if not request_body or not self.stream:
            return
        try:
            self._estimate = Estimate(request_body)
        except Exception as error:
            self._failed(error)

    def inject_stream_usage(self, url: str, body: bytes | None) -> bytes | None:
        """The request's body, changed so that a stream says what it used.

        :param url: With its query, which may name a version.
        :return: ``None`` if it should stay what it is: it is no stream of that kind, the
            host would not understand it, or the app says itself what it wants.
        """
        if not body or not self.stream or not self.route.include_usage:
            return None
        if re.fullmatch(self.route.include_usage, url) is None:
            return None
        return inject_stream_usage(body)

    def begin_response(self, status: int, headers: Mapping[str, str]) -> None:
        """Take down the answer's status and headers, before its body."""
        try:
            self._begin_response(status, headers)
        except Exception as error:
            self._failed(error)

    def feed(self, data: bytes, *, decoded: bool) -> bool:
        """Take the next bytes of the body.

        :param decoded: The content encoding has been undone already.
        :return: Whether anything in them was read. If not, all is as it was before.
        """
        if self._deaf:
            return False
        try:
            if type(data) is not bytes:
                data = bytes(data)
            if not decoded and self._decoding is not None:
                return any([self._take(each) for each in self._decoding.decode(data)])
            framing = self._framing
            if (
                framing is not None
                and framing.at_boundary
                and self._events >= _GREETINGS
                and self._estimate is None
                and data.endswith(EVENT_ENDS)
            ):
                # Of a stream's chunks nearly all are whole events that nothing is asked
                # of, so this is done here, without a call: it is most of what a stream
                # costs. `_take` comes to the same.
                for search in self._searches:
                    if search(data):
                        break
                else:
                    return False
            return self._take(data)
        except Exception as error:
            self._failed(error)
            return True

    def event(self, document: Mapping[str, t.Any]) -> None:
        """Take one event that somebody else has decoded."""
        try:
            if self._ok:
                self._dialect.read(self._notes, document)
        except Exception as error:
            self._failed(error)

    def reading(self, *, ended: bool) -> Reading:
        """What the answer means, as far as it has come.

        :param ended: The body came to its own end.
        """
        notes = self._notes if ended else self._notes.copy()
        if self._ok:
            try:
                self._finish(notes)
                return self._reading(notes, ended=ended)
            except Exception as error:
                self._failed(error)
                notes.flags |= self._notes.flags
        return Reading(
            provider=self.route.provider,
            operation=self.route.operation,
            request_model=self.request_model,
            model=_text(notes.model) or self.request_model,
            response_id=_text(notes.response_id),
            stream=self.stream,
            flags=self.route.flags | notes.flags,
        )

    def _reading(self, notes: Notes, *, ended: bool) -> Reading:
        dialect = self._dialect
        # Both may set flags: they are asked before those are taken.
        usage, usage_by_model = dialect.usage(notes), dialect.usage_by_model(notes)
        estimate = None if self._estimate is None else self._estimate.usage()
        if usage is None and estimate is not None:
            notes.flags.add("estimated")
            usage = estimate
        stream = self.stream or (self._framing is not None and self._framing.stream)
        flags = self.route.flags | dialect.price_flags(notes)
        if self.route.poll and usage is not None and not notes.background:
            flags |= {"repeated"}
        reading = Reading(
            provider=self.route.provider,
            operation=notes.operation,
            request_model=self.request_model,
            model=notes.model or self.request_model,
            response_id=notes.response_id,
            usage=usage,
            usage_source=_source(notes, usage, stream=stream, ended=ended),
            stream=stream,
            service_tier=dialect.tier(notes),
            reported_cost=dialect.cost(notes),
            flags=flags | notes.flags,
            usage_by_model=usage_by_model,
            created_at=from_ms(notes.created_s * 1000) if notes.created_s else None,
        )
        return _sound(reading)

    def take_results(self) -> list[Reading]:
        """The answers in a file of batch results that were read since last asked.

        Ask after each :meth:`feed` and after :meth:`reading`; each is a call of its own.
        """
        found, self._results = self._results, []
        return found

    def _result(self, line: Mapping[str, t.Any]) -> None:
        if self._dialect.batch_results is not None:
            for answer in self._dialect.batch_results(line):
                self._answer(line, answer)

    def _answer(self, line: Mapping[str, t.Any], answer: Mapping[str, t.Any]) -> None:
        kind = _OBJECTS.get(str(answer.get("object")), "chat")
        notes = Notes(self.route.provider, operation=kind, service_tier="batch")
        self._dialect.read(notes, answer)
        # Embeddings have no id and no date of their own, but the line has both.
        notes.identify(model=None, response_id=line.get("id"))
        if not notes.created_s:
            dated = _DATED.match(str(line.get("id")))
            notes.date(None if dated is None else int(dated[1], 16))
        notes.service_tier, notes.background = "batch", True
        reading = self._reading(notes, ended=True)
        if len(self._results) >= _MOST_RESULTS:
            self._notes.flags.add("results_dropped")
        elif reading.usage is not None:
            self._results.append(reading)

    def _failed(self, error: Exception) -> None:
        # The one place for what goes wrong in reading. Dialects may be an app's own, and
        # a surprise in an answer must stay ours: the call goes on, its row has a flag.
        self._deaf = True
        if isinstance(error, Unreadable):
            self._notes.flags.add("unreadable_encoding")
            return
        # Not logged: this may be inside __del__, where no lock may be taken.
        self._notes.flags.add("reader_error")

    def _request(self, body: bytes) -> None:
        model, stream = parse_request(body)
        if self.request_model is None:
            self.request_model = model
        self.stream = self.stream or stream

    def _begin_response(self, status: int, headers: Mapping[str, str]) -> None:
        # 101 begins a web socket, whose events are read as a stream.
        self._ok = 200 <= status < 300 or status == 101
        kept = {}
        encoding = ""
        for name, value in headers.items():
            name = name.lower()
            if name == "content-encoding":
                encoding = value
            elif name in self._dialect.headers:
                kept[name] = value
            elif name == "content-type" and value.lower().startswith(_MEDIA):
                self._deaf = True
        self._notes.headers = kept
        if encoding and self._ok:
            self._decoding = Decoding(encoding)

    def _take(self, data: bytes) -> bool:
        if self._framing is None:
            if not self._ok:
                return False
            self._start += data
            self._framing = detect_framing(self._start)
            if self._framing is None:
                # Blanks, part of a byte order mark, or of a frame's beginning.
                self._start = self._start.lstrip()[:12]
                return False
            data, self._start = self._start, b""
        read = False
        for window in self._framing.feed(data, self._needed):
            self._document(self._notes, window)
            read = True
        return read

    def _needed(self, data: bytes) -> bool:
        if self._events < _GREETINGS or self._estimate is not None:
            return True
        for search in self._searches:
            if search(data):
                return True
        return False

    def _finish(self, notes: Notes) -> None:
        if self._framing is None or self._deaf:
            return
        # The end comes once; it may be asked for again.
        self._deaf = notes is self._notes
        for window in self._framing.remainder():
            self._document(notes, window)
        if self._framing.truncated:
            notes.partial = True
        if self._framing.corrupt:
            notes.flags.add("broken_frames")

    def _document(self, notes: Notes, window: BoundedBuffer) -> None:
        # What is only looked at on the way may come again, longer: it leaves no trace.
        final = notes is self._notes
        self._events += final
        if window.length < 16 and window.head.strip() == b"[DONE]":
            notes.complete = True
            self._done = self._done or final
            return
        document = self._decoded(notes, window)
        if isinstance(document, dict):
            if self._dialect.batch_results is None:
                self._dialect.read(notes, document)
            elif final:
                self._result(document)
            if self._estimate is not None and final:
                self._estimate.event(document)

    def _decoded(self, notes: Notes, window: BoundedBuffer) -> t.Any:
        dialect = self._dialect
        front, back = window.head, window.tail
        stream = self._framing is not None and self._framing.stream
        if window.whole and (
            stream or any(mark in front for mark in dialect.parse_whole_if)
        ):
            return sparse.parse(front)
        if not window.whole:
            if dialect.skim is not None:
                dialect.skim(notes, bytes(front) + bytes(back))
            if stream and f'"{dialect.envelope}"'.encode() in front:
                return sparse.members_in_envelope(
                    front, back, dialect.envelope, dialect.content, dialect.tail[0]
                )
        document = sparse.find_members(front, back, dialect.content, dialect.tail)
        counts = dialect.tail[0]
        if counts not in document and window.whole and counts.encode() in front:
            return sparse.parse(front)
        return document


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _sound(reading: Reading) -> Reading:
    """The same; an app's own dialect may have given something else than it should.

    :raises TypeError: If so: the call could not be stored.
    """
    for name, kind in _KINDS.items():
        value = getattr(reading, name)
        if not (value is None or isinstance(value, kind)):
            raise TypeError(f"{name} must be {kind.__name__}")
    cost = reading.reported_cost
    if cost is not None and not cost.is_finite():
        raise TypeError("reported_cost must be finite")
    if not all(isinstance(used, Usage) for used in reading.usage_by_model.values()):
        raise TypeError("usage_by_model must be Usage")
    return reading


_KINDS: t.Final = {
    "model": str,
    "response_id": str,
    "service_tier": str,
    "usage": Usage,
    "reported_cost": Decimal,
}

_DATED: t.Final = re.compile(r"[a-z_]+_([0-9a-f]{8})[0-9a-f]{20,}$")
"""An id of OpenAI's that begins with its time, in seconds since 1970."""

_OBJECTS: t.Final = {
    "response": "responses",
    "list": "embeddings",
    "text_completion": "completions",
}
"""What an answer in a file of batch results says that it is, and its operation."""


def _source(
    notes: Notes, usage: Usage | None, *, stream: bool, ended: bool
) -> UsageSource:
    if usage is None:
        return "unknown"
    if "estimated" in notes.flags:
        return "estimated"
    if not stream:
        return "response"
    if notes.partial or not (notes.complete or ended):
        return "stream_partial"
    return "stream_final"


def read_exchange(
    *,
    method: str,
    url: str,
    request_body: bytes | None,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    hosts: Mapping[str, str] | None = None,
) -> Reading | None:
    """Read one finished exchange; ``None`` if the URL is no call of an LLM.

    A file of batch results is no call: it is many, which :meth:`Exchange.take_results` gives.

    :param headers: Of the response.
    :param body: Of the response, its content encoding undone.
    :param hosts: As ``LLM_COST_PROVIDER_HOSTS``.
    """
    found = route(method, url, hosts=hosts)
    if found is None or found.operation in ("batch", NOT_A_CALL):
        return None
    exchange = Exchange(found, request_body=request_body)
    exchange.begin_response(status, headers)
    exchange.feed(body, decoded=True)
    return exchange.reading(ended=True)
