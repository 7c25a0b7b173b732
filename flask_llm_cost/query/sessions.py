"""The sessions: what each conversation of the app cost, and when it took place."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

import sqlalchemy as sa

from ..ledger.tables import calls
from .filters import CallFilter
from .totals import MEASURES
from .totals import tag_column
from .totals import Totals
from .totals import totals_of

UNKNOWN: t.Final = "unknown"
"""The id of the calls that belong to no session."""

DELETED: t.Final = "_deleted_"
"""The id of all sessions together that the app has no name for."""

Names: t.TypeAlias = Callable[[Sequence[str]], Mapping[str, str]]
"""Given session ids, the names of those that (still) have one."""


@dataclass(frozen=True, slots=True)
class Session:
    """The calls of one session."""

    session_id: str
    """The tag's value, or :data:`UNKNOWN` or :data:`DELETED`."""
    name: str | None
    totals: Totals
    first_at: dt.datetime
    """When its first call was sent (aware UTC)."""
    last_at: dt.datetime
    models: tuple[str, ...]
    """Sorted."""

    @property
    def deleted(self) -> bool:
        """This row holds every session that the app has no name for."""
        return self.session_id == DELETED


def sessions(
    connection: sa.Connection,
    where: CallFilter,
    key: str,
    *,
    limit: int = 50,
    names: Names | None = None,
) -> tuple[Session, ...]:
    """The sessions that calls of this filter belong to, the dearest first.

    :param key: The tag that names a session.
    :param limit: How many at most.
    :param names: Without it no session has a name, and none counts as deleted.
    """
    value, source = tag_column(key)
    time, model = calls.c.started_at, calls.c.model
    rows = connection.execute(
        sa.select(
            value.label("session_id"),
            model,
            sa.func.min(time).label("first_at"),
            sa.func.max(time).label("last_at"),
            *MEASURES,
        )
        .select_from(source)
        .where(*where.clauses())
        .group_by(value, model)
    )
    found = _merged(
        Session(
            session_id=row.session_id or UNKNOWN,
            name=None,
            totals=totals_of(row),
            first_at=row.first_at,
            last_at=row.last_at,
            models=(row.model,),
        )
        for row in rows
    )
    if names is not None:
        found = _named(found, names)
    found.sort(key=lambda s: (-s.totals.spend_pico, -s.totals.calls, s.session_id))
    return tuple(found[:limit])


def _named(found: Iterable[Session], names: Names) -> list[Session]:
    found = list(found)
    known = names([s.session_id for s in found if s.session_id != UNKNOWN])
    return _merged(
        replace(s, name=known[s.session_id])
        if s.session_id in known
        else s
        if s.session_id == UNKNOWN
        else replace(s, session_id=DELETED)
        for s in found
    )


def _merged(found: Iterable[Session]) -> list[Session]:
    merged: dict[str, Session] = {}
    for new in found:
        old = merged.get(new.session_id)
        if old is not None:
            new = replace(
                new,
                totals=old.totals + new.totals,
                first_at=min(old.first_at, new.first_at),
                last_at=max(old.last_at, new.last_at),
                models=tuple(sorted({*old.models, *new.models})),
            )
        merged[new.session_id] = new
    return list(merged.values())
