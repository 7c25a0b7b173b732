"""What was spent of each budget: counters that move with the calls they count.

A window of a budget is a row. Whoever inserts, changes or deletes a call changes the
rows of its windows in the same transaction, so that what was spent is what the calls
cost, to the pico-dollar, whoever died meanwhile. Rows are always changed in the order of
their ids, and holds before windows: two transactions never wait for each other.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import logging
import time
import typing as t
from collections import deque
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy import exc

from ..budgets import Alert
from ..budgets import Budget
from ..budgets import tags_of
from ..budgets.budget import model_of
from ..call import Call
from ..call import SILENT_OUTCOMES
from ..config import check_money
from .alerts import alert_of
from .alerts import call_alert
from .alerts import in_order
from .alerts import Limits
from .alerts import MILLION
from .alerts import passed_by
from .alerts import raise_alert
from .alerts import REFUSED
from .alerts import threshold
from .audit import Audit
from .audit import NOTHING
from .audit import spent_of
from .engine import Engines
from .outbox import post
from .rows import BIGGEST
from .rows import from_pico
from .rows import tag_set_of
from .rows import to_pico
from .share import Share
from .tables import budget_alerts
from .tables import budget_holds
from .tables import budget_windows
from .tables import budgets as budgets_table

_log = logging.getLogger("flask_llm_cost")

_REMEMBERED: t.Final = 20_000
_CHUNK: t.Final = 500
_PATIENCE_S: t.Final = 2.0
_w: t.Final = budget_windows.c
_h: t.Final = budget_holds.c
_a: t.Final = budget_alerts.c


@dataclass(frozen=True, slots=True)
class Tally:
    """What some calls count in, and all that the app's own code says of that.

    It is made before the transaction that counts: that code may take its time, and may
    write to this very database.
    """

    shares: Sequence[list[Share]] = ()
    """The windows of each call."""
    allowed: Mapping[str, int | None] = field(default_factory=dict)
    """What each window allows, in pico-USD."""
    assumed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """What a call without a price counts until it has one, by event id and window."""
    single: Sequence[Alert] = ()
    """Calls that alone cost as much as a budget allows for one."""


class Changed(t.Protocol):
    """A call that costs something else now, in pico-USD; ``None`` is unknown."""

    @property
    def started_at(self) -> dt.datetime: ...
    @property
    def event_id(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def tags(self) -> Mapping[str, str]: ...
    @property
    def before(self) -> int | None: ...
    @property
    def after(self) -> int | None: ...


@dataclass(slots=True)
class _Delta:
    spent: int = 0
    held: int = 0
    lost: int = 0


@dataclass(slots=True)
class _Move:
    """What one transaction does to the windows."""

    allowed: Mapping[str, int | None] = field(default_factory=dict)
    deltas: dict[str, _Delta] = field(default_factory=dict)
    shares: dict[str, Share] = field(default_factory=dict)
    costs: dict[str, list[tuple[int, Call | None]]] = field(default_factory=dict)

    def at(self, window: str) -> _Delta:
        return self.deltas.setdefault(window, _Delta())


class Counters:
    """The counters of one ledger's budgets.

    :param limits: Says what a budget allows.
    :param webhook: Whether alerts are also to be posted.
    :param asked: As ``limits``, where a call waits for it: may raise a ``StorageError``.
    """

    def __init__(
        self,
        engines: Engines,
        budgets: Sequence[Budget],
        limits: Limits,
        *,
        webhook: bool = False,
        asked: Limits | None = None,
    ) -> None:
        self.budgets = tuple(b for b in budgets if b.period != "call")
        self.audit = Audit(self.budgets)
        self._of_calls = [b for b in budgets if b.period == "call"]
        self._engines = engines
        self._limits = limits
        self._asked = asked or limits
        self._webhook = webhook
        self.passed: deque[Alert] = deque()
        """Alerts that are committed, and that the app is to be told of."""
        self.telling = False
        self.under_way: dict[str, None] = {}
        """Calls of this process that have holds and are not stored yet."""
        self._since: dict[str, dt.datetime] = {}
        self._known: dict[str, None] = {}
        self._told: dict[tuple[str, int], None] = {}

    # Whose budgets a call counts in

    def shares(
        self, provider: str, model: str, tags: Mapping[str, str], at: dt.datetime
    ) -> list[Share]:
        """The windows that a call of that time counts in."""
        if not self.budgets:
            return []
        kept = tag_set_of(tags)
        clean = {} if kept is None else kept.tags
        found = []
        for budget in self.budgets:
            whose = budget.whose(clean)
            if whose is not None and budget.covers(provider, model):
                span = budget.window(at)
                found.append(Share(budget, whose, span, budget.key(whose, span)))
        return found

    def shares_of(self, call: Call) -> list[Share]:
        """The windows that a call counts in."""
        return self.shares(
            call.provider, model_of(call), tags_of(call), call.started_at
        )

    def allowed(self, share: Share) -> int | None:
        """What a window allows now, in pico-USD."""
        return self._allows(self._limits, share)

    def asked(self, share: Share) -> int | None:
        """As :meth:`allowed`, where a call waits for it.

        :raises StorageError: If that cannot be told, and its budget is closed then.
        """
        return self._allows(self._asked, share)

    def _allows(self, limits: Limits, share: Share) -> int | None:
        limit = limits(share.budget, share.whose)
        # More than BIGINT holds is more than can ever be counted as spent.
        return None if limit is None else min(int(limit.scaleb(12)), BIGGEST)

    # Windows

    def ensure(
        self,
        engine: sa.Engine,
        shares: Iterable[Share],
        allowed: Mapping[str, int | None],
    ) -> None:
        """See that windows are there, before the transaction that counts in them.

        :param allowed: What each allows, in pico-USD.
        """
        missing = {s.id: s for s in shares if s.id not in self._known}
        if not missing:
            return
        order = sorted(missing)
        there: set[str] = set()
        with engine.connect() as connection:
            for some in _chunks(order):
                there.update(
                    connection.scalars(sa.select(_w.id).where(_w.id.in_(some)))
                )
        fresh = [missing[key] for key in order if key not in there]
        self._make(engine, fresh, allowed)
        for key in order:
            self._remember(key)

    def _remember(self, window: str) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[window] = None

    def forget(self) -> None:
        """The windows may be gone: see again whether they are there."""
        self._known.clear()
        self._told.clear()
        self._since.clear()

    def _make(
        self,
        engine: sa.Engine,
        shares: Sequence[Share],
        allowed: Mapping[str, int | None],
    ) -> None:
        """Make windows, in the order of their ids."""
        empty = []
        for share in shares:
            if share.window.start < self._counted_since(engine, share.budget):
                self._make_one(engine, share, allowed.get(share.id))
            else:
                empty.append(share)
        for some in _chunks(empty):
            if not self._make_together(engine, some, allowed):
                for share in some:
                    self._make_one(engine, share, allowed.get(share.id))

    def _make_together(
        self,
        engine: sa.Engine,
        shares: Sequence[Share],
        allowed: Mapping[str, int | None],
    ) -> bool:
        """Make windows in one transaction; false if each is to be made by itself."""
        until = time.monotonic() + _PATIENCE_S
        try:
            with engine.begin() as connection:
                connection.execute(
                    sa.insert(budget_windows),
                    [_row(share, allowed.get(share.id)) for share in shares],
                )
        except exc.IntegrityError:
            return False  # another made one of them meanwhile
        except exc.OperationalError:
            # A deadlock is told at once; a lock that was waited for in vain is not.
            if time.monotonic() > until:
                raise
            return False
        return True

    def _make_one(self, engine: sa.Engine, share: Share, allowed: int | None) -> None:
        since = self._counted_since(engine, share.budget)
        try:
            with engine.begin() as connection:
                # First of all: who comes meanwhile waits here, and so counts after the
                # sum below was made. Each call is in one of the two.
                connection.execute(
                    sa.insert(budget_windows).values(**_row(share, allowed))
                )
                if share.window.start < since:
                    spent = spent_of(
                        connection, share.budget, share.whose, share.window
                    )
                    connection.execute(
                        sa.update(budget_windows)
                        .where(_w.id == share.id)
                        .values(spent=spent)
                    )
        except exc.IntegrityError:
            return  # another made it meanwhile

    def _counted_since(self, engine: sa.Engine, budget: Budget) -> dt.datetime:
        # With its zone: after a change of it, windows have other calls than those counted.
        calendar = budget.calendar
        known = self._since.get(calendar)
        if known is not None:
            return known
        b = budgets_table.c
        query = sa.select(b.since).where(b.definition == calendar)
        with engine.connect() as connection:
            found = connection.scalar(query)
        if found is None:
            found = dt.datetime.now(dt.UTC)
            try:
                with engine.begin() as connection:
                    connection.execute(
                        sa.insert(budgets_table).values(
                            definition=calendar, name=budget.name, since=found
                        )
                    )
            except exc.IntegrityError:
                with engine.connect() as connection:
                    found = connection.scalar(query) or found
        self._since[calendar] = found
        return found

    # Counting

    def prepared(self, engine: sa.Engine, new: Sequence[Call]) -> Tally:
        """What calls count in: windows that are there from now on."""
        single = [
            alert
            for budget in self._of_calls
            for call in new
            if (alert := call_alert(budget, call, self._limits)) is not None
        ]
        if not self.budgets:
            return Tally(single=single)
        found = [self.shares_of(call) for call in new]
        every = {share.id: share for shares in found for share in shares}
        allowed = {key: self.allowed(share) for key, share in every.items()}
        self.ensure(engine, every.values(), allowed)
        return Tally(found, allowed, self._assumed(engine, new, found), single)

    def _assumed(
        self, engine: sa.Engine, new: Sequence[Call], found: Sequence[list[Share]]
    ) -> dict[str, dict[str, int]]:
        unpriced = {
            call.event_id: (call, wanted)
            for call, shares in zip(new, found, strict=True)
            if call.cost is None
            # Nobody knows what a stream used that was broken off, but it was not nothing.
            if call.usage is not None or call.outcome not in SILENT_OUTCOMES
            if (wanted := [s for s in shares if s.budget.unpriced == "estimate"])
        }
        held: dict[tuple[str, str], int] = {}
        for some in _chunks(list(unpriced)):
            query = sa.select(_h.event_id, _h.window_id, _h.amount).where(
                _h.event_id.in_(some)
            )
            with engine.connect() as connection:
                held.update(
                    ((row.event_id, row.window_id), row.amount)
                    for row in connection.execute(query)
                )
        return {
            event: {
                s.id: held[event, s.id]
                if (event, s.id) in held
                else _assumed(s.budget, call)
                for s in wanted
            }
            for event, (call, wanted) in unpriced.items()
        }

    def stored(self, calls: Iterable[Call], alerts: Iterable[Alert]) -> None:
        """After the commit: these calls are in the ledger, and so are the alerts."""
        self.passed.extend(alerts)
        if self.under_way:
            for call in calls:
                self.under_way.pop(call.event_id, None)

    def repeated(self, engine: sa.Engine, events: Iterable[str]) -> None:
        """These calls were in the ledger before: what is held for them again goes."""
        missing = object()
        pop = t.cast(t.Any, self.under_way.pop)
        mine = [event for event in events if pop(event, missing) is not missing]
        if not mine:
            return
        with engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                connection.execute(NOTHING)
            move = _Move()
            query = (
                sa.select(budget_holds)
                .where(_h.event_id.in_(mine), _h.state == "held")
                .order_by(_h.event_id, _h.window_id)
            )
            rows = connection.execute(query.with_for_update()).all()
            for row in rows:
                move.at(row.window_id).held -= row.amount
            _delete_holds(connection, rows)
            self._write(connection, move)

    def refuses(self, event: str) -> None:
        """A call cannot be stored: its hold is not renewed any more, and so is lost."""
        self.under_way.pop(event, None)

    def count(
        self,
        connection: sa.Connection,
        new: Sequence[Call],
        tally: Tally,
    ) -> list[Alert]:
        """Count calls, in the transaction that inserts them, and settle their holds.

        :param tally: As it was prepared.
        :return: The thresholds that were passed, to be told of after the commit.
        """
        if self._webhook:
            for alert in tally.single:
                post(connection, alert)
        if not self.budgets:
            return [*tally.single]
        move = _Move(allowed=tally.allowed)
        kept = self._settle(connection, new, tally.assumed, move)
        for call, found in zip(new, tally.shares, strict=True):
            self._add(move, call, found)
            self._assume(
                connection,
                move,
                call,
                {
                    window: amount
                    for window, amount in tally.assumed.get(call.event_id, {}).items()
                    if (call.event_id, window) not in kept
                },
            )
        self._write(connection, move)
        return [*tally.single, *self._pass(connection, move)]

    def _add(self, move: _Move, call: Call, shares: Iterable[Share]) -> None:
        cost = 0 if call.cost is None else to_pico(call.cost.total_usd)
        for share in shares:
            move.shares[share.id] = share
            move.at(share.id).spent += cost
            move.costs.setdefault(share.id, []).append((cost, call))

    def _settle(
        self,
        connection: sa.Connection,
        new: Sequence[Call],
        unpriced: Mapping[str, Container[str]],
        move: _Move,
    ) -> set[tuple[str, str]]:
        """Replace what was held for these calls; which of it is kept as an estimate."""
        if not any(
            budget.holds or budget.unpriced == "estimate" for budget in self.budgets
        ):
            return set()
        kept = set()
        for some in _chunks([call.event_id for call in new]):
            rows = connection.execute(
                sa.select(budget_holds)
                .where(_h.event_id.in_(some))
                .order_by(_h.event_id, _h.window_id)
                .with_for_update()
            ).all()
            gone = []
            for row in rows:
                delta = move.at(row.window_id)
                if row.state == "held":
                    delta.held -= row.amount
                else:
                    delta.lost -= row.amount
                if row.window_id in unpriced.get(row.event_id, ()):
                    delta.lost += row.amount
                    kept.add((row.event_id, row.window_id))
                else:
                    gone.append(row.event_id)
            if gone:
                _delete_holds(
                    connection,
                    [r for r in rows if (r.event_id, r.window_id) not in kept],
                )
        for event, window in sorted(kept):
            connection.execute(
                sa.update(budget_holds)
                .where(_h.event_id == event, _h.window_id == window)
                .values(state="unpriced")
            )
        return kept

    def _assume(
        self,
        connection: sa.Connection,
        move: _Move,
        call: Call,
        amounts: Mapping[str, int],
    ) -> None:
        """Count the estimates of a call that has no price, until it gets one."""
        rows = []
        for window, amount in amounts.items():
            move.at(window).lost += amount
            rows.append(
                {
                    "event_id": call.event_id,
                    "window_id": window,
                    "amount": amount,
                    "state": "unpriced",
                    "expires_at": call.started_at,
                }
            )
        if rows:
            connection.execute(sa.insert(budget_holds), rows)

    def _write(self, connection: sa.Connection, move: _Move) -> None:
        rows = [
            {
                "id_": key,
                "spent_": delta.spent,
                "room_": BIGGEST - max(delta.spent, 0),
                "held_": delta.held,
                "lost_": delta.lost,
                "allowed_": move.allowed.get(key),
            }
            for key, delta in sorted(move.deltas.items())
        ]
        if rows:
            connection.execute(_CHANGE, rows)

    # Alerts

    def _pass(self, connection: sa.Connection, move: _Move) -> list[Alert]:
        """The thresholds that are passed now, and were not told of before.

        The rows of the windows are locked here: no other passes the same meanwhile.
        """
        ids = sorted(key for key in move.costs if key in move.shares)
        found: list[tuple[Share, int, t.Any]] = []
        for some in _chunks(ids):
            query = sa.select(_w.id, _w.spent, _w.allowed).where(_w.id.in_(some))
            for row in connection.execute(query):
                if row.allowed is None:
                    continue
                share = move.shares[row.id]
                for part in share.budget.thresholds:
                    millionths = int(part * MILLION)
                    at = threshold(row.allowed, millionths)
                    if row.spent >= at and (row.id, millionths) not in self._told:
                        found.append((share, millionths, row))
        return self._tell(connection, found, move) if found else []

    def _tell(
        self,
        connection: sa.Connection,
        found: Sequence[tuple[Share, int, t.Any]],
        move: _Move,
    ) -> list[Alert]:
        there: set[tuple[str, int]] = set()
        for some in _chunks(sorted({share.id for share, _, _ in found})):
            query = sa.select(_a.window_id, _a.threshold).where(_a.window_id.in_(some))
            there.update((r.window_id, r.threshold) for r in connection.execute(query))
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told.update(dict.fromkeys(there))
        alerts = []
        for share, millionths, row in sorted(found, key=in_order):
            if (share.id, millionths) in there:
                continue
            total, call = passed_by(
                row.spent, threshold(row.allowed, millionths), move.costs[share.id]
            )
            alert = alert_of(share, row.allowed, total, millionths, call)
            raise_alert(connection, share.id, millionths, alert, self._webhook)
            alerts.append(alert)
        return alerts

    def refused(
        self, engine: sa.Engine, share: Share, row: t.Any, estimate: int
    ) -> None:
        """A call was refused for a budget: that is told of once for each window.

        Where the limit itself is not spent, that it is remains to be told of.
        """
        spent = row.spent >= row.allowed
        mark = MILLION if spent else REFUSED
        if (share.id, mark) in self._told:
            return
        alert = alert_of(share, row.allowed, row.spent, MILLION, None)
        if not spent:
            alert = dataclasses.replace(
                alert,
                refused=True,
                held_usd=from_pico(row.held),
                lost_usd=from_pico(row.lost),
                estimate_usd=from_pico(estimate),
            )
        with engine.begin() as connection:
            # The lock under which alerts are raised.
            connection.execute(
                sa.update(budget_windows)
                .where(_w.id == share.id)
                .values(allowed=row.allowed)
            )
            query = sa.select(_a.threshold).where(
                _a.window_id == share.id, _a.threshold == mark
            )
            fresh = connection.execute(query).first() is None
            if fresh:
                raise_alert(connection, share.id, mark, alert, self._webhook)
        self._told[share.id, mark] = None
        if fresh:
            self.passed.append(alert)

    # What changes later

    def change(self, connection: sa.Connection, changed: Sequence[Changed]) -> None:
        """Count calls that cost something else now, in the transaction that says so."""
        if not self.budgets:
            return
        move = _Move()
        for each in changed:
            shares = self.shares(each.provider, each.model, each.tags, each.started_at)
            for share in shares:
                move.at(share.id).spent += (each.after or 0) - (each.before or 0)
        priced = [each.event_id for each in changed if each.after is not None]
        for some in _chunks(priced):
            rows = connection.execute(
                sa.select(budget_holds)
                .where(_h.event_id.in_(some), _h.state == "unpriced")
                .order_by(_h.event_id, _h.window_id)
                .with_for_update()
            ).all()
            for row in rows:
                move.at(row.window_id).lost -= row.amount
            _delete_holds(connection, rows)
        self._write(connection, move)

    def clear(self, connection: sa.Connection, since: dt.datetime | None) -> None:
        """After calls were deleted: what is left is what was spent.

        :param since: As of :meth:`.Audit.clear`.
        """
        self.audit.clear(connection, since)
        self._told.clear()


_CHANGE: t.Final = (
    sa.update(budget_windows)
    .where(_w.id == sa.bindparam("id_", type_=_w.id.type))
    .values(
        # What is spent beyond BIGINT is more than any limit: it is not to lose a call.
        spent=sa.case(
            (
                _w.spent > sa.bindparam("room_", type_=sa.BigInteger),
                sa.literal(BIGGEST, sa.BigInteger),
            ),
            else_=_w.spent + sa.bindparam("spent_", type_=sa.BigInteger),
        ),
        held=_w.held + sa.bindparam("held_", type_=sa.BigInteger),
        lost=_w.lost + sa.bindparam("lost_", type_=sa.BigInteger),
        allowed=sa.func.coalesce(
            sa.bindparam("allowed_", type_=sa.BigInteger), _w.allowed
        ),
    )
)


def _chunks(items: Sequence[t.Any]) -> Iterable[Sequence[t.Any]]:
    for n in range(0, len(items), _CHUNK):
        yield items[n : n + _CHUNK]


def _row(share: Share, allowed: int | None) -> dict[str, t.Any]:
    """A window of which nothing is spent."""
    return {
        "id": share.id,
        "definition": share.budget.definition,
        "name": share.budget.name,
        "period": share.budget.period,
        "whose": _text(share.whose),
        "starts_at": share.window.start,
        "ends_at": share.window.end,
        "allowed": allowed,
        "spent": 0,
        "held": 0,
        "lost": 0,
    }


def _text(whose: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(whose.items())), ensure_ascii=False)


def _assumed(budget: Budget, call: Call) -> int:
    estimate = budget.estimate
    if not callable(estimate):
        return min(int(Decimal(estimate).scaleb(12)), BIGGEST)
    # The app's own code: whatever it raises or gives, the call is stored.
    try:
        amount = check_money("estimate", estimate(call))
    except Exception:
        _log.exception(
            "The estimate of the budget %r failed: the call %s, which has no price, counts"
            " nothing in it.",
            budget.name,
            call.event_id,
        )
        return 0
    return min(int(amount.scaleb(12)), BIGGEST)


def _delete_holds(connection: sa.Connection, rows: Sequence[t.Any]) -> None:
    if rows:
        connection.execute(
            sa.delete(budget_holds).where(
                _h.event_id == sa.bindparam("event_", type_=_h.event_id.type),
                _h.window_id == sa.bindparam("window_", type_=_h.window_id.type),
            ),
            [{"event_": r.event_id, "window_": r.window_id} for r in rows],
        )
