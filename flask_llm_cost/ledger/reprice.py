"""Reprice stored calls. The previous costs are kept, and can be restored.

A run works in short transactions. Each changes some calls, stores their previous costs as
revisions, and marks their hours dirty. So a run can be interrupted anywhere, continued,
undone and repeated.
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
from decimal import Decimal

import sqlalchemy as sa

from ..budgets.counters import Counters
from ..call import Call
from ..call import Cost
from ..call import Part
from ..call import REPORTED
from ..completeness import PRICE_FLAGS
from ..db.engine import Engines
from ..db.rows import call_of
from ..db.rows import row_of
from ..db.statements import by_key
from ..db.statements import chunks
from ..db.tables import calls
from ..db.tables import PRICED_COLUMNS
from ..db.tables import revisions
from ..db.tables import tag_sets
from ..errors import StorageError
from ..event_id import event_time
from ..event_id import mint_event_id
from ..money import from_pico
from ..money import round_pico
from ..prices.requote import is_mode_flag
from .revisions import revise
from .revisions import Revision

BATCH: t.Final = 500

Quote: t.TypeAlias = Callable[[Call], tuple[Cost | None, frozenset[str]]]
"""Returns a call's cost by today's price book at the call's own time, and flags.

:raises ValueError: If it cannot be computed from what the ledger stores.
"""

Progress: t.TypeAlias = Callable[[int], None]

_c: t.Final = calls.c
_r: t.Final = revisions.c


@dataclass(frozen=True, slots=True)
class Scope:
    """Which calls to reprice."""

    start: dt.datetime
    end: dt.datetime
    """The end of the range, exclusive."""
    models: tuple[str, ...] = ()
    """``model`` or ``provider/model``; all if empty."""
    priced: bool = False
    """Include calls whose cost is known and complete."""

    def clauses(self) -> Iterator[sa.ColumnElement[bool]]:
        """Select the calls. Costs of the provider or a bill are never changed."""
        yield _c.started_at >= self.start
        yield _c.started_at < self.end
        # Without usage, the most that the request may use has a price.
        bounded = _c.details.contains('"bound":{', autoescape=True)
        yield sa.or_(_c.total_input_tokens.is_not(None), bounded)
        yield sa.or_(_c.cost_source.is_(None), _c.cost_source.not_in(REPORTED))
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


@dataclass(slots=True)
class Repriced:
    """The result of a run."""

    run: str
    """Its id, for :meth:`Repricer.undo`."""
    seen: int = 0
    """Calls that were examined."""
    priced: int = 0
    """Calls whose cost was unknown and is now known."""
    changed: int = 0
    """Calls whose cost is now another."""
    unchanged: Counter[str] = field(default_factory=Counter)
    """Numbers of calls that could not be changed, by reason."""
    unpriced: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Numbers of calls that still have no price, by provider and model."""
    before: int = 0
    """The known costs of the changed calls before, in pico-USD."""
    after: int = 0

    def count(self, before: int | None, after: int | None) -> None:
        """Add a call that was changed."""
        if before is None:
            self.priced += 1
        else:
            self.changed += 1
        self.before += before or 0
        self.after += after or 0


class Repricer:
    """Reprices the calls of one ledger."""

    def __init__(self, engines: Engines, counters: Counters | None = None) -> None:
        self._engines = engines
        self._counters = counters

    @property
    def _engine(self) -> sa.Engine:
        return self._engines.writing()

    def reprice(
        self,
        scope: Scope,
        quote: Quote,
        *,
        now: dt.datetime,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Repriced:
        """Reprice calls, each with the prices of its own time.

        :param quote: Computes a call's cost.
        :param dry_run: Only compute the result.
        :param progress: Called with the number of calls of each batch.
        """
        self._engines.prepare()
        with self._engines.explained():
            done = Repriced(self._new_run(now))
            tags = calls.outerjoin(tag_sets, tag_sets.c.id == _c.tag_set_id)
            query = sa.select(calls, tag_sets.c.tags).select_from(tags)
            for batch in self._batches(query.where(*scope.clauses()), calls):
                priced = (_priced(row, quote, done) for row in batch)
                wanted = [each for each in priced if each is not None]
                if dry_run:
                    for each in wanted:
                        assert each.expected is not None
                        before = each.expected["cost_total"]
                        done.count(before, each.columns["cost_total"])
                else:
                    self._apply(wanted, done, now)
                if progress is not None:
                    progress(len(batch))
        return done

    def count(self, scope: Scope) -> int:
        """Count the calls that a run would examine."""
        self._engines.prepare()
        query = sa.select(sa.func.count()).select_from(calls).where(*scope.clauses())
        with self._engines.explained(), self._engine.connect() as connection:
            return connection.scalar(query) or 0

    def undo(
        self,
        run: str,
        *,
        now: dt.datetime,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Repriced:
        """Restore the costs that calls had before a run.

        This is a run, too: undoing it repeats the first.

        :param run: Its id, or ``"last"``.
        :raises StorageError: If there is no such run.
        """
        self._engines.prepare()
        with self._engines.explained():
            query = sa.select(revisions).where(_r.run == self._known_run(run))
            done = Repriced(self._new_run(now))
            for batch in self._batches(query, revisions):
                done.seen += len(batch)
                if dry_run:
                    for row in batch:
                        done.count(row.new_total, row.cost_total)
                else:
                    self._apply(map(_restored, batch), done, now)
                if progress is not None:
                    progress(len(batch))
        return done

    def settle(self, costs: Mapping[str, Decimal], *, now: dt.datetime) -> Repriced:
        """Record what calls truly cost, as someone knows from a bill.

        :param costs: In USD, by event id. Calls that are not in the ledger are omitted.
        :raises ValueError: If an event id is not valid.
        """
        self._engines.prepare()
        with self._engines.explained():
            done = Repriced(self._new_run(now))
            keys = sorted((event_time(event_id), event_id) for event_id in costs)
            for some in chunks(keys):
                with self._engine.connect() as connection:
                    query = sa.select(calls).where(*by_key(some))
                    rows = connection.execute(query).all()
                done.seen += len(rows)
                bills = (_settled(row, costs[row.event_id]) for row in rows)
                self._apply(bills, done, now)
        return done

    def _batches(
        self, query: sa.Select[t.Any], table: sa.Table
    ) -> Iterator[Sequence[sa.Row[t.Any]]]:
        """Read rows by time. No batch is read in a transaction that changes calls."""
        at, event_id = table.c.started_at, table.c.event_id
        query = query.order_by(at, event_id).limit(BATCH)
        after: list[sa.ColumnElement[bool]] = []
        while True:
            with self._engine.connect() as connection:
                rows = connection.execute(query.where(*after)).all()
            if not rows:
                return
            yield rows
            last = rows[-1]
            after = [
                at >= last.started_at,
                sa.or_(at > last.started_at, event_id > last.event_id),
            ]

    def _apply(
        self, revisions: Iterable[Revision], done: Repriced, now: dt.datetime
    ) -> None:
        wanted = list(revisions)
        if not wanted:
            return
        with self._engine.begin() as connection:
            changed = revise(connection, done.run, now, wanted)
            if self._counters is not None:
                self._counters.change(connection, changed)
        for each in changed:
            done.count(each.before, each.after)
        if len(changed) < len(wanted):
            done.unchanged["changed or pruned meanwhile"] += len(wanted) - len(changed)

    def _new_run(self, now: dt.datetime) -> str:
        """Mint an id that sorts after all others, so that the last run is known."""
        last = self._last_run()
        if last is not None:
            now = max(now, event_time(last) + dt.timedelta(milliseconds=1))
        return mint_event_id(now)

    def _last_run(self) -> str | None:
        with self._engine.connect() as connection:
            found: str | None = connection.scalar(sa.select(sa.func.max(_r.run)))
        return found

    def _known_run(self, run: str) -> str:
        if run == "last":
            last = self._last_run()
            if last is None:
                raise StorageError("No calls were repriced: there is nothing to undo.")
            return last
        query = sa.select(_r.run).where(_r.run == run).limit(1)
        with self._engine.connect() as connection:
            if connection.scalar(query) is None:
                raise StorageError(f"No run {run!r} has changed calls.")
        return run


def _settled(row: sa.Row[t.Any], usd: Decimal) -> Revision:
    call, stored = call_of(row), row._asdict()
    usd = from_pico(round_pico(usd))
    old = call.cost
    cost = Cost(
        usd,
        {"reported": Part(Decimal(1), usd, usd)},
        "bill",
        estimate_usd=None if old is None else old.estimate_usd or old.total_usd,
    )
    columns = row_of(replace(call, cost=cost, flags=_own_flags(call)))
    return Revision(
        (call.started_at, call.event_id),
        {name: columns[name] for name in PRICED_COLUMNS},
        expected={name: stored[name] for name in PRICED_COLUMNS},
    )


def _restored(row: sa.Row[t.Any]) -> Revision:
    return Revision(
        (row.started_at, row.event_id),
        {name: row._mapping[name] for name in PRICED_COLUMNS},
        number=row.number,
    )


def _priced(row: sa.Row[t.Any], quote: Quote, done: Repriced) -> Revision | None:
    """Price a call and count it; return how to change it, or ``None`` if it stays."""
    done.seen += 1
    call = call_of(row, json.loads(row.tags) if row.tags else {})
    try:
        cost, noted = quote(call)
        if cost is None:
            _count_unpriced(call, done)
            return None
        if call.cost is not None and call.cost.complete and not cost.complete:
            done.unchanged["today's prices give only an incomplete cost"] += 1
            return None
        if call.cost is not None and _is_same(cost, call.cost):
            if not cost.complete:
                done.unpriced[call.provider, call.model] += 1
            return None
        columns = row_of(replace(call, cost=cost, flags=_own_flags(call) | noted))
    except ValueError as error:
        done.unchanged[str(error)] += 1
        return None
    stored = row._asdict()
    return Revision(
        (call.started_at, call.event_id),
        {name: columns[name] for name in PRICED_COLUMNS},
        expected={name: stored[name] for name in PRICED_COLUMNS},
    )


def _count_unpriced(call: Call, done: Repriced) -> None:
    if call.cost is None:
        done.unpriced[call.provider, call.model] += 1
    else:
        done.unchanged["priced, but its price is no longer known"] += 1


def _own_flags(call: Call) -> frozenset[str]:
    """Return a call's flags without those of its price."""
    # Until a call has a cost, a flag says which mode it was requested in.
    return frozenset(
        flag for flag in call.flags - PRICE_FLAGS if not is_mode_flag(flag)
    )


def _is_same(new: Cost, old: Cost) -> bool:
    return (
        new.total_usd == old.total_usd
        and new.complete == old.complete
        and new.ceiling_usd == old.ceiling_usd
        and new.estimate_usd == old.estimate_usd
        and dict(new.parts) == dict(old.parts)
    )
