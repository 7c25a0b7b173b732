"""Sessions: what each conversation of the app cost, and when it took place."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

import sqlalchemy as sa

from ..db.tables import calls
from .aggregate import tag_column
from .filters import CallFilter
from .totals import MEASURES
from .totals import Totals
from .totals import totals_of

UNKNOWN: t.Final = "unknown"
"""The id of calls without a session."""

_NAMED: t.Final = 500
"""The most sessions that a query lists; with more, it reads all."""

DELETED: t.Final = "_deleted_"
"""The id of all sessions that the app has no name for, combined."""

Names: t.TypeAlias = Callable[[Sequence[str]], Mapping[str, str]]
"""Returns the names of those session ids that (still) have one."""


@dataclass(frozen=True, slots=True)
class Session:
    """The calls of one session."""

    session_id: str
    """The tag's value, :data:`UNKNOWN` or :data:`DELETED`."""
    name: str | None
    totals: Totals
    first_at: dt.datetime
    """When its first call was sent (aware UTC)."""
    last_at: dt.datetime
    models: tuple[str, ...]
    """Sorted."""

    @property
    def deleted(self) -> bool:
        """Whether this combines all sessions that the app has no name for."""
        return self.session_id == DELETED


def sessions(
    connection: sa.Connection,
    where: CallFilter,
    key: str,
    *,
    limit: int = 50,
    names: Names | None = None,
) -> tuple[Session, ...]:
    """Return the sessions of the matching calls, highest cost first.

    :param key: The tag that identifies a session.
    :param limit: How many sessions at most.
    :param names: Without it, no session has a name, and none counts as deleted.
    """
    value, source = tag_column(key)
    time = calls.c.started_at
    rows = connection.execute(
        sa.select(
            value.label("session_id"),
            sa.func.min(time).label("first_at"),
            sa.func.max(time).label("last_at"),
            *MEASURES,
        )
        .select_from(source)
        .where(*where.clauses())
        .group_by(value)
    )
    found = _merged(
        Session(
            session_id=row.session_id or UNKNOWN,
            name=None,
            totals=totals_of(row),
            first_at=row.first_at,
            last_at=row.last_at,
            models=(),
        )
        for row in rows
    )
    known = None
    if names is not None:
        known = names([s.session_id for s in found if s.session_id != UNKNOWN])
        found = _named(found, known)
    found.sort(key=lambda s: (-s.totals.spend_pico, -s.totals.calls, s.session_id))
    found = found[:limit]
    # Only for those that are shown: there may be many models and sessions.
    models = _models(connection, where, key, [s.session_id for s in found], known)
    return tuple(replace(s, models=tuple(sorted(models[s.session_id]))) for s in found)


def _models(
    connection: sa.Connection,
    where: CallFilter,
    key: str,
    shown: Sequence[str],
    known: Mapping[str, str] | None,
) -> Mapping[str, set[str]]:
    """Return the models of some sessions.

    :param known: The names of sessions that are not deleted; ``None`` without names.
    """
    value, source = tag_column(key)
    query = sa.select(value, calls.c.model).select_from(source).where(*where.clauses())
    if len(shown) <= _NAMED and DELETED not in shown:
        # Calls without a session have no tag, an empty one, or one of this name.
        none = [sa.or_(value.is_(None), value == "")] if UNKNOWN in shown else []
        query = query.where(sa.or_(value.in_(shown), *none))
    found: defaultdict[str, set[str]] = defaultdict(set)
    for session_id, model in connection.execute(query.distinct()):
        found[_shown_as(session_id or UNKNOWN, known)].add(model)
    return found


def _shown_as(session_id: str, known: Mapping[str, str] | None) -> str:
    if known is None or session_id == UNKNOWN or session_id in known:
        return session_id
    return DELETED


def _named(found: Iterable[Session], known: Mapping[str, str]) -> list[Session]:
    return _merged(
        replace(
            s, session_id=_shown_as(s.session_id, known), name=known.get(s.session_id)
        )
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
            )
        merged[new.session_id] = new
    return list(merged.values())
