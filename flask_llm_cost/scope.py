"""The scope of a call: the account it was made with.

A scope is one text of ``name=id`` parts, such as ``organization=org-1 project=proj_2
key=5f0c9a1b2c3d4e5f``. The last is a fingerprint of the API key, which no one can turn back
into the key, nor compare to that of another ledger: each ledger has its own hash key.

The ledger's database may be unavailable when a call ends. Until its hash key is known, a call
carries a digest of the API key, and the writer makes the fingerprint from that.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import re
import typing as t
from collections.abc import Mapping

KEY: t.Final = "key"
"""The name of the part with the fingerprint."""

NAMES: t.Final = ("organization", "project", "workspace", "account", "resource", KEY)
"""The names of parts, in their order."""

_ID: t.Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@-]{0,63}")
_DIGITS: t.Final = 16


def text_of(ids: Mapping[str, str]) -> str | None:
    """Return the scope with these ids; ``None`` if there are none."""
    return " ".join(f"{name}={ids[name]}" for name in NAMES if name in ids) or None


def parts_of(scope: str) -> list[str]:
    """Return the parts of a scope, the most specific first."""
    return scope.split()[::-1]


def ids_of(scope: str) -> dict[str, str]:
    """Return the ids of a scope by name."""
    return dict(part.split("=", 1) for part in scope.split() if "=" in part)


def without_key(scope: str) -> str:
    """Return a scope without its fingerprint: calls with several keys of one account."""
    return " ".join(p for p in scope.split() if not p.startswith(f"{KEY}="))


def is_id(text: str) -> bool:
    """Whether this can be an id. Anything else in its place is not recorded."""
    return _ID.fullmatch(text) is not None and not text.startswith("sk-")


def is_part(text: str) -> bool:
    """Whether this is a part of a scope."""
    name, _, known = text.partition("=")
    return name in NAMES and is_id(known)


def digest_of(api_key: str) -> str:
    """Digest an API key. It takes a microsecond, so nothing needs to remember the key."""
    return hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).hexdigest()


def new_hash_key() -> str:
    """Make the hash key of a new ledger."""
    return os.urandom(32).hex()


def with_fingerprint(scope: str | None, digest: str, hash_key: str) -> str:
    """Add the fingerprint of an API key to a scope.

    :param digest: From :func:`digest_of`.
    :param hash_key: The ledger's.
    """
    part = _fingerprint(digest, hash_key)
    return part if scope is None else f"{scope} {part}"


# An app has few API keys, and this takes longer than anything else that its request waits for.
@functools.lru_cache(maxsize=256)
def _fingerprint(digest: str, hash_key: str) -> str:
    code = hmac.digest(bytes.fromhex(hash_key), digest.encode(), "sha256").hex()
    return f"{KEY}={code[:_DIGITS]}"
