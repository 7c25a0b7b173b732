"""Sessions: what each conversation of the app cost, and when it took place."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

import sqlalchemy as sa

from ..db.day_tables import tag_value_days
from ..db.tables import calls
from .aggregate import tag_column
from .day_sources import value_sources
from .day_sources import ValueSources
from .filters import CallFilter
from .totals import MEASURES
from .totals import rolled_measures
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
    found, known = every_session(connection, where, key, names=names)
    return with_models(connection, where, key, found[:limit], known)


def every_session(
    connection: sa.Connection,
    where: CallFilter,
    key: str,
    *,
    names: Names | None = None,
) -> tuple[list[Session], Mapping[str, str] | None]:
    """Return all sessions, highest cost first, without their models; and their names."""
    read_from = value_sources(connection, where, key)
    found = _merged(_summed(connection, read_from))
    known = None
    if names is not None:
        known = names([s.session_id for s in found if s.session_id != UNKNOWN])
        found = _named(found, known)
    found.sort(key=lambda s: (-s.totals.spend_pico, -s.totals.calls, s.session_id))
    return found, known


def with_models(
    connection: sa.Connection,
    where: CallFilter,
    key: str,
    found: Sequence[Session],
    known: Mapping[str, str] | None,
) -> tuple[Session, ...]:
    """Return sessions with their models: there may be many, so only those to show."""
    read_from = value_sources(connection, where, key)
    models = _models(connection, read_from, [s.session_id for s in found], known)
    return tuple(replace(s, models=tuple(sorted(models[s.session_id]))) for s in found)


def _summed(connection: sa.Connection, read_from: ValueSources) -> Iterator[Session]:
    """Return sessions from sums of days, and from calls."""
    value, source = tag_column(read_from.key)
    time, v = calls.c.started_at, tag_value_days.c
    parts = (
        (read_from.call_clauses(), source, value, time, time, MEASURES),
        (
            read_from.value_clauses(),
            tag_value_days,
            v.value,
            v.first_at,
            v.last_at,
            rolled_measures(tag_value_days),
        ),
    )
    for clauses, table, name, first, last, measures in parts:
        if not clauses:
            continue
        query = sa.select(
            name.label("session_id"),
            sa.func.min(first).label("first_at"),
            sa.func.max(last).label("last_at"),
            *measures,
        )
        query = query.select_from(table).where(*clauses).group_by(name)
        for row in connection.execute(query):
            yield Session(
                session_id=row.session_id or UNKNOWN,
                name=None,
                totals=totals_of(row),
                first_at=row.first_at,
                last_at=row.last_at,
                models=(),
            )


def _models(
    connection: sa.Connection,
    read_from: ValueSources,
    shown: Sequence[str],
    known: Mapping[str, str] | None,
) -> Mapping[str, set[str]]:
    """Return the models of some sessions.

    :param known: The names of sessions that are not deleted; ``None`` without names.
    """
    value, source = tag_column(read_from.key)
    v = tag_value_days.c
    found: defaultdict[str, set[str]] = defaultdict(set)
    if clauses := read_from.call_clauses():
        query = sa.select(value, calls.c.model).select_from(source).where(*clauses)
        rows = connection.execute(query.where(*_among(value, shown)).distinct())
        for session_id, model in rows:
            found[_shown_as(session_id or UNKNOWN, known)].add(model)
    if clauses := read_from.value_clauses():
        stored = sa.select(v.value, v.models).where(*clauses, *_among(v.value, shown))
        for session_id, models in connection.execute(stored.distinct()):
            found[_shown_as(session_id or UNKNOWN, known)].update(json.loads(models))
    return found


def _among(
    value: sa.ColumnElement[t.Any], shown: Sequence[str]
) -> list[sa.ColumnElement[bool]]:
    if len(shown) > _NAMED or DELETED in shown:
        return []
    # Calls without a session have no tag, an empty one, or one of this name.
    none = [sa.or_(value.is_(None), value == "")] if UNKNOWN in shown else []
    return [sa.or_(value.in_(shown), *none)]


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
