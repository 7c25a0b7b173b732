"""Counters for monitoring: everything that was ever stored, by provider, model and some tags.

They only grow: nothing that later changes or deletes calls lowers them. The transaction that
stores calls appends rows with what they add, which waits for no other writer. Building
rollups merges these rows.
"""

from __future__ import annotations

import functools
import itertools
import json
import secrets
import typing as t
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from operator import itemgetter

import sqlalchemy as sa

from ..call import REPORTED
from ..call import SILENT_OUTCOMES
from ..db.rows import COLUMNS
from ..db.rows import TagSet
from ..db.sql import joined_sum
from ..db.sql import split_sum
from ..db.statements import chunks
from ..db.statements import insert_missing
from ..db.tables import metric_values
from ..db.tables import METRICS
from ..db.tables import metrics
from ..money import MAX_PICO
from .lock import lock

OTHER: t.Final = "__other__"
"""The value of a tag beyond the first :data:`MAX_VALUES`."""

MAX_VALUES: t.Final = 200
"""How many values of a tag have separate counters: each is a time series."""

_AMOUNTS: t.Final = ("cost_total", "cost_estimated")
_m: t.Final = metrics.c
_v: t.Final = metric_values.c

_SUMMED: t.Final = (
    *("total_input_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("cache_write_1h_tokens", "total_output_tokens", "latency_ms", "cost_total"),
)
_NAMES: t.Final = (*_SUMMED, "cost_complete", "cost_source", "usage_source", "outcome")
_LATENCY: t.Final = _NAMES.index("latency_ms")
_COST: t.Final = _NAMES.index("cost_total")
_COMPLETE: t.Final = len(_SUMMED)
_USAGE_SOURCE: t.Final = _NAMES.index("usage_source")
_PROVIDER: t.Final = COLUMNS.index("provider")
_MODEL: t.Final = COLUMNS.index("model")
_pick: t.Final = itemgetter(*map(COLUMNS.index, _NAMES))


class Labels(t.NamedTuple):
    """What calls that are counted together have in common."""

    provider: str
    model: str
    tags: str
    """JSON, by sorted keys."""


Counts: t.TypeAlias = Mapping[str, int]
"""By the names of :data:`.tables.METRICS`."""


class TagValues:
    """The values of tags that have counters of their own, as far as this process knows.

    :param keys: The tags that counters are split by.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(sorted(keys))
        self._known: dict[str, set[str]] = {}

    def forget(self) -> None:
        """Look them up again: their rows may have been lost."""
        self._known.clear()

    def of(self, engine: sa.Engine, sets: Sequence[TagSet | None]) -> list[str]:
        """Return the label ``tags`` of calls, and store values that are new."""
        if not self._keys:
            return ["{}"] * len(sets)
        for key in self._keys:
            known = self._known.setdefault(key, set())
            wanted = {tags.tags.get(key, "") for tags in sets if tags is not None}
            if len(known) < MAX_VALUES and not known.issuperset(wanted - {""}):
                known |= _claim(engine, key, wanted - {""})
        label = functools.cache(self._label)
        return [label(None if tags is None else tags.text) for tags in sets]

    def _label(self, text: str | None) -> str:
        tags = {} if text is None else json.loads(text)
        return _encode(
            {
                key: tags[key] if tags[key] in self._known[key] else OTHER
                for key in self._keys
                if tags.get(key)
            }
        )


_encode: t.Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _claim(engine: sa.Engine, key: str, wanted: set[str]) -> set[str]:
    """Store values of a key while there is room; return all that are stored."""
    while True:
        with engine.connect() as connection:
            query = sa.select(_v.number, _v.value).where(_v.key == key)
            stored = {row.number: row.value for row in connection.execute(query)}
        known = set(stored.values())
        free = (n for n in range(MAX_VALUES) if n not in stored)
        rows = [
            {"key": key, "number": number, "value": value}
            for number, value in zip(free, sorted(wanted - known), strict=False)
        ]
        if not rows:
            return known
        # If another process took a number meanwhile, the value gets the next one.
        with engine.begin() as connection:
            insert_missing(connection, metric_values, rows)


def counts(
    calls: Iterable[tuple[Sequence[t.Any], str]],
) -> dict[Labels, dict[str, int]]:
    """Count calls, given as values of :data:`.rows.COLUMNS` and the label ``tags``."""
    groups: defaultdict[tuple[str, str, str], list[t.Any]] = defaultdict(list)
    for values, tags in calls:
        groups[values[_PROVIDER], values[_MODEL], tags].append(_pick(values))
    return {Labels(*labels): _count(rows) for labels, rows in groups.items()}


def _count(rows: Sequence[t.Any]) -> dict[str, int]:
    # By column: this runs for each batch that a writer stores.
    known = (
        _sum(column)
        for column in itertools.islice(zip(*rows, strict=True), len(_SUMMED))
    )
    total_input, read, written, written_1h, output, latency, cost = known
    sums = dict.fromkeys(METRICS, 0) | {
        "calls": len(rows),
        "input_tokens": total_input - read - written - written_1h,
        "cache_read_tokens": read,
        "cache_write_tokens": written + written_1h,
        "output_tokens": output,
        "with_latency": sum(row[_LATENCY] is not None for row in rows),
        "latency_sum_ms": latency,
        "cost_total": cost,
    }
    for row in rows:
        if not row[_COMPLETE] or row[_USAGE_SOURCE] == "estimated":
            _count_odd(sums, row)
    return sums


def _sum(column: Iterable[int | None]) -> int:
    return sum(filter(None, column))


def _count_odd(sums: dict[str, int], row: Sequence[t.Any]) -> None:
    """Count a call whose cost is unknown, estimated or incomplete."""
    total_input, cost = row[0], row[_COST]
    complete, source, usage_source, outcome = row[_COMPLETE:]
    if cost is None:
        silent = total_input is None and outcome in SILENT_OUTCOMES
        sums["failed" if silent else "unpriced"] += 1
    elif usage_source == "estimated" and source not in REPORTED:
        sums["estimated"] += 1
        sums["cost_estimated"] += cost
        sums["cost_total"] -= cost
    else:
        sums["incomplete"] += not complete


def append(connection: sa.Connection, found: Mapping[Labels, Counts]) -> None:
    """Add to the counters, in the transaction that stores the calls."""
    rows = [row for labels, sums in found.items() for row in _rows(labels, sums)]
    for some in chunks(rows):
        connection.execute(sa.insert(metrics), list(some))


def _rows(labels: Labels, sums: Counts) -> Iterator[dict[str, t.Any]]:
    # Several, where a sum is larger than a column.
    left = dict(sums)
    while any(left.values()):
        row = {name: min(n, MAX_PICO) for name, n in left.items()}
        yield {"id": secrets.randbits(63), **labels._asdict(), **row}
        left = {name: n - row[name] for name, n in left.items()}


def read(connection: sa.Connection) -> dict[Labels, Counts]:
    """Return the counters."""
    by = (_m.provider, _m.model, _m.tags)
    sums = [sa.func.sum(_m[name]).label(name) for name in METRICS[: -len(_AMOUNTS)]]
    amounts = [column for name in _AMOUNTS for column in split_sum(name, _m[name])]
    rows = connection.execute(sa.select(*by, *sums, *amounts).group_by(*by))
    return {
        Labels(row.provider, row.model, row.tags): {
            name: joined_sum(row._mapping, name)
            if name in _AMOUNTS
            else int(row._mapping[name])
            for name in METRICS
        }
        for row in rows
    }


def merge(engine: sa.Engine) -> None:
    """Merge the rows of the same labels."""
    with engine.begin() as connection:
        lock(connection)
        groups: defaultdict[Labels, list[t.Any]] = defaultdict(list)
        for row in connection.execute(sa.select(metrics).order_by(_m.id)):
            groups[Labels(row.provider, row.model, row.tags)].append(row._mapping)
        merged, ids = {}, []
        for labels, rows in sorted(groups.items()):
            if len(rows) > 1:
                merged[labels] = {n: sum(row[n] for row in rows) for n in METRICS}
                ids += [row["id"] for row in rows]
        for some in chunks(sorted(ids)):
            connection.execute(sa.delete(metrics).where(_m.id.in_(some)))
        append(connection, merged)


def erase(connection: sa.Connection, key: str, value: str) -> None:
    """Move what a value of a tag counted to :data:`OTHER`."""
    for text in connection.scalars(sa.select(_m.tags).distinct()).all():
        tags = json.loads(text)
        if tags.get(key) == value:
            update = sa.update(metrics).where(_m.tags == text)
            connection.execute(update.values(tags=_encode(tags | {key: OTHER})))
    connection.execute(sa.delete(metric_values).where(_v.key == key, _v.value == value))
