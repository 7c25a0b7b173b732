"""What is a dialect made of: the notes one takes, and how counts are taken safely."""

from __future__ import annotations

import copy
import datetime as dt
import re
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal
from decimal import InvalidOperation

from ..call import Usage

Object: t.TypeAlias = Mapping[str, t.Any]
"""A decoded JSON object."""

CONFLICT: t.Final = "usage_conflict"
"""The flag of an answer whose numbers contradict each other."""

_MAX_COUNT: t.Final = 1 << 53
"""More tokens than this is damage, not usage; it also keeps sums within BIGINT."""


_FAR: t.Final = 1 << 34


@dataclass(slots=True)
class Notes:
    """What has been read of one answer so far."""

    provider: str = ""
    operation: str = "chat"
    request_model: str | None = None
    model: str | None = None
    """The first model that the answer names."""
    response_id: str | None = None
    service_tier: str | None = None
    usage: dict[str, t.Any] = field(default_factory=dict)
    """The provider's own usage object, merged over all events."""
    units: dict[str, Decimal] = field(default_factory=dict)
    """Calls of server tools, pages, seconds: what happened and is no token."""
    extra: dict[str, t.Any] = field(default_factory=dict)
    """A dialect's own notes."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Response headers that the dialect asked for, in lower case."""
    created_s: int = 0
    """Seconds since 1970, as the provider dates its answer; 0 if it does not."""
    background: bool = False
    """The answer was made in the background: its create did not carry the usage."""
    flags: set[str] = field(default_factory=set)
    complete: bool = False
    """A terminal event was read."""
    partial: bool = False
    """Usage was begun but its last word has not come."""

    def copy(self) -> Notes:
        """Notes to go on with, apart from these."""
        twin = copy.copy(self)
        twin.usage = dict(self.usage)
        twin.units = dict(self.units)
        twin.extra = copy.deepcopy(self.extra)
        twin.flags = set(self.flags)
        return twin

    def merge(self, usage: object) -> bool:
        """Take over every field of a usage object that is not null.

        Usage in streams is cumulative and may be partial: it is merged, never added.
        """
        if not isinstance(usage, Mapping):
            return False
        for key, value in usage.items():
            if value is not None:
                self.usage[key] = value
        return bool(usage)

    def identify(self, *, model: object, response_id: object) -> None:
        """Keep the first model and id that the answer names."""
        if self.model is None and isinstance(model, str) and model:
            self.model = model
        if self.response_id is None and isinstance(response_id, (str, int)):
            self.response_id = str(response_id) or None

    def date(self, seconds: object) -> None:
        """Keep when the answer began, if that is given in seconds since 1970."""
        if isinstance(seconds, (int, float)) and 0 < seconds < _FAR:
            self.created_s = int(seconds)

    def date_iso(self, moment: object) -> None:
        """The same of a moment written as ISO 8601 has it, with its zone."""
        if isinstance(moment, str):
            try:
                made = dt.datetime.fromisoformat(moment)
            except ValueError:
                return
            if made.tzinfo is not None:
                self.date(made.timestamp())

    def count(self, value: object) -> int:
        """A count from JSON, never negative: what cannot be one is 0 and flagged."""
        if type(value) is int:
            if 0 <= value < _MAX_COUNT:
                return value
            number = -1
        elif value is None or isinstance(value, bool):
            return 0
        else:
            whole = _whole(value)
            if whole is None:
                self.flags.add(CONFLICT)
                return 0
            number = whole
        if 0 <= number < _MAX_COUNT:
            return number
        self.flags.add(CONFLICT)
        return 0

    def split_off(self, total: int, **parts: int) -> dict[str, int]:
        """Cut parts out of a total that holds them; ``rest`` is what is left.

        Parts that are more than the total are cut to fit, in their order, and flagged.
        """
        cut: dict[str, int] = {}
        for name, part in parts.items():
            if part > total:
                self.flags.add(CONFLICT)
                part = total
            cut[name] = part
            total -= part
        cut["rest"] = total
        return cut


def _whole(value: object) -> int | None:
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and len(value) <= 20:
        try:
            return int(value)
        except ValueError:
            return None
    return None


def amount(value: object) -> Decimal | None:
    """A quantity or a sum of money from JSON, exactly as it was written."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and number >= 0 else None


def inner(value: object, key: str) -> Object:
    """An object inside an object, empty where it is absent or something else."""
    if isinstance(value, Mapping):
        found = value.get(key)
        if isinstance(found, Mapping):
            return found
    return {}


def items(value: object) -> list[t.Any]:
    """A JSON array, empty where there is something else."""
    return value if isinstance(value, list) else []


def needles(*patterns: bytes) -> tuple[re.Pattern[bytes], ...]:
    """Regular expressions for what an event must hold to be worth parsing.

    They are searched in every network read: one that begins with plain characters is
    found faster than ten bytes are parsed.
    """
    return tuple(re.compile(pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one family of answers is read: pure functions over decoded JSON."""

    read: Callable[[Notes, Object], None]
    """Take notes of one document: a whole answer, or one event of a stream."""
    usage: Callable[[Notes], Usage | None]
    """Turn the notes into disjoint buckets; ``None`` if no usage was seen."""
    cost: Callable[[Notes], Decimal | None] = lambda notes: None
    """What the provider itself charges, in USD, where it says so."""
    needles: tuple[re.Pattern[bytes], ...] = (re.compile(b""),)
    """An event in which none of these is found says nothing new, once the answer is
    identified. By default every event is parsed. See :func:`needles`."""
    content: frozenset[str] = frozenset()
    """Members of a whole answer that hold content; they are skipped, not parsed."""
    tail: tuple[str, ...] = ("usage",)
    """Members to look for from the end of a whole answer: first the one that counts."""
    parse_whole_if: tuple[bytes, ...] = ()
    """Where one of these stands, content holds something billed: parse all of it."""
    envelope: str = ""
    """The member of an event that holds what a whole answer holds at its top."""
    tier: Callable[[Notes], str | None] = lambda notes: notes.service_tier
    """The served tier."""
    usage_by_model: Callable[[Notes], Mapping[str, Usage]] = lambda notes: {}
    """What each model used, where several took part and the usage is not all."""
    price_flags: Callable[[Notes], frozenset[str]] = lambda notes: frozenset()
    """What else a price may depend on, as flags: ``region.us``."""
    skim: Callable[[Notes, bytes], None] | None = None
    """Take notes of what is left of an answer too long to be kept: its ends."""
    batch_results: Callable[[Object], Iterable[Object]] | None = None
    """Of batch results: the answers in one line or document, without those that failed."""
    headers: frozenset[str] = frozenset()
    """Response headers it reads."""
