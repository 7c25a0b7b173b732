"""The ledger without a database: one file of lines for each month.

The lines are those of :mod:`.jsonl`. A call goes to the file of the month (UTC) in which
it was sent. Pages and reports read an index of the files, which is a temporary database
of this process, so that they answer as over any other ledger.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import heapq
import os
import re
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import jsonl
from ..calendar import FIRST
from ..calendar import period_of
from ..call import Call
from ..config import Settings
from ..errors import StorageError
from ..file_system import warn_of_network
from ..interrupts import pass_on
from ..recurring import report
from ..storage import caused_by
from ..storage import Failed
from ..storage import Gather
from ..storage import register
from ..storage import Reporter
from ..storage import Storage
from . import edits
from .hash_key import hash_key

if t.TYPE_CHECKING:
    import sqlalchemy as sa

    from ..rollups.erase import Erased
    from .bill_files import BillFiles
    from .index import Index

FOLDER: t.Final = "llm_cost_calls"

_NETWORK_ADVICE: t.Final = (
    "Its file locks may be missing or delayed, so lines from two machines may be mixed"
    " up. Set LLM_COST_JSONL_DIR to a folder on a local disk."
)

_MONTH: t.Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])\.jsonl")


class JsonlLedger(Storage):
    """Stores calls in files ``YYYY-MM.jsonl`` that only their owner can read.

    It takes the place of :class:`.Ledger` where ``LLM_COST_STORAGE`` is ``"jsonl"``, and has
    none of the optional capabilities of a storage.

    :param failed: Receives what could not be stored. It must not raise.
    :param gather: Called before files are read to append the calls that are due. It must
        not raise.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        instance_path: str,
        failed: Failed | None = None,
        gather: Gather | None = None,
    ) -> None:
        self.folder = Path(instance_path, settings.jsonl_dir or FOLDER)
        self.malformed = 0
        """Lines that were skipped when they were last read, because they are not calls."""
        self._settings = settings
        self._gather = gather
        self.reporter = Reporter(failed)
        self._reset()
        register(self)

    def _reset(self) -> None:
        self._index: Index | None = None
        self._hash_key: str | None = None
        self._lock = threading.RLock()

    def after_fork(self) -> None:
        index = self._index
        self._reset()
        if index is not None:
            index.after_fork()

    @property
    def label(self) -> str:
        return str(self.folder)

    def folders(self) -> dict[Path, str]:
        return {self.folder: _NETWORK_ADVICE}

    # Recording calls

    @property
    def hash_key(self) -> str | None:
        if self._hash_key is None:
            try:
                self._hash_key = hash_key(self.folder)
            except OSError as error:
                pass_on(error)
                report(
                    "Calls are recorded without the key of their scope.", error=error
                )
        return self._hash_key

    def append(self, call: Call, *, now: bool = True) -> bool:
        # The app's request continues, whatever happens in here.
        try:
            warn_of_network(self.folder, _NETWORK_ADVICE)
            jsonl.check_id(call)
            edits.append(self._path(call.started_at), jsonl.encode(call))
        except Exception as error:
            pass_on(error)
            self.reporter.lose(call, self._explained(error))
            return False
        return True

    def _explained(self, error: Exception) -> Exception:
        if not isinstance(error, OSError):
            return error
        return caused_by(
            error,
            f"A call was lost: {self.folder} cannot be written"
            f" ({error.strerror or error}). Free some space, or set LLM_COST_JSONL_DIR.",
        )

    def flush(self, timeout: float = 10.0) -> bool:
        return self._gather is None or self._gather(timeout)

    def flush_at_exit(self) -> None:
        self.flush()

    def close(self) -> None:
        self.flush()
        index, self._index = self._index, None
        if index is not None:
            index.close()

    # Reading

    def query(
        self,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
        *,
        model: str | None = None,
        session_id: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Call]:
        """Read the calls from one time until before another, in the order of the files.

        Only the files of these months are read. A line that is not a call is skipped and
        counted in :attr:`malformed`.

        :param model: Only calls of this model.
        :param session_id: Only calls of this session, by ``LLM_COST_SESSION_TAG``.
        :param limit: Only that many calls: the latest, latest first.
        """
        tag = self._settings.session_tag
        found = (
            call
            for call in self._between(start, end)
            if (model is None or call.model == model)
            and (session_id is None or call.tags.get(tag) == session_id)
        )
        if limit is None:
            return found
        return iter(heapq.nlargest(limit, found, key=_age))

    def _between(
        self, start: dt.datetime | None, end: dt.datetime | None
    ) -> Iterator[Call]:
        self.flush()
        self.malformed = 0
        for path in self._within(self.files(), start, end):
            for call in self._read(path):
                if (start is None or call.started_at >= start) and (
                    end is None or call.started_at < end
                ):
                    yield call

    def _read(self, path: Path) -> Iterator[Call]:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            for line in file:
                if line.strip():
                    try:
                        yield jsonl.decode(line)
                    except ValueError:
                        self.malformed += 1

    @contextmanager
    def reading(
        self,
        *,
        fresh: bool = False,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
    ) -> Iterator[sa.Connection]:
        self.flush()
        with self._lock:
            if self._index is None:
                from .index import Index

                self._index = Index()
            index = self._index
        try:
            files = self.files()
            wanted = self._within(files, since, until)
            # The last file is always read: it has the latest call.
            self.malformed = index.update(
                wanted + [f for f in files[-1:] if f not in wanted]
            )
        except OSError as error:
            raise StorageError(f"{self.folder} cannot be read: {error}") from error
        with index.engines.snapshot() as connection:
            yield connection

    def files(self) -> list[Path]:
        """List the files, by month."""
        try:
            names = sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return []
        return [self.folder / name for name in names if _MONTH.fullmatch(name)]

    def _path(self, moment: dt.datetime) -> Path:
        return self.folder / f"{moment.astimezone(dt.UTC):%Y-%m}.jsonl"

    def _within(
        self,
        files: list[Path],
        start: dt.datetime | None,
        end: dt.datetime | None,
    ) -> list[Path]:
        """The files that may have calls from one time until before another."""
        if start is not None:
            first = self._path(start).name
            files = [path for path in files if path.name >= first]
        if end is not None and end <= FIRST:
            return []
        if end is not None:
            last = self._path(end - dt.timedelta.resolution).name
            files = [path for path in files if path.name <= last]
        return files

    @property
    def bills(self) -> BillFiles:
        from .bill_files import BillFiles

        return BillFiles(self.folder / "bills")

    # Deleting

    def prunable(self, before: dt.datetime) -> int:
        return sum(1 for _ in self.query(end=before))

    def prune(
        self,
        before: dt.datetime,
        *,
        months_only: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        if months_only:
            first = before.astimezone(dt.UTC).replace(day=1)
            before = first.replace(hour=0, minute=0, second=0, microsecond=0)
        return self._keep(
            lambda call: call.started_at >= before, None, before, progress
        )

    def clear(self, scope: t.Literal["today", "all"]) -> int:
        if scope == "all":
            return self._keep(lambda call: False)
        today = period_of("day", dt.datetime.now(dt.UTC), self._settings.timezone)[0]
        return self._keep(lambda call: call.started_at < today, today)

    def _keep(
        self,
        keep: Callable[[Call], bool],
        since: dt.datetime | None = None,
        before: dt.datetime | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        self.flush()
        deleted = 0
        for path in self._within(self.files(), since, before):
            deleted += edits.keep_calls(path, keep)
            if progress is not None:
                progress(deleted)
        return deleted

    def erase_tag(
        self,
        key: str,
        value: str,
        *,
        progress: Callable[[Erased], None] | None = None,
    ) -> Erased:
        from ..rollups.erase import Erased

        self.flush()
        erased = Erased()
        for path in self.files():
            lines, unreadable = edits.erase_tag(path, key, value)
            erased.calls += lines
            erased.lines += lines
            erased.unreadable += unreadable
            if progress is not None:
                progress(erased)
        return erased


def _age(call: Call) -> tuple[dt.datetime, str]:
    return call.started_at, call.event_id
