"""The ledger without a database: one file of lines for each month.

The lines are those of :mod:`.jsonl`. A call goes to the file of the month (UTC) in which
it was sent. Pages and reports ask an index of the files that is kept in a temporary
database of this process, so that they say the same as over any other ledger.
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
from ..calendar import day_start
from ..calendar import FIRST
from ..calendar import period_of
from ..call import Call
from ..config import Settings
from ..db.migrations import HEAD
from ..errors import StorageError
from ..ledger import Ledger
from ..ledger.writer import Drained
from . import billing

try:
    import fcntl
except ImportError:  # Windows: appends of several processes are then on their own
    fcntl = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    import sqlalchemy as sa

    from ..db.partitions import Partition
    from ..db.partitions import Step
    from ..rollups.erase import Erased
    from .index import Index

FOLDER: t.Final = "llm_cost_calls"

_MONTH: t.Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])\.jsonl")
_BATCH: t.Final = 500
_BINARY: t.Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class JsonlLedger(Ledger):
    """Keeps calls in files ``YYYY-MM.jsonl`` that only their owner can read.

    It takes the place of :class:`.Ledger` where ``LLM_COST_STORAGE`` is ``"jsonl"``.

    :param failed: Told of what could not be stored. It must not raise.
    :param gather: Called before files are read: appends calls that are due.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        instance_path: str,
        failed: Callable[[Call | None, Exception], None] | None = None,
        gather: Callable[[], None] | None = None,
    ) -> None:
        self.directory = Path(instance_path, settings.jsonl_dir or FOLDER)
        self.malformed = 0
        """Lines that were skipped when they were last read, because they are no calls."""
        super().__init__(
            settings,
            instance_path=instance_path,
            failed=failed,
            gather=gather,
        )

    def _fresh(self) -> None:
        super()._fresh()
        self._index: Index | None = None
        self._making = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.directory

    def let_go(self) -> None:
        """In a forked child: what is indexed is the parent's."""
        index = self._index
        self._fresh()
        if index is not None:
            index.let_go()

    # Taking calls

    def append(self, call: Call, *, now: bool = False) -> bool:
        """Keep a call. Never raises: what goes wrong is told to ``failed``."""
        # The app's request goes on, whatever happens in here.
        try:
            self._append(call)
        except Exception as error:
            self._lose(call, error)
        return False

    def _append(self, call: Call) -> None:
        jsonl.check_id(call)
        line = jsonl.encode(call)
        path = self._path(call.started_at)
        with _locked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as fd:
            size = os.fstat(fd).st_size
            if size and _last_byte(fd, size) != b"\n":  # another died while it wrote
                line = b"\n" + line
            try:
                written = os.write(fd, line)
                if written < len(line):
                    raise OSError(f"{written} of {len(line)} bytes could be written")
            except OSError:
                os.ftruncate(fd, size)
                raise

    def wake(self) -> None:
        """Nothing is left to a thread."""

    def _lose(self, call: Call, error: Exception) -> None:
        if isinstance(error, OSError):
            error = StorageError(
                f"A call is lost: {self.directory} cannot be written"
                f" ({error.strerror or error}). Make room, or set LLM_COST_JSONL_DIR."
            )
        super()._lose(call, error)

    def flush(self, timeout: float = 10.0) -> bool:
        """Write what is due: everything else is written already."""
        self._absorb()
        return True

    def _flush(self, timeout: float, *, once: bool) -> bool:
        return self.flush()

    def drain(self) -> Drained:
        """The same."""
        self._absorb()
        return Drained()

    def waiting(self) -> int:
        """None: each call is written at once."""
        return 0

    def close(self) -> None:
        """Write what is due, and delete the index."""
        self._absorb()
        index, self._index = self._index, None
        if index is not None:
            index.close()

    # Asking

    def query(
        self,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
        *,
        model: str | None = None,
        session_id: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Call]:
        """The calls from a moment until before another, in the order of the files.

        Only the files of these months are read. A line that is no call is passed over
        and counted in :attr:`malformed`.

        :param model: Only calls of this model.
        :param session_id: Only calls of this session, by ``LLM_COST_SESSION_TAG``.
        :param limit: The latest so many, the latest first.
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
        self._absorb()
        self.malformed = 0
        for path in self._within(self.files(), start, end):
            for call in self._read(path):
                if (start is None or call.started_at >= start) and (
                    end is None or call.started_at < end
                ):
                    yield call

    def _within(
        self,
        files: list[Path],
        start: dt.datetime | None,
        end: dt.datetime | None,
    ) -> list[Path]:
        """Those that may have calls from a moment until before another."""
        if start is not None:
            first = self._path(start).name
            files = [path for path in files if path.name >= first]
        if end is not None and end <= FIRST:
            return []
        if end is not None:
            last = self._path(end - dt.timedelta.resolution).name
            files = [path for path in files if path.name <= last]
        return files

    def _read(self, path: Path) -> Iterator[Call]:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            for line in file:
                if line.strip():
                    try:
                        yield jsonl.decode(line)
                    except ValueError:
                        self.malformed += 1

    def summary(
        self,
        period: str = "month",
        model: str | None = None,
        *,
        now: dt.datetime | None = None,
    ) -> dict[str, t.Any]:
        """The totals of the current day, week, month or year, by model and day too.

        :param period: ``"day"``, ``"week"``, ``"month"``, ``"year"`` or ``"all"``, by
            ``LLM_COST_TIMEZONE``.
        :raises ValueError: For another period.
        """
        now = now or dt.datetime.now(dt.UTC)
        start, end = self._period(period, now)
        return billing.summary(
            self.query(start, end, model=model),
            period=period,
            start=start,
            now=now,
            zone=self._settings.timezone,
        )

    def session_summary(
        self,
        period: str = "month",
        model: str | None = None,
        limit: int = 50,
        *,
        now: dt.datetime | None = None,
    ) -> list[dict[str, t.Any]]:
        """What each session of that period cost, the dearest first.

        ``LLM_COST_SESSION_NAMES`` gives names; sessions it does not know are one row then.

        :raises ValueError: For another period.
        """
        span = self._period(period, now or dt.datetime.now(dt.UTC))
        return billing.session_summary(
            self.query(*span, model=model),
            tag=self._settings.session_tag,
            names=self._settings.session_names,
            limit=limit,
            zone=self._settings.timezone,
        )

    def daily_breakdown(
        self,
        days: int = 30,
        model: str | None = None,
        *,
        now: dt.datetime | None = None,
    ) -> list[dict[str, t.Any]]:
        """Every one of the last days, the oldest first, those without calls too."""
        today = self._today(now or dt.datetime.now(dt.UTC))
        first = today - dt.timedelta(days=days - 1)
        end = self._begin(today + dt.timedelta(days=1))
        return billing.daily_breakdown(
            self.query(self._begin(first), end, model=model),
            first=first,
            last=today,
            zone=self._settings.timezone,
        )

    def _period(
        self, period: str, now: dt.datetime
    ) -> tuple[dt.datetime | None, dt.datetime | None]:
        """When the current one begins, and when the next."""
        week_start = self._settings.week_start
        today = self._today(now)
        first = day = billing.first_day(period, today, week_start)
        if first is None or day is None:
            return None, None
        while billing.first_day(period, day, week_start) == first:
            day += dt.timedelta(days=1)
        return self._begin(first), self._begin(day)

    def _today(self, now: dt.datetime) -> dt.date:
        return now.astimezone(self._settings.timezone).date()

    def _begin(self, day: dt.date) -> dt.datetime:
        return day_start(day, self._settings.timezone)

    def files(self) -> list[Path]:
        """The files that there are, by month."""
        try:
            names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return []
        return [self.directory / name for name in names if _MONTH.fullmatch(name)]

    @contextmanager
    def reading(
        self,
        *,
        fresh: bool = False,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
    ) -> Iterator[sa.Connection]:
        """A connection to an index of the files, in one read-only transaction.

        The last file is always in it: it tells which call is the latest.

        :param since: Files of earlier months need not be in it.
        :param until: Nor those of months that begin then or later.
        :raises StorageError: If the files cannot be read.
        """
        self._absorb()
        with self._making:
            if self._index is None:
                from .index import Index

                self._index = Index()
            index = self._index
        try:
            files = self.files()
            wanted = self._within(files, since, until)
            self.malformed = index.update(
                wanted + [f for f in files[-1:] if f not in wanted]
            )
        except OSError as error:
            raise StorageError(f"{self.directory} cannot be read: {error}") from error
        with index.engines.snapshot() as connection:
            yield connection

    def behind(self) -> None:
        """Files have no replica."""

    @property
    def database_label(self) -> str:
        """Where the files are."""
        return str(self.directory)

    # There are no tables and no sums, and nothing is set aside.

    def upgrade(self) -> None:
        """Nothing is to be done."""

    def downgrade(self, revision: str) -> None:
        """Nothing can be done.

        :raises StorageError: Always.
        """
        raise _no_tables()

    def sql(self, revisions: str = "head", *, dialect: str | None = None) -> str:
        """There is none.

        :raises StorageError: Always.
        """
        raise _no_tables()

    def current(self) -> str:
        """As the head: there is nothing to upgrade."""
        return HEAD

    def check(self) -> list[str]:
        """Nothing can differ."""
        return []

    def partitions(self) -> list[Partition]:
        """There are none."""
        return []

    def partition_plan(self, *, ahead: int = 3) -> list[Step]:
        """Nothing can be done.

        :raises StorageError: Always.
        """
        raise StorageError(
            "Each month is a file of its own already: files have no partitions."
        )

    def roll(self, *, seconds: float | None = None) -> int:
        """Nothing is added up."""
        return 0

    def rezone(self) -> None:
        """Days are not kept: they are those of ``LLM_COST_TIMEZONE`` at any time."""

    def verify(self) -> list[str]:
        """There are no sums that could differ."""
        return []

    def set_aside(self) -> list[Path]:
        """A line that is no call stays where it is."""
        return []

    def requeue(self) -> int:
        """Nothing was set aside."""
        return 0

    @property
    def _reviser(self) -> t.NoReturn:
        raise StorageError(
            "Monthly files hold each call as it was recorded: they cannot be priced again."
            " Import them into a database with `flask llm-cost calls import`, and do so"
            " there."
        )

    # Tags

    def erase_tag(
        self,
        key: str,
        value: str,
        *,
        timeout: float = 10.0,
        progress: Callable[[Erased], None] | None = None,
    ) -> Erased:
        """Take a value of a tag out of all files, as :meth:`.Ledger.erase_tag` does."""
        from ..rollups.erase import Erased

        self._absorb()
        erased = Erased()
        for path in self.files():
            _edit(path, key, value, erased)
            if progress is not None:
                progress(erased)
        return erased

    def forget_tag(self, key: str) -> bool:
        """No sums are kept."""
        return False

    # Letting go

    def cleanup(self, before: dt.datetime) -> int:
        """Delete the calls before a moment; how many they were."""
        return self._keep(lambda call: call.started_at >= before, before)

    def prune(
        self,
        before: dt.datetime,
        *,
        batch: int = 1000,
        months_only: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """The same, as :meth:`.Ledger.prune` has it; files keep no sums of what is gone."""
        gone = self.cleanup(before)
        if progress is not None and gone:
            progress(gone)
        return gone

    def prunable_months(self, before: dt.datetime) -> list[Partition]:
        """None: files have no partitions."""
        return []

    def prunable(self, before: dt.datetime) -> int:
        """How many calls :meth:`prune` would delete."""
        return sum(1 for _ in self.query(end=before))

    def clear(self, scope: t.Literal["today", "all"]) -> int:
        """Delete today's calls (in ``LLM_COST_TIMEZONE``), or all; how many they were."""
        if scope == "all":
            return self._keep(lambda call: False, None)
        zone = self._settings.timezone
        begin = period_of("day", dt.datetime.now(dt.UTC), zone)[0]
        return self._keep(lambda call: call.started_at < begin, None, begin)

    def _keep(
        self,
        keep: Callable[[Call], bool],
        before: dt.datetime | None,
        since: dt.datetime | None = None,
    ) -> int:
        self._absorb()
        gone = 0
        for path in self._within(self.files(), since, before):
            gone += _rewrite(path, keep)
        return gone

    def _path(self, moment: dt.datetime) -> Path:
        return self.directory / f"{moment.astimezone(dt.UTC):%Y-%m}.jsonl"


def _age(call: Call) -> tuple[dt.datetime, str]:
    return call.started_at, call.event_id


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[int]:
    """The file that is at a path, open and locked."""
    while True:
        try:
            fd = os.open(path, flags | _BINARY, 0o600)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            continue
        try:
            if fcntl is not None:
                fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_at(fd, path):
                yield fd
                return
        finally:
            os.close(fd)
        # It was rewritten while we waited: what is there now is another file.


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _last_byte(fd: int, size: int) -> bytes:
    os.lseek(fd, size - 1, os.SEEK_SET)
    return os.read(fd, 1)


def _rewrite(path: Path, keep: Callable[[Call], bool]) -> int:
    """Leave only some calls of a file; how many others there were.

    It is replaced at once by a whole new file. Lines that are no calls stay.
    """
    gone = 0
    with _locked(path, os.O_RDWR) as fd:
        kept: list[bytes] = []
        with os.fdopen(os.dup(fd), "rb") as file:
            for line in file:
                if _stays(line, keep):
                    kept.append(line)
                else:
                    gone += 1
        if not kept:
            path.unlink()
        elif gone:
            _put(path, kept)
    return gone


def _edit(path: Path, key: str, value: str, erased: Erased) -> None:
    """Take a value of a tag out of the lines of a file."""
    with _locked(path, os.O_RDWR) as fd:
        lines: list[bytes] = []
        found = 0
        with os.fdopen(os.dup(fd), "rb") as file:
            for line in file:
                try:
                    changed = jsonl.without_tag(line, key, value)
                except ValueError:
                    changed = None
                    erased.unreadable += value.encode() in line
                found += changed is not None
                lines.append(line if changed is None else changed + b"\n")
        if found:
            _put(path, lines)
            erased.lines += found
            erased.calls += found


def _put(path: Path, lines: list[bytes]) -> None:
    """Put a whole new file in the place of one that is locked."""
    new = path.with_suffix(".new")
    out = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(out, "wb") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(out)
    new.replace(path)


def _stays(line: bytes, keep: Callable[[Call], bool]) -> bool:
    try:
        return keep(jsonl.decode(line))
    except ValueError:
        return True


def _no_tables() -> StorageError:
    return StorageError(
        'LLM_COST_STORAGE is "jsonl": the ledger is files, which have no tables.'
    )
