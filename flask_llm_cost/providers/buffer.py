"""How does one line or document of any length stay within bounded memory?"""

from __future__ import annotations

import typing as t

MAX_WHOLE: t.Final = 1024 * 1024
"""Up to here everything is kept."""
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
        """A window over bytes that are all there."""
        window = cls()
        window.add(data)
        return window

    @classmethod
    def from_ends(cls, head: bytes, tail: bytes, length: int) -> BoundedBuffer:
        """A window whose middle was dropped elsewhere."""
        window = cls()
        window._head, window._data, window.length = head, bytearray(tail), length
        return window

    def add(self, data: bytes) -> None:
        """Take more bytes, in amortized constant time each."""
        before = self.length
        self.length = before + len(data)
        if self._head is None and self.length <= MAX_WHOLE:
            if not before:
                self._data = data  # most often the only piece: not worth a copy
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
        """True while nothing was dropped."""
        return self._head is None

    @property
    def head(self) -> bytes | bytearray:
        """The first bytes: all of them while :attr:`whole`. Not to be changed."""
        return self._data if self._head is None else self._head

    @property
    def tail(self) -> bytes | bytearray:
        """The last bytes: all of them while :attr:`whole`. Not to be changed."""
        return self._data if self._head is None else self._data[-TAIL_SIZE:]

    def last(self, count: int) -> bytes:
        """The last few bytes."""
        return bytes(self._data[-count:])

    def without_prefix(self, count: int) -> BoundedBuffer:
        """The same, without so many bytes at its head."""
        twin = BoundedBuffer()
        twin._data = bytes(self._data)
        twin._head = self._head
        if twin._head is None:
            twin._data = twin._data[count:]
        else:
            twin._head = twin._head[count:]
        twin.length = self.length - count
        return twin
