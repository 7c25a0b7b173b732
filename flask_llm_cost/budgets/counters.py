"""What was spent of each budget: counters that move with the calls they count.

A window of a budget is a row. Whoever inserts, changes or deletes a call changes the
rows of its windows in the same transaction, so that what was spent is what the calls
cost, to the pico-dollar, whoever died meanwhile. Rows are always changed in the order of
their ids, and holds before windows: two transactions never wait for each other.
"""

from __future__ import annotations

import datetime as dt
import logging
import typing as t
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

import sqlalchemy as sa

from ..call import Call
from ..config import check_money
from ..db.engine import Engines
from ..db.rows import BIGGEST
from ..db.rows import tag_set_of
from ..db.tables import budget_reservations
from ..db.tables import budget_windows
from ..money import floor_pico
from ..money import to_pico
from ..rollups.sums import chunks
from . import Alert
from . import Budget
from . import tags_of
from .audit import Audit
from .audit import NOTHING
from .definition import model_of
from .outbox import post
from .share import Share
from .thresholds import Alerts
from .thresholds import call_alert
from .thresholds import Limits
from .window_rows import Windows

_log = logging.getLogger("flask_llm_cost")

_w: t.Final = budget_windows.c
_h: t.Final = budget_reservations.c


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
        self.windows = Windows()
        self.alerts = Alerts(webhook=webhook)
        self.under_way: dict[str, None] = {}
        """Calls of this process that have holds and are not stored yet."""

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
        return None if limit is None else floor_pico(limit)

    def forget(self) -> None:
        """The windows may be gone: see again whether they are there."""
        self.windows.forget()
        self.alerts.forget()

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
        self.windows.ensure(engine, every.values(), allowed)
        return Tally(found, allowed, self._assumed(engine, new, found), single)

    def _assumed(
        self, engine: sa.Engine, new: Sequence[Call], found: Sequence[list[Share]]
    ) -> dict[str, dict[str, int]]:
        unpriced = {
            call.event_id: (call, wanted)
            for call, shares in zip(new, found, strict=True)
            if call.unpriced
            if (wanted := [s for s in shares if s.budget.unpriced == "estimate"])
        }
        held: dict[tuple[str, str], int] = {}
        for some in chunks(list(unpriced)):
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
        self.alerts.passed.extend(alerts)
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
                sa.select(budget_reservations)
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
        if self.alerts.webhook:
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
        reached = self.alerts.reach(connection, move.shares, move.costs)
        return [*tally.single, *reached]

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
        for some in chunks([call.event_id for call in new]):
            rows = connection.execute(
                sa.select(budget_reservations)
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
                sa.update(budget_reservations)
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
            connection.execute(sa.insert(budget_reservations), rows)

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
        for some in chunks(priced):
            rows = connection.execute(
                sa.select(budget_reservations)
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
        self.alerts.forget()


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
        reserved=_w.reserved + sa.bindparam("held_", type_=sa.BigInteger),
        lost=_w.lost + sa.bindparam("lost_", type_=sa.BigInteger),
        allowed=sa.func.coalesce(
            sa.bindparam("allowed_", type_=sa.BigInteger), _w.allowed
        ),
    )
)


def _assumed(budget: Budget, call: Call) -> int:
    estimate = budget.estimate
    if not callable(estimate):
        return floor_pico(Decimal(estimate))
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
    return floor_pico(amount)


def _delete_holds(connection: sa.Connection, rows: Sequence[t.Any]) -> None:
    if rows:
        connection.execute(
            sa.delete(budget_reservations).where(
                _h.event_id == sa.bindparam("event_", type_=_h.event_id.type),
                _h.window_id == sa.bindparam("window_", type_=_h.window_id.type),
            ),
            [{"event_": r.event_id, "window_": r.window_id} for r in rows],
        )
