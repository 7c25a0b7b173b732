"""The apps of this process, and which of them a call belongs to."""

from __future__ import annotations

import atexit
import logging
import os
import typing as t
import weakref
from collections.abc import Iterator
from collections.abc import Mapping

from flask import current_app
from flask import has_app_context

from .errors import LlmCostError

if t.TYPE_CHECKING:
    from .call import Call
    from .providers import Provider
    from .state import AppState

_log = logging.getLogger("flask_llm_cost")

NAME: t.Final = "llm_cost"
"""The key of an app's state in ``app.extensions``."""


class States:
    """Weak references to the states of apps, in the order of their set-up.

    One thread may set up an app while another iterates.
    """

    def __init__(self) -> None:
        # Its references are copied in one step; those of a WeakSet are not.
        self._states: weakref.WeakValueDictionary[int, AppState] = (
            weakref.WeakValueDictionary()
        )

    def add(self, state: AppState) -> None:
        self._states[id(state)] = state

    def __iter__(self) -> Iterator[AppState]:
        for reference in self._states.valuerefs():
            state = reference()
            if state is not None:
                yield state


_all_states: t.Final = States()

_collected: list[Call] | None = None


def register(state: AppState) -> None:
    """Remember the state of a new app for as long as the app lives."""
    _all_states.add(state)
    state.collected = _collected


def registered() -> Iterator[AppState]:
    """The states of all apps in this process."""
    return iter(_all_states)


def collect_by_default(calls: list[Call] | None) -> list[Call] | None:
    """Collect the calls of apps that are set up from now on; return where before.

    :param calls: Where they go; ``None`` for the ledger.
    """
    global _collected
    before, _collected = _collected, calls
    return before


def active() -> list[AppState]:
    """The states of all apps in this process that are in use, of any ``LlmCost`` object."""
    return [state for state in _all_states if state.in_use]


class Apps:
    """The apps that one ``LlmCost`` object serves."""

    def __init__(self) -> None:
        self._states = States()
        self._dropped = 0

    def add(self, state: AppState) -> None:
        self._states.add(state)

    def __iter__(self) -> Iterator[AppState]:
        return iter(self._states)

    def candidates(self, shared: bool) -> list[AppState]:
        """The apps that a call made here may belong to.

        :param shared: Those of the whole process, not only of this object.
        """
        return active() if shared else list(self._states)

    def find(self, *, shared: bool = False) -> AppState | None:
        """The app that a call made here belongs to: the current one, else the only one.

        :param shared: As in :meth:`candidates`.
        """
        if has_app_context():
            return t.cast("AppState | None", current_app.extensions.get(NAME))
        states = self.candidates(shared)
        return states[0] if len(states) == 1 else None

    def find_or_drop(self, *, shared: bool = False) -> AppState | None:
        """As :meth:`find`, for a call that is not recorded if no app is found."""
        state = self.find(shared=shared)
        if state is None:
            self._dropped += 1
            count = self._dropped
            if count in (1, 10, 100) or count % 1000 == 0:
                _log.warning(
                    "%s not recorded, because they could not be attributed to an app. They"
                    " were made outside of an app context, with several apps in this"
                    " process, or in the context of an app without LlmCost. Use"
                    " app.app_context().",
                    "1 call was" if count == 1 else f"{count} calls were",
                )
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
    for state in _all_states:
        state.intake.record_deferred()


def _after_fork() -> None:
    for state in _all_states:
        state.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
