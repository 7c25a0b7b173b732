"""The ``LLM_COST_*`` settings, validated once into :class:`Settings`."""

from __future__ import annotations

import datetime as dt
import difflib
import logging
import typing as t
import zoneinfo
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import MutableMapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from decimal import Decimal
from pathlib import Path

from . import checks
from .call import Call
from .errors import ConfigError

PREFIX: t.Final = "LLM_COST_"

SOURCES: t.Final[Mapping[str, str]] = {
    "litellm": "https://raw.githubusercontent.com/BerriAI/litellm/main/"
    "model_prices_and_context_window.json",
    "openrouter": "https://openrouter.ai/api/v1/models",
}


def _setting(default: t.Any, check: checks.Check) -> t.Any:
    """A field and its check. With the default ``None``, it accepts ``None`` too."""

    def checked(key: str, value: object) -> t.Any:
        return None if value is None and default is None else check(key, value)

    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata={"check": checked})
    return field(default=default, metadata={"check": checked})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one app. The field ``x`` is the config key ``LLM_COST_X``."""

    enabled: bool = _setting(True, checks.flag)
    """``False`` disables capturing, storing and blocking."""
    storage: str | Callable[[Call], t.Any] = _setting("database", checks.storage)
    """``"database"``, ``"jsonl"``, ``"log"``, or a callable that takes a :class:`.Call`."""
    log_level: int = _setting(logging.INFO, checks.log_level)
    """The level at which ``STORAGE="log"`` logs calls to ``flask_llm_cost.calls``."""
    database_uri: str | None = _setting(None, checks.uri)
    """The ledger's database. ``None`` selects the app's Flask-SQLAlchemy database, or
    ``llm_cost.db`` (SQLite) in the instance folder if that is SQLite, too, or missing."""
    bind_key: str | None = _setting(None, checks.string)
    """The key in ``SQLALCHEMY_BINDS`` of the ledger's database."""
    read_database_uri: str | None = _setting(None, checks.uri)
    """A replica that pages and reports read."""
    engine_options: Mapping[str, t.Any] = _setting({}, checks.mapping)
    """Extra arguments for SQLAlchemy's ``create_engine``."""
    write: str = _setting("spool", checks.one_of("spool", "sync"))
    """``"spool"`` appends to a file, which a thread writes to the database. ``"sync"``
    writes at the end of each call, for containers whose disk does not persist."""
    spool_dir: Path | None = _setting(None, checks.path)
    """The folder of spool files, relative to the instance folder. ``None`` selects
    ``llm_cost_spool``."""
    spool_fsync: bool = _setting(False, checks.flag)
    """Flush each spool line to disk. Survives a power loss, but takes milliseconds."""
    jsonl_dir: Path | None = _setting(None, checks.path)
    """The folder that ``STORAGE="jsonl"`` writes to, relative to the instance folder.
    ``None`` selects ``llm_cost_calls``."""
    timezone: dt.tzinfo = _setting(dt.UTC, checks.zone)
    """The time zone of days, reports and budgets, by its IANA name."""
    week_start: str = _setting("monday", checks.one_of("monday", "sunday", "saturday"))
    """The first day of a week."""
    default_tags: Mapping[str, t.Any] | Callable[[], t.Any] = _setting({}, checks.tags)
    """Tags of every call: a mapping, or a callable evaluated once per call."""
    rollup_tags: tuple[str, ...] = _setting((), checks.tag_keys)
    """The tag keys that calls are aggregated by."""
    max_tags: int = _setting(50, checks.integer(0, 1000))
    """The maximum number of tags per call. Explicit tags take precedence."""
    max_tag_bytes: int = _setting(1024, checks.integer(0, 1024))
    """The maximum length of a tag's value in UTF-8 bytes."""
    redacted_tag_keys: tuple[str, ...] = _setting(
        (
            "api_key",
            "access_token",
            "authorization",
            "credential",
            "password",
            "refresh_token",
            "secret",
        ),
        checks.tag_keys,
    )
    """A tag whose key contains one of these as whole words is stored as ``[REDACTED]``."""
    session_tag: str = _setting("session", checks.tag_key)
    """The tag whose value identifies a session."""
    session_names: Callable[..., t.Any] | None = _setting(None, checks.function)
    """A callable that maps session ids to names."""
    instrument: tuple[str, ...] = _setting((), checks.libraries)
    """Libraries to capture in the whole process: ``True``, or their names."""
    prices_file: Path | None = _setting(None, checks.path)
    """A JSON or YAML price file, which takes precedence over the bundled prices."""
    price_overrides: Mapping[str, t.Any] = _setting({}, checks.mapping)
    """Prices by model, which take precedence over the price file."""
    price_sources: Mapping[str, str] = _setting(dict(SOURCES), checks.strings)
    """The sources of ``prices sync``: names mapped to URLs or paths."""
    provider_hosts: Mapping[str, str] = _setting({}, checks.hosts)
    """Additional hosts (``host``, ``host:port`` or ``*.domain``), mapped to providers."""
    unlisted_hosts: str = _setting("count", checks.one_of("count", "record", "ignore"))
    """What happens with LLM calls to unlisted hosts."""
    model_aliases: Mapping[str, str] = _setting({}, checks.strings)
    """Models priced as another: ``{"azure/my-deployment": "azure/gpt-4o"}``."""
    estimate_usage: bool = _setting(False, checks.flag)
    """Estimate the usage of streams that report none, and mark it as estimated."""
    inject_stream_usage: bool = _setting(False, checks.flag)
    """Request usage from OpenAI-style streams where the app does not."""
    monthly_budget: Decimal | None = _setting(None, checks.money)
    """The limit in USD per calendar month."""
    daily_budget: Decimal | None = _setting(None, checks.money)
    """The limit in USD per day."""
    call_budget: Decimal | None = _setting(None, checks.money)
    """The limit in USD per call."""
    budgets: tuple[Mapping[str, t.Any], ...] = _setting((), checks.mappings)
    """Additional budgets."""
    bill_scopes: Mapping[str, str] = _setting({}, checks.bill_scopes)
    """The ids of projects, workspaces or keys on bills, by the scope of calls or a part
    of it; ``"*"`` stands for all others: ``{"*": "proj_1234"}``."""
    statement_markup: Mapping[str, t.Any] = _setting({}, checks.markup)
    """Factors of statements, from a day on, by tag value; ``"*"`` stands for all others."""
    budget_behavior: str = _setting("notify", checks.one_of("notify", "raise", "block"))
    """What happens when a budget is exceeded."""
    on_budget_exceeded: Callable[..., t.Any] | None = _setting(None, checks.function)
    """Called when a budget is exceeded."""
    on_storage_error: str = _setting("warn", checks.one_of("ignore", "warn", "raise"))
    """What happens when a call cannot be stored."""
    on_unknown_price: str = _setting("warn", checks.one_of("ignore", "warn", "raise"))
    """What happens when a model has no price."""
    alert_webhook_url: str | None = _setting(None, checks.url)
    """The URL that budget alerts are posted to."""
    alert_webhook_secret: str | None = _setting(None, checks.secret)
    """The key that signs these posts."""
    alert_allow_private: bool = _setting(False, checks.flag)
    """Allow a webhook in a private network."""
    metrics_token: str | None = _setting(None, checks.secret)
    """The token that monitoring sends to read ``/metrics``, besides the access rule."""
    metrics_tags: tuple[str, ...] = _setting((), checks.label_keys)
    """The tag keys that the counters of ``/metrics`` are split by."""
    otel: bool = _setting(False, checks.flag)
    """Record each call in the meter provider of OpenTelemetry."""
    cost_header: bool = _setting(False, checks.flag)
    """Add the header ``X-LLM-Cost-USD`` to responses."""
    per_page: int = _setting(50, checks.per_page)
    """The number of rows on a page of calls: 25, 50, 100 or 200."""

    @classmethod
    def read(
        cls, config: MutableMapping[str, t.Any], folder: str | None = None
    ) -> Settings:
        """Validate an app's config, and set missing keys to their defaults.

        :param folder: The instance folder, which paths are relative to.
        :raises ConfigError: If a value is invalid or an ``LLM_COST_*`` key is unknown.
        """
        known = {PREFIX + f.name.upper(): f for f in fields(cls)}
        for key in config:
            if isinstance(key, str) and key.startswith(PREFIX) and key not in known:
                raise ConfigError(_unknown(key, known))
        values = {
            f.name: f.metadata["check"](key, config[key])
            for key, f in known.items()
            if key in config
        }
        settings = cls(**values)
        if settings.bind_key is not None and settings.database_uri is not None:
            raise ConfigError(
                f"{PREFIX}BIND_KEY is {checks.shown(settings.bind_key)} and"
                f" {PREFIX}DATABASE_URI is set, but the ledger has only one database."
                " Set one of them to None."
            )
        for name in ("spool_dir", "jsonl_dir"):
            path = getattr(settings, name)
            if path is not None and folder is not None:
                checks.folder(PREFIX + name.upper(), Path(folder) / path)
        for key, f in known.items():
            config.setdefault(key, _plain(getattr(settings, f.name)))
        return settings


def _unknown(key: str, known: Iterable[str]) -> str:
    # Without the common prefix, which would make all keys similar.
    names = [name.removeprefix(PREFIX) for name in known]
    near = difflib.get_close_matches(key.removeprefix(PREFIX), names, n=1)
    hint = (
        f"Did you mean {PREFIX}{near[0]}?" if near else "See the docs for all settings."
    )
    return f"{key} is not a setting of Flask-LLM-Cost. {hint}"


def _plain(value: t.Any) -> t.Any:
    """A setting as an app would write it, so that it can be read again."""
    if isinstance(value, (zoneinfo.ZoneInfo, dt.timezone)):
        return str(value)
    return value
