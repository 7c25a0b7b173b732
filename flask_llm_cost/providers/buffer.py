"""Buffers a line or document of any length in bounded memory."""

from __future__ import annotations

import typing as t

MAX_WHOLE: t.Final = 1024 * 1024
"""The size up to which all bytes are kept."""
HEAD_SIZE: t.Final = 64 * 1024
TAIL_SIZE: t.Final = 256 * 1024


class BoundedBuffer:
    """Bytes that arrive in pieces: all of them, or the head and the tail of many."""

    __slots__ = ("_data", "_head", "length")

    def __init__(self) -> None:
        self._data: bytes | bytearray = b""
        self._head: bytes | None = None
        self.length = 0

    @classmethod
    def of(cls, data: bytes) -> BoundedBuffer:
        """Create a buffer that holds these bytes."""
        buffer = cls()
        buffer.add(data)
        return buffer

    @classmethod
    def from_ends(cls, head: bytes, tail: bytes, length: int) -> BoundedBuffer:
        """Create a buffer whose middle has been dropped already."""
        buffer = cls()
        buffer._head, buffer._data, buffer.length = head, bytearray(tail), length
        return buffer

    def add(self, data: bytes) -> None:
        """Append bytes, in amortized constant time per byte."""
        before = self.length
        self.length = before + len(data)
        if self._head is None and self.length <= MAX_WHOLE:
            if not before:
                self._data = data  # usually the only piece: do not copy it
                return
            if isinstance(self._data, bytes):
                self._data = bytearray(self._data)
            self._data += data
            return
        self._slide(data)

    def _slide(self, data: bytes) -> None:
        kept = bytearray(self._data) if isinstance(self._data, bytes) else self._data
        if self._head is None:
            room = max(0, HEAD_SIZE - len(kept))
            self._head = bytes(kept[:HEAD_SIZE]) + data[:room]
            del kept[: max(0, len(kept) - TAIL_SIZE)]
        kept += data[-TAIL_SIZE:]
        if len(kept) > 2 * TAIL_SIZE:
            del kept[:-TAIL_SIZE]
        self._data = kept

    @property
    def whole(self) -> bool:
        """True while nothing has been dropped."""
        return self._head is None

    @property
    def head(self) -> bytes | bytearray:
        """The first bytes, or all of them while :attr:`whole`. Do not change them."""
        return self._data if self._head is None else self._head

    @property
    def tail(self) -> bytes | bytearray:
        """The last bytes, or all of them while :attr:`whole`. Do not change them."""
        return self._data if self._head is None else self._data[-TAIL_SIZE:]

    def last(self, count: int) -> bytes:
        """Get the last few bytes."""
        return bytes(self._data[-count:])

    def without_prefix(self, count: int) -> BoundedBuffer:
        """Copy the buffer without the first ``count`` bytes of its head."""
        twin = BoundedBuffer()
        twin._data = bytes(self._data)
        twin._head = self._head
        if twin._head is None:
            twin._data = twin._data[count:]
        else:
            twin._head = twin._head[count:]
        twin.length = self.length - count
        return twin
