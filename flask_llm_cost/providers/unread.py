"""Billed APIs whose answers are not read: their calls are recorded without usage.

Their cost is not known, so such a call is never complete (``unread_usage``).
"""

from __future__ import annotations

import typing as t

from .dialect import Dialect
from .dialect import Notes
from .dialect import Object


def read(notes: Notes, document: Object) -> None:
    """Take notes of which answer it is, and nothing else."""
    notes.identify(model=document.get("model"), response_id=document.get("id"))


def usage(notes: Notes) -> None:
    """Flag that something is billed that is not read."""
    notes.flags.add("unread_usage")


UNREAD: t.Final = Dialect(read=read, usage=usage)

UNREAD_SESSION: t.Final = Dialect(read=read, usage=usage, needles=(), whole=True)
"""Of a web socket. It is one call, and none of its messages is looked at."""
