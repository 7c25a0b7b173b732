"""Reads the lines of Clacky's BillingStore.

Its ``prompt_tokens`` include cache reads, its costs are floats, and its ids contain no
time. A line is given the same event id each time it is read.
"""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections.abc import Mapping
from decimal import Decimal

from .. import jsonl
from ..calendar import whole_ms
from ..call import Call
from ..call import Cost
from ..call import CostSource
from ..call import Part
from ..call import Usage
from ..event_id import derive_event_id
from ..money import from_pico
from ..money import parse_int
from ..money import parse_number
from ..money import round_pico

COST_SOURCES: t.Final = ("api", "price", "estimated", "unknown")

_FIELDS: t.Final = ("timestamp", "prompt_tokens")


def is_clacky(line: bytes) -> bool:
    """Whether a line looks like one: it has no version, and has these fields."""
    return b'"v":' not in line and all(b'"%s"' % n.encode() in line for n in _FIELDS)


def decode(line: bytes, session_tag: str) -> Call:
    """Return the call that a line contains.

    Its ``cost_source`` becomes a flag, such as ``clacky_api``. A cost of unknown source is
    ignored; an estimated one is incomplete.

    :param session_tag: The tag to store its session in.
    :raises ValueError: If the line is invalid.
    """
    try:
        data = json.loads(line, parse_float=parse_number, parse_int=parse_int)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError("line: not an object")
    started_at = _time(data)
    source = _source(data)
    session = data.get("session_id")
    return Call(
        event_id=derive_event_id(started_at, _name(data, line)),
        started_at=started_at,
        provider=_text(data, "provider") or "unknown",
        model=_text(data, "model") or "unknown",
        usage=_usage(data),
        usage_source="response",
        cost=_cost(data, source),
        tags={} if session is None else {session_tag: str(session)},
        flags=frozenset((f"clacky_{source}",)),
    )


def _name(data: Mapping[str, t.Any], line: bytes) -> str:
    own = data.get("id")
    return f"clacky:{own}" if own else f"clacky:{line.strip().decode(errors='replace')}"


def _time(data: Mapping[str, t.Any]) -> dt.datetime:
    text = data.get("timestamp")
    try:
        moment = dt.datetime.fromisoformat(str(text))
    except ValueError:
        raise ValueError(f"timestamp: {text!r} is not a valid time") from None
    if moment.tzinfo is None:
        raise ValueError(f"timestamp: {text!r} has no time zone")
    jsonl.check_time("timestamp", moment)
    return whole_ms(moment)


def _text(data: Mapping[str, t.Any], name: str) -> str | None:
    value = data.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name}: {value!r} is not text")
    return value


def _source(data: Mapping[str, t.Any]) -> str:
    """Older files have no source, and a cost for every call."""
    source = data.get("cost_source")
    if source is None:
        return "price" if data.get("cost_usd") else "unknown"
    if source not in COST_SOURCES:
        raise ValueError(f"cost_source: {source!r} is not one of {COST_SOURCES}")
    return str(source)


def _usage(data: Mapping[str, t.Any]) -> Usage | None:
    counts = {}
    for name in ("prompt", "completion", "cache_read", "cache_write"):
        value = data.get(f"{name}_tokens")
        if value is not None and (type(value) is not int or value < 0):
            raise ValueError(f"{name}_tokens: {value!r} is not a whole number >= 0")
        counts[name] = value or 0
    if not any(counts.values()):
        return None  # unknown counts were written as 0
    return Usage(
        # A prompt smaller than the cache reads does not include them.
        input_tokens=counts["prompt"]
        - (counts["cache_read"] if counts["cache_read"] <= counts["prompt"] else 0),
        cache_read_tokens=counts["cache_read"],
        cache_write_tokens=counts["cache_write"],
        output_tokens=counts["completion"],
    )


def _cost(data: Mapping[str, t.Any], source: str) -> Cost | None:
    value = data.get("cost_usd")
    if value is None or source == "unknown":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or value < 0:
        raise ValueError(f"cost_usd: {value!r:.60} is not a number >= 0")
    # Floats have more digits than are significant.
    amount = from_pico(round_pico(Decimal(value)))
    kinds: dict[str, CostSource] = {"api": "provider"}
    return Cost(
        total_usd=amount,
        parts={"reported": Part(Decimal(1), amount, amount)},
        source=kinds.get(source, "file"),
        price_key="clacky",
        complete=source != "estimated",
    )
