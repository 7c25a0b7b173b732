"""How a call stands in the tables: the one place that maps it to columns and back.

Columns hold what reports add up and filter by; ``details`` is JSON text with the
rest, so that :func:`call_of` gives back the call. Its keys, each left out where it
would be empty: ``other_tokens`` and ``units`` (``{name: count}``), ``parts``
(``{meter: [quantity, rate, amount in pico-USD]}``), ``price_key``, ``valid_from``,
``tier``, ``mode``, ``cost_flags``, ``reported_cost`` and ``estimate``. Decimals are
text; counts of tokens and pico-USD are whole numbers.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from decimal import Context
from decimal import Decimal
from decimal import Inexact
from decimal import InvalidOperation

from ..call import Call
from ..call import Cost
from ..call import from_ms
from ..call import Part
from ..call import Usage
from ..call import utc_ms
from .jsonl import check_id

BIGGEST: t.Final = 2**63 - 1
"""What BIGINT holds: in pico-USD, about 9.2 million dollars for one call."""

TAG_BYTES: t.Final = 1024
"""Of one tag's value: what the index of tag values takes on every engine."""

TRUNCATED: t.Final = "truncated_text"
"""The flag of a call whose text was cut, or cleaned of what databases refuse."""

_COUNTS: t.Final = (
    "input_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "output_audio_tokens",
    "output_image_tokens",
    "reasoning_tokens",
    "total_input_tokens",
    "total_output_tokens",
)
_TEXTS: t.Final[Mapping[str, int]] = {
    "provider": 64,
    "model": 255,
    "request_model": 255,
    "operation": 32,
    "service_tier": 64,
    "response_id": 255,
    "trace_id": 255,
}
_FLAGS_LENGTH: t.Final = 255

_GROUPS: t.Final = (
    ("input", "cost_input"),
    ("cache_read", "cost_cache_read"),
    ("cache_write", "cost_cache_write"),
    ("output", "cost_output"),
    ("reasoning", "cost_output"),
)
_EMPTY_COST: t.Final[Mapping[str, None]] = dict.fromkeys(
    (
        "cost_total",
        "cost_input",
        "cost_cache_read",
        "cost_cache_write",
        "cost_output",
        "cost_units",
        "cost_source",
        "cost_complete",
    )
)
_EMPTY_USAGE: t.Final[Mapping[str, None]] = dict.fromkeys((*_COUNTS, "other_tokens"))

_encode: t.Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

# Wide enough that no product of ours is rounded; one that would be is an error.
_EXACT: t.Final = Context(prec=60, traps=[Inexact, InvalidOperation])


@dataclass(frozen=True, slots=True)
class TagSet:
    """One distinct set of tags."""

    id: int
    """63 bits of a hash of ``text``."""
    text: str
    """Canonical JSON: sorted keys, no spaces."""
    tags: Mapping[str, str]


def cost_group(meter: str) -> str:
    """The column that a meter's amount counts in, such as ``cost_input``."""
    for prefix, column in _GROUPS:
        if meter.startswith(prefix):
            return column
    return "cost_units"


def to_pico(usd: Decimal) -> int:
    """Whole pico-USD.

    :raises ValueError: If the amount is finer than that, or more than BIGINT holds.
    """
    try:
        pico = int(usd.scaleb(12, _EXACT).to_integral_exact(context=_EXACT))
    except (Inexact, InvalidOperation):
        raise ValueError(f"{usd} USD is no whole number of pico-dollars") from None
    if abs(pico) > BIGGEST:
        raise ValueError(f"{usd} USD is more than the ledger can hold for one call")
    return pico


def from_pico(pico: int) -> Decimal:
    """USD."""
    return Decimal(pico).scaleb(-12, _EXACT)


def row_of(call: Call) -> dict[str, t.Any]:
    """The columns of :data:`.tables.calls` for one call, but for ``tag_set_id``.

    Text that is longer than its column is cut, and the call flagged ``truncated_text``.

    :raises ValueError: If no database can hold the call: an amount or a count out of
        range, a cost that is not the sum of its parts, an id of another time.
    """
    check_id(call)
    flags = set(call.flags)
    row: dict[str, t.Any] = {
        "started_at": from_ms(utc_ms(call.started_at)),
        "event_id": call.event_id,
        "stream": call.stream,
        "usage_source": call.usage_source,
        "outcome": call.outcome,
        "http_status": _in_range("http_status", call.http_status, 32767),
        "latency_ms": _in_range("latency_ms", call.latency_ms),
        "first_byte_ms": _in_range("first_byte_ms", call.first_byte_ms),
    }
    for name, length in _TEXTS.items():
        value = getattr(call, name)
        row[name] = text = None if value is None else clean(value)[:length]
        if text != value:
            flags.add(TRUNCATED)
    if any(_clean_value(value) != value for value in call.tags.values()):
        flags.add(TRUNCATED)
    row.update(_usage_columns(call.usage))
    row.update(_cost_columns(call.cost))
    row["flags"] = _join(flags)
    row["details"] = _details(call)
    return row


def tag_set_of(tags: Mapping[str, str]) -> TagSet | None:
    """The set that a call's tags are, as the ledger keeps it; ``None`` for no tags."""
    if not tags:
        return None
    kept = {
        clean(key)[:200]: _clean_value(value) for key, value in sorted(tags.items())
    }
    text = _encode(kept)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return TagSet(int.from_bytes(digest) >> 1, text, kept)


def clean(text: str) -> str:
    """The text without what some database refuses: NUL and lone surrogates."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if text.isascii():
        return text
    # A lone surrogate is three bytes that UTF-8 refuses, each replaced by one mark.
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _clean_value(value: str) -> str:
    value = clean(value)
    if len(value) * 4 <= TAG_BYTES:
        return value
    return value.encode()[:TAG_BYTES].decode("utf-8", "ignore")


def _in_range(name: str, value: int | None, biggest: int = BIGGEST) -> int | None:
    if value is not None and abs(value) > biggest:
        raise ValueError(f"{name}: {value} is more than the ledger can hold")
    return value


def _join(flags: set[str]) -> str:
    text = " ".join(sorted(flags))
    if len(text) <= _FLAGS_LENGTH and text.isascii():
        return text
    kept = TRUNCATED
    for flag in sorted(flags - {TRUNCATED}):
        if flag.isascii() and len(kept) + 1 + len(flag) <= _FLAGS_LENGTH:
            kept += " " + flag
    return " ".join(sorted(kept.split()))


def _usage_columns(usage: Usage | None) -> Mapping[str, int | None]:
    if usage is None:
        return _EMPTY_USAGE
    columns = {name: _in_range(name, getattr(usage, name)) for name in _COUNTS}
    columns["other_tokens"] = _in_range(
        "other_tokens", sum(usage.other_tokens.values())
    )
    return columns


def _cost_columns(cost: Cost | None) -> Mapping[str, t.Any]:
    if cost is None:
        return _EMPTY_COST
    columns: dict[str, t.Any] = {
        "cost_total": to_pico(cost.total_usd),
        "cost_input": 0,
        "cost_cache_read": 0,
        "cost_cache_write": 0,
        "cost_output": 0,
        "cost_units": 0,
        "cost_source": cost.source,
        "cost_complete": cost.complete,
    }
    rest = columns["cost_total"]
    for meter, part in cost.parts.items():
        pico = to_pico(part.amount_usd)
        columns[cost_group(meter)] += pico
        rest -= pico
    if rest:
        raise ValueError(
            f"cost.total_usd: {cost.total_usd} is not the sum of its parts"
            f" ({from_pico(rest)} USD apart)"
        )
    return columns


def _details(call: Call) -> str | None:
    details: dict[str, t.Any] = {}
    if call.usage is not None:
        details["other_tokens"] = dict(call.usage.other_tokens)
        details["units"] = {name: str(n) for name, n in call.usage.units.items()}
    if call.cost is not None:
        details.update(_cost_details(call.cost))
    if call.reported_cost is not None:
        details["reported_cost"] = str(call.reported_cost)
    kept = {name: value for name, value in details.items() if value}
    return clean(_encode(kept)) if kept else None


def _cost_details(cost: Cost) -> dict[str, t.Any]:
    return {
        "parts": {
            meter: [str(part.quantity), str(part.rate), to_pico(part.amount_usd)]
            for meter, part in cost.parts.items()
        },
        "price_key": cost.price_key,
        "valid_from": cost.valid_from and cost.valid_from.isoformat(),
        "tier": cost.tier,
        "mode": cost.mode,
        "cost_flags": sorted(cost.flags),
        "estimate": None if cost.estimate_usd is None else str(cost.estimate_usd),
    }


def call_of(row: t.Any, tags: Mapping[str, str] | None = None) -> Call:
    """The call that a row of :data:`.tables.calls` holds.

    :param row: Anything with the table's columns as attributes, all of them.
    :param tags: The tags of the row's set.
    """
    details = json.loads(row.details) if row.details else {}
    reported = details.get("reported_cost")
    return Call(
        event_id=row.event_id,
        started_at=row.started_at,
        provider=row.provider,
        model=row.model,
        request_model=row.request_model,
        operation=row.operation,
        usage=_usage_of(row, details),
        cost=_cost_of(row, details),
        reported_cost=None if reported is None else Decimal(reported),
        latency_ms=row.latency_ms,
        first_byte_ms=row.first_byte_ms,
        stream=row.stream,
        usage_source=row.usage_source,
        outcome=row.outcome,
        http_status=row.http_status,
        response_id=row.response_id,
        service_tier=row.service_tier,
        trace_id=row.trace_id,
        tags=tags if tags is not None else {},
        flags=frozenset(row.flags.split()),
    )


def _usage_of(row: t.Any, details: Mapping[str, t.Any]) -> Usage | None:
    if row.input_tokens is None:
        return None
    counts = {n: getattr(row, n) for n in _COUNTS if not n.startswith("total_")}
    return Usage(
        **counts,
        other_tokens=details.get("other_tokens", {}),
        units={name: Decimal(n) for name, n in details.get("units", {}).items()},
    )


def _cost_of(row: t.Any, details: Mapping[str, t.Any]) -> Cost | None:
    if row.cost_total is None:
        return None
    valid_from = details.get("valid_from")
    estimate = details.get("estimate")
    cost = Cost(
        total_usd=from_pico(row.cost_total),
        parts={
            meter: Part(Decimal(quantity), Decimal(rate), from_pico(pico))
            for meter, (quantity, rate, pico) in details.get("parts", {}).items()
        },
        source=row.cost_source,
        price_key=details.get("price_key"),
        tier=details.get("tier"),
        mode=details.get("mode"),
        complete=row.cost_complete,
        flags=frozenset(details.get("cost_flags", ())),
        estimate_usd=None if estimate is None else Decimal(estimate),
    )
    if valid_from is None:
        return cost
    return replace(cost, valid_from=dt.datetime.fromisoformat(valid_from))
