"""The ``LLM_COST_*`` settings, validated once into :class:`Settings`."""

from __future__ import annotations

import datetime as dt
import difflib
import functools
import logging
import os
import re
import typing as t
import zoneinfo
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import MutableMapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from decimal import Decimal
from decimal import InvalidOperation
from pathlib import Path
from urllib.parse import urlsplit

from .call import Call
from .call import KEY_PATTERN as KEY_PATTERN
from .errors import ConfigError

PREFIX: t.Final = "LLM_COST_"

INSTRUMENTS: t.Final = ("requests", "httpx", "httpx2", "aiohttp", "botocore")

SOURCES: t.Final[Mapping[str, str]] = {
    "litellm": "https://raw.githubusercontent.com/BerriAI/litellm/main/"
    "model_prices_and_context_window.json",
    "openrouter": "https://openrouter.ai/api/v1/models",
}

_MOST_USD: t.Final = Decimal("1e12")

Check: t.TypeAlias = Callable[[str, t.Any], t.Any]


def _wrong(key: str, value: object, wanted: str) -> ConfigError:
    return ConfigError(f"{key} must be {wanted}, not {_shown(value)}.")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        # A repr may raise anything, e.g. that of an int of 5,000 digits. The message
        # matters more than the value.
        return f"this {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(key, value, "True or False")
    return value


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(key, value, "a non-empty string")
    return value


def _secret(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        # The value is not shown: it may be the secret in another type.
        raise ConfigError(
            f"{key} must be a non-empty string, not this {type(value).__name__}."
        )
    return value


def _optional(check: Check) -> Check:
    def checked(key: str, value: object) -> t.Any:
        return None if value is None else check(key, value)

    return checked


def check_one_of(*names: str) -> Check:
    """Create a check that a value is one of some names."""

    def check(key: str, value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise _wrong(key, value, "one of " + ", ".join(repr(n) for n in names))
        return value

    return check


def _whole(low: int, high: int) -> Check:
    def check(key: str, value: object) -> int:
        if (
            not isinstance(value, int)
            or isinstance(value, bool)
            or not low <= value <= high
        ):
            raise _wrong(key, value, f"an integer from {low} to {high}")
        return value

    return check


def _call(key: str, value: object) -> t.Any:
    if not callable(value):
        raise _wrong(key, value, "a callable")
    return value


def _path(key: str, value: object) -> Path:
    path = value if isinstance(value, Path) else Path(_text(key, value))
    if "\0" in str(path):
        raise _wrong(key, value, "a path without a NUL character")
    return path


def _check_folder(key: str, path: Path) -> None:
    # os.path, because a Path raises an error for some names that cannot exist.
    if os.path.exists(path) and not os.path.isdir(path):
        raise _wrong(
            key, str(path), "the path of a folder, or a path that does not exist yet"
        )


def check_money(key: str, value: object) -> Decimal:
    """Check that a value is an amount in USD."""
    wanted = 'a number from 0 to 1e12 (USD), such as "250" or Decimal("0.50")'
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise _wrong(key, value, wanted)
    try:
        # A float is read from its shortest representation, so that 0.1 means 0.1.
        amount = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise _wrong(key, value, wanted) from None
    # The limit rejects "1e999999999", which would fill the memory as an integer.
    if not amount.is_finite() or not 0 <= amount <= _MOST_USD:
        raise _wrong(key, value, wanted)
    return amount


def _mapping(key: str, value: object) -> dict[str, t.Any]:
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise _wrong(key, value, "a mapping with string keys")
    return dict(value)


def _texts(key: str, value: object) -> dict[str, str]:
    entries = _mapping(key, value)
    for name, text in entries.items():
        _text(f"{key}[{name!r}]", text)
    return entries


def _hosts(key: str, value: object) -> dict[str, str]:
    entries = _texts(key, value)
    hosts = {host.lower(): name for host, name in entries.items()}
    if len(hosts) < len(entries):
        raise _wrong(key, list(entries), "a mapping that names each host once")
    for host in entries:
        if not _is_host(host):
            raise ConfigError(
                f"{key} has the key {_shown(host)}. Use a host or host:port without"
                ' scheme and path, such as "llm.example.com" or "localhost:8000".'
            )
    return hosts


def _is_host(text: str) -> bool:
    try:
        parts = urlsplit(f"//{text}")
        port_fits = parts.port != 0
    except ValueError:
        return False
    bare = parts.netloc == text and "@" not in text and not re.search(r"\s", text)
    return bool(parts.hostname) and bare and port_fits


def _tag_keys(key: str, value: object) -> tuple[str, ...]:
    # A Collection, because an iterator would be empty when it is read a second time.
    if isinstance(value, str | Mapping) or not isinstance(value, Collection):
        raise _wrong(key, value, 'a list of tag keys, such as ("feature", "tenant")')
    keys = tuple(value)
    for name in keys:
        if not isinstance(name, str) or not KEY_PATTERN.fullmatch(name):
            raise _wrong(
                f"{key} entry", name, "a tag key of 1 to 200 letters, digits, _ . -"
            )
    return tuple(dict.fromkeys(keys))


def _tag_key(key: str, value: object) -> str:
    return _tag_keys(key, [value])[0]


def _tags(key: str, value: object) -> t.Any:
    if callable(value):
        return value
    if not isinstance(value, Mapping):
        raise _wrong(key, value, "a mapping of tags, or a callable that returns one")
    return dict(value)


def check_zone(key: str, value: object) -> dt.tzinfo:
    """Check that a value is the name of a time zone."""
    wanted = 'the name of an IANA time zone, such as "Europe/Berlin"'
    if not isinstance(value, str):
        raise _wrong(key, value, wanted)
    if value == "UTC":
        return dt.UTC
    try:
        return zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise _wrong(key, value, wanted) from None


def _instrument(key: str, value: object) -> tuple[str, ...]:
    if isinstance(value, bool):
        return INSTRUMENTS if value else ()
    names = (value,) if isinstance(value, str) else value
    # Not a mapping, which could be {"httpx": False}.
    if not isinstance(names, Collection) or isinstance(names, Mapping):
        raise _wrong(key, value, "True, False, or a list of " + ", ".join(INSTRUMENTS))
    chosen = tuple(names)
    for name in chosen:
        if not isinstance(name, str) or name not in INSTRUMENTS:
            raise _wrong(f"{key} entry", name, "one of " + ", ".join(INSTRUMENTS))
    return chosen


def _storage(key: str, value: object) -> t.Any:
    if callable(value):
        return value
    if isinstance(value, str) and value in ("database", "jsonl", "log"):
        return value
    raise _wrong(
        key, value, "'database', 'jsonl', 'log' or a callable that takes a Call"
    )


def _log_level(key: str, value: object) -> int:
    if isinstance(value, str):
        level = logging.getLevelNamesMapping().get(value.upper())
        if level is not None:
            return level
    elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise _wrong(key, value, "a logging level, such as 'INFO'")


def _budgets(key: str, value: object) -> tuple[Mapping[str, t.Any], ...]:
    if isinstance(value, str | Mapping) or not isinstance(value, Collection):
        raise _wrong(key, value, "a list of mappings")
    return tuple(_mapping(f"{key}[{i}]", entry) for i, entry in enumerate(value))


def _uri(key: str, value: object) -> str:
    if not isinstance(value, str) or "://" not in value:
        # The value is not shown: even part of a URI may contain a password.
        raise ConfigError(
            f"{key} must be an SQLAlchemy URL, such as"
            ' "postgresql+psycopg://user:password@host/name" or "sqlite:///llm_cost.db".'
        )
    # Only known names are shown: the rest may contain a password.
    backend, _, driver = value.partition("://")[0].lower().partition("+")
    if backend == "postgres":
        raise ConfigError(
            f"{key} starts with postgres://, which SQLAlchemy does not support. Use"
            ' "postgresql+psycopg://".'
        )
    if driver in _ASYNCHRONOUS:
        start = _SYNCHRONOUS.get(backend, "a synchronous driver")
        raise ConfigError(
            f"{key} uses the asynchronous driver {driver}, but the ledger needs a"
            f" synchronous one. Use {start}."
        )
    return value


_ASYNCHRONOUS: t.Final = frozenset(
    ("asyncpg", "psycopg_async", "aiosqlite", "asyncmy", "aiomysql")
)
_SYNCHRONOUS: t.Final = {
    "postgresql": '"postgresql+psycopg://"',
    "sqlite": '"sqlite://"',
    "mysql": '"mysql+pymysql://"',
    "mariadb": '"mariadb+pymysql://"',
}


def _url(key: str, value: object) -> str:
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        usable = bool(parts and parts.scheme in ("http", "https") and parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        # The value is not shown: a webhook's URL is often a secret.
        raise ConfigError(
            f'{key} must be an http(s) URL, such as "https://hooks.example.com/llm".'
        )
    return t.cast(str, value)


def _per_page(key: str, value: object) -> int:
    # 25.0 equals 25, but would appear as "25.0" in links.
    if type(value) is not int or value not in (25, 50, 100, 200):
        raise _wrong(key, value, "25, 50, 100 or 200")
    return value


def _setting(default: t.Any, check: Check) -> t.Any:
    if isinstance(default, (dict, list)):
        return field(
            default_factory=functools.partial(type(default), default),
            metadata={"check": check},
        )
    return field(default=default, metadata={"check": check})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one app. The field ``x`` is the config key ``LLM_COST_X``."""

    enabled: bool = _setting(True, _flag)
    """``False`` disables capturing, storing and blocking."""
    storage: str | Callable[[Call], t.Any] = _setting("database", _storage)
    """``"database"``, ``"jsonl"``, ``"log"``, or a callable that takes a :class:`.Call`."""
    log_level: int = _setting(logging.INFO, _log_level)
    """The level at which ``STORAGE="log"`` logs calls to ``flask_llm_cost.calls``."""
    database_uri: str | None = _setting(None, _optional(_uri))
    """The ledger's database. ``None`` selects the app's Flask-SQLAlchemy database, or
    ``llm_cost.db`` (SQLite) in the instance folder if the app has none."""
    bind_key: str | None = _setting(None, _optional(_text))
    """The key in ``SQLALCHEMY_BINDS`` of the ledger's database."""
    read_database_uri: str | None = _setting(None, _optional(_uri))
    """A replica that pages and reports read."""
    engine_options: Mapping[str, t.Any] = _setting({}, _mapping)
    """Extra arguments for SQLAlchemy's ``create_engine``."""
    write: str = _setting("spool", check_one_of("spool", "sync"))
    """``"spool"`` appends to a file, which a thread writes to the database. ``"sync"``
    writes at the end of each call, for containers whose disk does not persist."""
    spool_dir: Path | None = _setting(None, _optional(_path))
    """The folder of spool files, relative to the instance folder. ``None`` selects
    ``llm_cost_spool``."""
    spool_fsync: bool = _setting(False, _flag)
    """Flush each spool line to disk. Survives a power loss, but takes milliseconds."""
    jsonl_dir: Path | None = _setting(None, _optional(_path))
    """The folder that ``STORAGE="jsonl"`` writes to, relative to the instance folder.
    ``None`` selects ``llm_cost_calls``."""
    timezone: dt.tzinfo = _setting(dt.UTC, check_zone)
    """The time zone of days, reports and budgets, by its IANA name."""
    week_start: str = _setting("monday", check_one_of("monday", "sunday", "saturday"))
    """The first day of a week."""
    default_tags: Mapping[str, t.Any] | Callable[[], t.Any] = _setting({}, _tags)
    """Tags of every call: a mapping, or a callable evaluated once per call."""
    rollup_tags: tuple[str, ...] = _setting((), _tag_keys)
    """The tag keys that calls are aggregated by."""
    max_tags: int = _setting(50, _whole(0, 1000))
    """The maximum number of tags per call. Explicit tags take precedence."""
    max_tag_bytes: int = _setting(1024, _whole(0, 1024))
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
        _tag_keys,
    )
    """A tag whose key contains one of these as whole words is stored as ``[REDACTED]``."""
    session_tag: str = _setting("session", _tag_key)
    """The tag whose value identifies a session."""
    session_names: Callable[..., t.Any] | None = _setting(None, _optional(_call))
    """A callable that maps session ids to names."""
    instrument: tuple[str, ...] = _setting((), _instrument)
    """Libraries to capture in the whole process: ``True``, or their names."""
    prices_file: Path | None = _setting(None, _optional(_path))
    """A JSON or YAML price file, which takes precedence over the bundled prices."""
    price_overrides: Mapping[str, t.Any] = _setting({}, _mapping)
    """Prices by model, which take precedence over the price file."""
    price_sources: Mapping[str, str] = _setting(dict(SOURCES), _texts)
    """The sources of ``prices sync``: names mapped to URLs or paths."""
    provider_hosts: Mapping[str, str] = _setting({}, _hosts)
    """Additional hosts (``host`` or ``host:port``), mapped to their providers."""
    model_aliases: Mapping[str, str] = _setting({}, _texts)
    """Models priced as another: ``{"azure/my-deployment": "azure/gpt-4o"}``."""
    estimate_usage: bool = _setting(False, _flag)
    """Estimate the usage of streams that report none, and mark it as estimated."""
    inject_stream_usage: bool = _setting(False, _flag)
    """Request usage from OpenAI-style streams where the app does not."""
    monthly_budget: Decimal | None = _setting(None, _optional(check_money))
    """The limit in USD per calendar month."""
    daily_budget: Decimal | None = _setting(None, _optional(check_money))
    """The limit in USD per day."""
    call_budget: Decimal | None = _setting(None, _optional(check_money))
    """The limit in USD per call."""
    budgets: tuple[Mapping[str, t.Any], ...] = _setting((), _budgets)
    """Additional budgets."""
    budget_behavior: str = _setting("notify", check_one_of("notify", "raise", "block"))
    """What happens when a budget is exceeded."""
    on_budget_exceeded: Callable[..., t.Any] | None = _setting(None, _optional(_call))
    """Called when a budget is exceeded."""
    on_storage_error: str = _setting("warn", check_one_of("ignore", "warn", "raise"))
    """What happens when a call cannot be stored."""
    on_unknown_price: str = _setting("warn", check_one_of("ignore", "warn", "raise"))
    """What happens when a model has no price."""
    alert_webhook_url: str | None = _setting(None, _optional(_url))
    """The URL that budget alerts are posted to."""
    alert_webhook_secret: str | None = _setting(None, _optional(_secret))
    """The key that signs these posts."""
    alert_allow_private: bool = _setting(False, _flag)
    """Allow a webhook in a private network."""
    cost_header: bool = _setting(False, _flag)
    """Add the header ``X-LLM-Cost-USD`` to responses."""
    per_page: int = _setting(50, _per_page)
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
                f"{PREFIX}BIND_KEY is {_shown(settings.bind_key)} and"
                f" {PREFIX}DATABASE_URI is set, but the ledger has only one database."
                " Set one of them to None."
            )
        for name in ("spool_dir", "jsonl_dir"):
            path = getattr(settings, name)
            if path is not None and folder is not None:
                _check_folder(PREFIX + name.upper(), Path(folder) / path)
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
