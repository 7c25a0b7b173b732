"""Creates the rows of windows before something counts in them."""

from __future__ import annotations

import datetime as dt
import json
import time
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import exc

from ..db.budget_tables import budget_windows
from ..db.budget_tables import budgets as budgets_table
from ..db.statements import chunks
from .audit import count_unsettled
from .audit import spent_in
from .changes import COUNTERS
from .definition import Budget
from .definition import BudgetWindow

_REMEMBERED: t.Final = 20_000
_TIMEOUT_S: t.Final = 2.0
_w: t.Final = budget_windows.c

_Limits: t.TypeAlias = Mapping[str, int | None]


class WindowRows:
    """The rows of one ledger's windows, as far as this process knows them."""

    def __init__(self) -> None:
        self._since: dict[str, dt.datetime] = {}
        self._known: dict[str, None] = {}

    def ensure(
        self, engine: sa.Engine, windows: Iterable[BudgetWindow], limits: _Limits
    ) -> None:
        """Create missing rows, before the transaction that counts in them.

        :param limits: The limit of each window, in pico-USD.
        """
        missing = {w.id: w for w in windows if w.id not in self._known}
        if not missing:
            return
        order = sorted(missing)
        existing: set[str] = set()
        with engine.connect() as connection:
            for some in chunks(order):
                query = sa.select(_w.id).where(_w.id.in_(some))
                existing.update(connection.scalars(query))
        self._create(engine, [missing[k] for k in order if k not in existing], limits)
        for key in order:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = None

    def forget(self) -> None:
        """Look up windows again: their rows may have been deleted."""
        self._known.clear()
        self._since.clear()

    def _create(
        self, engine: sa.Engine, windows: Sequence[BudgetWindow], limits: _Limits
    ) -> None:
        """Create rows in the order of their ids."""
        empty = []
        for window in windows:
            if window.starts_at < self._counted_since(engine, window.budget):
                self._create_one(engine, window, limits)
            else:
                empty.append(window)
        for some in chunks(empty):
            if not self._create_together(engine, some, limits):
                for window in some:
                    self._create_one(engine, window, limits)

    def _create_together(
        self, engine: sa.Engine, windows: Sequence[BudgetWindow], limits: _Limits
    ) -> bool:
        """Create rows in one transaction; false if each needs its own."""
        until = time.monotonic() + _TIMEOUT_S
        try:
            with engine.begin() as connection:
                connection.execute(
                    sa.insert(budget_windows), [_row(w, limits) for w in windows]
                )
        except exc.IntegrityError:
            return False  # another process has created one of them
        except exc.OperationalError:
            # A deadlock is reported at once; a lock timeout is not, and is not retried.
            if time.monotonic() > until:
                raise
            return False
        return True

    def _create_one(
        self, engine: sa.Engine, window: BudgetWindow, limits: _Limits
    ) -> None:
        since = self._counted_since(engine, window.budget)
        try:
            with engine.begin() as connection:
                # First of all: whoever counts a call meanwhile waits for this row, and so
                # counts it after the sum below. Each call is in exactly one of the two.
                connection.execute(sa.insert(budget_windows), [_row(window, limits)])
                if window.starts_at < since:
                    connection.execute(
                        sa.update(budget_windows)
                        .where(_w.id == window.id)
                        .values(
                            spent=spent_in(connection, window),
                            unsettled=count_unsettled(connection, window),
                        )
                    )
        except exc.IntegrityError:
            return  # another process has created it

    def _counted_since(self, engine: sa.Engine, budget: Budget) -> dt.datetime:
        """Return when the budget was first seen: all later calls have been counted."""
        # By calendar: after a change of the zone, windows contain other calls than those
        # that were counted.
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


def _row(window: BudgetWindow, limits: _Limits) -> dict[str, t.Any]:
    """Return the row of a window in which nothing is spent."""
    return {
        "id": window.id,
        "definition": window.budget.definition,
        "name": window.budget.name,
        "period": window.budget.period,
        "tags": json.dumps(dict(sorted(window.tags.items())), ensure_ascii=False),
        "starts_at": window.starts_at,
        "ends_at": window.ends_at,
        "allowed": limits.get(window.id),
        **dict.fromkeys(COUNTERS, 0),
    }
