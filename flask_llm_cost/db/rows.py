"""Map calls to rows and back.

Columns hold what reports aggregate and filter by; ``details`` is JSON text with the rest,
so that :func:`call_of` returns an equal call. Its keys, each omitted when empty:
``other_tokens`` and ``units`` (``{name: count}``), ``parts`` (``{meter: [quantity, rate,
amount in pico-USD]}``), ``price_key``, ``valid_from``, ``tier``, ``mode``, ``cost_flags``,
``reported_cost``, ``estimate``, ``bound`` and ``estimated_usage``. Decimals are text; token
counts and pico-USD are integers.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import json
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal
from operator import attrgetter

from ..calendar import from_ms
from ..call import Call
from ..call import Cost
from ..call import COUNTS
from ..call import NUMBERS
from ..call import Part
from ..call import TEXTS
from ..call import Usage
from ..json_text import bound_fields
from ..json_text import encode_json
from ..json_text import json_key
from ..json_text import provenance
from ..json_text import usage_fields
from ..jsonl import bound_of
from ..jsonl import check_id
from ..jsonl import usage_of
from ..money import from_pico
from ..money import to_pico
from .column_types import Text
from .tables import calls
from .tables import COST_GROUPS

BIGGEST: t.Final = 2**63 - 1
"""The largest value of a BIGINT column."""

TAG_BYTES: t.Final = 1024
"""The maximum size of a tag's value that every engine can index."""

TRUNCATED: t.Final = "truncated_text"
"""The flag of a call whose text was cut, or cleaned of what databases reject."""

_COUNTS: t.Final = (*COUNTS, "total_input_tokens", "total_output_tokens")
_INPUT: t.Final = slice(0, COUNTS.index("output_tokens"))
_OUTPUT: t.Final = slice(_INPUT.stop, COUNTS.index("reasoning_tokens"))
_LENGTHS: t.Final = [t.cast(Text, calls.c[name].type).length for name in TEXTS]
_FLAGS_LENGTH: t.Final = 255

# One attribute lookup instead of many: this runs for each call that is stored.
_counts: t.Final = attrgetter(*COUNTS)
_texts: t.Final = attrgetter(*TEXTS)

_GROUPS: t.Final = (
    ("input", "cost_input"),
    ("cache_read", "cost_cache_read"),
    ("cache_write", "cost_cache_write"),
    ("output", "cost_output"),
    ("reasoning", "cost_output"),
)
_COST_COLUMNS: t.Final = ("cost_total", *COST_GROUPS, "cost_source") + (
    "cost_complete",
    "cost_ceiling",
)
_FIELDS: t.Final = (
    ("event_id", "started_at", "stream", "usage_source", "outcome") + NUMBERS + TEXTS
)
"""The columns that are fields of a call."""
COLUMNS: t.Final = (
    *_FIELDS,
    *_COUNTS,
    "other_tokens",
    *_COST_COLUMNS,
    "flags",
    "details",
)
"""The columns of a call, in the order of :func:`values_of`."""

_NO_COUNTS: t.Final = (None,) * (len(_COUNTS) + 1)
_NO_COSTS: t.Final = (None,) * len(_COST_COLUMNS)


@dataclass(frozen=True, slots=True)
class TagSet:
    """One distinct set of tags."""

    id: int
    """63 bits of a hash of ``text``."""
    text: str
    """Canonical JSON: sorted keys, no spaces."""
    tags: Mapping[str, str]


def cost_group(meter: str) -> str:
    """Return the column that a meter's amount belongs to, e.g. ``cost_input``."""
    for prefix, column in _GROUPS:
        if meter.startswith(prefix):
            return column
    return "cost_units"


def row_of(call: Call) -> dict[str, t.Any]:
    """Return a call's row of :data:`.tables.calls`, without ``tag_set_id``.

    Text longer than its column is cut, and the call flagged ``truncated_text``.

    :raises ValueError: If no database can store the call: an amount or a count is out of
        range, the cost is not the sum of its parts, or the id is from another time.
    """
    row = dict(zip(COLUMNS, values_of(call), strict=True))
    return row | {"started_at": from_ms(row["started_at"])}


def values_of(call: Call) -> tuple[t.Any, ...]:
    """Return the values of :data:`COLUMNS` in the types of drivers: times are in ms.

    :raises ValueError: As :func:`row_of`.
    """
    started_at = check_id(call)
    texts, cut = _texts_of(call)
    tags = _stored_tags(tuple(call.tags.items())) if call.tags else None
    costs, parts = _costs_of(call.cost)
    flags = call.flags
    if cut or (tags is not None and tags.cut):
        flags = flags | {TRUNCATED}
    return (
        call.event_id,
        started_at,
        call.stream,
        call.usage_source,
        call.outcome,
        _in_range("http_status", call.http_status, 32767),
        _in_range("latency_ms", call.latency_ms),
        _in_range("first_byte_ms", call.first_byte_ms),
        *texts,
        *_counts_of(call.usage),
        *costs,
        _join(flags) if flags else "",
        _details(call, parts),
    )


def _texts_of(call: Call) -> tuple[tuple[str | None, ...], bool]:
    """Return the texts, and whether one was cut or cleaned."""
    *common, response_id, trace_id = _texts(call)
    texts, cut = _common_texts(*common)
    response, trace = map(_fitting, (response_id, trace_id), _LENGTHS[-2:])
    cut = cut or response != response_id or trace != trace_id
    return (*texts, response, trace), cut


# Most calls share theirs with a recent one.
@functools.lru_cache(maxsize=1024)
def _common_texts(*texts: str | None) -> tuple[tuple[str | None, ...], bool]:
    kept = tuple(map(_fitting, texts, _LENGTHS))
    return kept, kept != texts


def _fitting(text: str | None, length: int) -> str | None:
    if text is None or (len(text) <= length and text.isascii() and "\0" not in text):
        return text
    return clean(text)[:length]


def tag_set_of(tags: Mapping[str, str]) -> TagSet | None:
    """Return a call's tags as the ledger stores them; ``None`` for no tags."""
    return _stored_tags(tuple(tags.items())).tags if tags else None


class _StoredTags(t.NamedTuple):
    tags: TagSet
    cut: bool
    """Whether a value was cut, or cleaned of what databases reject."""


# Most calls have the tags of a recent one.
@functools.lru_cache(maxsize=1024)
def _stored_tags(tags: tuple[tuple[str, str], ...]) -> _StoredTags:
    stored = {clean(key)[:200]: _clean_value(value) for key, value in sorted(tags)}
    text = encode_json(stored)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    found = TagSet(int.from_bytes(digest) >> 1, text, stored)
    return _StoredTags(found, any(_clean_value(value) != value for _, value in tags))


def clean(text: str) -> str:
    """Replace what some database rejects: NUL and lone surrogates."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if text.isascii():
        return text
    # Each of a lone surrogate's three bytes becomes one replacement character.
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _clean_value(value: str) -> str:
    value = clean(value)
    if len(value) * 4 <= TAG_BYTES:
        return value
    return value.encode()[:TAG_BYTES].decode("utf-8", "ignore")


def _in_range(name: str, value: int | None, biggest: int = BIGGEST) -> int | None:
    if value is not None and abs(value) > biggest:
        raise ValueError(f"{name}: {value} exceeds what the ledger can store")
    return value


@functools.lru_cache(maxsize=1024)
def _join(flags: frozenset[str]) -> str:
    text = " ".join(sorted(flags))
    if len(text) <= _FLAGS_LENGTH and text.isascii():
        return text
    kept = TRUNCATED
    for flag in sorted(flags - {TRUNCATED}):
        if flag.isascii() and len(kept) + 1 + len(flag) <= _FLAGS_LENGTH:
            kept += " " + flag
    return " ".join(sorted(kept.split()))


def _counts_of(usage: Usage | None) -> tuple[int | None, ...]:
    if usage is None:
        return _NO_COUNTS
    # A Usage has no count that is out of range; its sums may be.
    counts: tuple[int, ...] = _counts(usage)
    if not usage.other_tokens:
        return *counts, sum(counts[_INPUT]), sum(counts[_OUTPUT]), 0
    total_input, total_output = usage.total_input_tokens, usage.total_output_tokens
    return (
        *counts,
        _in_range("total_input_tokens", total_input),
        _in_range("total_output_tokens", total_output),
        _in_range("other_tokens", sum(usage.other_tokens.values())),
    )


def _costs_of(cost: Cost | None) -> tuple[tuple[t.Any, ...], str]:
    """Return the values of the columns, and the parts as JSON for the details."""
    if cost is None:
        return _NO_COSTS, ""
    total = to_pico(cost.total_usd)
    sums = [0] * len(COST_GROUPS)
    parts = []
    for meter, part in cost.parts.items():
        pico = to_pico(part.amount_usd)
        group, name = _known_meter(meter)
        sums[group] += pico
        parts.append(f'{name}["{part.quantity!s}","{part.rate!s}",{pico}]')
    if sum(sums) != total:
        raise ValueError(
            f"cost.total_usd: {cost.total_usd} is not the sum of its parts"
            f" ({from_pico(total - sum(sums))} USD apart)"
        )
    values = (total, *sums, cost.source, cost.complete, _ceiling_of(cost, total))
    return values, ",".join(parts)


def _ceiling_of(cost: Cost, total: int) -> int | None:
    """Return the ceiling of an incomplete cost; that of a complete one is its total."""
    if cost.complete or cost.ceiling_usd is None:
        return None
    ceiling = to_pico(cost.ceiling_usd)
    if ceiling < total:
        raise ValueError(
            f"cost.ceiling_usd: {cost.ceiling_usd} is less than the total,"
            f" {cost.total_usd}"
        )
    return ceiling


@functools.lru_cache(maxsize=1024)
def _known_meter(meter: str) -> tuple[int, str]:
    """Return the index of a meter's cost group, and its name as a JSON key."""
    return COST_GROUPS.index(cost_group(meter)), json_key(meter)


def _details(call: Call, parts: str) -> str | None:
    # The JSON is written by hand: a dict and an encoder take three times as long, and
    # this runs for each call that is stored.
    fields: list[str] = []
    usage, cost = call.usage, call.cost
    if usage is not None and usage.other_tokens:
        fields.append(f'"other_tokens":{encode_json(dict(usage.other_tokens))}')
    if usage is not None and usage.units:
        units = {name: str(n) for name, n in usage.units.items()}
        fields.append(f'"units":{encode_json(units)}')
    if parts:
        fields.append(f'"parts":{{{parts}}}')
    if cost is not None:
        fields += provenance(cost)
        if cost.flags:
            fields.append(f'"cost_flags":{encode_json(sorted(cost.flags))}')
        if cost.estimate_usd is not None:
            fields.append(f'"estimate":"{cost.estimate_usd}"')
    if call.reported_cost is not None:
        fields.append(f'"reported_cost":"{call.reported_cost}"')
    if call.bound is not None:
        fields.append(f'"bound":{encode_json(bound_fields(call.bound))}')
    if call.estimate is not None:
        fields.append(f'"estimated_usage":{encode_json(usage_fields(call.estimate))}')
    return clean(f"{{{','.join(fields)}}}") if fields else None


def call_of(row: t.Any, tags: Mapping[str, str] | None = None) -> Call:
    """Return the call that a row of :data:`.tables.calls` stores.

    :param row: Any object with all the table's columns as attributes.
    :param tags: The tags of the row's tag set.
    """
    details = json.loads(row.details) if row.details else {}
    reported = details.get("reported_cost")
    bound, estimate = details.get("bound"), details.get("estimated_usage")
    return Call(
        **{name: getattr(row, name) for name in _FIELDS},
        usage=_usage_of(row, details),
        cost=_cost_of(row, details),
        reported_cost=None if reported is None else Decimal(reported),
        tags=tags if tags is not None else {},
        flags=frozenset(row.flags.split()),
        bound=None if bound is None else bound_of(bound),
        estimate=None if estimate is None else usage_of(estimate),
    )


def _usage_of(row: t.Any, details: Mapping[str, t.Any]) -> Usage | None:
    if row.input_tokens is None:
        return None
    counts = {name: getattr(row, name) for name in COUNTS}
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
    ceiling = row.cost_ceiling
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
        ceiling_usd=None if ceiling is None else from_pico(ceiling),
    )
    if valid_from is None:
        return cost
    return replace(cost, valid_from=dt.datetime.fromisoformat(valid_from))
