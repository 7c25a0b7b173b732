"""Support for the tests and examples of apps: collected calls and a fake provider."""

from __future__ import annotations

import atexit
import functools
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from .apps import active
from .apps import collect_by_default
from .apps import registered
from .call import Call
from .errors import LlmCostError
from .state import AppState

if t.TYPE_CHECKING:
    from .capture.tap import Tap


@contextmanager
def record_calls(app: Flask | None = None) -> Iterator[list[Call]]:
    """Collect the calls of an app instead of writing them to its ledger.

    Calls are tagged and priced as usual and signals are sent, but no file or database is
    used, and no budget stops a call. Calls that a mock answers are captured as well.

    :param app: An app with :class:`.LlmCost` set up on it. If left out, the calls of every
        app in this process, including those that are set up inside the block.
    :raises LlmCostError: If :class:`.LlmCost` is not set up on the app.
    """
    calls: list[Call] = []
    if app is None:
        before = {id(state): state.collected for state in registered()}
        default = collect_by_default(calls)
    else:
        before = {id(state): state.collected for state in (_state_of(app),)}
        default = None
    for state in registered():
        if id(state) in before:
            state.collected = calls
    from .capture import mocks

    try:
        with mocks.capturing(_tap):
            yield calls
    finally:
        if app is None:
            collect_by_default(default)
        for state in registered():
            if state.collected is calls:
                # Include calls that were abandoned inside the block.
                state.intake.record_deferred()
                state.collected = before.get(id(state), default)


@functools.cache
def fake_provider(port: int = 0) -> str:
    """Start a fake OpenAI, Anthropic and Gemini on loopback, and return its URL.

    It answers until the process ends. Map its host to the provider that the app expects::

        url = fake_provider()
        app.config["LLM_COST_PROVIDER_HOSTS"] = {urlsplit(url).netloc: "openai"}

    :param port: 0 selects a free port.
    :raises OSError: If the port is in use.
    """
    from .cli.demo.provider import serve

    serving = serve(port)
    url = serving.__enter__()
    atexit.register(serving.__exit__, None, None, None)
    return url


def _tap() -> Tap | None:
    state = next(iter(active()), None)
    return None if state is None else state.extension.process_tap()


def _state_of(app: Flask) -> AppState:
    state = t.cast("AppState | None", app.extensions.get("llm_cost"))
    if state is None:
        raise LlmCostError(
            "LlmCost is not set up on this app. Call LlmCost(app) first."
        )
    return state
