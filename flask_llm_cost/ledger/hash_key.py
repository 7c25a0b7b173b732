"""The key for fingerprints of API keys, generated once for each ledger."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from sqlalchemy import exc

from ..db import meta
from ..scope import new_hash_key

_NAME: t.Final = "scope_key"


def hash_key(engine: sa.Engine) -> str:
    """Return the ledger's key; the first process to ask generates it."""
    with engine.connect() as connection:
        known = meta.get(connection, _NAME)
    if known is not None:
        return known
    made = new_hash_key()
    try:
        with engine.begin() as connection:
            meta.add(connection, _NAME, made)
    except exc.IntegrityError:
        # Another process was first.
        return hash_key(engine)
    return made
