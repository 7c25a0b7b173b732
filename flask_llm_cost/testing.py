"""Support for the tests of apps: collect calls in memory."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from .call import Call
from .errors import LlmCostError
from .state import AppState


@contextmanager
def record_calls(app: Flask) -> Iterator[list[Call]]:
    """Collect the calls of an app instead of writing them to its ledger.

    Calls are tagged and priced as usual and signals are sent, but no file or database is
    used, and no budget stops a call.

    :param app: An app with :class:`.LlmCost` set up on it.
    :raises LlmCostError: If :class:`.LlmCost` is not set up on the app.
    """
    state = t.cast("AppState | None", app.extensions.get("llm_cost"))
    if state is None:
        raise LlmCostError(
            "LlmCost is not set up on this app. Call LlmCost(app) first."
        )
    before, state.collected = state.collected, []
    try:
        yield state.collected
    finally:
        # Include calls that were abandoned inside the block.
        state.intake.record_deferred()
        state.collected = before
