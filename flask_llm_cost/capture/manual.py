"""What an app says of a call that it records by hand, checked."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Sequence
from decimal import Decimal
from decimal import InvalidOperation

from ..calendar import END
from ..calendar import FIRST
from ..call import event_time
from ..call import utc_ms

_LONGEST_MS: t.Final = 10**12
_HIGHEST_USD: t.Final = 9_000_000
"""What the ledger holds of one call; more of any of these is a mistake."""


def check_name(key: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} must be a text that is not empty, not {value!r}")


def check_latency(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"latency_ms must be a number of milliseconds, not {value!r}")
    if not 0 <= value < _LONGEST_MS:
        raise ValueError(f"latency_ms must be from 0 to {_LONGEST_MS}, not {value!r}")
    return round(value)


def check_cost(value: object) -> Decimal | None:
    if value is None:
        return None
    wanted = 'reported_cost must be USD >= 0 as Decimal, text or int, such as "0.0125"'
    if isinstance(value, bool) or not isinstance(value, (Decimal, int, str)):
        raise ValueError(f"{wanted}, not {value!r}")
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{wanted}, not {value!r}") from None
    if not amount.is_finite() or not 0 <= amount <= _HIGHEST_USD:
        raise ValueError(f"{wanted} and at most {_HIGHEST_USD}, not {value!r}")
    return amount


def check_choice(key: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{key} must be one of {', '.join(choices)}, not {value!r}")


def check_time(at: dt.datetime | None, event_id: str | None) -> dt.datetime | None:
    """When a tracked call was sent; an event id says so by itself."""
    if at is not None and at.tzinfo is None:
        raise ValueError(f"at must be aware (have a time zone), not {at!r}")
    if at is not None and not FIRST <= at < END:
        raise ValueError(f"at must be between 1970 and {END.year}, not {at!r}")
    if event_id is None:
        return at
    try:
        minted = event_time(event_id)
    except ValueError:
        raise ValueError(f"event_id must be a UUIDv7, not {event_id!r}") from None
    if at is not None and utc_ms(at) != utc_ms(minted):
        raise ValueError(
            f"event_id {event_id} is of {minted.isoformat()}, not of {at!r}"
        )
    return minted
