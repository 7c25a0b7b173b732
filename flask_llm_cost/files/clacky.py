"""The lines of Clacky's BillingStore, as calls.

Its ``prompt_tokens`` are input and cache reads together, its costs are floats, and its ids
carry no time. The id that a line gets here is the same each time it is read.
"""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections.abc import Mapping
from decimal import Decimal

from ..call import Call
from ..call import Cost
from ..call import CostSource
from ..call import Part
from ..call import Usage
from ..event_id import derive_event_id
from ..money import from_pico
from ..money import round_pico

COST_SOURCES: t.Final = ("api", "price", "estimated", "unknown")

_MARKS: t.Final = ("timestamp", "prompt_tokens")


def is_clacky(line: bytes) -> bool:
    """Whether it looks like one: they have no version, and these names."""
    return b'"v":' not in line and all(b'"%s"' % n.encode() in line for n in _MARKS)


def decode(line: bytes, session_tag: str) -> Call:
    """The call that a line of Clacky's tells of.

    Its ``cost_source`` is kept as a flag, such as ``clacky_api``. A cost of unknown source
    is not known; one that was estimated counts as incomplete.

    :param session_tag: The tag that its session goes to.
    :raises ValueError: If it is none.
    """
    try:
        data = json.loads(line, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from None
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
        moment = moment.astimezone(dt.UTC) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        raise ValueError(f"timestamp: {text!r} is no time") from None
    if moment.tzinfo is None or not 1970 <= moment.year <= 2261:
        raise ValueError(f"timestamp: {text!r} is no time with its zone, 1970 to 2261")
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _text(data: Mapping[str, t.Any], name: str) -> str | None:
    value = data.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name}: {value!r} is not text")
    return value


def _source(data: Mapping[str, t.Any]) -> str:
    """Files of before there was one have a cost for every call."""
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
        return None  # what was not known was written as 0
    return Usage(
        # A prompt smaller than what was read from the cache was told without it.
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
        raise ValueError(f"cost_usd: {value!r} is not a number >= 0")
    # As floats they have more digits than they mean.
    amount = from_pico(round_pico(Decimal(value)))
    kinds: dict[str, CostSource] = {"api": "provider"}
    return Cost(
        total_usd=amount,
        parts={"reported": Part(Decimal(1), amount, amount)},
        source=kinds.get(source, "file"),
        price_key="clacky",
        complete=source != "estimated",
    )
