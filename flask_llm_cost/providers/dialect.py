"""Building blocks of a dialect: its hooks, its notes, and safe access to JSON values."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import re
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal
from operator import attrgetter

from ..call import Reading
from ..call import Usage
from ..money import in_bounds
from ..money import parse

Object: t.TypeAlias = Mapping[str, t.Any]
"""A decoded JSON object."""

CONFLICT: t.Final = "usage_conflict"
"""The flag of an answer whose numbers contradict each other."""

_MAX_COUNT: t.Final = 1 << 48
"""A larger count is damage, not usage. The sum of an answer's counts is still valid."""

_MAX_SECONDS: t.Final = 1 << 34
"""A later date is damage, too."""


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
    """Billed quantities other than tokens: server tool calls, pages, seconds."""
    containers: set[str] = field(default_factory=set)
    """The ids of containers that ran code, as in :attr:`.Reading.containers`."""
    extra: dict[str, t.Any] = field(default_factory=dict)
    """Private to the dialect."""
    session: dict[str, t.Any] = field(default_factory=dict)
    """Private to the dialect, and kept for the next answer by :meth:`take`."""
    tally: int = 0
    """How often :attr:`Dialect.tally` occurs in an answer that is too long to keep."""
    request: Mapping[str, t.Any] = field(default_factory=dict)
    """Facts of the request that billing depends on, by :attr:`Dialect.request`. Never
    content."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The response headers in :attr:`Dialect.headers`, with lower-case names."""
    created_s: int = 0
    """The answer's date in seconds since 1970, or 0 if it has none."""
    background: bool = False
    """The answer was made in the background, so its create request had no usage."""
    flags: set[str] = field(default_factory=set)
    complete: bool = False
    """A terminal event was read."""
    partial: bool = False
    """Usage has started to arrive, but the final counts have not."""
    running: bool = False
    """The counts are those so far, and the answer has not said that it ends."""

    def copy(self) -> Notes:
        """Create an independent copy."""
        twin = copy.copy(self)
        twin.usage = dict(self.usage)
        twin.units = dict(self.units)
        twin.containers = set(self.containers)
        twin.extra = copy.deepcopy(self.extra)
        twin.session = copy.deepcopy(self.session)
        twin.flags = set(self.flags)
        return twin

    def take(self) -> Notes:
        """Return the notes of the answer that was read, and begin those of the next."""
        taken = copy.copy(self)
        empty = Notes(
            self.provider,
            self.operation,
            self.request_model,
            session=self.session,
            request=self.request,
            headers=self.headers,
        )
        for each in dataclasses.fields(Notes):
            setattr(self, each.name, getattr(empty, each.name))
        return taken

    def merge(self, usage: object) -> bool:
        """Take over the fields of a usage object that are not null.

        Usage in streams is cumulative and may be partial, so it is never summed.

        :return: Whether there were any fields.
        """
        if type(usage) is not dict and not isinstance(usage, Mapping):
            return False
        for key, value in usage.items():
            if value is not None:
                self.usage[key] = value
        return bool(usage)

    def identify(self, *, model: object, response_id: object) -> None:
        """Record the first model and the first id that the answer names."""
        if self.model is None and isinstance(model, str) and model:
            self.model = model
        if self.response_id is None and isinstance(response_id, (str, int)):
            self.response_id = str(response_id) or None

    def date(self, seconds: object) -> None:
        """Record the answer's date, given in seconds since 1970."""
        if isinstance(seconds, (int, float)) and 0 < seconds < _MAX_SECONDS:
            self.created_s = int(seconds)

    def date_iso(self, moment: object) -> None:
        """Record the answer's date, given in ISO 8601 with a time zone."""
        if isinstance(moment, str):
            try:
                made = dt.datetime.fromisoformat(moment)
            except ValueError:
                return
            if made.tzinfo is not None:
                self.date(made.timestamp())

    def count(self, value: object) -> int:
        """Convert a JSON value to a count. An invalid one is flagged and becomes 0."""
        if type(value) is int and 0 <= value < _MAX_COUNT:
            return value
        if value is None or isinstance(value, bool):
            return 0
        number = _as_int(value)
        if number is not None and 0 <= number < _MAX_COUNT:
            return number
        self.flags.add(CONFLICT)
        return 0

    def amount(self, value: object) -> Decimal | None:
        """Convert a JSON value to an exact quantity or amount of money.

        An invalid one, or one out of bounds, is flagged and becomes ``None``.
        """
        if value is None or isinstance(value, bool):
            return None
        number = _as_number(value)
        if number is not None and 0 <= number < _MAX_COUNT:
            return number
        self.flags.add(CONFLICT)
        return None

    def split_off(self, total: int, **parts: int) -> dict[str, int]:
        """Split a total into the given parts and ``rest``.

        Parts that exceed the total are reduced to fit, in order, and flagged.
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


def _as_int(value: object) -> int | None:
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and len(value) <= 20:
        try:
            return int(value)
        except ValueError:
            return None
    return None


def _as_number(value: object) -> Decimal | None:
    # Bounds come first: converting a long number takes quadratic time.
    if isinstance(value, int):
        return Decimal(value) if 0 <= value < _MAX_COUNT else None
    if isinstance(value, float):
        return parse(repr(value))
    return parse(value) if isinstance(value, str) else None


def add_part(parts: dict[str, Usage], name: str, used: Usage, flags: set[str]) -> None:
    """Add usage to that of the same name. A sum that nothing reaches is flagged."""
    try:
        parts[name] = parts[name].plus(used) if name in parts else used
    except ValueError:
        flags.add(CONFLICT)


def inner(value: object, key: str) -> Object:
    """Get a nested object, or an empty one if there is none."""
    # Nearly all are dicts, and the check for the abstract class takes ten times as long.
    if type(value) is dict or isinstance(value, Mapping):
        found = value.get(key)
        if type(found) is dict or isinstance(found, Mapping):
            return found
    return {}


def items(value: object) -> list[t.Any]:
    """Get a JSON array, or an empty list if the value is something else."""
    return value if isinstance(value, list) else []


def needles(*patterns: bytes) -> tuple[re.Pattern[bytes], ...]:
    """Compile patterns for :attr:`Dialect.needles`.

    Every network read is searched for them. A pattern that begins with literal
    characters is found faster than ten bytes are parsed.
    """
    return tuple(re.compile(pattern) for pattern in patterns)


def units_usage(notes: Notes) -> Usage | None:
    """Get the units, which are billed instead of tokens."""
    return Usage(units=notes.units) if notes.units else None


def no_turns(notes: Notes, document: Object) -> tuple[()]:
    """Of an answer that is not one of many."""
    return ()


def one_by_one(
    answers: Callable[[Object], list[Object]], take: Callable[[Notes, Object], None]
) -> tuple[Callable[[Notes, Object], list[Notes]], Callable[[Notes, Object], None]]:
    """Create :attr:`Dialect.turns` and :attr:`Dialect.read` of a session.

    :param answers: Returns the answers in a document.
    :param take: Takes notes of one of them.
    """

    def turns(notes: Notes, document: Object) -> list[Notes]:
        found = answers(document)
        ended = [notes.take()] if found and notes.usage else []
        for answer in found[:-1]:
            aside = Notes(notes.provider, notes.operation, session=notes.session)
            take(aside, answer)
            ended.append(aside)
        return ended

    def read(notes: Notes, document: Object) -> None:
        for answer in answers(document)[-1:]:
            take(notes, answer)

    return turns, read


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one family of answers is read: pure functions over decoded JSON."""

    read: Callable[[Notes, Object], None]
    """Take notes of one document: a whole answer or one event of a stream."""
    usage: Callable[[Notes], Usage | None]
    """Turn the notes into disjoint buckets, or ``None`` if there was no usage."""
    turns: Callable[[Notes, Object], Iterable[Notes]] = no_turns
    """Of a session with many answers: those that have ended before this event, or that
    it consists of. Called before :attr:`read`, which takes notes of the last answer."""
    cost: Callable[[Notes], Decimal | None] = lambda notes: None
    """The cost in USD that the provider reports, if it does."""
    needles: tuple[re.Pattern[bytes], ...] = (re.compile(b""),)
    """Once the answer is identified, only events that match one of these are parsed.
    By default every event is. See :func:`needles`."""
    content: frozenset[str] = frozenset()
    """Members of a whole answer that hold content. They are skipped, not parsed."""
    tail: tuple[str, ...] = ("usage",)
    """Members to look for from the end of a whole answer. The first holds the usage."""
    parse_whole_if: tuple[bytes, ...] = ()
    """If one of these occurs, the content has billed items: parse the whole answer."""
    envelope: str = ""
    """The member of an event that holds what a whole answer has at its top level."""
    tier: Callable[[Notes], str | None] = lambda notes: notes.service_tier
    """The served tier."""
    usage_by_model: Callable[[Notes], Mapping[str, Usage]] = lambda notes: {}
    """Usage by model, where several took part and :attr:`usage` is not all of it."""
    price_flags: Callable[[Notes], frozenset[str]] = lambda notes: frozenset()
    """Other conditions that a price may depend on, as flags: ``region.us``."""
    skim: Callable[[Notes, bytes], None] | None = None
    """Take notes of an answer that is too long to keep, from its two ends."""
    tally: re.Pattern[bytes] | None = None
    """Occurs once for each billed item of an answer. In one that is too long to keep, these
    are counted while it passes: see :class:`.Tally`."""
    batch_results: Callable[[Object], Iterable[Object]] | None = None
    """Extract the successful answers from one line or document of batch results."""
    request: Callable[[Object], Mapping[str, t.Any]] | None = None
    """Extract from a request what its answer does not repeat and billing depends on: a
    size, a number of characters. The result must not hold content."""
    request_if: tuple[bytes, ...] = (b"",)
    """If none of these occurs in a request, :attr:`request` is not called."""
    headers: frozenset[str] = frozenset()
    """Response headers to keep for :attr:`Notes.headers`."""
    whole: bool = False
    """A web socket is one answer until it is closed, not one for each turn."""
    sent: Callable[[Notes, Object], None] | None = None
    """Take notes of a message that the app sends in such a session. Never of content."""
    extras: re.Pattern[str] | None = None
    """Occurs in the query of a URL that asks for something which is billed on top, and
    which the answer does not show. Such a call is flagged ``unread_usage``."""


def batch_dialect(
    answers: Dialect, batch_results: Callable[[Object], Iterable[Object]]
) -> Dialect:
    """Create the dialect of batch results whose answers are read by another one."""
    return Dialect(
        read=answers.read,
        usage=answers.usage,
        cost=answers.cost,
        tier=answers.tier,
        usage_by_model=answers.usage_by_model,
        price_flags=answers.price_flags,
        parse_whole_if=(b"",),
        batch_results=batch_results,
    )


def check_reading(reading: Reading) -> None:
    """Check the results of a dialect that may be an app's own.

    :raises TypeError: If a value has the wrong type, so that it could not be stored.
    """
    values = _typed(reading)
    if not all(map(isinstance, values, _TYPES.values())):
        for (name, kinds), value in zip(_TYPES.items(), values, strict=True):
            if not isinstance(value, kinds):
                raise TypeError(f"{name} must be {kinds[0].__name__}")
    cost = reading.reported_cost
    if cost is not None and not in_bounds(cost):
        raise TypeError("reported_cost must be a number within bounds")
    by_model = reading.usage_by_model
    if by_model != {} and not all(
        isinstance(used, Usage) for used in by_model.values()
    ):
        raise TypeError("usage_by_model must map models to Usage")


_TYPES: t.Final = {
    "model": (str, type(None)),
    "response_id": (str, type(None)),
    "service_tier": (str, type(None)),
    "usage": (Usage, type(None)),
    "reported_cost": (Decimal, type(None)),
}
_typed: t.Final = attrgetter(*_TYPES)
