"""Counts what occurs in bytes that arrive in pieces and are not kept."""

from __future__ import annotations

import re
import typing as t

_LONGEST: t.Final = 64


class Tally:
    """The number of matches of a pattern so far.

    :param pattern: Its matches are not empty, and not longer than 64 bytes.
    """

    __slots__ = ("_pattern", "_rest", "count")

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self._rest = b""
        self.count = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        text = self._rest + data
        end = 0
        for found in self._pattern.finditer(text):
            self.count += 1
            end = found.end()
        # A match may begin in this piece and end in the next one.
        self._rest = text[max(end, len(text) - _LONGEST + 1) :]
