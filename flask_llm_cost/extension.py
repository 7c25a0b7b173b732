"""The extension: the only module that knows every room, and a call's way through them."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import functools
import inspect
import logging
import typing as t
from collections.abc import Callable
from collections.abc import Coroutine
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from decimal import Decimal

from flask import current_app
from flask import Flask
from flask import has_app_context

from .call import Attempt
from .call import Call
from .call import mint_event_id
from .call import Outcome
from .call import OUTCOMES
from .call import Snapshot
from .call import TagSource
from .call import Usage
from .call import USAGE_SOURCES
from .call import UsageSource
from .call import whole_ms
from .config import INSTRUMENTS
from .config import Settings
from .errors import ConfigError
from .errors import LlmCostError
from .errors import UnknownPrice
from .request import current
from .request import watch
from .state import AppState
from .state import is_unpriced
from .state import living
from .state import Origin
from .state import priced
from .state import States
from .state import utc_now
from .tags import Block
from .tags import resolve
from .tags import stepped
from .tags import stepping
from .tags import TRACE_KEY

if t.TYPE_CHECKING:
    from flask.blueprints import Blueprint
    from flask_sqlalchemy import SQLAlchemy
    from requests.adapters import HTTPAdapter

    from .capture.requests_adapter import LlmCostAdapter
    from .capture.tap import Tap
    from .capture.track_stream import TrackedStream
    from .providers import Provider
    from .query.calls import CallQuery
    from .web import Access

_log = logging.getLogger("flask_llm_cost")

_P = t.ParamSpec("_P")
_R = t.TypeVar("_R")
_C = t.TypeVar("_C")

NAME: t.Final = "llm_cost"


class LlmCost:
    """Record, price and show what a Flask app's LLM calls cost.

    One object may serve several apps; what belongs to an app is in
    ``app.extensions["llm_cost"]``.

    :param app: The app, or call :meth:`init_app` later.
    :param db: The app's :class:`~flask_sqlalchemy.SQLAlchemy`, if it should not be looked
        up in ``app.extensions``.
    :param providers: Further :class:`.Provider` objects, asked before the built-in ones.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        db: SQLAlchemy | None = None,
        providers: Sequence[Provider] = (),
    ) -> None:
        self._db = db
        self._providers = tuple(providers)
        self._tag_providers: list[TagSource] = []
        self._states = States()
        self._dropped = 0
        if app is not None:
            self.init_app(app)

    # Setting up

    def init_app(self, app: Flask) -> None:
        """Set up an app: read its settings, add its commands. Opens no database.

        :raises ConfigError: For a wrong or unknown ``LLM_COST_*`` setting, or if the app
            is set up already.
        :raises PriceFileError: If ``LLM_COST_PRICES_FILE`` cannot be read.
        """
        if NAME in app.extensions:
            raise ConfigError(
                "Flask-LLM-Cost is set up on this app already. Call init_app once for each"
                f" app, and use app.extensions[{NAME!r}].extension to get at it elsewhere."
            )
        settings = Settings.read(app.config, app.instance_path)
        state = AppState(app, self, settings, self._db)
        if settings.prices_file is not None or settings.price_overrides:
            state.book  # noqa: B018 - a broken price file shows now, not in a request
        if settings.estimate_usage and settings.enabled:
            from .providers.estimate import load_encoding

            load_encoding()
        from .cli import make_group
        from .db.autogenerate import hide_tables

        hide_tables(app)
        watch(app, header=settings.cost_header)
        app.cli.add_command(make_group(make_app))
        app.extensions[NAME] = state
        app.teardown_appcontext(state.tend)
        self._states.add(state)
        if settings.instrument and settings.enabled:
            self.instrument(*settings.instrument)

    def blueprint(self, access: Access | None = None, *, name: str = NAME) -> Blueprint:
        """Make the dashboard's blueprint, to be mounted where the app likes.

        :param access: Who may look: a callable of which only ``True`` passes (``False``
            and ``None`` are 403, a response is returned as it is, an exception is 500), or
            ``"public"``. Without a rule every page answers 404.
        :param name: The blueprint's name, if it is mounted more than once.
        :raises ConfigError: If ``access`` is neither.
        """
        from .web import make_blueprint

        return make_blueprint(access, name=name)

    # Capturing

    def adapter(
        self,
        *,
        tags: TagSource | None = None,
        inner: HTTPAdapter | None = None,
        **options: t.Any,
    ) -> LlmCostAdapter:
        """Make an adapter that captures, to mount on a :class:`requests.Session`.

        :param tags: Tags of every call sent through it: a mapping, or a callable asked
            once per call, when it is sent.
        :param inner: An adapter of the app's own that does the sending.
        :param options: What :class:`requests.adapters.HTTPAdapter` takes, such as
            ``max_retries`` and ``pool_maxsize``.
        :raises ConfigError: If ``tags`` is neither, or both ``inner`` and options are given.
        """
        from .capture.clients import note
        from .capture.requests_adapter import LlmCostAdapter

        note("requests", "adapter")
        return LlmCostAdapter(
            self,
            hosts=self._hosts,
            providers=self._providers,
            tags=tags,
            inner=inner,
            **options,
        )

    def wrap(self, client: _C, *, tags: TagSource | None = None) -> _C:
        """Capture the calls of one client, and give it back.

        It may be a :class:`requests.Session`, a client of httpx or httpx2, an
        :class:`aiohttp.ClientSession`, a client of boto3, or one of an SDK that holds one
        of these. It is changed in place and goes on as before.

        :param tags: Tags of each of its calls: a mapping, or a callable asked once per call.
        :raises ConfigError: If no HTTP client is found in it.
        """
        from .capture.clients import wrap

        wrap(self._tap(tags), client)
        return client

    def instrument(self, *names: str) -> tuple[str, ...]:
        """Capture every client in the process.

        :param names: Libraries, of ``requests``, ``httpx``, ``httpx2``, ``aiohttp`` and
            ``botocore``; all that are installed if left out.
        :return: The libraries that are captured now.
        :raises ConfigError: If a name is none of these.
        """
        from .capture.clients import instrument
        from .capture.tap import Tap

        tap = Tap(
            _Process(self),
            hosts=lambda: self._hosts(shared=True),
            providers=self._providers_here,
        )
        return instrument(tap, names or INSTRUMENTS)

    def uninstrument(self, *names: str) -> None:
        """Take :meth:`instrument` back, in any order with what others have patched.

        :raises ConfigError: If a name is none of a library.
        """
        from .capture.clients import uninstrument

        uninstrument(names or INSTRUMENTS)

    def _tap(self, tags: TagSource | None = None) -> Tap:
        from .capture.tap import Tap

        return Tap(
            self,
            hosts=self._hosts,
            providers=self._providers,
            tags=tags,
        )

    def track_stream(
        self,
        *,
        provider: str,
        model: str | None = None,
        tags: TagSource | None = None,
        latency_ms: int | None = None,
        enforce_budget: bool = False,
    ) -> TrackedStream:
        """Record a stream that no client library shows us, when its block ends.

        A context manager, plain and async: report each event with
        :meth:`~.TrackedStream.event`, or the usage with :meth:`~.TrackedStream.usage`.

        :param latency_ms: How long the call took; measured from the block if left out.
        :param enforce_budget: Let budgets refuse it, as a call that is captured: entering
            the block raises :exc:`.BudgetExceeded` then.
        """
        from .capture.track_stream import TrackedStream

        return TrackedStream(
            self,
            provider=provider,
            model=model,
            tags=tags,
            latency_ms=latency_ms,
            providers=self._providers,
            begin=self.begin if enforce_budget else self._begin_freely,
        )

    def _hosts(self, *, shared: bool = False) -> Mapping[str, str] | None:
        """The hosts of the current app; ``None`` if it wants nothing to be captured.

        Where it cannot be told which one it is, those of all: what is dropped is counted.
        """
        state = self._resolve(quiet=True, shared=shared)
        if state is not None:
            settings = state.settings
            return settings.provider_hosts if settings.enabled else None
        hosts: dict[str, str] = {}
        for each in self._candidates(shared):
            hosts.update(each.settings.provider_hosts)
        return hosts

    def _providers_here(self) -> tuple[Provider, ...]:
        """Those of the object that serves the current app; else of all that may be it."""
        state = self._resolve(quiet=True, shared=True)
        if state is not None:
            return state.extension._providers
        return tuple(own for each in living() for own in each.extension._providers)

    def suppress(self) -> AbstractContextManager[None]:
        """Capture nothing inside a ``with`` block."""
        from .capture.suppression import suppress

        return suppress()

    def track(
        self,
        *,
        provider: str,
        model: str,
        input_tokens: int = 0,
        output_tokens: int = 0,
        usage: Usage | None = None,
        tags: TagSource | None = None,
        pricing_mode: str | None = None,
        operation: str = "chat",
        latency_ms: float | None = None,
        at: dt.datetime | None = None,
        stream: bool = False,
        usage_source: UsageSource = "manual",
        outcome: Outcome = "ok",
        reported_cost: Decimal | int | str | None = None,
        service_tier: str | None = None,
        response_id: str | None = None,
        event_id: str | None = None,
        enforce_budget: bool = False,
    ) -> Call:
        """Record a call that was made without HTTP capture.

        :param usage: All buckets; or give ``input_tokens`` and ``output_tokens``.
        :param pricing_mode: ``"batch"``, ``"flex"``, ...; ``None`` is standard.
        :param at: When the call was sent (aware); now if left out.
        :param reported_cost: USD, as the provider itself reports it.
        :param event_id: A UUIDv7 of the time ``at``: the same id is recorded once.
        :param enforce_budget: Record it only if the budgets that block have room for it.
        :raises ValueError: For a wrong count, mode, name or time.
        :raises BudgetExceeded: If a budget that raises or blocks is spent with this call,
            which is recorded; or, with ``enforce_budget``, was before, and it is not.
        :raises UnknownPrice: If ``LLM_COST_ON_UNKNOWN_PRICE`` is ``"raise"``; the call
            is recorded.
        """
        from .capture.manual import check_choice
        from .capture.manual import check_cost
        from .capture.manual import check_latency
        from .capture.manual import check_name
        from .capture.manual import check_time

        if usage is None:
            usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        elif input_tokens or output_tokens:
            raise ValueError("Give usage, or input_tokens and output_tokens, not both.")
        elif not isinstance(usage, Usage):
            raise ValueError(f"usage must be a Usage, not {usage!r}")
        check_name("provider", provider)
        check_name("model", model)
        check_name("operation", operation)
        for key, text in (("service_tier", service_tier), ("response_id", response_id)):
            if text is not None:
                check_name(key, text)
        latency_ms = check_latency(latency_ms)
        reported_cost = check_cost(reported_cost)
        check_choice("usage_source", usage_source, USAGE_SOURCES)
        check_choice("outcome", outcome, OUTCOMES)
        at = check_time(at, event_id)
        attempt = Attempt(provider, operation, model, stream, tags)
        state = self._resolve()
        snapshot = self._snapshot(state, attempt, at)
        call = Call(
            event_id=event_id or snapshot.event_id,
            started_at=snapshot.started_at,
            provider=provider,
            model=model,
            request_model=model,
            operation=operation,
            usage=usage,
            reported_cost=reported_cost,
            latency_ms=latency_ms,
            stream=stream,
            usage_source=usage_source,
            outcome=outcome,
            response_id=response_id,
            service_tier=service_tier,
            trace_id=snapshot.tags.get(TRACE_KEY),
            tags=snapshot.tags,
            flags=snapshot.flags,
        )
        if state is None or not state.settings.enabled:
            return call
        call = priced(state, call, pricing_mode)
        state.record_tracked(call, snapshot.origin, enforce=enforce_budget)
        if isinstance(state.pending_error, UnknownPrice) and is_unpriced(call):
            # The caller is here to be told; no other send need be.
            state.pending_error = None
            raise UnknownPrice(provider, model)
        return call

    def enforce_budget(
        self, tags: TagSource | None = None, *, provider: str = "", model: str = ""
    ) -> None:
        """Raise if a budget has no room left: of those that raise or block.

        :param tags: Whose budgets: explicit tags, beside those that a call here would have.
        :param provider: Of the call that is to be made, where budgets go by model.
        :raises BudgetExceeded: For the budget of the longest period.
        :raises StorageError: If a budget cannot be asked, and its ``on_error`` is
            ``"closed"``.
        """
        state = self._resolve()
        if state is None or not state.enforcer.stops or state.collected is not None:
            return
        snapshot = self._snapshot(
            state, Attempt(provider, "chat", model, tags=tags), None
        )
        state.enforcer.enforce(provider, model, snapshot.tags, snapshot.started_at)

    # Tagging

    def tags(self, **tags: t.Any) -> Block:
        """Tag the calls made inside a ``with`` block or a decorated function.

        Blocks nest, an inner one wins, and they follow the context: an ``await`` or a
        task started inside is inside.
        """
        return Block(tags)

    def bind(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Carry tags and app into a thread or an executor: they are those of this moment.

        ``executor.submit(llm_cost.bind(work), ...)``. The function may be called often, and
        at the same time. It may be a coroutine function, or a generator function, plain or
        async, such as a streamed response's.
        """
        context = contextvars.copy_context()
        if inspect.isasyncgenfunction(function):
            steps = stepping(lambda: context.copy().run, function)
            return t.cast(Callable[_P, _R], functools.wraps(function)(steps))

        @functools.wraps(function)
        def bound(*args: _P.args, **kwargs: _P.kwargs) -> t.Any:
            # A copy for each run: one context cannot be entered twice at a time.
            inside = context.copy()
            result = inside.run(function, *args, **kwargs)
            return stepped(inside.run, t.cast(t.Any, result)) if generates else result

        @functools.wraps(function)
        async def bound_coroutine(*args: _P.args, **kwargs: _P.kwargs) -> t.Any:
            work = t.cast("Coroutine[t.Any, t.Any, t.Any]", function(*args, **kwargs))
            return await asyncio.create_task(work, context=context.copy())

        generates = inspect.isgeneratorfunction(function)
        chosen = bound_coroutine if inspect.iscoroutinefunction(function) else bound
        return t.cast(Callable[_P, _R], chosen)

    def tag_provider(self, function: TagSource) -> TagSource:
        """Ask this function for tags at each send, on the caller's thread (a decorator).

        One that raises loses only its own tags, and is logged.
        """
        if not callable(function):
            raise ConfigError(f"A tag provider must be a callable, not {function!r}.")
        self._tag_providers.append(function)
        return function

    # The Recorder: the way of a call, from its send to the ledger

    def begin(self, attempt: Attempt) -> Snapshot | None:
        """Take down what must be known when an attempt is sent.

        :raises BudgetExceeded: If a budget does not let it be sent.
        :raises LlmCostError: What an earlier call's end had to leave to this send.
        """
        return self._begin(attempt, enforce=True)

    def _begin_freely(self, attempt: Attempt) -> Snapshot | None:
        return self._begin(attempt, enforce=False)

    def _begin(
        self, attempt: Attempt, *, enforce: bool, shared: bool = False
    ) -> Snapshot | None:
        state = self._resolve(shared=shared)
        if state is None or not state.settings.enabled:
            return None
        state.raise_pending()
        state.record_deferred()
        recorded = state.collected is None
        if recorded and state.settings.storage in ("database", "jsonl"):
            state.ledger.wake()
        snapshot = self._snapshot(state, attempt, None)
        if recorded and state.enforcer.stops:
            state.enforcer.begin(attempt, snapshot, admit=enforce)
        return snapshot

    def _snapshot(
        self, state: AppState | None, attempt: Attempt, at: dt.datetime | None
    ) -> Snapshot:
        settings = Settings() if state is None else state.settings
        # The app may be another object's: one that captures the process captures its calls.
        tagger = self if state is None else state.extension
        taken = resolve(settings, tagger._tag_providers, attempt.tags)
        # Whole milliseconds, since that is what the event id and the ledger hold.
        now = utc_now() if state is None else state.clock()
        started_at = whole_ms(at or now)
        origin = None if state is None else _origin(state)
        return Snapshot(
            mint_event_id(started_at),
            started_at,
            taken.tags,
            taken.flags,
            origin,
            app_key=id(state),
            estimate=settings.estimate_usage,
            inject=settings.inject_stream_usage,
        )

    def record(
        self, call: Call, snapshot: Snapshot, *, deferred: bool = False
    ) -> Call | None:
        """Price a call that ended, keep it and tell the app. Never raises.

        :return: The call with its cost, unless it is deferred.
        """
        origin: Origin = snapshot.origin
        state = origin.state
        if deferred:
            state.defer(call, origin)
            return None
        state.record_deferred()
        call = priced(state, call)
        state.record(call, origin)
        state.notify(call, origin)
        return call

    # Asking

    @property
    def calls(self) -> CallQuery:
        """Questions to the ledger: immutable and chainable."""
        from .query.calls import CallQuery

        state = self._need("calls")
        return CallQuery(state.ledger.reading, state.settings, state.clock)

    def flush(self, timeout: float = 10) -> bool:
        """Wait until everything that this process captured so far is in the ledger.

        What an ended process left in the spool is taken over by the next writer, or by
        ``flask llm-cost drain``.

        :param timeout: Seconds to wait at most.
        :return: False if some calls still wait in the spool.
        """
        from .capture.meter import settle

        settle(0)
        state = self._resolve(quiet=True)
        states = [state] if state is not None else list(self._states)
        for each in states:
            each.record_deferred()
        return all([s.ledger.flush(timeout) for s in states])

    def report(self, days: int = 30) -> str:
        """The text that ``flask llm-cost report`` prints: what was spent, and on what.

        :param days: Whole days in ``LLM_COST_TIMEZONE``, today the last one.
        :raises StorageError: If the ledger cannot be read.
        """
        from .cli import period
        from .cli import report

        if days < 1:
            raise ValueError(f"days must be at least 1, not {days!r}")
        state = self._need("report()")
        return report.full(state, period.chosen(state, days, None, None))

    def prune(self, older_than: dt.timedelta | dt.datetime) -> int:
        """Delete old calls from the ledger; their sums stay in totals and reports.

        :param older_than: An age, or the moment (aware) before which calls are deleted.
        :return: How many calls were deleted.
        :raises ValueError: If that moment is not in the past.
        :raises StorageError: If the ledger cannot be written.
        """
        state = self._need("prune()")
        now = state.clock()
        before = (
            now - older_than if isinstance(older_than, dt.timedelta) else older_than
        )
        if before.tzinfo is None or before >= now:
            raise ValueError(
                "older_than must be an age above zero, or an aware time in the past, not"
                f" {older_than!r}"
            )
        return state.ledger.prune(before)

    def _resolve(self, *, quiet: bool = False, shared: bool = False) -> AppState | None:
        """The app a call belongs to: the current one, else the only one.

        :param shared: The only one of the process, and not only of this object.
        """
        if has_app_context():
            state = current_app.extensions.get(NAME)
            if state is not None:
                return t.cast(AppState, state)
        else:
            states = self._candidates(shared)
            if len(states) == 1:
                return states[0]
        if not quiet:
            self._drop()
        return None

    def _candidates(self, shared: bool) -> list[AppState]:
        return living() if shared else list(self._states)

    def _need(self, what: str) -> AppState:
        state = self._resolve(quiet=True)
        if state is None:
            raise LlmCostError(
                f"llm_cost.{what} does not know which app is meant. Use it inside a request"
                " or app.app_context() of an app that LlmCost is set up on."
            )
        return state

    def _drop(self) -> None:
        self._dropped += 1
        count = self._dropped
        if count in (1, 10, 100) or count % 1000 == 0:
            _log.warning(
                "%d calls were not recorded, because no app could be told to be theirs: they"
                " were made outside an app context (with several apps in this process), or in"
                " one of an app without LlmCost. Use app.app_context().",
                count,
            )


class _Process:
    """Records what is captured of a whole process: any app that is in it may have sent it."""

    def __init__(self, extension: LlmCost) -> None:
        self._extension = extension
        self.record = extension.record

    def begin(self, attempt: Attempt) -> Snapshot | None:
        return self._extension._begin(attempt, enforce=True, shared=True)


def _origin(state: AppState) -> Origin:
    """Whose a call is that is sent now."""
    request = current()
    return state.origin if request is None else state.origin._replace(request=request)


def make_app(config: Mapping[str, t.Any], instance_path: str | None = None) -> Flask:
    """A bare app with this extension, for commands where no app is at hand.

    :param config: ``LLM_COST_*`` settings.
    :param instance_path: Where its files live; Flask's default if left out.
    """
    app = Flask("flask_llm_cost", instance_path=instance_path)
    app.config.update(config)
    LlmCost(app)
    return app
