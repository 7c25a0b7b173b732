"""Follows attempts to unlisted hosts: only their answers show what they are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from ..attempt import Attempt
from ..attempt import ClientRecorder
from ..attempt import Snapshot
from ..calendar import whole_ms
from ..call import Call
from ..event_id import mint_event_id
from ..providers import is_call
from .suppression import Guard


class Tentative:
    """Records or counts an attempt if its answer shows that it was an LLM call.

    :param guard: That of the attempt.
    """

    def __init__(self, recorder: ClientRecorder, guard: Guard) -> None:
        self._recorder = recorder
        self._guard = guard
        self._records = recorder.unlisted_hosts == "record"
        self._count: Callable[[str], None] | None = None

    def begin(self, attempt: Attempt) -> Snapshot | None:
        if self._records:
            return self._recorder.begin(attempt)
        self._count = self._recorder.unlisted_counter()
        # No tags are needed, so that none of the app's code runs.
        now = whole_ms(dt.datetime.now(dt.UTC))
        return Snapshot(mint_event_id(now), now, {})

    def record(
        self, call: Call, snapshot: Snapshot, *, deferred: bool = False
    ) -> Call | None:
        if self._guard.superseded or not is_call(call):
            return None
        if self._records:
            return self._recorder.record(call, snapshot, deferred=deferred)
        if self._count is not None and not deferred:
            self._count(call.provider)
        return None
