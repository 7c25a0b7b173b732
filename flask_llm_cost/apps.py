"""The apps of this process, and which of them a call belongs to."""

from __future__ import annotations

import atexit
import gc
import os
import time
import typing as t
import weakref
from collections.abc import Iterator
from collections.abc import Mapping

from flask import current_app
from flask import has_app_context

from . import streaming
from .errors import LlmCostError
from .recurring import report

if t.TYPE_CHECKING:
    from .call import Call
    from .providers import Provider
    from .state import AppState

NAME: t.Final = "llm_cost"
"""The key of an app's state in ``app.extensions``."""


class States:
    """Weak references to the states of apps, in the order of their set-up.

    One thread may set up an app while another iterates.
    """

    def __init__(self) -> None:
        self._references: list[weakref.ref[AppState]] = []

    def add(self, state: AppState) -> None:
        self._references.append(weakref.ref(state, self._references.remove))

    def alive(self) -> list[AppState]:
        """The states of apps that are not garbage-collected."""
        found = [reference() for reference in tuple(self._references)]
        return [state for state in found if state is not None]


_all_states: t.Final = States()

_collected: list[Call] | None = None


def register(state: AppState) -> None:
    """Remember the state of a new app for as long as the app lives."""
    global _set_up
    _set_up += 1
    _all_states.add(state)
    state.collected = _collected


def registered() -> Iterator[AppState]:
    """The states of all apps in this process."""
    return iter(_all_states.alive())


def collect_by_default(calls: list[Call] | None) -> list[Call] | None:
    """Collect the calls of apps that are set up from now on; return where before.

    :param calls: Where they go; ``None`` for the ledger.
    """
    global _collected
    before, _collected = _collected, calls
    return before


def active() -> list[AppState]:
    """The states of all apps in this process that are in use, of any ``LlmCost`` object."""
    return [state for state in _all_states.alive() if state.in_use]


_NO_LLM_COST: t.Final = (
    "A call was not recorded: it was made in the context of an app without LlmCost. Set"
    " it up with LlmCost(app)."
)
_AMBIGUOUS: t.Final = (
    "A call was not recorded: it was made outside of an app context, and the apps of"
    " this process have different ledgers or prices. Use app.app_context() there, or"
    " pass the caller's context with llm_cost.bind()."
)


def _only(states: list[AppState]) -> AppState | None:
    """The newest of some apps, if their calls go to the same ledger at the same prices."""
    if len(states) == 1:
        return states[0]
    if any(
        each.destination is None or each.destination != states[-1].destination
        for each in states
    ):
        return None
    return states[-1] if states else None


_COLLECT_SECONDS: t.Final = 60.0

_set_up = 0
_collected_at: tuple[int, float] = (0, 0.0)


def _free_dropped_apps() -> bool:
    """Free the apps that were dropped without ``close()``, which refer to themselves.

    It takes a while: at most once a minute, unless an app was set up since.

    :return: Whether it did.
    """
    global _collected_at
    count, at = _collected_at
    now = time.monotonic()
    if count == _set_up and now < at + _COLLECT_SECONDS:
        return False
    _collected_at = _set_up, now
    gc.collect()
    return True


class Apps:
    """The apps that one ``LlmCost`` object serves."""

    def __init__(self) -> None:
        self._states = States()

    def add(self, state: AppState) -> None:
        self._states.add(state)

    def __iter__(self) -> Iterator[AppState]:
        return iter(self._states.alive())

    def candidates(self, shared: bool) -> list[AppState]:
        """The apps that a call made here may belong to.

        :param shared: Those of the whole process, not only of this object.
        """
        if shared:
            return active()
        states = self._states.alive()
        if len(states) == 1:
            return states
        return [state for state in states if state.in_use] or states

    def current(self) -> AppState | None:
        """The current app, or the one whose response is being streamed here."""
        stream = streaming.current()
        app = None if stream is None else stream.app
        if app is None and has_app_context():
            app = current_app
        return None if app is None else app.extensions.get(NAME)

    def find(self, *, shared: bool = False) -> AppState | None:
        """The app that a call made here belongs to: the current one, or the only one.

        Several apps count as one if they have the same ledger and prices.

        :param shared: As in :meth:`candidates`.
        """
        if has_app_context() or streaming.current() is not None:
            return self.current()
        return _only(self.candidates(shared))

    def find_or_drop(self, *, shared: bool = False) -> AppState | None:
        """As :meth:`find`, for a call that is not recorded if no app is found."""
        state = self.find(shared=shared)
        if state is None and not has_app_context() and _free_dropped_apps():
            state = self.find(shared=shared)
        if state is None:
            report(_NO_LLM_COST if has_app_context() else _AMBIGUOUS)
        return state

    def hosts(self, *, shared: bool = False) -> Mapping[str, str] | None:
        """The ``LLM_COST_PROVIDER_HOSTS`` of the current app; ``None`` if it is disabled.

        If it is not clear which app is meant, those of all: dropped calls are counted.
        """
        state = self.find(shared=shared)
        if state is not None:
            settings = state.settings
            return settings.provider_hosts if settings.enabled else None
        hosts: dict[str, str] = {}
        for each in self.candidates(shared):
            hosts.update(each.settings.provider_hosts)
        return hosts

    def providers(self) -> tuple[Provider, ...]:
        """Custom providers for the current app of the process.

        If it is not clear which app is meant, those of all.
        """
        state = self.find(shared=True)
        states = active() if state is None else [state]
        return tuple(own for each in states for own in each.extension.providers)

    def need(self, name: str) -> AppState:
        """The app to ask or change.

        :raises LlmCostError: If it is not clear which one.
        """
        state = self.find()
        if state is None:
            raise LlmCostError(
                f"llm_cost.{name} needs an app: use it inside a request or"
                " app.app_context() of an app that LlmCost is set up on."
            )
        return state


def settle_at_exit() -> None:
    """Record open calls when the process exits, before exit handlers registered so far.

    Where there is a ledger, it must be opened first: its last flush then comes after.
    """
    atexit.unregister(_settle_all)
    atexit.register(_settle_all)


def _settle_all() -> None:
    from .capture.meter import settle

    settle(0, ending=True)
    for state in _all_states.alive():
        state.intake.record_deferred()


def _after_fork() -> None:
    for state in _all_states.alive():
        state.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
