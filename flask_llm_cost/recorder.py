"""The flow of a call: what happens when it is sent, and when it has ended."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Sequence

from flask import Flask
from flask import has_app_context
from flask import has_request_context

from . import streaming
from .apps import Apps
from .attempt import Attempt
from .attempt import Snapshot
from .calendar import whole_ms
from .call import Call
from .call import TagSource
from .config import Settings
from .event_id import mint_event_id
from .recurring import report
from .request import current
from .state import AppState
from .state import Origin
from .state import utc_now
from .tags import resolve
from .tags import ResolvedTags
from .tags import sources_here
from .tags import sources_of_app
from .wait_limit import here
from .wait_limit import WaitLimit

if t.TYPE_CHECKING:
    from .capture.manual import ManualCall


class AppRecorder:
    """Records calls for the apps that send them: the :class:`.Recorder` of capture.

    :param apps: The apps of one ``LlmCost`` object.
    :param tag_providers: For a call that belongs to no app; otherwise its app's are used.
    :param shared: A call may belong to any app in the process, not only to these.
    :param enforces: Check budgets that block before a call is sent.
    """

    def __init__(
        self,
        apps: Apps,
        *,
        tag_providers: list[TagSource],
        shared: bool = False,
        enforces: bool = True,
    ) -> None:
        self._apps = apps
        self.tag_providers = tag_providers
        """Callables evaluated for tags at each send."""
        self._shared = shared
        self._enforces = enforces

    # Before a call is sent

    def begin(self, attempt: Attempt) -> Snapshot | None:
        """Check whether a call may be sent, and fix what must be known at its send.

        :raises BudgetExceeded: If a budget rejects it.
        :raises LlmCostError: An error that the end of an earlier call could not raise.
        """
        state = self._apps.find_or_drop(shared=self._shared)
        if state is None or not state.settings.enabled:
            return None
        if not attempt.unlisted:
            state.intake.raise_pending()
        outer = here.limit
        try:
            here.limit = wait_limit = outer or WaitLimit()
            state.intake.record_deferred()
            recorded = state.collected is None
            stored = recorded and state.settings.storage in ("database", "jsonl")
            if stored and not state.intake.interrupted:
                state.wake_writer()
            snapshot = self._snapshot(state, attempt, wait_limit=wait_limit)
            if recorded and state.enforcer.stops and not attempt.unlisted:
                state.enforcer.begin(attempt, snapshot, admit=self._enforces)
        finally:
            here.limit = outer
        return snapshot

    def check_budgets(self, attempt: Attempt) -> None:
        """Raise if a budget that raises or blocks is exceeded.

        :raises BudgetExceeded: For the budget with the longest period.
        :raises StorageError: If a budget cannot be checked, and its ``on_error`` is
            ``"closed"``.
        """
        state = self._apps.find_or_drop()
        if state is None or not state.enforcer.stops or state.collected is not None:
            return
        snapshot = self._snapshot(state, attempt)
        outer = here.limit
        try:
            here.limit = outer or snapshot.wait_limit
            state.enforcer.enforce(
                attempt.provider,
                attempt.request_model or "",
                snapshot.tags,
                snapshot.started_at,
            )
        finally:
            here.limit = outer

    def _snapshot(
        self,
        state: AppState | None,
        attempt: Attempt,
        at: dt.datetime | None = None,
        wait_limit: WaitLimit | None = None,
    ) -> Snapshot:
        """Fix what must be known of a call when it is sent.

        :param at: When it was sent; now if left out.
        :param wait_limit: How long it may wait.
        """
        if state is None:
            settings, providers, now = Settings(), self.tag_providers, utc_now()
        else:
            # With `shared`, the app may be that of another LlmCost object.
            settings, providers = state.settings, state.extension.tag_providers
            now = state.clock()
        app = None if state is None else state.app
        resolved = _resolve(settings, providers, attempt.tags, app)
        # Whole milliseconds, which is what event id and ledger store.
        started_at = whole_ms(at or now)
        return Snapshot(
            mint_event_id(started_at),
            started_at,
            resolved.tags,
            resolved.flags,
            None if state is None else _origin(state),
            app_key=id(state),
            estimate=settings.estimate_usage,
            inject=settings.inject_stream_usage,
            wait_limit=wait_limit or WaitLimit(),
        )

    # Calls to unlisted hosts

    @property
    def unlisted_hosts(self) -> str:
        """``LLM_COST_UNLISTED_HOSTS`` of the app that a call made here belongs to."""
        state = self._apps.find(shared=self._shared)
        return "ignore" if state is None else state.settings.unlisted_hosts

    def unlisted_counter(self) -> Callable[[str], None] | None:
        """Return what counts a call that is sent here, for the app that it belongs to."""
        state = self._apps.find(shared=self._shared)
        if state is None or state.collected is not None:
            return None
        if state.settings.storage != "database":
            return _log_unlisted
        state.wake_writer()
        unlisted = state.ledger.unlisted
        return None if unlisted is None else unlisted.add

    # After a call has ended

    def record(
        self, call: Call, snapshot: Snapshot, *, deferred: bool = False
    ) -> Call | None:
        """Price a captured call, store it and notify the app. Never raises.

        :return: The call with its cost, unless it is deferred.
        """
        origin: Origin = snapshot.origin
        intake = origin.state.intake
        if deferred or intake.interrupted:
            intake.defer(call, origin)
            return None
        outer = here.limit
        try:
            here.limit = outer or snapshot.wait_limit
            call = intake.price(call)
            intake.store(call, origin)
            intake.record_deferred()
        finally:
            here.limit = outer
        intake.notify(call, origin)
        return call

    def record_tracked(
        self,
        given: ManualCall,
        tags: TagSource | None,
        pricing_mode: str | None,
        *,
        enforce: bool,
    ) -> Call:
        """Record a call that the app reports itself. Errors are raised at once.

        :param enforce: Record it only if blocking budgets have room for it.
        :raises ValueError: If the pricing mode is not valid.
        :raises BudgetExceeded: If a budget rejects the call, or is exceeded with it.
        :raises UnknownPrice: If a setting asks for it and the call has no price.
        """
        state = self._apps.find_or_drop()
        attempt = Attempt(
            given.provider, given.operation, given.model, given.stream, tags
        )
        snapshot = self._snapshot(state, attempt, given.at)
        call = given.call(snapshot)
        if state is None or not state.settings.enabled:
            return call
        origin: Origin = snapshot.origin
        intake = state.intake
        if intake.interrupted:
            intake.defer(call, origin, mode=pricing_mode)
            return call
        call = intake.price(call, pricing_mode)
        outer = here.limit
        try:
            here.limit = outer or snapshot.wait_limit
            if enforce and origin.collected is None:
                state.enforcer.admit(call)
            exceeded = intake.store_tracked(call, origin, enforced=enforce)
            intake.record_deferred()
        finally:
            here.limit = outer
        intake.notify(call, origin)
        if exceeded is not None:
            raise exceeded
        intake.raise_unknown_price(call)
        return call


def _log_unlisted(host: str) -> None:
    report(
        "Calls to %s look like LLM calls, but are not recorded, because the host is"
        " unlisted. Add it to LLM_COST_PROVIDER_HOSTS, or set LLM_COST_UNLISTED_HOSTS.",
        host,
    )


def _resolve(
    settings: Settings,
    providers: Sequence[TagSource],
    explicit: TagSource | None,
    app: Flask | None,
) -> ResolvedTags:
    """The tags of a call that is sent here. Those of a streamed request are found once."""
    here = sources_here(explicit)
    stream = streaming.current()
    if stream is not None and stream.app is app:
        own = stream.once(
            lambda: resolve(settings, sources_of_app(settings, providers))
        )
        if own is not None:
            found = resolve(settings, (*here, own.tags))
            return ResolvedTags(found.tags, found.flags | own.flags)
    sources = (*here, *sources_of_app(settings, providers))
    found = resolve(settings, sources, in_request=has_request_context())
    if providers and not has_app_context():
        return ResolvedTags(found.tags, found.flags | {"no_context"})
    return found


def _origin(state: AppState) -> Origin:
    request = current()
    return state.origin if request is None else state.origin._replace(request=request)
