"""Store each distinct set of tags once."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable

import sqlalchemy as sa

from ..calendar import DAY
from ..db.rows import BIGGEST
from ..db.rows import TagSet
from ..db.statements import insert_missing
from ..db.tables import tag_sets
from ..db.tables import tag_values

_MAX_KNOWN: t.Final = 50_000

_s: t.Final = tag_sets.c


class TagSetIds:
    """The ids of a ledger's tag sets, as far as this process knows them."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int]] = {}
        """By their text: ids, and the day on which each was last recorded as seen."""

    def store(self, engine: sa.Engine, sets: Iterable[TagSet]) -> dict[str, int]:
        """Store the sets that are missing; return the ids of all by their text."""
        now = dt.datetime.now(dt.UTC)
        today = now.toordinal()
        ids: dict[str, int] = {}
        missing: dict[str, TagSet] = {}
        for tags in sets:
            set_id, day = self._known.get(tags.text, (0, 0))
            if day == today:
                ids[tags.text] = set_id
            else:
                missing[tags.text] = tags
        pending = [(tags.id, tags) for tags in missing.values()]
        while pending:
            found = _insert(engine, dict(pending), now)
            for set_id, tags in pending:
                if found[set_id] == tags.text:
                    ids[tags.text] = set_id
                    self._remember(tags.text, set_id, today)
            # If two sets have the same hash, the later one gets the next free id.
            pending = [(n + 1 & BIGGEST, s) for n, s in pending if s.text not in ids]
        return ids

    def _remember(self, text: str, set_id: int, today: int) -> None:
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[text] = set_id, today


def _insert(
    engine: sa.Engine, sets: dict[int, TagSet], now: dt.datetime
) -> dict[int, str]:
    """Insert sets under ids that are free; return the texts that the ids now have."""
    # In the same order in every process, or two could deadlock.
    ids = sorted(sets)
    with engine.begin() as connection:
        insert_missing(
            connection,
            tag_sets,
            [{"id": n, "tags": sets[n].text, "seen_at": now} for n in ids],
        )
        query = sa.select(_s.id, _s.tags).where(_s.id.in_(ids))
        found = {row.id: row.tags for row in connection.execute(query)}
        values = [
            {"tag_set_id": n, "key": key, "value": value}
            for n in ids
            if found[n] == sets[n].text
            for key, value in sorted(sets[n].tags.items())
        ]
        insert_missing(connection, tag_values, values)
        connection.execute(
            sa.update(tag_sets)
            .where(_s.id.in_(ids), _s.seen_at < now - DAY)
            .values(seen_at=now)
        )
    return found
