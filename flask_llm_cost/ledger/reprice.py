"""What do calls cost by other prices? The old cost is kept, and can be brought back.

A run goes through the calls in short transactions. Each changes some calls, keeps what
they had cost in a table that is only added to, and marks their hours to be added up. So
a run may break off anywhere, go on later, be taken back, and be repeated.
"""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

import sqlalchemy as sa

from ..budgets.counters import Counters
from ..call import Call
from ..call import Cost
from ..db.engine import Engines
from ..db.rows import call_of
from ..db.rows import row_of
from ..db.tables import calls
from ..db.tables import PRICED_COLUMNS
from ..db.tables import revisions
from ..db.tables import tag_sets
from ..errors import StorageError
from ..event_id import event_time
from ..event_id import mint_event_id
from ..prices.requote import is_mode_flag
from ..rollups.dirty_marks import mark

BATCH: t.Final = 500

_PRICE_FLAGS: t.Final = frozenset(
    ("unpriced", "price_error", "prepaid", "unknown_tier", "borrowed_price")
    + ("derived", "mode_fallback", "modality_fallback", "several_models")
)
"""Flags of a call that come from its price, and go with it."""

Quote: t.TypeAlias = Callable[[Call], tuple[Cost | None, frozenset[str]]]
"""What a call costs by the prices of now at its own time, and what is to be noted.

:raises ValueError: If that cannot be worked out from what the ledger keeps.
"""

_Row: t.TypeAlias = Mapping[str, t.Any]
_Key: t.TypeAlias = tuple[dt.datetime, str]
_c: t.Final = calls.c
_r: t.Final = revisions.c


@dataclass(frozen=True, slots=True)
class Scope:
    """Which calls are to be priced again."""

    start: dt.datetime
    end: dt.datetime
    """The moment after the last."""
    models: tuple[str, ...] = ()
    """``model`` or ``provider/model``; all if empty."""
    priced: bool = False
    """Also those whose cost is known and complete."""

    def clauses(self) -> Iterator[sa.ColumnElement[bool]]:
        """What a call must meet. What the provider reported is the cost, and stays."""
        yield _c.started_at >= self.start
        yield _c.started_at < self.end
        yield _c.total_input_tokens.is_not(None)
        yield sa.or_(_c.cost_source.is_(None), _c.cost_source != "provider")
        if not self.priced:
            yield sa.or_(_c.cost_total.is_(None), _c.cost_complete.is_(sa.false()))
        if self.models:
            yield sa.or_(*(_named(name) for name in self.models))


def _named(name: str) -> sa.ColumnElement[bool]:
    provider, slash, model = name.partition("/")
    exact = _c.model == name
    if not slash:
        return exact
    return sa.or_(exact, sa.and_(_c.provider == provider, _c.model == model))


@dataclass(frozen=True, slots=True)
class Delta:
    """One call whose cost was changed, in pico-USD; ``None`` is unknown."""

    started_at: dt.datetime
    event_id: str
    provider: str
    model: str
    """As it was asked for, if that is known: budgets go by it."""
    tags: Mapping[str, str]
    before: int | None
    after: int | None


@dataclass(slots=True)
class Repriced:
    """What became of a run."""

    run: str
    """Its id, by which it can be taken back."""
    seen: int = 0
    """Calls that were looked at."""
    priced: int = 0
    """Calls whose cost was unknown, and is known now."""
    changed: int = 0
    """Calls that cost something else now."""
    kept: Counter[str] = field(default_factory=Counter)
    """How many calls stay as they are although a price was sought, by reason."""
    unpriced: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Calls without a price still, by provider and model."""
    before: int = 0
    """What the changed calls cost before, in pico-USD; the unknown is no part of it."""
    after: int = 0

    def count(self, before: int | None, after: int | None) -> None:
        """Add a call that was changed."""
        if before is None:
            self.priced += 1
        else:
            self.changed += 1
        self.before += before or 0
        self.after += after or 0


class Wanted(t.NamedTuple):
    """A call, and the columns that it is to have."""

    key: _Key
    columns: _Row
    """All of :data:`.tables.PRICED_COLUMNS`."""
    was: _Row | None = None
    """The columns that it must still have; else it is left alone."""
    number: int | None = None
    """The number of its last revision; if it is another now, it is left alone."""


def revise(
    connection: sa.Connection, run: str, now: dt.datetime, wanted: Iterable[Wanted]
) -> list[Delta]:
    """Change the cost of calls, in the caller's transaction: the one way to do so.

    :return: The calls that were changed. Another may have changed or pruned the rest.
    """
    found = sorted(wanted)
    if not found:
        return []
    # First of all, for SQLite has one writer and says so at the first write.
    mark(connection, (each.key[0] for each in found))
    rows = {
        (row.started_at, row.event_id): row._asdict()
        for row in connection.execute(
            sa.select(calls)
            .where(*_these(calls, found))
            .order_by(_c.started_at, _c.event_id)
            .with_for_update()
        )
    }
    numbers = _numbers(connection, found)
    due = [
        each
        for each in found
        if each.key in rows and _holds(each, rows[each.key], numbers.get(each.key, 0))
    ]
    if due:
        _write(connection, run, now, due, rows, numbers)
    return _deltas(connection, due, rows)


def _these(
    table: sa.Table, wanted: Sequence[Wanted]
) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        table.c.started_at.between(wanted[0].key[0], wanted[-1].key[0]),
        table.c.event_id.in_([each.key[1] for each in wanted]),
    )


def _numbers(connection: sa.Connection, wanted: Sequence[Wanted]) -> dict[_Key, int]:
    query = (
        sa.select(_r.started_at, _r.event_id, sa.func.max(_r.number).label("number"))
        .where(*_these(revisions, wanted))
        .group_by(_r.started_at, _r.event_id)
    )
    return {
        (row.started_at, row.event_id): row.number for row in connection.execute(query)
    }


def _holds(wanted: Wanted, row: _Row, number: int) -> bool:
    if wanted.number is not None and wanted.number != number:
        return False
    was = wanted.was
    return was is None or all(row[name] == was[name] for name in PRICED_COLUMNS)


def _write(
    connection: sa.Connection,
    run: str,
    now: dt.datetime,
    due: Sequence[Wanted],
    rows: Mapping[_Key, _Row],
    numbers: Mapping[_Key, int],
) -> None:
    connection.execute(
        sa.insert(revisions),
        [
            {
                "started_at": each.key[0],
                "event_id": each.key[1],
                "number": numbers.get(each.key, 0) + 1,
                "run": run,
                "revised_at": now,
                "new_total": each.columns["cost_total"],
                **{name: rows[each.key][name] for name in PRICED_COLUMNS},
            }
            for each in due
        ],
    )
    change = (
        sa.update(calls)
        .where(
            _c.started_at == sa.bindparam("at_", type_=_c.started_at.type),
            _c.event_id == sa.bindparam("id_", type_=_c.event_id.type),
        )
        .values({name: sa.bindparam(f"new_{name}") for name in PRICED_COLUMNS})
    )
    connection.execute(
        change,
        [
            {
                "at_": each.key[0],
                "id_": each.key[1],
                **{f"new_{name}": each.columns[name] for name in PRICED_COLUMNS},
            }
            for each in due
        ],
    )


def _deltas(
    connection: sa.Connection, due: Sequence[Wanted], rows: Mapping[_Key, _Row]
) -> list[Delta]:
    ids = {rows[each.key]["tag_set_id"] for each in due} - {None}
    query = sa.select(tag_sets.c.id, tag_sets.c.tags).where(tag_sets.c.id.in_(ids))
    tags: dict[int | None, dict[str, str]] = {}
    if ids:
        tags = {row.id: json.loads(row.tags) for row in connection.execute(query)}
    return [
        Delta(
            *each.key,
            provider=rows[each.key]["provider"],
            model=rows[each.key]["request_model"] or rows[each.key]["model"],
            tags=_traced(
                tags.get(rows[each.key]["tag_set_id"], {}), rows[each.key]["trace_id"]
            ),
            before=rows[each.key]["cost_total"],
            after=each.columns["cost_total"],
        )
        for each in due
    ]


def withdrawn(connection: sa.Connection, rows: Sequence[_Row]) -> list[Delta]:
    """Calls that are taken back, as calls that cost nothing now."""
    by_key = {(row["started_at"], row["event_id"]): row for row in rows}
    due = [Wanted(key, {"cost_total": 0}) for key in by_key]
    return _deltas(connection, due, by_key)


def _traced(tags: Mapping[str, str], trace_id: str | None) -> Mapping[str, str]:
    return tags if trace_id is None else {**tags, "trace_id": trace_id}


class Reviser:
    """Prices the calls of one ledger again."""

    def __init__(self, engines: Engines, counters: Counters | None = None) -> None:
        self._engines = engines
        self._counters = counters

    def reprice(
        self,
        scope: Scope,
        quote: Quote,
        *,
        now: dt.datetime,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Repriced:
        """Price calls again, each by the price of its own time.

        :param quote: What a call costs.
        :param dry_run: Only say what would become of them.
        :param progress: Told how many were looked at, after each batch.
        """
        self._engines.prepare()
        with self._engines.explained():
            done = Repriced(self._new_run(now))
            for batch in self._batches(scope):
                wanted = [
                    each
                    for row in batch
                    if (each := _priced(row, quote, done)) is not None
                ]
                if dry_run:
                    _foresee(wanted, done)
                else:
                    self._apply(wanted, done, now)
                if progress is not None:
                    progress(len(batch))
        return done

    def countable(self, scope: Scope) -> int:
        """How many calls a run would look at."""
        self._engines.prepare()
        query = sa.select(sa.func.count()).select_from(calls).where(*scope.clauses())
        with self._engines.explained(), self._engine.connect() as connection:
            return connection.scalar(query) or 0

    @property
    def _engine(self) -> sa.Engine:
        return self._engines.writing()

    def _batches(self, scope: Scope) -> Iterator[Sequence[sa.Row[t.Any]]]:
        """The calls by time. They are read outside of any transaction that changes some."""
        where = list(scope.clauses())
        tags = calls.outerjoin(tag_sets, tag_sets.c.id == _c.tag_set_id)
        query = (
            sa.select(calls, tag_sets.c.tags)
            .select_from(tags)
            .order_by(_c.started_at, _c.event_id)
            .limit(BATCH)
        )
        after: list[sa.ColumnElement[bool]] = []
        while True:
            with self._engine.connect() as connection:
                rows = connection.execute(query.where(*where, *after)).all()
            if not rows:
                return
            yield rows
            last = rows[-1]
            after = [
                _c.started_at >= last.started_at,
                sa.or_(
                    _c.started_at > last.started_at,
                    _c.event_id > last.event_id,
                ),
            ]

    def _apply(
        self, wanted: Sequence[Wanted], done: Repriced, now: dt.datetime
    ) -> None:
        if not wanted:
            return
        with self._engine.begin() as connection:
            changed = revise(connection, done.run, now, wanted)
            if self._counters is not None:
                self._counters.change(connection, changed)
        for each in changed:
            done.count(each.before, each.after)
        if len(changed) < len(wanted):
            done.kept["changed or pruned meanwhile"] += len(wanted) - len(changed)

    def undo(
        self,
        run: str,
        *,
        now: dt.datetime,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Repriced:
        """Give the calls of a run the cost that they had before it.

        That is a run as well: taking it back repeats the first.

        :param run: Its id, or ``"last"``.
        :raises StorageError: If there is no such run.
        """
        self._engines.prepare()
        with self._engines.explained():
            run = self._known(run)
            done = Repriced(self._new_run(now))
            for batch in self._revised(run):
                wanted = [
                    Wanted(
                        (row["started_at"], row["event_id"]),
                        {name: row[name] for name in PRICED_COLUMNS},
                        number=row["number"],
                    )
                    for row in batch
                ]
                done.seen += len(batch)
                if dry_run:
                    for row in batch:
                        done.count(row["new_total"], row["cost_total"])
                else:
                    self._apply(wanted, done, now)
                if progress is not None:
                    progress(len(batch))
        return done

    def _new_run(self, now: dt.datetime) -> str:
        """An id that sorts behind all others, so that the last run can be known."""
        last = self._last_run()
        if last is not None:
            now = max(now, event_time(last) + dt.timedelta(milliseconds=1))
        return mint_event_id(now)

    def _last_run(self) -> str | None:
        with self._engine.connect() as connection:
            found: str | None = connection.scalar(sa.select(sa.func.max(_r.run)))
        return found

    def _known(self, run: str) -> str:
        found: str | None = None
        if run == "last":
            found = self._last_run()
        else:
            query = sa.select(_r.run).where(_r.run == run).limit(1)
            with self._engine.connect() as connection:
                found = connection.scalar(query)
        if found is None:
            raise StorageError(
                f"There is no run {run!r} that changed calls."
                if run != "last"
                else "No call was priced again, so that there is nothing to take back."
            )
        return found

    def _revised(self, run: str) -> Iterator[Sequence[_Row]]:
        query = (
            sa.select(revisions)
            .where(_r.run == run)
            .order_by(_r.started_at, _r.event_id)
            .limit(BATCH)
        )
        after: list[sa.ColumnElement[bool]] = []
        while True:
            with self._engine.connect() as connection:
                rows = connection.execute(query.where(*after)).all()
            if not rows:
                return
            yield [row._asdict() for row in rows]
            last = rows[-1]
            after = [
                _r.started_at >= last.started_at,
                sa.or_(
                    _r.started_at > last.started_at,
                    _r.event_id > last.event_id,
                ),
            ]


def _priced(found: sa.Row[t.Any], quote: Quote, done: Repriced) -> Wanted | None:
    """What a call is to become; ``None`` if it stays. Counts it either way."""
    done.seen += 1
    row = found._asdict()
    call = call_of(found, json.loads(row["tags"]) if row["tags"] else {})
    try:
        cost, noted = quote(call)
        if cost is None:
            _count_unpriced(call, done)
            return None
        if call.cost is not None and _is_less(cost, call.cost):
            done.kept["known better than the prices of now would have it"] += 1
            return None
        if call.cost is not None and _is_same(cost, call.cost):
            if not cost.complete:
                done.unpriced[call.provider, call.model] += 1
            return None
        old = frozenset() if call.cost is None else call.cost.flags
        flags = frozenset(
            flag for flag in call.flags - old - _PRICE_FLAGS if not is_mode_flag(flag)
        )
        columns = row_of(replace(call, cost=cost, flags=flags | noted))
    except ValueError as error:
        done.kept[str(error)] += 1
        return None
    return Wanted(
        (call.started_at, call.event_id),
        {name: columns[name] for name in PRICED_COLUMNS},
        was={name: row[name] for name in PRICED_COLUMNS},
    )


def _count_unpriced(call: Call, done: Repriced) -> None:
    if call.cost is None:
        done.unpriced[call.provider, call.model] += 1
    else:
        done.kept["priced, and no price is known any more"] += 1


def _is_less(new: Cost, old: Cost) -> bool:
    return old.complete and not new.complete


def _is_same(new: Cost, old: Cost) -> bool:
    return (
        new.total_usd == old.total_usd
        and new.complete == old.complete
        and dict(new.parts) == dict(old.parts)
    )


def _foresee(wanted: Iterable[Wanted], done: Repriced) -> None:
    for each in wanted:
        assert each.was is not None
        done.count(each.was["cost_total"], each.columns["cost_total"])
