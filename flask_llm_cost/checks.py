"""Checks of configured values: each returns the value, converted, or raises an error.

An error is a :exc:`.ConfigError` that names the key, the value and what is expected.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import re
import typing as t
import zoneinfo
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from decimal import Decimal
from decimal import InvalidOperation
from pathlib import Path
from urllib.parse import urlsplit

from .call import KEY_PATTERN
from .errors import ConfigError
from .scope import is_part

INSTRUMENTS: t.Final = (
    "requests",
    "httpx",
    "httpx2",
    "aiohttp",
    "botocore",
    "urllib3",
    "http.client",
    "websockets",
    "grpc",
    "niquests",
    "curl_cffi",
    "claude_agent_sdk",
    "lm15",
)
"""The libraries that can be captured in the whole process."""

_MOST_USD: t.Final = Decimal("1e12")

Check: t.TypeAlias = Callable[[str, t.Any], t.Any]
"""Takes the key and the value."""


def wrong(key: str, value: object, wanted: str) -> ConfigError:
    """The error of a value that is not what is wanted."""
    return ConfigError(f"{key} must be {wanted}, not {shown(value)}.")


def shown(value: object) -> str:
    """A value's representation in an error."""
    try:
        text = repr(value)
    except Exception:
        # A repr may raise anything, e.g. that of an int of 5,000 digits. The message
        # matters more than the value.
        return f"this {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def flag(key: str, value: object) -> bool:
    """Check for ``True`` or ``False``."""
    if not isinstance(value, bool):
        raise wrong(key, value, "True or False")
    return value


def string(key: str, value: object) -> str:
    """Check for a string that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise wrong(key, value, "a non-empty string")
    return value


def secret(key: str, value: object) -> str:
    """Check for a non-empty string, without showing the value in the error."""
    if not isinstance(value, str) or not value.strip():
        # Not even a value of another type: it may be the secret as bytes.
        raise ConfigError(
            f"{key} must be a non-empty string, not this {type(value).__name__}."
        )
    return value


def one_of(*names: str) -> Check:
    """Create a check for one of some names."""

    def check(key: str, value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise wrong(key, value, "one of " + ", ".join(repr(n) for n in names))
        return value

    return check


def integer(low: int, high: int) -> Check:
    """Create a check for an integer in a range."""

    def check(key: str, value: object) -> int:
        if (
            not isinstance(value, int)
            or isinstance(value, bool)
            or not low <= value <= high
        ):
            raise wrong(key, value, f"an integer from {low} to {high}")
        return value

    return check


def function(key: str, value: object) -> t.Any:
    """Check for a callable."""
    if not callable(value):
        raise wrong(key, value, "a callable")
    return value


def path(key: str, value: object) -> Path:
    """Check for a path."""
    checked = value if isinstance(value, Path) else Path(string(key, value))
    if "\0" in str(checked):
        raise wrong(key, value, "a path without a NUL character")
    return checked


def folder(key: str, path: Path) -> None:
    """Check that a path is not a file."""
    # os.path, because a Path raises an error for some names that cannot exist.
    if os.path.exists(path) and not os.path.isdir(path):
        raise wrong(
            key, str(path), "the path of a folder, or a path that does not exist yet"
        )


def money(key: str, value: object) -> Decimal:
    """Check for an amount in USD."""
    wanted = 'a number from 0 to 1e12 (USD), such as "250" or Decimal("0.50")'
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise wrong(key, value, wanted)
    try:
        # A float is read from its shortest representation, so that 0.1 means 0.1.
        amount = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise wrong(key, value, wanted) from None
    # The limit rejects "1e999999999", which would fill the memory as an integer.
    if not amount.is_finite() or not 0 <= amount <= _MOST_USD:
        raise wrong(key, value, wanted)
    return amount


def mapping(key: str, value: object) -> dict[str, t.Any]:
    """Check for a mapping with string keys, without showing its values in the error.

    They may contain passwords, as options of an engine and URLs of sources do.
    """
    wanted = "a mapping with string keys"
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} must be {wanted}, not this {type(value).__name__}.")
    for name in value:
        if not isinstance(name, str):
            raise ConfigError(f"{key} must be {wanted}, but has {shown(name)}.")
    return dict(value)


def strings(key: str, value: object) -> dict[str, str]:
    """Check for a mapping of strings to strings."""
    entries = mapping(key, value)
    for name, text in entries.items():
        secret(f"{key}[{name!r}]", text)
    return entries


def bill_scopes(key: str, value: object) -> dict[str, str]:
    """Check for a mapping of scopes, parts of scopes, or ``"*"`` to groups of a bill."""
    entries = strings(key, value)
    for name in entries:
        parts = name.split(" ")
        if name != "*" and not all(map(is_part, parts)):
            raise ConfigError(
                f"{key} has the key {shown(name)}. Use parts of a call's scope, such as"
                ' "project=proj_1" or "key=5f0c9a1b2c3d4e5f", or "*" for all other calls.'
            )
    return entries


def markup(key: str, value: object) -> dict[str, tuple[tuple[dt.date, Decimal], ...]]:
    """Check for factors by tag value, each from a day on."""
    return {
        name: tuple(sorted(_factor(f"{key}[{name!r}]", each) for each in listed))
        for name, listed in mapping(key, value).items()
        if _is_list(f"{key}[{name!r}]", listed)
    }


_FACTORS: t.Final = 'a list such as [{"from": "2026-01-01", "factor": "1.2"}]'


def _is_list(key: str, value: object) -> bool:
    if isinstance(value, list | tuple):
        return True
    raise wrong(key, value, _FACTORS)


def _factor(key: str, value: object) -> tuple[dt.date, Decimal]:
    if not isinstance(value, Mapping) or set(value) != {"from", "factor"}:
        raise wrong(key, value, _FACTORS)
    try:
        day = dt.date.fromisoformat(str(value["from"]))
    except ValueError:
        raise wrong(f"{key}: from", value["from"], "a day, as YYYY-MM-DD") from None
    return day, money(f"{key}: factor", value["factor"])


def hosts(key: str, value: object) -> dict[str, str]:
    """Check for a mapping of hosts to providers."""
    entries = strings(key, value)
    lowered = {host.lower(): name for host, name in entries.items()}
    if len(lowered) < len(entries):
        raise wrong(key, list(entries), "a mapping that names each host once")
    for host in entries:
        name = host.removeprefix("*.")
        if "*" in name or not _is_host(name):
            raise ConfigError(
                f"{key} has the key {shown(host)}. Use a host or host:port without"
                ' scheme and path, such as "llm.example.com" or "localhost:8000", or all'
                ' hosts below a name, such as "*.llm.example.com".'
            )
    return lowered


def _is_host(text: str) -> bool:
    try:
        parts = urlsplit(f"//{text}")
        port_fits = parts.port != 0
    except ValueError:
        return False
    bare = parts.netloc == text and "@" not in text and not re.search(r"\s", text)
    return bool(parts.hostname) and bare and port_fits


_TAG_KEY: t.Final = "a tag key of 1 to 200 letters, digits, _ . -"


def tag_keys(key: str, value: object) -> tuple[str, ...]:
    """Check for a list of tag keys."""
    # A Collection, because an iterator would be empty when it is read a second time.
    if isinstance(value, str | Mapping) or not isinstance(value, Collection):
        raise wrong(key, value, 'a list of tag keys, such as ("feature", "tenant")')
    keys = tuple(value)
    for name in keys:
        if not isinstance(name, str) or not KEY_PATTERN.fullmatch(name):
            raise wrong(f"Each entry of {key}", name, _TAG_KEY)
    return tuple(dict.fromkeys(keys))


def label_keys(key: str, value: object) -> tuple[str, ...]:
    """Check for a list of tag keys that differ as names of Prometheus labels."""
    keys = tag_keys(key, value)
    labels: dict[str, str] = {}
    for name in keys:
        other = labels.setdefault(label_name(name), name)
        if other != name:
            raise ConfigError(
                f"{key} contains {other!r} and {name!r}, which have the same Prometheus"
                f" label {label_name(name)!r}. Remove one of them."
            )
    return keys


def label_name(key: str) -> str:
    """Return the name of a tag as a Prometheus label."""
    return "tag_" + re.sub("[^a-zA-Z0-9_]", "_", key)


def tag_key(key: str, value: object) -> str:
    """Check for a tag key."""
    if not isinstance(value, str) or not KEY_PATTERN.fullmatch(value):
        raise wrong(key, value, _TAG_KEY)
    return value


def tags(key: str, value: object) -> t.Any:
    """Check for tags, or a callable that returns them."""
    if callable(value):
        return value
    if not isinstance(value, Mapping):
        raise wrong(key, value, "a mapping of tags, or a callable that returns one")
    return dict(value)


def zone(key: str, value: object) -> dt.tzinfo:
    """Check for the name of a time zone."""
    wanted = 'the name of an IANA time zone, such as "Europe/Berlin"'
    if not isinstance(value, str):
        raise wrong(key, value, wanted)
    if value == "UTC":
        return dt.UTC
    try:
        return zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise wrong(key, value, wanted) from None


def libraries(key: str, value: object) -> tuple[str, ...]:
    """Check for a boolean, or names of :data:`INSTRUMENTS`."""
    if isinstance(value, bool):
        return INSTRUMENTS if value else ()
    names = (value,) if isinstance(value, str) else value
    # Not a mapping, which could be {"httpx": False}.
    if not isinstance(names, Collection) or isinstance(names, Mapping):
        raise wrong(key, value, "True, False, or a list of " + ", ".join(INSTRUMENTS))
    chosen = tuple(names)
    for name in chosen:
        if not isinstance(name, str) or name not in INSTRUMENTS:
            raise wrong(
                f"Each entry of {key}", name, "one of " + ", ".join(INSTRUMENTS)
            )
    return chosen


def storage(key: str, value: object) -> t.Any:
    """Check for a kind of storage."""
    if callable(value):
        return value
    if isinstance(value, str) and value in ("database", "jsonl", "log"):
        return value
    raise wrong(
        key, value, "'database', 'jsonl', 'log' or a callable that takes a Call"
    )


def log_level(key: str, value: object) -> int:
    """Check for a logging level, by name or number."""
    if isinstance(value, str):
        level = logging.getLevelNamesMapping().get(value.upper())
        if level is not None:
            return level
    elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise wrong(key, value, "a logging level, such as 'INFO'")


def mappings(key: str, value: object) -> tuple[Mapping[str, t.Any], ...]:
    """Check for a list of mappings."""
    if isinstance(value, str | Mapping) or not isinstance(value, Collection):
        raise wrong(key, value, "a list of mappings")
    return tuple(mapping(f"{key}[{i}]", entry) for i, entry in enumerate(value))


def uri(key: str, value: object) -> str:
    """Check for an SQLAlchemy URL with a synchronous driver."""
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


def url(key: str, value: object) -> str:
    """Check for an HTTP URL."""
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


def per_page(key: str, value: object) -> int:
    """Check for a number of rows."""
    # 25.0 equals 25, but would appear as "25.0" in links.
    if type(value) is not int or value not in (25, 50, 100, 200):
        raise wrong(key, value, "25, 50, 100 or 200")
    return value
