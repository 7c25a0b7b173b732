"""Name the database that spool lines are for, without SQLAlchemy.

A line is appended whatever the settings are: nothing here raises, and a destination never
contains a password.
"""

from __future__ import annotations

import hashlib
import os
import re
import typing as t
from collections.abc import Callable

if t.TYPE_CHECKING:
    from ..db.location import HostEngine

UNKNOWN: t.Final = "unknown"
"""The destination of lines that were appended while it was not known."""

# As SQLAlchemy parses a URL, so that passwords may contain the same characters.
_URI: t.Final = re.compile(
    r"""
    (?P<kind>[\w+]+)://
    (?:[^:/]*(?::[^@]*)?@)?
    (?:(?:\[(?P<ipv6>[^/?]+)\]|(?P<host>[^/:?]+))?(?::(?P<port>[^/?]*))?)?
    (?:/(?P<name>[^?]*))?
    (?:\?.*)?
    """,
    re.VERBOSE | re.DOTALL,
)


def find(
    uri: str | None,
    folder: str,
    host_engine: HostEngine,
    temporary_folder: Callable[[], str],
) -> str:
    """Name the database that a ledger's lines are for, as :func:`.location.find` finds it.

    Apps may share an instance folder, such as one in tests and in production. A line that
    one left there must not end up in the other's ledger.

    :param uri: ``LLM_COST_DATABASE_URI``.
    """
    if uri is not None:
        return of_uri(uri, folder, temporary_folder)
    # Calls are recorded even if the host has no engine. The writer reports why; a process
    # that knows the destination later stores them.
    try:
        host = host_engine()
    except Exception:
        return UNKNOWN
    if host is None:
        return own(folder)
    from ..db.location import in_memory

    url = host.url
    if in_memory(url):
        return own(temporary_folder())
    return of_parts(url.drivername, url.host, url.port, url.database, folder)


def of_uri(uri: str, folder: str, temporary_folder: Callable[[], str]) -> str:
    """Return the destination of a database URI.

    :param folder: The instance folder, for relative paths and our own file.
    :param temporary_folder: Where our own file is if the database is in memory.
    """
    found = _URI.fullmatch(uri)
    host = found and (found["ipv6"] or found["host"])
    if found is None or "@" in (host or "") or "@" in (found["port"] or ""):
        # Not a URL, or one whose password may contain the end of what was parsed.
        return "sha256:" + hashlib.sha256(uri.encode("utf-8", "replace")).hexdigest()
    if found["kind"].startswith("sqlite") and _is_in_memory(found["name"], uri):
        return own(temporary_folder())
    return of_parts(
        found["kind"],
        host.lower() if host else None,
        _number(found["port"]),
        found["name"],
        folder,
    )


def of_parts(
    kind: str, host: object, port: object, name: str | None, folder: str
) -> str:
    """Return the destination of a database, given the parts of its URL."""
    kind, name = kind.partition("+")[0], name or ""
    if kind != "sqlite":
        return f"{kind}://{host}:{port}/{name}"
    return f"sqlite:{os.path.abspath(os.path.join(folder, name))}"


def _is_in_memory(name: str | None, uri: str) -> bool:
    return not name or ":memory:" in name or "mode=memory" in uri


def own(folder: str) -> str:
    """Return the destination of our own file."""
    return f"sqlite:{os.path.abspath(os.path.join(folder, 'llm_cost.db'))}"


def _number(port: str | None) -> str | None:
    """Normalize a port: ``05432`` is ``5432``."""
    if port and port.isascii() and port.isdigit():
        return port.lstrip("0") or "0"
    return port or None
