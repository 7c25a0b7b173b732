"""A call as one line of JSON, in the spool, in exports and imports, and in JSONL files.

The format loses nothing: decimals are text, never floats. A missing field is unknown or
has its default.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from decimal import Decimal
from operator import attrgetter

from .bound import Bound
from .calendar import END
from .calendar import FIRST
from .calendar import utc_ms
from .call import Call
from .call import Cost
from .call import CostSource
from .call import COUNTS
from .call import NUMBERS
from .call import OUTCOMES
from .call import Part
from .call import TEXTS
from .call import Usage
from .call import USAGE_SOURCES
from .json_text import bound_fields
from .json_text import cost_text
from .json_text import encode_json
from .json_text import tags_text
from .json_text import usage_text
from .money import parse
from .money import parse_int
from .tags import TRACE_KEY

VERSION: t.Final = 1
"""The version of the line format. Lines of a later version are rejected."""

_END_MS: t.Final = utc_ms(END)

# Omitted if None.
_SHARED: t.Final = ("provider", "model", "operation", "usage_source", "outcome") + (
    "request_model",
    "service_tier",
    "http_status",
    "scope",
    "key_digest",
)
"""What many calls have in common."""
_OPTIONAL: t.Final = tuple(name for name in (*TEXTS, *NUMBERS) if name not in _SHARED)
_shared: t.Final = attrgetter(*_SHARED)
_optional: t.Final = attrgetter(*_OPTIONAL)

_encode_ascii: t.Final = json.JSONEncoder(separators=(",", ":")).encode


def encode(call: Call) -> bytes:
    """Return a call as one line, with its newline."""
    fields = [
        f'"v":{VERSION},"event_id":{encode_json(call.event_id)}',
        f'"started_at":"{_moment(call.started_at)}"',
        _shared_fields(*_shared(call)),
    ]
    for name, value in zip(_OPTIONAL, _optional(call), strict=True):
        if value is not None:
            text = encode_json(value) if isinstance(value, str) else str(value)
            fields.append(f'"{name}":{text}')
    if call.stream:
        fields.append('"stream":true')
    _add_billing(fields, call)
    if call.tags:
        fields.append(f'"tags":{tags_text(tuple(call.tags.items()))}')
    if call.flags:
        fields.append(f'"flags":{encode_json(sorted(call.flags))}')
    text = "{" + ",".join(fields) + "}\n"
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which needs an escape
        return _encode_ascii(json.loads(text)).encode() + b"\n"


def _add_billing(fields: list[str], call: Call) -> None:
    if call.usage is not None:
        fields.append(f'"usage":{usage_text(call.usage)}')
    if call.bound is not None:
        fields.append(f'"bound":{encode_json(bound_fields(call.bound))}')
    if call.estimate is not None:
        fields.append(f'"estimate":{usage_text(call.estimate)}')
    if call.cost is not None:
        fields.append(f'"cost":{cost_text(call.cost)}')
    if call.reported_cost is not None:
        fields.append(f'"reported_cost":"{call.reported_cost!s}"')


@functools.lru_cache(maxsize=1024)
def _shared_fields(*values: str | int | None) -> str:
    fields = zip(_SHARED, values, strict=True)
    return encode_json({name: v for name, v in fields if v is not None})[1:-1]


def _moment(moment: dt.datetime) -> str:
    if moment.tzinfo is not dt.UTC:
        moment = moment.astimezone(dt.UTC)
    return f"{moment.isoformat(timespec='milliseconds')[:-6]}Z"


def bound_of(value: t.Any) -> Bound:
    """Return the bound with these fields.

    :raises ValueError: If one is invalid.
    """
    return Bound(**_checked(_BOUND, value))


def usage_of(value: t.Any) -> Usage:
    """Return the usage with these fields.

    :raises ValueError: If one is invalid.
    """
    return Usage(**_checked(_USAGE, value))


def decode(line: bytes | str) -> Call:
    """Return the call that a line contains.

    :raises ValueError: If the line is invalid. The message names the invalid field.
    """
    try:
        data = json.loads(line, parse_constant=_no_constant, parse_int=parse_int)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{_shown(data)} is not a JSON object")
    version = data.pop("v", None)
    if version != VERSION:
        raise ValueError(f"v: line format {version!r}; this version reads {VERSION}")
    try:
        call = Call(**_checked(_CALL, data))
    except _Invalid as invalid:
        raise ValueError(str(invalid)) from None
    except TypeError as error:  # a field without a default is missing
        raise ValueError(f"line: {error}") from None
    check_id(call)
    return call


_UUID7: t.Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)

_DIGEST: t.Final = re.compile(r"[0-9a-f]{64}")


def without_tag(line: bytes, key: str, value: str) -> bytes | None:
    """Return the line without a tag of that value; ``None`` if it does not have it.

    :raises ValueError: If it is not a JSON object.
    """
    data = json.loads(line)
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    tags = data.get("tags")
    if not isinstance(tags, dict):
        tags = {}
    tagged = tags.get(key) == value
    traced = key == TRACE_KEY and data.get(TRACE_KEY) == value
    if tagged:
        data["tags"] = {k: v for k, v in tags.items() if k != key}
    if traced:
        del data[TRACE_KEY]
    if not tagged and not traced:
        return None
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def check_id(call: Call) -> int:
    """Check that a call's event id contains its start time.

    :return: The start time in ms.
    :raises ValueError: If the id is not a UUIDv7, contains another time, or the time is
        before 1970 or after 2261.
    """
    started_at = utc_ms(call.started_at)
    if not 0 <= started_at < _END_MS:
        check_time("started_at", call.started_at)
    event_id = call.event_id
    if not (isinstance(event_id, str) and _UUID7.fullmatch(event_id)):
        raise ValueError(f"event_id: {event_id!r} is not a UUIDv7 in lower case")
    if int(event_id[:8] + event_id[9:13], 16) != started_at:
        raise ValueError(
            f"event_id: {event_id} does not contain the time of started_at,"
            f" {_moment(call.started_at)}"
        )
    return started_at


def check_time(name: str, moment: dt.datetime) -> None:
    """Check that a time is in the range of a call's, so that no arithmetic overflows.

    :raises ValueError: If it is before 1970 or after 2261.
    """
    if not FIRST <= moment < END:
        raise ValueError(
            f"{name}: {moment.isoformat()} is not a time from 1970 to 2261"
        )


_Check: t.TypeAlias = Callable[[t.Any], t.Any]
"""Converts a JSON value, or raises :class:`_Invalid`."""


class _Invalid(ValueError):
    """A value is invalid. Its path is completed as the exception propagates."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}: {self.problem}"


def _invalid(value: object, wanted: str) -> _Invalid:
    return _Invalid(f"{_shown(value)} is not {wanted}")


def _checked(checks: Mapping[str, _Check], data: t.Any) -> dict[str, t.Any]:
    if not isinstance(data, dict):
        raise _invalid(data, "an object")
    values = {}
    for name, value in data.items():
        try:
            values[name] = checks.get(name, _unknown)(value)
        except _Invalid as invalid:
            invalid.path = (name, *invalid.path)
            raise
    return values


def _unknown(value: object) -> t.NoReturn:
    raise _Invalid("unknown field")


def _no_constant(name: str) -> t.NoReturn:
    raise ValueError(f"{name} is not a number")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _text(value: t.Any) -> str:
    if not isinstance(value, str):
        raise _invalid(value, "text")
    return value


def _flag(value: t.Any) -> bool:
    if not isinstance(value, bool):
        raise _invalid(value, "true or false")
    return value


def _whole(value: t.Any) -> int:
    if type(value) is not int or value < 0:
        raise _invalid(value, "a whole number >= 0")
    return value


def _whole_or_null(value: t.Any) -> int | None:
    return None if value is None else _whole(value)


def _decimal(value: t.Any) -> Decimal:
    number = parse(value) if isinstance(value, str) else None
    if number is not None:
        return number
    raise _invalid(value, "a decimal number as text")


def _time(value: t.Any) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(_text(value))
    except ValueError:
        raise _invalid(value, "a time such as 2026-01-31T23:59:59.000Z") from None
    if moment.tzinfo is dt.UTC:
        return moment
    if moment.tzinfo is None:
        raise _invalid(value, "a time with its zone")
    try:
        return moment.astimezone(dt.UTC)
    except OverflowError:
        raise _invalid(value, "a time that UTC has") from None


def _start(value: t.Any) -> dt.datetime:
    moment = _time(value)
    if moment.microsecond % 1000:
        raise _invalid(value, "a time in whole milliseconds")
    return moment


def _digest(value: t.Any) -> str:
    if _DIGEST.fullmatch(_text(value)) is None:
        raise _invalid(value, "64 hexadecimal digits")
    return str(value)


def _one_of(*choices: str) -> _Check:
    def check(value: t.Any) -> str:
        if value not in choices:
            raise _invalid(value, f"one of {', '.join(choices)}")
        return str(value)

    return check


def _names(value: t.Any) -> frozenset[str]:
    if not isinstance(value, list):
        raise _invalid(value, "a list of names")
    return frozenset(_text(flag) for flag in value)


def _mapping(check: _Check) -> _Check:
    def checked(value: t.Any) -> dict[str, t.Any]:
        names = value if isinstance(value, dict) else ()
        return _checked(dict.fromkeys(names, check), value)

    return checked


def _part(value: t.Any) -> Part:
    if not isinstance(value, list) or len(value) != 3:
        raise _invalid(value, "[quantity, rate, amount]")
    quantity, rate, amount = value
    return Part(_decimal(quantity), _decimal(rate), _decimal(amount))


def _cost(value: t.Any) -> Cost:
    values = _checked(_COST, value)
    try:
        return Cost(**values)
    except TypeError as error:
        raise _Invalid(str(error)) from None  # a field without a default is missing


_USAGE: t.Final[Mapping[str, _Check]] = {
    **dict.fromkeys(COUNTS, _whole),
    "other_tokens": _mapping(_whole),
    "units": _mapping(_decimal),
}
_BOUND: t.Final[Mapping[str, _Check]] = {
    **dict.fromkeys(("input_tokens", "output_tokens", "choices"), _whole),
    "rounds": _whole_or_null,
    "units": _mapping(_decimal),
    "service_tier": _text,
    "other_models": _flag,
    "conditions": _names,
}
_COST: t.Final[Mapping[str, _Check]] = {
    "total_usd": _decimal,
    "parts": _mapping(_part),
    "source": _one_of(*t.get_args(CostSource)),
    "price_key": _text,
    "valid_from": _time,
    "tier": _text,
    "mode": _text,
    "complete": _flag,
    "flags": _names,
    "estimate_usd": _decimal,
    "ceiling_usd": _decimal,
}
_CALL: t.Final[Mapping[str, _Check]] = {
    **dict.fromkeys(TEXTS, _text),
    **dict.fromkeys(NUMBERS, _whole),
    "event_id": _text,
    "started_at": _start,
    "key_digest": _digest,
    "usage": usage_of,
    "bound": bound_of,
    "estimate": usage_of,
    "cost": _cost,
    "reported_cost": _decimal,
    "stream": _flag,
    "usage_source": _one_of(*USAGE_SOURCES),
    "outcome": _one_of(*OUTCOMES),
    "tags": _mapping(_text),
    "flags": _names,
}
