"""What monthly files hold, in a temporary database of this process."""

from __future__ import annotations

import shutil
import tempfile
import threading
import typing as t
import weakref
from dataclasses import dataclass
from pathlib import Path

from .. import jsonl
from ..call import Call
from ..config import Settings
from ..db.engine import Engines
from ..db.tables import calls
from ..db.tables import tag_sets
from ..db.tables import tag_values
from ..ledger.store import Store

_BATCH: t.Final = 500
_LAST_BYTES: t.Final = 512


@dataclass(frozen=True, slots=True)
class _Place:
    """How far a file is read."""

    offset: int = 0
    skipped: int = 0
    """Lines so far that are no calls."""
    last: bytes = b""
    """The end of the line before."""

    def is_in(self, path: Path) -> bool:
        """Whether what was read is there as it was.

        Lines are only appended, or some are taken out: if the last one is where it was,
        those before it are, too. (A new file may have the old one's number.)
        """
        with path.open("rb") as file:
            file.seek(self.offset - len(self.last))
            return file.read(len(self.last)) == self.last


class Index:
    """What the files hold, in a temporary database of this process."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="llm-cost-index-")
        self.engines: Engines = Engines(Settings(), self._folder, None)
        self._store: Store = Store(self.engines)
        self._lock = threading.Lock()
        self._known: dict[Path, _Place] = {}
        self._remover = weakref.finalize(self, shutil.rmtree, self._folder, True)

    def update(self, files: list[Path]) -> int:
        """Read what is new in the files; how many of their lines are no calls."""
        with self._lock:
            if not self._continues():
                self._empty()
            for path in files:
                self._follow(path)
            return sum(self._known[path].skipped for path in files)

    def _continues(self) -> bool:
        """Whether every file that was read is still there, and has only grown."""
        try:
            return all(place.is_in(path) for path, place in self._known.items())
        except FileNotFoundError:
            return False

    def _empty(self) -> None:
        with self.engines.writing().begin() as connection:
            for table in (calls, tag_values, tag_sets):
                connection.execute(table.delete())
        self._store = Store(self.engines)  # one that knows no sets of tags
        self._known.clear()

    def _follow(self, path: Path) -> None:
        with path.open("rb") as file:
            place = self._known.get(path, _Place())
            offset, skipped, last = place.offset, place.skipped, place.last
            file.seek(offset)
            batch: list[Call] = []
            for line in file:
                if not line.endswith(b"\n"):
                    break  # still being written, or torn: the next append ends it
                offset += len(line)
                last = line[-_LAST_BYTES:]
                try:
                    batch += [jsonl.decode(line)] if line.strip() else []
                except ValueError:
                    skipped += 1
                if len(batch) >= _BATCH:
                    skipped += len(self._store.write(batch).refused)
                    batch = []
            if batch:
                skipped += len(self._store.write(batch).refused)
        self._known[path] = _Place(offset, skipped, last)

    def let_go(self) -> None:
        """In a forked child: the folder is the parent's."""
        self._remover.detach()
        self.engines.after_fork()

    def close(self) -> None:
        self.engines.close()
        self._remover()
