"""For the tests of apps: collect calls in memory, and nothing else."""

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

    They are tagged and priced as always, and signals are sent; no file and no database
    is touched, and no budget stops a call.

    :param app: An app that :class:`.LlmCost` is set up on.
    :raises LlmCostError: If it is not.
    """
    state = t.cast("AppState | None", app.extensions.get("llm_cost"))
    if state is None:
        raise LlmCostError(
            "LlmCost is not set up on this app: call LlmCost(app) first."
        )
    before, state.collected = state.collected, []
    try:
        yield state.collected
    finally:
        # What was abandoned meanwhile is collected, too.
        state.record_deferred()
        state.collected = before
