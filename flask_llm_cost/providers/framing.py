"""Cuts a body into documents: server-sent events, NDJSON, JSON, AWS event streams.

Each framing takes decoded bytes as they arrive and yields the documents that they
complete, as :class:`BoundedBuffer`, since one may be too long to keep.
"""

from __future__ import annotations

import itertools
import re
import struct
import typing as t
import zlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

from .buffer import BoundedBuffer
from .buffer import MAX_WHOLE
from .sparse import parse

Needed: t.TypeAlias = Callable[[bytes], bool]
"""Called with bytes that hold whole events: could they say anything new?"""

EVENT_ENDS: t.Final = (b"\n\n", b"\r\n\r\n")
"""The usual ends of a server-sent event."""


class Framing:
    """How a body is cut into documents."""

    stream = True
    """A body in this framing is a stream."""
    corrupt = False
    """The body violates the framing, so nothing after that point can be trusted."""
    at_boundary = False
    """No event is open: bytes that end in one of :data:`EVENT_ENDS` are whole events."""

    def __init__(self) -> None:
        self._open = BoundedBuffer()
        """The document that is still arriving."""

    @property
    def truncated(self) -> bool:
        """If the body ended here, it would be cut off."""
        return False

    def feed(self, data: bytes, needed: Needed) -> Iterable[BoundedBuffer]:
        """Take bytes, and yield the documents that they complete and that are needed."""
        raise NotImplementedError

    def remainder(self) -> Iterable[BoundedBuffer]:
        """Yield what the body would give if it ended here. This changes nothing."""
        if self._open.length:
            yield self._open


_EOL: t.Final = rb"(?:\r\n|\n|\r(?!\n))"
_BLANK_LINE: t.Final = re.compile(_EOL + _EOL)
_LINE_END: t.Final = re.compile(rb"\r\n|\n|\r")


class ServerSentEvents(Framing):
    """WHATWG event streams: a BOM, LF, CR or CRLF, comments, data in several lines.

    It works on blocks of whole events, so that one search tells whether any event of a
    network read is needed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.at_boundary = True

    def feed(self, data: bytes, needed: Needed) -> Iterable[BoundedBuffer]:
        if self.at_boundary and data.endswith(EVENT_ENDS):
            # The usual case, which must be cheap: whole events, none of them needed.
            return _events(data, needed) if needed(data) else ()
        end = self._last_boundary(data)
        if end < 0:
            self._open.add(data)
            self.at_boundary = not self._open.length
            return ()
        return self._close(data, end, needed)

    def _close(self, data: bytes, end: int, needed: Needed) -> Iterator[BoundedBuffer]:
        block, rest = data[:end], data[end:]
        if self._open.length:
            block = self._finish_open(block)
            if not self._open.whole:
                yield from _long_event(self._open)
        self._open = BoundedBuffer()
        self.at_boundary = not rest
        if rest:
            self._open.add(rest)
        if block and needed(block):
            yield from _events(block, needed)

    def _finish_open(self, block: bytes) -> bytes:
        """Complete the open event, and return the block that is left to read.

        The block begins with the completed event, unless that is too long to keep.
        """
        before = self._open.last(3)
        found = _BLANK_LINE.search(before + block)
        first = len(block) if found is None else max(0, found.end() - len(before))
        self._open.add(block[:first])
        if not self._open.whole:
            return block[first:]
        return bytes(self._open.head) + block[first:]

    def _last_boundary(self, data: bytes) -> int:
        """Find the end of the last blank line in ``data``, or -1."""
        before = self._open.last(3)
        if b"\r" not in data and b"\r" not in before:
            at = data.rfind(b"\n\n")
            if at >= 0:
                return at + 2
            return 1 if data[:1] == b"\n" and before[-1:] == b"\n" else -1
        last = -1
        for found in _BLANK_LINE.finditer(before + data):
            last = found.end()
        return max(last - len(before), -1) if last > len(before) else -1

    def remainder(self) -> Iterator[BoundedBuffer]:
        if not self._open.whole:
            yield from _long_event(self._open)
        elif self._open.length:
            yield from _events(bytes(self._open.head), lambda _: True)


def _events(block: bytes, needed: Needed) -> Iterator[BoundedBuffer]:
    lines: list[bytes] = []
    for line in _LINE_END.split(block.removeprefix(b"\xef\xbb\xbf")):
        if line:
            if line.startswith(b"data"):
                lines.append(line)
            continue
        yield from _event(lines, needed)
        lines = []
    yield from _event(lines, needed)


def _event(lines: list[bytes], needed: Needed) -> Iterator[BoundedBuffer]:
    values = [v for v in map(_data, lines) if v is not None]
    if values:
        text = b"\n".join(values)
        if needed(text):
            yield BoundedBuffer.of(text)


def _data(line: bytes) -> bytes | None:
    if line[4:5] == b":":
        return line[6:] if line[5:6] == b" " else line[5:]
    return b"" if line == b"data" else None


def _long_event(event: BoundedBuffer) -> Iterator[BoundedBuffer]:
    """Yield the data of an event that is too long to keep, without its field name."""
    found = re.search(rb"(?:^|[\r\n])data: ?(?=[{\[])", event.head)
    if found is not None:
        yield event.without_prefix(found.end())


class JsonLines(Framing):
    """NDJSON: one document per line."""

    def feed(self, data: bytes, needed: Needed) -> Iterator[BoundedBuffer]:
        end = data.rfind(b"\n") + 1
        if not end:
            self._open.add(data)
            return
        first = data.find(b"\n") + 1
        if self._open.length:
            self._open.add(data[: first - 1])
            line = self._open
            self._open = BoundedBuffer()
            if not line.whole or needed(bytes(line.head)):
                yield line
        else:
            first = 0
        self._open.add(data[end:])
        block = data[first:end]
        if block and needed(block):
            yield from _lines(block, needed)


def _lines(block: bytes, needed: Needed) -> Iterator[BoundedBuffer]:
    for line in block.split(b"\n"):
        if line and needed(line):
            yield BoundedBuffer.of(line)


_TOKEN: t.Final = re.compile(rb'[{}\[\]]|"(?:(?>[^"\\]+|\\.)*+")?', re.S)
"""A bracket, a string, or the opening quote of a string that does not end here."""

_STRING_END: t.Final = re.compile(rb'(?>[^"\\]+|\\.)*+"', re.S)


class JsonArray(Framing):
    """A JSON array whose objects are events. It may be cut off anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._in_string = False
        self._escaped = False

    @property
    def truncated(self) -> bool:
        return self._depth > 0

    def feed(self, data: bytes, needed: Needed) -> Iterator[BoundedBuffer]:
        begin = 0 if self._depth > 1 else -1
        for at, opens in self._elements(data):
            if opens:
                begin = at
            else:
                self._open.add(data[begin:at])
                element, self._open = self._open, BoundedBuffer()
                begin = -1
                if not element.whole or needed(bytes(element.head)):
                    yield element
        if begin >= 0:
            self._open.add(data[begin:])

    def _elements(self, data: bytes) -> Iterator[tuple[int, bool]]:
        """Yield where elements of the array begin (True) and where they end (False)."""
        at = self._skip_string(data) if self._in_string else 0
        while not self._in_string:
            found = _TOKEN.search(data, at)
            if found is None:
                return
            token, at = found.group(), found.end()
            if token in b"{[":
                self._depth += 1
                if self._depth == 2:
                    yield at - 1, True
            elif token in b"}]":
                self._depth -= 1
                if self._depth == 1:
                    yield at, False
            elif token == b'"':
                self._in_string = True
                self._escaped = False
                at = self._skip_string(data, at)

    def _skip_string(self, data: bytes, at: int = 0) -> int:
        """Find the end of the open string, or of ``data``."""
        if not data:
            return 0
        if self._escaped:
            at += 1
        found = _STRING_END.match(data, at)
        if found is not None:
            self._in_string = self._escaped = False
            return found.end()
        text = data[at:]
        self._escaped = (len(text) - len(text.rstrip(b"\\"))) % 2 == 1
        return len(data)


class JsonDocument(Framing):
    """One JSON document, unless a second line shows that the body is NDJSON."""

    stream = False

    def __init__(self) -> None:
        super().__init__()
        self._line_end = -1
        """The end of the first line: -1 if not known yet, -2 if no longer relevant."""
        self._lines: JsonLines | None = None

    def feed(self, data: bytes, needed: Needed) -> Iterable[BoundedBuffer]:
        if self._lines is not None:
            return self._lines.feed(data, needed)
        if not self._open.length:
            data = data.lstrip()
        if self._line_end == -1:
            at = data.find(b"\n")
            if at >= 0:
                self._line_end = self._open.length + at
        if 0 <= self._line_end <= MAX_WHOLE and self._is_lines(data):
            self.stream = True
            self._lines = JsonLines()
            before, self._open = bytes(self._open.head), BoundedBuffer()
            return itertools.chain(
                self._lines.feed(before, needed), self._lines.feed(data, needed)
            )
        self._open.add(data)
        return ()

    def _is_lines(self, data: bytes) -> bool:
        """Whether the second line shows that the first one was a whole document."""
        before = bytes(self._open.head)
        here = max(0, self._line_end - len(before))
        second = data[here:].lstrip()
        if not second:
            return False
        first = (before[: self._line_end] + data[:here]).rstrip()
        self._line_end = -2
        return (
            second.startswith(b"{")
            and first.endswith(b"}")
            and parse(first) is not None
        )

    def remainder(self) -> Iterable[BoundedBuffer]:
        lines = self._lines
        return super().remainder() if lines is None else lines.remainder()


_PRELUDE: t.Final = struct.Struct(">III")
_MAX_FRAME: t.Final = 1 << 25
_EVENT_TYPE: t.Final = b":event-type"
_STRING_TYPE: t.Final = 7


class EventStream(Framing):
    """AWS event streams: binary frames with checksums, each a named event.

    A frame is yielded as ``{"event": name, "data": payload}``. Source:
    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html
    """

    def __init__(self) -> None:
        super().__init__()
        self._size = 0
        self._checksum = 0

    @property
    def truncated(self) -> bool:
        return self._open.length > 0

    def feed(self, data: bytes, needed: Needed) -> Iterator[BoundedBuffer]:
        at = 0
        while at < len(data) and not self.corrupt:
            want = (self._size or _PRELUDE.size) - self._open.length
            piece = data[at : at + want]
            at += len(piece)
            self._add(piece)
            if not self._size and self._open.length == _PRELUDE.size:
                self._begin()
            elif self._open.length == self._size:
                yield from self._end(needed)

    def _add(self, piece: bytes) -> None:
        covered = len(piece)
        if self._size:
            covered = max(0, min(covered, self._size - 4 - self._open.length))
        self._checksum = zlib.crc32(piece[:covered], self._checksum)
        self._open.add(piece)

    def _begin(self) -> None:
        prelude = bytes(self._open.head)
        self._size, headers, _ = _PRELUDE.unpack(prelude)
        self.corrupt = not is_prelude(prelude) or headers > self._size - 16

    def _end(self, needed: Needed) -> Iterator[BoundedBuffer]:
        head, tail, length = bytes(self._open.head), bytes(self._open.tail), self._size
        whole = self._open.whole
        self.corrupt = self._checksum != int.from_bytes(tail[-4:])
        self._open = BoundedBuffer()
        self._size = self._checksum = 0
        if self.corrupt:
            return
        start = _PRELUDE.size + int.from_bytes(head[4:8])
        name = _event_name(head[_PRELUDE.size : start])
        opening = b'{"event":"' + name + b'","data":'
        if not whole:
            yield BoundedBuffer.from_ends(
                opening + head[start:], tail[:-4] + b"}", length
            )
        elif (payload := head[start:-4]) and needed(payload):
            yield BoundedBuffer.of(opening + payload + b"}")

    def remainder(self) -> Iterable[BoundedBuffer]:
        # A frame that is cut off has no checksum, so it is not read.
        return ()


def is_prelude(start: bytes) -> bool:
    """Whether a frame's first bytes match their checksum."""
    size: int
    checksum: int
    size, _, checksum = _PRELUDE.unpack(start[: _PRELUDE.size])
    return 16 <= size <= _MAX_FRAME and zlib.crc32(start[:8]) == checksum


def _event_name(headers: bytes) -> bytes:
    """Get ``:event-type`` from headers of name length, name, type, value length, value."""
    at = 0
    while at < len(headers):
        end = at + 1 + headers[at]
        name = headers[at + 1 : end]
        if headers[end : end + 1] != bytes([_STRING_TYPE]):
            return b""  # all three headers of these services are strings
        size = int.from_bytes(headers[end + 1 : end + 3])
        value = headers[end + 3 : end + 3 + size]
        if name == _EVENT_TYPE:
            return re.sub(rb"[^A-Za-z0-9_.-]", b"", value)
        at = end + 3 + size
    return b""


def detect_framing(start: bytes) -> Framing | None:
    """Detect a body's framing by its first bytes, or ``None`` if they do not suffice.

    The content type is not used: a plain JSON error answers a request for a stream, and
    gateways send streams as ``text/plain``.
    """
    bare = start.lstrip()
    if bare.startswith(b"\0"):
        if len(bare) < _PRELUDE.size:
            return None
        return EventStream() if is_prelude(bare) else ServerSentEvents()
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text or b"\xef\xbb\xbf".startswith(start):
        return None
    if text.startswith(b"{"):
        return JsonDocument()
    return JsonArray() if text.startswith(b"[") else ServerSentEvents()
