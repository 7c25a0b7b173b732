"""The rows of budgets' windows: that they are there before something counts in them."""

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

from ..db.tables import budget_windows
from ..db.tables import budgets as budgets_table
from ..rollups.sums import chunks
from . import Budget
from .audit import spent_of
from .share import Share

_REMEMBERED: t.Final = 20_000
_PATIENCE_S: t.Final = 2.0
_w: t.Final = budget_windows.c


class Windows:
    """The windows of one ledger's budgets, as one process knows them."""

    def __init__(self) -> None:
        self._since: dict[str, dt.datetime] = {}
        self._known: dict[str, None] = {}

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
            for some in chunks(order):
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
        for some in chunks(empty):
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


def _row(share: Share, allowed: int | None) -> dict[str, t.Any]:
    """A window of which nothing is spent."""
    return {
        "id": share.id,
        "definition": share.budget.definition,
        "name": share.budget.name,
        "period": share.budget.period,
        "tags": _text(share.whose),
        "starts_at": share.window.start,
        "ends_at": share.window.end,
        "allowed": allowed,
        "spent": 0,
        "reserved": 0,
        "lost": 0,
    }


def _text(whose: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(whose.items())), ensure_ascii=False)
