"""Values that travel between rooms: what a call used, its cost, and the call itself.

Counts are tokens, money is ``Decimal`` USD here and integer pico-USD (1e-12 USD)
in storage, time is aware UTC. What is unknown is ``None``, never 0.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal
from operator import attrgetter

from .bound import Bound
from .money import add
from .money import in_bounds
from .money import MAX_DIGITS

Tags: t.TypeAlias = Mapping[str, t.Any]
"""Tags as an app writes them: names and values of any type with a text form."""

TagSource: t.TypeAlias = Tags | Callable[[], Tags | None]
"""A mapping, or a callable evaluated once per call, when it is sent."""

KEY_PATTERN: t.Final = re.compile(r"[A-Za-z0-9_.-]{1,200}")
"""A valid tag key (matched as a whole)."""

UsageSource: t.TypeAlias = t.Literal[
    "response", "stream_final", "stream_partial", "manual", "estimated", "unknown"
]
Outcome: t.TypeAlias = t.Literal[
    "ok", "http_error", "interrupted", "failed", "no_response", "unfinished"
]
CostSource: t.TypeAlias = t.Literal["provider", "bill", "override", "file", "bundled"]

REPORTED: t.Final[tuple[CostSource, ...]] = ("provider", "bill")
"""Sources of a cost that states what was billed: prices never change it."""

USAGE_SOURCES: t.Final[tuple[str, ...]] = t.get_args(UsageSource)
OUTCOMES: t.Final[tuple[str, ...]] = t.get_args(Outcome)
OUTCOME_LABELS: t.Final[Mapping[str, str]] = {
    "ok": "OK",
    "http_error": "HTTP error",
    "interrupted": "Interrupted",
    "failed": "Connection lost",
    "no_response": "No response",
    "unfinished": "Unfinished",
}
"""Outcomes as pages and commands show them."""

USAGE_SOURCE_LABELS: t.Final[Mapping[str, str]] = {
    "response": "Response",
    "stream_final": "End of stream",
    "stream_partial": "Partial stream",
    "manual": "Manual",
    "estimated": "Estimated",
    "unknown": "Unknown",
}
"""Usage sources as pages and commands show them."""

SILENT_OUTCOMES: t.Final[tuple[Outcome, ...]] = ("http_error", "no_response")
"""An attempt that ended in one of these without usage cost nothing."""

OTHER_SIDES: t.Final = ("input_", "cache_read_", "cache_write_", "output_")
"""Prefixes of rarer token buckets; they say which side a bucket counts for."""


class _Plain:
    """Remembers, for pricing, whether a usage has only the buckets that most have."""

    __slots__ = ("_plain",)
    _plain: tuple[int, int, int] | None
    """Uncached input, cache reads and output, if there is nothing else."""

    # A copy has only the fields. Hidden from type checkers, as below.
    if not t.TYPE_CHECKING:

        def __getattr__(self, name: str) -> t.Any:
            if name != "_plain":
                raise AttributeError(
                    f"{type(self).__name__!r} object has no attribute {name!r}"
                )
            self._note()
            return object.__getattribute__(self, "_plain")

    def _note(self) -> None:
        fresh, cached, out, *rest = _buckets(self)
        plain = None if any(rest) else (fresh, cached, out)
        object.__setattr__(self, "_plain", plain)


_buckets: t.Final = attrgetter(
    "input_tokens",
    "cache_read_tokens",
    "output_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_audio_tokens",
    "output_image_tokens",
    "other_tokens",
    "units",
)


@dataclass(frozen=True, slots=True)
class Usage(_Plain):
    """What one call used, in disjoint buckets: each token is counted once.

    :raises ValueError: If a count is negative or not a whole number, or if the name of
        an ``other_tokens`` bucket does not say its side.
    """

    input_tokens: int = 0
    """Uncached text, and anything without its own bucket."""
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    """Cache writes with the provider's default time to live."""
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    """Text, reasoning included."""
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    other_tokens: Mapping[str, int] = field(default_factory=dict)
    """Rarer buckets, such as ``input_video`` or ``cache_write_12h``."""
    reasoning_tokens: int = 0
    """For information only: already included in the output buckets."""
    units: Mapping[str, Decimal] = field(default_factory=dict)
    """Anything billed that is not a token: ``web_search``, ``image``, ``page``, ..."""

    def __post_init__(self) -> None:
        # Without a loop in Python: one is made for each call, and more in reports.
        counts = _counts(self)
        if {*map(type, counts)} != _INT or min(counts) < 0 or max(counts) > MAX_COUNT:
            self._refuse_counts()
        if self.other_tokens or self.units:
            self._check_mappings()

    def _refuse_counts(self) -> None:
        for name in COUNTS:
            _check_count(name, getattr(self, name))

    def _check_mappings(self) -> None:
        for name, count in self.other_tokens.items():
            if not name.startswith(OTHER_SIDES):
                raise ValueError(
                    f"other_tokens[{name!r}] must begin with one of {', '.join(OTHER_SIDES)}"
                )
            _check_count(f"other_tokens[{name!r}]", count)
        for name, quantity in self.units.items():
            if (
                not isinstance(quantity, Decimal)
                or not in_bounds(quantity)
                or quantity < 0
            ):
                raise ValueError(
                    f"units[{name!r}] must be a Decimal >= 0 of at most {MAX_DIGITS}"
                    f" digits, not {quantity!r:.60}"
                )

    @property
    def total_input_tokens(self) -> int:
        """All input buckets: uncached, cache reads and cache writes, of any modality."""
        total = (
            self.input_tokens
            + self.input_audio_tokens
            + self.input_image_tokens
            + self.cache_read_tokens
            + self.cache_write_tokens
            + self.cache_write_1h_tokens
        )
        if self.other_tokens:
            total += sum(
                n for k, n in self.other_tokens.items() if not k.startswith("output_")
            )
        return total

    @property
    def total_output_tokens(self) -> int:
        """All output buckets, reasoning included."""
        total = self.output_tokens + self.output_audio_tokens + self.output_image_tokens
        if self.other_tokens:
            total += sum(
                n for k, n in self.other_tokens.items() if k.startswith("output_")
            )
        return total

    @property
    def total_tokens(self) -> int:
        """Input and output."""
        return self.total_input_tokens + self.total_output_tokens

    def plus(self, other: Usage) -> Usage:
        """The sum of both."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in COUNTS}
        return Usage(
            **counts,
            other_tokens=_added(self.other_tokens, other.other_tokens, 0, int.__add__),
            units=_added(self.units, other.units, Decimal(0), add),
        )


COUNTS: t.Final = tuple(
    f.name for f in dataclasses.fields(Usage) if f.name not in ("other_tokens", "units")
)
"""The names of the token counts of :class:`Usage`."""

_counts: t.Final = attrgetter(*COUNTS)
_INT: t.Final = {int}

_N = t.TypeVar("_N", int, Decimal)


def _added(
    one: Mapping[str, _N],
    other: Mapping[str, _N],
    zero: _N,
    plus: Callable[[_N, _N], _N],
) -> dict[str, _N]:
    return {k: plus(one.get(k, zero), other.get(k, zero)) for k in {**one, **other}}


def _check_count(name: str, count: object) -> None:
    # Not isinstance: bool is an int, but a count of True is a mistake.
    if type(count) is not int or not 0 <= count <= MAX_COUNT:
        raise ValueError(
            f"{name} must be a whole number >= 0 (and at most 2**53), not {count!r}"
        )


MAX_COUNT: t.Final = 1 << 53
"""A larger count is corrupt data; sums of such counts would overflow BIGINT."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a provider's response says about one call."""

    provider: str
    operation: str
    """``chat``, ``responses``, ``completions``, ``embeddings``, ``images``, ..."""
    request_model: str | None = None
    model: str | None = None
    """The model that served the call, or the requested one."""
    response_id: str | None = None
    usage: Usage | None = None
    usage_source: UsageSource = "unknown"
    stream: bool = False
    service_tier: str | None = None
    """As served."""
    reported_cost: Decimal | None = None
    """USD, as reported by the provider."""
    flags: frozenset[str] = frozenset()
    usage_by_model: Mapping[str, Usage] = field(default_factory=dict)
    """Usage per model, if several models took part and ``usage`` is not all of it.

    The cost is then the sum over these, not the price of ``usage`` at ``model``.
    """
    bound: Bound | None = None
    """The most that the request may use, if there is no final usage."""
    estimate: Usage | None = None
    """What it probably used, then."""
    created_at: dt.datetime | None = None
    """When the response began, according to the provider: the same in every poll."""
    containers: frozenset[str] = frozenset()
    """Ids of the containers that ran code. Each is billed once, however many answers
    use it, and counted in the unit ``code_interpreter``."""


@dataclass(frozen=True, slots=True)
class Part:
    """One line of a cost: a quantity at one rate."""

    quantity: Decimal
    """Tokens, or units."""
    rate: Decimal
    """USD per 1M tokens, or per unit."""
    amount_usd: Decimal


class _Late:
    """Computes fields when one of them is first accessed.

    Pricing is integer arithmetic, and an app mostly wants the total. Making decimals, parts
    and provenance from it takes longer than everything else.
    """

    __slots__ = ("_later",)

    # Hidden from type checkers, which would otherwise accept any attribute.
    if not t.TYPE_CHECKING:

        def __getattr__(self, name: str) -> t.Any:
            if name not in self.__dataclass_fields__:
                raise AttributeError(
                    f"{type(self).__name__!r} object has no attribute {name!r}"
                )
            later = object.__getattribute__(self, "_later")
            later[0](self, *later[1:])
            return object.__getattribute__(self, name)


@dataclass(frozen=True, slots=True)
class Cost(_Late):
    """What one call cost and how it was priced. The total is the sum of the parts."""

    total_usd: Decimal
    """The known cost: if it is incomplete, the true cost may be higher."""
    parts: Mapping[str, Part]
    """By meter: ``input``, ``cache_read``, ``output``, ``web_search``, ... or ``reported``."""
    source: CostSource
    price_key: str | None = None
    """The price book's key that matched, such as ``openai/gpt-4o``."""
    valid_from: dt.datetime | None = None
    """When the price took effect (aware UTC); ``None`` if it has no date."""
    tier: str | None = None
    """The long-context tier used, such as ``above_200k``; ``None`` below the first."""
    mode: str | None = None
    """``batch``, ``flex``, ``priority``, ...; ``None`` is standard."""
    complete: bool = True
    """False if something that is billed was not read, or has no rate: see
    :data:`.INCOMPLETE`."""
    flags: frozenset[str] = frozenset()
    estimate_usd: Decimal | None = None
    """The local estimate: next to a cost that the provider reported, or of a call
    without final usage."""
    ceiling_usd: Decimal | None = None
    """The most that the call can have cost: the total if the cost is complete; ``None`` if
    an incomplete one has no known limit."""

    def __post_init__(self) -> None:
        if self.complete and self.ceiling_usd is None:
            object.__setattr__(self, "ceiling_usd", self.total_usd)


_UNFINISHED: t.Final = ("cut", "no_usage")


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP attempt at an LLM API, as recorded in the ledger."""

    event_id: str
    """UUIDv7 as text; its 48-bit time is ``started_at`` in ms."""
    started_at: dt.datetime
    """When the request was sent: aware UTC, whole milliseconds."""
    provider: str
    model: str
    request_model: str | None = None
    operation: str = "chat"
    usage: Usage | None = None
    cost: Cost | None = None
    reported_cost: Decimal | None = None
    latency_ms: int | None = None
    first_byte_ms: int | None = None
    stream: bool = False
    usage_source: UsageSource = "unknown"
    outcome: Outcome = "ok"
    http_status: int | None = None
    response_id: str | None = None
    service_tier: str | None = None
    trace_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()
    usage_by_model: Mapping[str, Usage] = field(default_factory=dict)
    """As in :class:`Reading`. Dropped once the call is priced: the ledger stores the parts."""
    bound: Bound | None = None
    """As in :class:`Reading`."""
    estimate: Usage | None = None
    """As in :class:`Reading`."""
    scope: str | None = None
    """The account it was made with, as ``name=id`` parts: ids of the organization, project
    or workspace where headers show them, and a fingerprint of the API key."""
    key_digest: str | None = field(default=None, repr=False)
    """A digest of the API key, until the ledger's writer makes the fingerprint from it."""

    @property
    def used_nothing(self) -> bool:
        """Whether the attempt got an HTTP error or no response, and reported no usage."""
        return self.usage is None and self.outcome in SILENT_OUTCOMES

    @property
    def unpriced(self) -> bool:
        """Whether the call may have cost something, and no cost is known."""
        return self.cost is None and not self.used_nothing

    @property
    def unsettled(self) -> bool:
        """Whether only a part of its cost is known, since there is no final usage."""
        if self.cost is None or self.cost.complete:
            return False
        return self.bound is not None or not self.flags.isdisjoint(_UNFINISHED)

    def priced(
        self,
        cost: Cost | None,
        flags: frozenset[str],
        tags: Mapping[str, str],
        scope: str | None,
        key_digest: str | None,
    ) -> Call:
        """The call with its cost and scope, without ``usage_by_model``."""
        # Runs on the app's thread for each call; dataclasses.replace takes twice as long.
        return Call(
            self.event_id,
            self.started_at,
            self.provider,
            self.model,
            self.request_model,
            self.operation,
            self.usage,
            cost,
            self.reported_cost,
            self.latency_ms,
            self.first_byte_ms,
            self.stream,
            self.usage_source,
            self.outcome,
            self.http_status,
            self.response_id,
            self.service_tier,
            self.trace_id,
            tags,
            flags,
            bound=self.bound,
            estimate=self.estimate,
            scope=scope,
            key_digest=key_digest,
        )


TEXTS: t.Final = ("provider", "model", "request_model", "operation", "service_tier") + (
    "scope",
    "response_id",
    "trace_id",
)
"""The fields of :class:`Call` that are text from outside, in lines, rows and tables."""

NUMBERS: t.Final = ("http_status", "latency_ms", "first_byte_ms")
"""The fields of :class:`Call` that are whole numbers."""
