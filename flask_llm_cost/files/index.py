"""The calls of monthly files in a temporary database of this process."""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
import threading
import typing as t
import weakref
from collections.abc import Collection
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from .. import jsonl
from ..call import Call
from ..config import Settings
from ..db.engine import Engines
from ..db.insert import insert_calls
from ..db.rows import tag_set_of
from ..db.rows import TagSet
from ..db.rows import values_of
from ..db.tables import calls
from ..db.tables import tag_sets
from ..db.tables import tag_values
from ..rollups.dirty_marks import mark_dirty_ms

_BATCH: t.Final = 500
_LAST_BYTES: t.Final = 512


@dataclass(frozen=True, slots=True)
class _Position:
    """How far a file was read."""

    offset: int = 0
    skipped: int = 0
    """Lines before it that are not calls."""
    last: bytes = b""
    """The end of the line before it."""

    def is_in(self, path: Path) -> bool:
        """Return whether what was read is still in the file, unchanged.

        Lines are only appended or deleted: if the last one is where it was, so are those
        before it. (The inode number proves nothing: a new file may get the old one's.)
        """
        with path.open("rb") as file:
            file.seek(self.offset - len(self.last))
            return file.read(len(self.last)) == self.last


class Index:
    """Follows monthly files, so that they can be queried with SQL.

    No rollups are built: each hour is marked dirty, and so is read from its calls.
    """

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="llm-cost-index-")
        self.engines: Engines = Engines(Settings(), self._folder, None)
        self._lock = threading.RLock()
        self._known: dict[Path, _Position] = {}
        self._sets: dict[str, int] = {}
        """The ids of the sets of tags, by their text."""
        self._remover = weakref.finalize(self, shutil.rmtree, self._folder, True)

    def update(self, files: list[Path]) -> int:
        """Read what is new in the files; return how many of their lines are not calls."""
        with self._lock:
            if not self._continues():
                self._empty()
            for path in files:
                self._follow(path)
            return sum(self._known[path].skipped for path in files)

    def _continues(self) -> bool:
        """Return whether every file that was read still exists, and has only grown."""
        try:
            return all(known.is_in(path) for path, known in self._known.items())
        except FileNotFoundError:
            return False

    def _empty(self) -> None:
        with self.engines.writing().begin() as connection:
            for table in (calls, tag_values, tag_sets):
                connection.execute(table.delete())
        self._known.clear()
        self._sets.clear()

    def _follow(self, path: Path) -> None:
        known = self._known.get(path, _Position())
        offset, skipped, last = known.offset, known.skipped, known.last
        with path.open("rb") as file:
            file.seek(offset)
            batch: list[Call] = []
            for line in file:
                if not line.endswith(b"\n"):
                    break  # still being written, or torn: the next append completes it
                offset += len(line)
                last = line[-_LAST_BYTES:]
                try:
                    batch += [jsonl.decode(line)] if line.strip() else []
                except ValueError:
                    skipped += 1
                if len(batch) >= _BATCH:
                    skipped += self._insert(batch)
                    batch = []
            skipped += self._insert(batch)
        self._known[path] = _Position(offset, skipped, last)

    def _insert(self, batch: Iterable[Call]) -> int:
        """Insert calls; return how many of them no database can store."""
        rows, skipped = [], 0
        new: dict[str, TagSet] = {}
        for call in batch:
            try:
                values, tags = values_of(call), tag_set_of(call.tags)
            except (ValueError, OverflowError):
                skipped += 1
                continue
            rows.append((values, None if tags is None else self._set_id(tags, new)))
        if rows:
            self.engines.prepare()
            with self.engines.writing().begin() as connection:
                _insert_sets(connection, new.values())
                _insert_rows(connection, rows)
            self._sets.update((text, tags.id) for text, tags in new.items())
        return skipped

    def _set_id(self, tags: TagSet, new: dict[str, TagSet]) -> int:
        known = self._sets.get(tags.text)
        if known is not None:
            return known
        if tags.text not in new:
            # Counted, not hashed: two sets of one hash need no care then.
            new[tags.text] = replace(tags, id=len(self._sets) + len(new) + 1)
        return new[tags.text].id

    def after_fork(self) -> None:
        """Leave the folder to the parent, in a forked child."""
        self._remover.detach()
        self.engines.after_fork()

    def close(self) -> None:
        """Delete the index."""
        self.engines.close()
        self._remover()


def _insert_sets(connection: sa.Connection, sets: Collection[TagSet]) -> None:
    if not sets:
        return
    now = dt.datetime.now(dt.UTC)
    connection.execute(
        tag_sets.insert(),
        [{"id": each.id, "tags": each.text, "seen_at": now} for each in sets],
    )
    connection.execute(
        tag_values.insert(),
        [
            {"tag_set_id": each.id, "key": key, "value": value}
            for each in sets
            for key, value in each.tags.items()
        ],
    )


def _insert_rows(
    connection: sa.Connection, rows: list[tuple[tuple[t.Any, ...], int | None]]
) -> None:
    statement = insert_calls(connection.dialect)
    # A call that is in the files twice counts once.
    connection.exec_driver_sql(
        statement.sql.replace("INSERT", "INSERT OR IGNORE", 1),
        [
            (statement.event_id(values[0]), *values[1:], set_id)
            for values, set_id in rows
        ],
    )
    mark_dirty_ms(connection, [values[1] for values, _ in rows])
