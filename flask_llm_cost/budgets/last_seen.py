"""The windows as this process last saw them: what it knows without the database."""

from __future__ import annotations

import dataclasses
import time
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence

from ..money import from_pico
from .alert import Alert
from .definition import Reservation
from .standing import Standing

_REMEMBERED: t.Final = 20_000
_FRESH_SECONDS: t.Final = 5.0
"""How long what is reserved counts. What is spent stays so."""


class LastSeen:
    """The last standing of each window."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Standing, float]] = {}

    def __contains__(self, window_id: str) -> bool:
        return window_id in self._seen

    def note(self, window_id: str, standing: Standing) -> None:
        """Remember the current state of a window."""
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[window_id] = standing, time.monotonic()

    def refusal(
        self, wanted: Sequence[Reservation], limits: Mapping[str, int]
    ) -> Alert | None:
        """Return the alert of a window that is known to have no room.

        :param limits: The current limits, in pico-USD.
        """
        for each in wanted:
            found = self._seen.get(each.window.id)
            limit = limits.get(each.window.id)
            if found is None or limit is None:
                continue
            standing = dataclasses.replace(found[0], limit=limit)
            if standing.spent_up:
                return Alert.of(standing)
            fresh = time.monotonic() - found[1] < _FRESH_SECONDS
            if fresh and standing.used + each.amount > limit:
                return Alert.of(standing, estimate_usd=from_pico(each.amount))
        return None
