"""Ids of calls: UUIDv7 with the time at which the call was sent."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import random
import typing as t
from uuid import UUID

from .calendar import from_ms
from .calendar import utc_ms


def mint_event_id(started_at: dt.datetime) -> str:
    """A new UUIDv7 (RFC 9562, 5.7) of that time: sortable, unique without coordination."""
    return _uuid7(started_at, _noise.getrandbits(80))


def derive_event_id(started_at: dt.datetime, name: str) -> str:
    """The UUIDv7 of that time and name: the same in every process."""
    digest = hashlib.sha256(name.encode("utf-8", "replace")).digest()
    return _uuid7(started_at, int.from_bytes(digest[:10]))


def _uuid7(moment: dt.datetime, noise: int) -> str:
    value = utc_ms(moment) << 80 | noise
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_noise: t.Final = random.Random()
"""Our own, since an app may seed the module's; seeded by the system, in each process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_noise.seed)


def event_time(event_id: str) -> dt.datetime:
    """The time in an event id.

    :raises ValueError: If it is not a UUIDv7.
    """
    value = UUID(event_id)
    if value.version != 7:
        raise ValueError(f"{event_id!r} is not a UUIDv7")
    return from_ms(value.int >> 80)
