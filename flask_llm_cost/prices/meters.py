"""The grammar of a price file: meters, modes, rate keys, and the values of rates."""

from __future__ import annotations

import datetime as dt
import re
import typing as t
from collections.abc import Iterable
from decimal import Decimal
from decimal import DecimalException

from .. import contract
from ..money import in_bounds

MODES: t.Final[tuple[str, ...]] = tuple(contract.MODES)
"""Service modes that can have their own rates."""

PREPAID: t.Final = frozenset(("provisioned", "reserved", "scale"))
"""Capacity paid by the hour or in advance. Without a rate, the cost of a single call is
unknown."""

CORE: t.Final = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "output": "output_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "input_audio": "input_audio_tokens",
    "input_image": "input_image_tokens",
    "output_audio": "output_audio_tokens",
    "output_image": "output_image_tokens",
}
"""Meters with a field of their own in :class:`.Usage`, and the name of that field."""

TOKENS: t.Final = frozenset(
    name for name, meter in contract.METERS.items() if meter.unit == "token"
)
"""Meters that count tokens. Their rates are USD per 1M."""

UNITS: t.Final = frozenset(contract.METERS) - TOKENS
"""Meters that count units. Their rates are USD each; ``units:`` adds others."""

TOOL_FEES: t.Final = frozenset(
    ("web_search", "web_search_premium", "x_search", "gateway_search", "file_search")
    + ("grounding", "grounded_prompt", "maps_grounding", "retrieval_grounding")
    + ("code_interpreter", "computer_use")
)
"""Units that tools are billed by. A region does not change these fees."""

PER_PROMPT: t.Final = {"grounding": "grounded_prompt"}
"""Units that some models bill once per call, however many there are, and that rate.

Up to Gemini 2.5, Google Search has a fee per grounded prompt; from Gemini 3 on, per query:
https://ai.google.dev/gemini-api/docs/pricing
"""

_OLD_NAMES: t.Final = {
    "cached_input": "cache_read",
    "cache_read_input": "cache_read",
    "cache_creation_input": "cache_write",
    "cache_write_input": "cache_write",
}
"""Spellings from llm_cost_tracker's price files, oldest first."""

_METERS: t.Final = {name: name for name in TOKENS | UNITS} | _OLD_NAMES
_ABOVE: t.Final = re.compile(r"(.+)_above_([1-9][0-9]{0,6})k\Z")

METADATA: t.Final = frozenset(
    ("_source", "_source_version", "_fetched_at", "_updated", "_notes")
    + ("_validator_override", "_converted")
)
"""Keys of an entry that document it and are not rates."""

LIMITS: t.Final = ("max_input_tokens", "max_output_tokens")
"""Keys of an entry that say the most tokens that one request can have."""

_LARGEST: t.Final = Decimal(10**9)

MIN_TIME: t.Final = dt.datetime.min.replace(tzinfo=dt.UTC)
MAX_TIME: t.Final = dt.datetime.max.replace(tzinfo=dt.UTC)


class RateKey(t.NamedTuple):
    """What a rate applies to: a mode, a meter and a long-context tier."""

    mode: str | None
    meter: str
    above: int
    """The request must have more input tokens than this; 0 for the base rate."""

    def __str__(self) -> str:
        mode = "" if self.mode is None else f"{self.mode}_"
        above = f"_above_{self.above // 1000}k" if self.above else ""
        return f"{mode}{self.meter}{above}"


def spellings(names: Iterable[str]) -> dict[RateKey, str]:
    """Map each rate to the name that sets it: our own, else the newest old spelling."""
    keys = ((parse_key(name), name) for name in sorted(names, key=_newness))
    return {key: name for key, name in keys if key is not None}


def _newness(name: str) -> int:
    ages = (age for age, old in enumerate(_OLD_NAMES) if old in name)
    return max(ages, default=len(_OLD_NAMES))


def parse_key(key: str) -> RateKey | None:
    """Parse a rate key, or return ``None``. The longest known meter wins."""
    above = 0
    tail = _ABOVE.match(key)
    if tail is not None:
        key, above = tail[1], int(tail[2]) * 1000
    meter = _METERS.get(key)
    if meter is not None:
        return RateKey(None, meter, above)
    # The shortest mode first, so that the longest remainder is tried first.
    for mode in sorted(MODES, key=len):
        if key.startswith(f"{mode}_"):
            meter = _METERS.get(key[len(mode) + 1 :])
            if meter is not None:
                return RateKey(mode, meter, above)
    return None


class Malformed(ValueError):
    """A price entry is invalid. The message names the key, the value and the fix."""


def parse_rate(value: object, key: str) -> Decimal:
    """Read a rate from a number or its text, exactly as written.

    :raises Malformed: If it is not a number, or negative, infinite or out of range.
    """
    number: Decimal | None = None
    if isinstance(value, (int, Decimal, str, float)) and not isinstance(value, bool):
        try:
            # A float in a Python config has the value that it prints as, not its binary
            # value.
            number = Decimal(str(value).strip())
        except DecimalException:
            number = None
    if number is None or not number.is_finite():
        raise Malformed(f"{key} must be a number, not {value!r}")
    if number < 0:
        raise Malformed(f"{key} must be 0 or more, not {value!r}")
    if (
        number > _LARGEST
        or (number and number.adjusted() < -18)
        or not in_bounds(number)
    ):
        raise Malformed(
            f"{key} must be between 1e-18 and {_LARGEST}, not {value!r:.60}"
        )
    return number


def parse_limit(value: object, key: str) -> int:
    """Read the most tokens that a request can have.

    :raises Malformed: If it is not a whole number above 0.
    """
    number = parse_rate(value, key)
    if not number or number != number.to_integral_value():
        raise Malformed(f"{key} must be a whole number above 0, not {value!r}")
    return int(number)


def aware(at: dt.datetime | None) -> dt.datetime:
    """Make a time comparable with price dates: ``None`` is now, naive means UTC."""
    if at is None:
        return dt.datetime.now(dt.UTC)
    return at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)


def parse_time(value: object, key: str = "valid_from") -> dt.datetime:
    """Read a UTC time from a date, a time, or its ISO text; naive means UTC.

    :raises Malformed: If it is not a valid time.
    """
    found: dt.datetime | None = None
    if isinstance(value, dt.datetime):
        found = value
    elif isinstance(value, dt.date):
        found = dt.datetime.combine(value, dt.time(), dt.UTC)
    elif isinstance(value, str):
        try:
            found = dt.datetime.fromisoformat(value.strip())
        except ValueError:
            found = None
    if found is None:
        raise Malformed(f"{key} must be a date such as 2026-09-01, not {value!r}")
    if found.tzinfo is None:
        return found.replace(tzinfo=dt.UTC)
    try:
        return found.astimezone(dt.UTC)
    except OverflowError:
        raise Malformed(
            f"{key} must be a date between the years 1 and 9999, not {value!r}"
        ) from None
