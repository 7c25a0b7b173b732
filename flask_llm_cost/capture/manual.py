"""Checks what an app reports about a call that it records manually."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from decimal import InvalidOperation

from ..attempt import Snapshot
from ..calendar import END
from ..calendar import FIRST
from ..calendar import utc_ms
from ..call import Call
from ..call import Outcome
from ..call import OUTCOMES
from ..call import Usage
from ..call import USAGE_SOURCES
from ..call import UsageSource
from ..event_id import event_time
from ..money import in_bounds
from ..providers import known_name
from ..providers import Provider
from ..tags import TRACE_KEY

_MAX_LATENCY_MS: t.Final = 10**12
_MAX_COST_USD: t.Final = 9_000_000
"""The most that the ledger can store for one call; more is a mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualCall:
    """A call as the app describes it to :meth:`.LlmCost.track`.

    :raises ValueError: If a name or choice is not valid.
    """

    provider: str
    model: str
    operation: str
    usage: Usage
    reported_cost: Decimal | None
    latency_ms: int | None
    stream: bool
    usage_source: UsageSource
    outcome: Outcome
    response_id: str | None
    service_tier: str | None
    at: dt.datetime | None
    """When it was sent; now if the app does not say so."""
    event_id: str | None
    """The app's own id, if it gave one."""

    def __post_init__(self) -> None:
        check_name("provider", self.provider)
        check_name("model", self.model)
        check_name("operation", self.operation)
        if self.service_tier is not None:
            check_name("service_tier", self.service_tier)
        if self.response_id is not None:
            check_name("response_id", self.response_id)
        _check_choice("usage_source", self.usage_source, USAGE_SOURCES)
        _check_choice("outcome", self.outcome, OUTCOMES)

    def call(self, snapshot: Snapshot) -> Call:
        """The call to record."""
        return Call(
            event_id=self.event_id or snapshot.event_id,
            started_at=snapshot.started_at,
            provider=self.provider,
            model=self.model,
            request_model=self.model,
            operation=self.operation,
            usage=self.usage,
            reported_cost=self.reported_cost,
            latency_ms=self.latency_ms,
            stream=self.stream,
            usage_source=self.usage_source,
            outcome=self.outcome,
            response_id=self.response_id,
            service_tier=self.service_tier,
            trace_id=snapshot.tags.get(TRACE_KEY),
            tags=snapshot.tags,
            flags=snapshot.flags,
        )


def check_name(key: str, value: object) -> None:
    """Check a name such as the provider's.

    :raises ValueError: If it is not a non-empty string.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} must be a non-empty string, not {value!r}")


def provider_of(provider: str, providers: Sequence[Provider]) -> str:
    """The one name of a provider.

    :param providers: The app's own.
    :raises ValueError: If it is not a non-empty string.
    """
    check_name("provider", provider)
    return known_name(provider, providers)


def usage_of(usage: Usage | None, input_tokens: int, output_tokens: int) -> Usage:
    """The usage, given as a whole or as two counts.

    :raises ValueError: If both are given, or either is not valid.
    """
    if usage is None:
        return Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    if input_tokens or output_tokens:
        raise ValueError("Give usage, or input_tokens and output_tokens, not both.")
    if not isinstance(usage, Usage):
        raise ValueError(f"usage must be a Usage, not {usage!r}")
    return usage


def latency_of(value: object) -> int | None:
    """A latency in whole milliseconds.

    :raises ValueError: If it is not a number in range.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"latency_ms must be a number of milliseconds, not {value!r}")
    if not 0 <= value < _MAX_LATENCY_MS:
        raise ValueError(
            f"latency_ms must be from 0 to {_MAX_LATENCY_MS}, not {value!r}"
        )
    return round(value)


def cost_of(value: object) -> Decimal | None:
    """A reported cost in USD.

    :raises ValueError: If it is not an amount in range.
    """
    if value is None:
        return None
    wanted = 'reported_cost must be USD >= 0 as Decimal, str or int, such as "0.0125"'
    if isinstance(value, bool) or not isinstance(value, (Decimal, int, str)):
        raise ValueError(f"{wanted}, not {value!r}")
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{wanted}, not {value!r}") from None
    if not in_bounds(amount) or not 0 <= amount <= _MAX_COST_USD:
        raise ValueError(f"{wanted} and at most {_MAX_COST_USD}, not {value!r:.60}")
    return amount


def _check_choice(key: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{key} must be one of {', '.join(choices)}, not {value!r}")


def time_of(at: dt.datetime | None, event_id: str | None) -> dt.datetime | None:
    """Return when a call was sent, if the app gave its time or an event id.

    :raises ValueError: If it is naive or out of range, or contradicts the event id.
    """
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
            f"event_id {event_id} has the time {minted.isoformat()}, not {at!r}"
        )
    return minted
