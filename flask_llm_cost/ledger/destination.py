"""Which database the lines of a spool are for, told without SQLAlchemy.

A line is taken down whatever the settings say: nothing here raises, and nothing is
repeated in which a password could be.
"""

from __future__ import annotations

import hashlib
import os
import re
import typing as t

UNKNOWN: t.Final = "unknown"
"""Of lines that were taken down while it could not be told."""

# As SQLAlchemy reads a URL, so that a password may hold what it may hold there.
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


def of_uri(uri: str, folder: str) -> str:
    """The destination of a database URI.

    :param folder: Where relative files are, and our own.
    """
    found = _URI.fullmatch(uri)
    host = found and (found["ipv6"] or found["host"])
    if found is None or "@" in (host or "") or "@" in (found["port"] or ""):
        # Not a URL, or one in which the password ends elsewhere than it seems to.
        return "sha256:" + hashlib.sha256(uri.encode("utf-8", "replace")).hexdigest()
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
    """The destination of a database, by the parts of its URL."""
    kind, name = kind.partition("+")[0], name or ""
    if kind != "sqlite":
        return f"{kind}://{host}:{port}/{name}"
    if not name or ":memory:" in name:
        return own(folder)
    return f"sqlite:{os.path.abspath(os.path.join(folder, name))}"


def own(folder: str) -> str:
    """The destination of our own file."""
    return f"sqlite:{os.path.abspath(os.path.join(folder, 'llm_cost.db'))}"


def _number(port: str | None) -> str | None:
    """A port as any way to write it: ``05432`` is ``5432``."""
    if port and port.isascii() and port.isdigit():
        return port.lstrip("0") or "0"
    return port or None
