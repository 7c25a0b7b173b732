"""What does one HTTP exchange with a provider mean, read while it passes by?

Bytes go in as the app reads them: decoded, cut into documents, sifted for the few that
say something, read by a dialect. Memory is bounded and nothing here ever raises.
"""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping

from ..call import Reading
from ..call import UsageSource
from . import sparse
from .decoding import Decoding
from .decoding import Unreadable
from .dialect import Notes
from .framing import frame
from .framing import Framing
from .routes import Path
from .routes import Provider
from .routes import Route
from .routes import route
from .window import Window

__all__ = ["Exchange", "Path", "Provider", "Route", "read_exchange", "route"]

_log = logging.getLogger(__name__)

_GREETINGS: t.Final = 4
"""So many events are read in any case: the first ones name the model and the id."""


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
        self._notes = Notes(provider=route.provider, operation=route.operation)
        self._decoding: Decoding | None = None
        self._framing: Framing | None = None
        self._start = b""
        self._deaf = False
        self._ok = True
        self._events = 0
        if request_body:
            self._guarded(self._request, request_body)
        self._notes.request_model = self.request_model

    @property
    def complete(self) -> bool:
        """A terminal event was read: nothing that comes later changes the reading."""
        return self._notes.complete

    def respond(self, status: int, headers: Mapping[str, str]) -> None:
        """Take down the answer's status and headers, before its body."""
        self._guarded(self._respond, status, headers)

    def feed(self, data: bytes, *, decoded: bool) -> None:
        """Take the next bytes of the body.

        :param decoded: The content encoding has been undone already.
        """
        if self._deaf or self._notes.complete:
            return
        if decoded or self._decoding is None:
            self._guarded(self._take, data)
        else:
            self._guarded(self._decode, data)

    def reading(self, *, ended: bool) -> Reading:
        """What the answer means, as far as it has come.

        :param ended: The body came to its own end.
        """
        notes = self._notes.copy()
        usage = None
        try:
            if self._framing is not None and self._ok and not self._deaf:
                for window in self._framing.rest():
                    self._document(notes, window)
            usage = self.route.dialect.usage(notes) if self._ok else None
        except Exception as error:
            self._failed(error)
            notes.flags.add("reader_error")
        framed = self._framing is not None and self._framing.stream
        stream = framed or self.stream
        source: UsageSource = "unknown"
        if usage is not None:
            source = _source(notes, stream=stream, ended=ended)
        return Reading(
            provider=self.route.provider,
            operation=self.route.operation,
            request_model=self.request_model,
            model=notes.model or self.request_model,
            response_id=notes.response_id,
            usage=usage,
            usage_source=source,
            stream=stream,
            service_tier=notes.service_tier,
            reported_cost=notes.reported_cost,
            flags=frozenset(notes.flags),
        )

    def _guarded(self, step: t.Callable[..., None], *arguments: t.Any) -> None:
        # Dialects may be an app's own, and a surprise in an answer must stay ours: the
        # app's call goes on, and its row says that the reader failed.
        try:
            step(*arguments)
        except Unreadable as error:
            self._deaf = True
            self._notes.flags.add("unreadable_encoding")
            _log.debug("cannot decode: %s", error)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._deaf = True
        self._notes.flags.add("reader_error")
        # The type alone: a message may quote the answer.
        _log.warning("reader for %s failed: %s", self.route.provider, type(error))

    def _request(self, body: bytes) -> None:
        asked = _asked(body)
        model = asked.get("model")
        if isinstance(model, str) and model and self.request_model is None:
            self.request_model = model
        if asked.get("stream") is True:
            self.stream = True

    def _respond(self, status: int, headers: Mapping[str, str]) -> None:
        self._ok = 200 <= status < 300
        for name, value in headers.items():
            if name.lower() == "content-encoding" and value:
                self._decoding = Decoding(value)

    def _decode(self, data: bytes) -> None:
        assert self._decoding is not None
        for piece in self._decoding.decode(data):
            self._take(piece)

    def _take(self, data: bytes) -> None:
        if not self._ok:
            return
        if self._framing is None:
            self._start += data
            self._framing = frame(self._start)
            if self._framing is None:
                self._start = self._start[:3]
                return
            data, self._start = self._start, b""
        for window in self._framing.feed(data, self._needed):
            self._document(self._notes, window)
            if self._notes.complete:
                return

    def _needed(self, data: bytes) -> bool:
        if self._events < _GREETINGS:
            return True
        dialect = self.route.dialect
        for needle in dialect.needles:
            if needle in data:
                return True
        return False

    def _document(self, notes: Notes, window: Window) -> None:
        self._events += 1
        dialect = self.route.dialect
        if window.whole:
            if window.length < 16 and window.head.strip() == b"[DONE]":
                notes.complete = True
                return
            document = sparse.parse(window.head)
        else:
            document = sparse.sketch(
                window.head, window.tail, dialect.heavy, dialect.tail
            )
        if isinstance(document, dict):
            dialect.read(notes, document)


def _asked(body: bytes) -> Mapping[str, t.Any]:
    document = sparse.parse(body)
    return document if isinstance(document, dict) else {}


def _source(notes: Notes, *, stream: bool, ended: bool) -> UsageSource:
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

    :param headers: Of the response.
    :param body: Of the response, its content encoding undone.
    :param hosts: As ``LLM_COST_PROVIDER_HOSTS``.
    """
    found = route(method, url, hosts=hosts)
    if found is None:
        return None
    exchange = Exchange(found, request_body=request_body)
    exchange.respond(status, headers)
    exchange.feed(body, decoded=True)
    return exchange.reading(ended=True)
