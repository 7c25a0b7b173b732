"""Reads one HTTP exchange with a provider while its bytes pass by.

A body is decoded and cut into documents. Those that may say something new are parsed
and given to a dialect. Memory is bounded, and no method of :class:`Exchange` raises.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping

from ..bound import read_bound
from ..calendar import from_ms
from ..call import Reading
from ..call import Usage
from ..call import UsageSource
from ..interrupts import pass_on
from . import sparse
from .batch_results import missed_results
from .batch_results import result_notes
from .buffer import BoundedBuffer
from .decoding import Decoding
from .decoding import Unreadable
from .dialect import check_reading
from .dialect import Dialect
from .dialect import no_turns
from .dialect import Notes
from .estimate import Estimate
from .framing import detect_framing
from .framing import EVENT_ENDS
from .framing import Framing
from .request import asked_tier
from .request import inject_stream_usage
from .request import parse_members
from .request import parse_request
from .routes import Route
from .scope import ANSWER_IDS
from .scope import Headers
from .scope import ScopeReader
from .tally import Tally

_ALWAYS_READ: t.Final = 4
"""The number of events that are always read: the first ones name the model and the id."""

_MAX_RESULTS: t.Final = 10_000
"""The number of batch results that may wait for :meth:`Exchange.take_results`."""

_MEDIA_TYPES: t.Final = ("audio/", "image/", "video/")
"""Content types of bodies without usage."""


class Exchange:
    """The reading of one exchange, built up while its bytes pass by.

    :param route: The result of :func:`route` for the request's URL.
    :param request_body: The request's body, if it is available.
    """

    def __init__(self, route: Route, *, request_body: bytes | None) -> None:
        self.route = route
        self.request_model: str | None = route.model
        self.stream = route.stream
        """The request asks for a stream."""
        self.scope = ScopeReader()
        """Whose account the request was sent with."""
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
        self._closed = False
        self._ok = True
        self._events = 0
        self._done = False
        self._results: list[Reading] = []
        self._estimate = Estimate()
        self._estimates = False
        self._asked_tier: str | None = None
        self._request_body = request_body
        """Held in memory only, until the final usage has come."""
        tally = route.dialect.tally
        self._tally = None if tally is None else Tally(tally)
        if request_body:
            try:
                if route.dialect.request is not None:
                    self._read_request(route.dialect, request_body)
                self._asked_tier = asked_tier(request_body)
                model, stream = parse_request(request_body)
                if self.request_model is None:
                    self.request_model = model
                self.stream = self.stream or stream
            except Exception as error:
                self._fail(error)
        self._notes.request_model = self.request_model

    @property
    def complete(self) -> bool:
        """A terminal event was read. The usage is final, although the body may go on."""
        return self._notes.complete

    @property
    def done(self) -> bool:
        """The stream announced its end with ``[DONE]``."""
        return self._done

    def use_estimate(self) -> None:
        """Estimate the usage of a stream whose provider reports none."""
        self._estimates = self.stream and self._request_body is not None

    def inject_stream_usage(self, url: str, body: bytes | None) -> bytes | None:
        """Add ``stream_options.include_usage`` to the body of a request.

        :param url: With its query, which may name an API version.
        :return: ``None`` if the body must not change: it does not ask for a stream, the
            host does not understand the option, or the app has set it.
        """
        if not body or not self.stream or not self.route.include_usage:
            return None
        if re.fullmatch(self.route.include_usage, url) is None:
            return None
        return inject_stream_usage(body)

    def begin_request(self, url: str, headers: Headers) -> None:
        """Take the request's URL and headers, of which only the scope is kept."""
        try:
            self.scope.request(url, headers)
        except Exception as error:
            # Without a scope, the call is still a call.
            pass_on(error)

    def begin_response(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the response's status and headers, before its body."""
        try:
            self._begin_response(status, headers)
        except Exception as error:
            self._fail(error)

    def feed(self, data: bytes, *, decoded: bool) -> bool:
        """Take the next bytes of the body.

        :param decoded: The content encoding has been undone already.
        :return: Whether something was read. If not, the reading is unchanged.
        """
        if self._closed:
            return False
        try:
            if type(data) is not bytes:
                data = bytes(data)
            if not decoded and self._decoding is not None:
                return any([self._read(piece) for piece in self._decoding.decode(data)])
            framing = self._framing
            if (
                framing is not None
                and framing.at_boundary
                and self._events >= _ALWAYS_READ
                and data.endswith(EVENT_ENDS)
            ):
                # Most chunks of a stream are whole events without a needle. This loop
                # gives the same result as `_read`, and avoids most of a stream's cost.
                for search in self._searches:
                    if search(data):
                        break
                else:
                    self._estimate.feed_events(data)
                    return False
            return self._read(data)
        except Exception as error:
            self._fail(error)
            return True

    def event(self, document: Mapping[str, t.Any]) -> None:
        """Take one event that has been decoded elsewhere."""
        try:
            if self._ok:
                self._estimate.event(document)
                self._take(document)
        except Exception as error:
            self._fail(error)

    def sent(self, document: Mapping[str, t.Any]) -> None:
        """Take a later message of the request, in a session that is one answer."""
        try:
            if self._dialect.sent is not None:
                self._dialect.sent(self._notes, document)
        except Exception as error:
            self._fail(error)

    def reading(self, *, ended: bool) -> Reading:
        """Get what has been read so far.

        :param ended: The body came to its own end.
        """
        notes = self._notes if ended else self._notes.copy()
        if self._ok:
            try:
                self._finish(notes)
                return self._reading(notes, ended=ended)
            except Exception as error:
                self._fail(error)
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

    def _read_request(self, dialect: Dialect, body: bytes) -> None:
        if dialect.request and any(mark in body for mark in dialect.request_if):
            document = parse_members(body)
            if document is not None:
                self._notes.request = dialect.request(document)

    @property
    def goes_on(self) -> bool:
        """Another answer may follow one that is complete."""
        return self._dialect.turns is not no_turns

    @property
    def has_results(self) -> bool:
        """Something waits for :meth:`take_results`."""
        return bool(self._results)

    def take_results(self) -> list[Reading]:
        """Take the batch results, or turns of a session, that were read meanwhile.

        Ask after each :meth:`feed` or :meth:`event`, and after :meth:`reading`. Each
        result is a call. The last turn of a session is the reading.
        """
        found, self._results = self._results, []
        return found

    def _reading(self, notes: Notes, *, ended: bool) -> Reading:
        dialect = self._dialect
        # These may set flags, so they come before the flags are read.
        usage, usage_by_model = dialect.usage(notes), dialect.usage_by_model(notes)
        cost, tier = dialect.cost(notes), dialect.tier(notes)
        if tier is None and self._asked_tier is not None:
            notes.flags.add("unconfirmed_tier")
        stream = self.stream or (self._framing is not None and self._framing.stream)
        ended = ended and not notes.running
        cut = notes.partial or not (notes.complete or ended)
        bound = likely = None
        if self._is_open(notes, usage, cut=cut):
            bound = read_bound(self._request_body, notes.operation)
            if stream:
                likely = self._estimate.usage(self._request_body, usage, cut=cut)
            if usage is None and likely is not None and self._estimates:
                notes.flags.add("estimated")
                usage = likely
            elif not cut:
                notes.flags.add("no_usage")
        flags = self.route.flags | dialect.price_flags(notes)
        if self.route.poll and usage is not None and not notes.background:
            flags |= {"repeated"}
        reading = Reading(
            provider=self.route.provider,
            operation=notes.operation,
            request_model=self.request_model,
            model=self.route.model_name(notes.model, self.request_model),
            response_id=notes.response_id,
            usage=usage,
            usage_source=_source(notes, usage, stream=stream, cut=cut),
            stream=stream,
            service_tier=tier,
            reported_cost=cost,
            flags=flags | notes.flags,
            usage_by_model=usage_by_model,
            bound=bound,
            estimate=likely,
            created_at=from_ms(notes.created_s * 1000) if notes.created_s else None,
            containers=frozenset(notes.containers),
        )
        check_reading(reading)
        return reading

    def _is_open(self, notes: Notes, usage: Usage | None, *, cut: bool) -> bool:
        """Whether more may be billed than was read."""
        if self.route.poll or notes.background or notes.operation not in _TEXTS:
            return False
        return usage is None or cut

    def _read_result(
        self, line: Mapping[str, t.Any], answer: Mapping[str, t.Any]
    ) -> None:
        notes = result_notes(self.route, self._dialect, line, answer)
        reading = self._reading(notes, ended=True)
        if reading.usage is not None:
            self._add_result(reading)

    def _take(self, document: Mapping[str, t.Any]) -> None:
        """Take notes of an event, and the answers of a session that ended before it."""
        for turn in self._dialect.turns(self._notes, document):
            self._add_result(self._reading(turn, ended=True))
            self._estimate = Estimate()
        self._dialect.read(self._notes, document)

    def _add_result(self, reading: Reading) -> None:
        if len(self._results) >= _MAX_RESULTS:
            self._notes.flags.add("results_dropped")
        else:
            self._results.append(reading)

    def _fail(self, error: Exception) -> None:
        pass_on(error)
        # The one place that handles errors in reading. A dialect may belong to the app,
        # and a surprising answer must not break the app's call. Its row gets a flag.
        self._closed = True
        if isinstance(error, Unreadable):
            self._notes.flags.add("unreadable_encoding")
            return
        # Do not log: this may run inside __del__, where no lock may be taken.
        self._notes.flags.add("reader_error")

    def _begin_response(self, status: int, headers: Mapping[str, str]) -> None:
        # 101 begins a web socket, whose events are read as a stream.
        self._ok = 200 <= status < 300 or status == 101
        found = {name.lower(): value for name, value in headers.items()}
        if found.get("content-type", "").lower().startswith(_MEDIA_TYPES):
            self._closed = True
        if self._dialect.headers:
            names = self._dialect.headers & found.keys()
            self._notes.headers = {name: found[name] for name in names}
        for name in ANSWER_IDS.keys() & found.keys():
            self.scope.note(ANSWER_IDS[name], found[name])
        encoding = found.get("content-encoding", "")
        if encoding and self._ok:
            self._decoding = Decoding(encoding)

    def _read(self, data: bytes) -> bool:
        if self._tally is not None:
            self._tally.add(data)
        if self._framing is None:
            if not self._ok:
                return False
            self._start += data
            self._framing = detect_framing(self._start)
            if self._framing is None:
                # Only whitespace, or a part of a byte order mark or of a frame's prelude.
                self._start = self._start.lstrip()[:12]
                return False
            data, self._start = self._start, b""
        if self._framing.stream:
            self._estimate.feed(data)
        read = False
        for document in self._framing.feed(data, self._is_needed):
            self._read_document(self._notes, document)
            read = True
        return read

    def _is_needed(self, data: bytes) -> bool:
        if self._events < _ALWAYS_READ:
            return True
        for search in self._searches:
            if search(data):
                return True
        return False

    def _finish(self, notes: Notes) -> None:
        if self._framing is None or self._closed:
            return
        # The end is read only once, although `reading` may be called again.
        self._closed = notes is self._notes
        for document in self._framing.remainder():
            self._read_document(notes, document)
        if self._framing.truncated:
            notes.partial = True
        if self._framing.corrupt:
            notes.flags.add("broken_frames")

    def _read_document(self, notes: Notes, data: BoundedBuffer) -> None:
        # The end of an interim reading will arrive again, longer: it must leave no trace.
        final = notes is self._notes
        self._events += final
        if data.length < 16 and data.head.strip() == b"[DONE]":
            notes.complete = True
            self._done = self._done or final
            return
        document = self._parse(notes, data)
        if isinstance(document, dict):
            if self._dialect.batch_results is None:
                if final:
                    self._take(document)
                else:
                    self._dialect.read(notes, document)
            elif final:
                for answer in self._dialect.batch_results(document):
                    self._read_result(document, answer)
                if not data.whole:
                    self._add_result(missed_results(self.route, document))

    def _parse(self, notes: Notes, data: BoundedBuffer) -> t.Any:
        dialect = self._dialect
        head, tail = data.head, data.tail
        stream = self._framing is not None and self._framing.stream
        if data.whole and (
            stream or any(mark in head for mark in dialect.parse_whole_if)
        ):
            return sparse.parse(head)
        if not data.whole:
            if self._tally is not None and not stream:
                notes.tally = self._tally.count
            if dialect.skim is not None:
                dialect.skim(notes, bytes(head) + bytes(tail))
            if stream and f'"{dialect.envelope}"'.encode() in head:
                return sparse.members_in_envelope(
                    head, tail, dialect.envelope, dialect.content, dialect.tail[0]
                )
        document = sparse.find_members(head, tail, dialect.content, dialect.tail)
        counts = dialect.tail[0]
        if counts not in document and data.whole and counts.encode() in head:
            return sparse.parse(head)
        return document


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


_TEXTS: t.Final = ("chat", "responses", "completions", "interactions", "embeddings")
"""Operations that are billed by tokens, whatever is not read."""


def _source(
    notes: Notes, usage: Usage | None, *, stream: bool, cut: bool
) -> UsageSource:
    if usage is None:
        return "unknown"
    if "estimated" in notes.flags:
        return "estimated"
    if not stream:
        return "response"
    return "stream_partial" if cut else "stream_final"
