"""The extension: the public API."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from decimal import Decimal

from flask import Flask

from .apps import Apps
from .apps import NAME
from .attempt import Attempt
from .binding import bind
from .calendar import past_time
from .call import Call
from .call import Outcome
from .call import TagSource
from .call import Usage
from .call import UsageSource
from .capture import manual
from .checks import INSTRUMENTS
from .config import Settings
from .errors import ConfigError
from .host_engine import check as check_database
from .host_engine import flask_app
from .recorder import AppRecorder
from .request import watch
from .state import AppState
from .tags import Block

if t.TYPE_CHECKING:
    from flask.blueprints import Blueprint
    from requests.adapters import HTTPAdapter

    from .capture.requests_adapter import LlmCostAdapter
    from .capture.tap import Tap
    from .capture.track_stream import TrackedStream
    from .providers import Provider
    from .query.calls import CallQuery
    from .web import Access
    from .web import Context
    from .web import Layout

_P = t.ParamSpec("_P")
_R = t.TypeVar("_R")
_C = t.TypeVar("_C")


class LlmCost(AppRecorder):
    """Record, price and show what a Flask app's LLM calls cost.

    One object may serve several apps. What belongs to an app is in
    ``app.extensions["llm_cost"]``.

    :param app: The app, or call :meth:`init_app` later.
    :param db: The app's database: the object of Flask-SQLAlchemy, Flask-SQLAlchemy-Lite
        or Alchemical, or an SQLAlchemy :class:`~sqlalchemy.engine.Engine`. If it is
        omitted, the first two are found in ``app.extensions``.
    :param providers: Additional :class:`.Provider` objects, tried before the built-in ones.
    :param instrument: Capture every client in the process: ``True``, or names of
        libraries. The default of ``LLM_COST_INSTRUMENT``, which takes precedence.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        db: object | None = None,
        providers: Sequence[Provider] = (),
        instrument: bool | str | Sequence[str] = False,
    ) -> None:
        super().__init__(Apps(), tag_providers=[])
        self._db = db
        self._instrument = instrument
        self.providers = tuple(providers)
        """The app's own providers."""
        if app is not None:
            self.init_app(app)

    # Set-up

    def init_app(self, app: Flask) -> None:
        """Set up an app: read its settings and add its commands. Opens no database.

        :raises ConfigError: If an ``LLM_COST_*`` setting is unknown or not valid, or if
            the app is already set up, is not a Flask app, or has a database that cannot be
            used.
        :raises PriceFileError: If ``LLM_COST_PRICES_FILE`` cannot be read.
        """
        app = flask_app(app)
        if NAME in app.extensions:
            raise ConfigError(
                "Flask-LLM-Cost is already set up on this app. Call init_app once per app;"
                f" elsewhere, use app.extensions[{NAME!r}].extension."
            )
        app.config.setdefault("LLM_COST_INSTRUMENT", self._instrument)
        settings = Settings.read(app.config, app.instance_path)
        check_database(settings, app, self._db)
        state = AppState(app, self, settings, self._db)
        if settings.prices_file is not None or settings.price_overrides:
            state.book  # noqa: B018 - report a broken price file now, not in a request
        if settings.estimate_usage and settings.enabled:
            from .providers.estimate import load_encoding

            load_encoding()
        from .cli import make_group
        from .db.autogenerate import hide_tables

        hide_tables(app)
        watch(app, header=settings.cost_header)
        app.cli.add_command(make_group(make_app))
        if settings.otel and settings.enabled:
            from .otel import connect

            connect(app)
        app.extensions[NAME] = state
        app.teardown_appcontext(state.end_context)
        self._apps.add(state)
        state.preload()
        if settings.instrument and settings.enabled:
            self.instrument(*settings.instrument)

    def blueprint(
        self,
        access: Access | None = None,
        *,
        name: str = NAME,
        context: Context | None = None,
        layout: Layout | None = None,
    ) -> Blueprint:
        """Create the dashboard's blueprint, to be registered by the app.

        Its pages render in a separate Jinja environment, which no setting, filter or
        context processor of the app changes.

        :param access: Who may see it: a callable (``True`` grants access, ``False`` and
            ``None`` are a 403, a response is returned as it is, an exception is a 500), or
            ``"public"``. Without a rule every page answers 404.
        :param name: The blueprint's name, if it is registered more than once.
        :param context: Returns names (a mapping) that the app's overrides of our
            templates can use. Those that our pages use themselves take precedence.
        :param layout: Renders the app's own layout around each page: called with the
            keywords ``title``, ``head`` and ``body`` (:class:`markupsafe.Markup`), it
            returns the whole page.
        :raises ConfigError: If one of them is invalid.
        """
        from .web import make_blueprint

        return make_blueprint(access, name=name, context=context, layout=layout)

    # Capture

    def adapter(
        self,
        *,
        tags: TagSource | None = None,
        inner: HTTPAdapter | None = None,
        **options: t.Any,
    ) -> LlmCostAdapter:
        """Create a capturing adapter to mount on a :class:`requests.Session`.

        :param tags: Tags of every call sent through it: a mapping, or a callable evaluated
            once per call, when it is sent.
        :param inner: The app's own adapter, which sends the requests.
        :param options: Options of :class:`requests.adapters.HTTPAdapter`, such as
            ``max_retries`` and ``pool_maxsize``.
        :raises ConfigError: If ``tags`` is neither a mapping nor a callable, or if both
            ``inner`` and options are given.
        """
        from .capture.clients import note
        from .capture.requests_adapter import LlmCostAdapter

        note("requests", "adapter")
        return LlmCostAdapter(
            self,
            hosts=self._apps.hosts,
            providers=self.providers,
            tags=tags,
            inner=inner,
            **options,
        )

    def wrap(self, client: _C, *, tags: TagSource | None = None) -> _C:
        """Capture the calls of one client, and return it.

        It may be a :class:`requests.Session`, an httpx or httpx2 client, an
        :class:`aiohttp.ClientSession`, a boto3 client, or an SDK client that holds one of
        these. It is changed in place and otherwise works as before.

        :param tags: Tags of each of its calls: a mapping, or a callable evaluated once per
            call.
        :raises ConfigError: If no HTTP client is found in it.
        """
        from .capture.clients import wrap

        wrap(self._tap(tags), client)
        return client

    def _tap(self, tags: TagSource | None = None) -> Tap:
        from .capture.tap import Tap

        return Tap(self, hosts=self._apps.hosts, providers=self.providers, tags=tags)

    def instrument(self, *names: str) -> tuple[str, ...]:
        """Capture every client in the process.

        A library that is imported later is captured as soon as it is.

        :param names: Some of those that :confval:`LLM_COST_INSTRUMENT` lists; all that are
            installed if left out.
        :return: The libraries that are captured now.
        :raises ConfigError: If a name is not one of these.
        """
        from .capture.clients import instrument

        return instrument(self.process_tap(), names or INSTRUMENTS)

    def process_tap(self) -> Tap:
        """Return a tap for clients that any app of the process may use."""
        from .capture.tap import Tap

        return Tap(
            AppRecorder(self._apps, tag_providers=self.tag_providers, shared=True),
            hosts=lambda: self._apps.hosts(shared=True),
            providers=self._apps.providers,
        )

    def uninstrument(self, *names: str) -> None:
        """Undo :meth:`instrument`, in any order with what others have patched.

        :raises ConfigError: If a name is not that of a supported library.
        """
        from .capture.clients import uninstrument

        uninstrument(names or INSTRUMENTS)

    def suppress(self) -> AbstractContextManager[None]:
        """Capture nothing inside a ``with`` block."""
        from .capture.suppression import suppress

        return suppress()

    # Calls recorded manually

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
        :param reported_cost: USD, as reported by the provider.
        :param event_id: A UUIDv7 of the time ``at``. The same id is recorded only once.
        :param enforce_budget: Record it only if blocking budgets have room for it.
        :raises ValueError: If a count, mode, name or time is not valid.
        :raises BudgetExceeded: If a budget that raises or blocks is exceeded with this
            call, which is recorded; or, with ``enforce_budget``, was exceeded before, in
            which case the call is not recorded.
        :raises UnknownPrice: If ``LLM_COST_ON_UNKNOWN_PRICE`` is ``"raise"``; the call
            is recorded.
        """
        given = manual.ManualCall(
            provider=manual.provider_of(provider, self.providers),
            model=model,
            operation=operation,
            usage=manual.usage_of(usage, input_tokens, output_tokens),
            reported_cost=manual.cost_of(reported_cost),
            latency_ms=manual.latency_of(latency_ms),
            stream=stream,
            usage_source=usage_source,
            outcome=outcome,
            response_id=response_id,
            service_tier=service_tier,
            at=manual.time_of(at, event_id),
            event_id=event_id,
        )
        return self.record_tracked(given, tags, pricing_mode, enforce=enforce_budget)

    def track_stream(
        self,
        *,
        provider: str,
        model: str | None = None,
        tags: TagSource | None = None,
        latency_ms: int | None = None,
        enforce_budget: bool = False,
    ) -> TrackedStream:
        """Record a stream that no supported client library sends, when its block ends.

        A context manager, plain and async: report each event with
        :meth:`~.TrackedStream.event`, or the usage with :meth:`~.TrackedStream.usage`.

        :param latency_ms: The duration of the call; that of the block if left out.
        :param enforce_budget: Check budgets as for a captured call: entering the block
            raises :exc:`.BudgetExceeded` if one rejects it.
        """
        from .capture.track_stream import TrackedStream

        recorder = AppRecorder(
            self._apps, tag_providers=self.tag_providers, enforces=enforce_budget
        )
        return TrackedStream(
            recorder,
            provider=provider,
            model=model,
            tags=tags,
            latency_ms=latency_ms,
            providers=self.providers,
            hosts=self._apps.hosts(),
        )

    def enforce_budget(
        self, tags: TagSource | None = None, *, provider: str = "", model: str = ""
    ) -> None:
        """Raise if a budget that raises or blocks is exceeded.

        :param tags: Explicit tags, in addition to those that a call made here would have.
        :param provider: The provider of the planned call, for budgets by model.
        :param model: Its model.
        :raises BudgetExceeded: For the budget with the longest period.
        :raises StorageError: If a budget cannot be checked, and its ``on_error`` is
            ``"closed"``.
        """
        from .providers import known_name

        name = known_name(provider, self.providers)
        self.check_budgets(Attempt(name, "chat", model, tags=tags))

    # Tags

    def tags(self, **tags: t.Any) -> Block:
        """Tag the calls made inside a ``with`` block or a decorated function.

        Blocks nest; the inner one wins. They follow the context: an ``await`` or a task
        started inside is inside.
        """
        return Block(tags)

    def bind(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Carry the current tags and app into a thread, an executor or a generator.

        ``executor.submit(llm_cost.bind(work), ...)``. The function may be called many
        times, and concurrently. It may be a coroutine function, or a generator function,
        plain or async, such as that of a streamed response.
        """
        return bind(function)

    def tag_provider(self, function: TagSource) -> TagSource:
        """Call this function for tags at each send, on the caller's thread (a decorator).

        One that raises loses only its own tags and is logged. A value may be a callable:
        if it raises, only that tag is lost.
        """
        if not callable(function):
            raise ConfigError(f"A tag provider must be a callable, not {function!r}.")
        self.tag_providers.append(function)
        return function

    # Queries and maintenance

    @property
    def calls(self) -> CallQuery:
        """Queries of the ledger: immutable and chainable."""
        from .query.calls import CallQuery

        state = self._apps.need("calls")
        return CallQuery(state.ledger.reading, state.settings, state.clock)

    def flush(self, timeout: float = 10) -> bool:
        """Wait until everything that this process captured so far is in the ledger.

        What a dead process left in the spool is picked up by the next writer, or by
        ``flask llm-cost drain``.

        :param timeout: Maximum wait in seconds.
        :return: False if some calls are still queued in the spool.
        """
        from .capture.meter import settle

        settle(0)
        state = self._apps.current()
        states = self._apps.candidates(False) if state is None else [state]
        for each in states:
            each.intake.record_deferred()
        return all([each.ledger.flush(timeout) for each in states])

    def report(self, days: int = 30) -> str:
        """The text that ``flask llm-cost report`` prints: what was spent, and on what.

        :param days: Whole days in ``LLM_COST_TIMEZONE``, ending with today.
        :raises StorageError: If the ledger cannot be read.
        """
        from .cli import period
        from .cli import report

        if days < 1:
            raise ValueError(f"days must be at least 1, not {days!r}")
        state = self._apps.need("report()")
        return report.full(state, period.chosen(state, days, None, None))

    def prune(self, older_than: dt.timedelta | dt.datetime) -> int:
        """Delete old calls from the ledger; totals and reports still include them.

        :param older_than: An age, or the time (aware) before which calls are deleted.
        :return: The number of deleted calls.
        :raises ValueError: If that time is not in the past.
        :raises StorageError: If the ledger cannot be written.
        """
        state = self._apps.need("prune()")
        return state.ledger.prune(past_time(older_than, state.clock()))


def make_app(config: Mapping[str, t.Any], instance_path: str | None = None) -> Flask:
    """A bare app with this extension, for commands that run without an app.

    :param config: ``LLM_COST_*`` settings.
    :param instance_path: The instance folder; Flask's default if left out.
    """
    app = Flask("flask_llm_cost", instance_path=instance_path)
    app.config.update(config)
    LlmCost(app)
    return app
