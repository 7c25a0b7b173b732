"""How does one line or document of any length stay within bounded memory?"""

from __future__ import annotations

import typing as t

WHOLE: t.Final = 1024 * 1024
"""Up to here everything is kept."""
HEAD: t.Final = 64 * 1024
TAIL: t.Final = 256 * 1024


class Window:
    """Bytes that arrive in pieces: all of them, or the head and the tail of many."""

    __slots__ = ("_data", "_head", "length")

    def __init__(self) -> None:
        self._data = bytearray()
        self._head: bytes | None = None
        self.length = 0

    @classmethod
    def of(cls, data: bytes) -> Window:
        """A window over bytes that are all there."""
        window = cls()
        window.add(data)
        return window

    @classmethod
    def around(cls, head: bytes, tail: bytes, length: int) -> Window:
        """A window whose middle was dropped elsewhere."""
        window = cls()
        window._head, window._data, window.length = head, bytearray(tail), length
        return window

    def add(self, data: bytes) -> None:
        """Take more bytes, in amortised constant time each."""
        self.length += len(data)
        if self._head is None and self.length <= WHOLE:
            self._data += data
            return
        if self._head is None:
            room = max(0, HEAD - len(self._data))
            self._head = bytes(self._data[:HEAD]) + data[:room]
            del self._data[: max(0, len(self._data) - TAIL)]
        self._data += data[-TAIL:]
        if len(self._data) > 2 * TAIL:
            del self._data[:-TAIL]

    @property
    def whole(self) -> bool:
        """True while nothing was dropped."""
        return self._head is None

    @property
    def head(self) -> bytes:
        """The first bytes: all of them while :attr:`whole`."""
        return bytes(self._data) if self._head is None else self._head

    @property
    def tail(self) -> bytes:
        """The last bytes: all of them while :attr:`whole`."""
        return bytes(self._data) if self._head is None else bytes(self._data[-TAIL:])

    def end(self, count: int) -> bytes:
        """The last few bytes."""
        return bytes(self._data[-count:])

    def clear(self) -> None:
        """Forget everything."""
        if self.length:
            self._data = bytearray()
            self._head = None
            self.length = 0

    def cut(self, count: int) -> Window:
        """The same, without so many bytes at its head."""
        twin = self.copy()
        if twin._head is None:
            del twin._data[:count]
        else:
            twin._head = twin._head[count:]
        twin.length -= count
        return twin

    def copy(self) -> Window:
        """The same bytes, to be read apart."""
        twin = Window()
        twin._data = bytearray(self._data)
        twin._head = self._head
        twin.length = self.length
        return twin
