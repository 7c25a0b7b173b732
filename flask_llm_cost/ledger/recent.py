"""The calls of lines that this process has written, but not stored yet."""

from __future__ import annotations

import typing as t

from ..call import Call

_MOST: t.Final = 1000
"""About two batches of the writer."""

_LONGEST: t.Final = 8 * 1024
"""A longer line is decoded: there are few, and many would fill the memory."""


class RecentCalls:
    """Saves the writer from decoding what its own process has just encoded.

    What counts is the line on disk: a call is found by its whole line only. Calls that
    are no longer here are decoded. No method takes a lock.
    """

    def __init__(self) -> None:
        self._calls: dict[bytes, Call] = {}

    def add(self, line: bytes, call: Call) -> None:
        """Remember the call of a line, unless it is long."""
        if len(line) > _LONGEST:
            return
        if len(self._calls) >= _MOST:
            self._calls = {}  # they cannot be stored: the database is unavailable
        self._calls[line] = call

    def take(self, line: bytes) -> Call | None:
        """Return the call of a line, once."""
        return self._calls.pop(line, None)
