from __future__ import annotations

import datetime as dt
import gc
import os
import stat
import threading
import typing as t
import uuid
import zoneinfo
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_llm_cost import jsonl
from flask_llm_cost.config import Settings
from flask_llm_cost.files import edits
from flask_llm_cost.files.monthly import JsonlLedger
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from tests.conftest import MakeApp
from tests.conftest import MakeLedger
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON
from tests.rollups.test_build import calls_over

DAY = dt.timedelta(days=1)

MakeFiles: t.TypeAlias = Callable[..., JsonlLedger]


@pytest.fixture
def make_files(tmp_path: Path) -> Iterator[MakeFiles]:
    """Ledgers of one folder of files, as of as many processes; closed at the end."""
    made: list[JsonlLedger] = []

    def make(**options: t.Any) -> JsonlLedger:
        settings = options.pop("settings", {})
        made.append(
            JsonlLedger(Settings(**settings), instance_path=str(tmp_path), **options)
        )
        return made[-1]

    yield make
    for ledger in made:
        ledger.close()


@pytest.fixture
def files(make_files: MakeFiles) -> JsonlLedger:
    return make_files()


def test_a_call_is_in_the_file_of_its_own_month(files: JsonlLedger) -> None:
    late = make_call(1, started_at=dt.datetime(2026, 1, 31, 23, 59, tzinfo=dt.UTC))
    zone = zoneinfo.ZoneInfo("Asia/Tokyo")
    moved = make_call(2, started_at=dt.datetime(2026, 3, 1, 1, tzinfo=zone))
    for call in (late, moved, make_call(3)):
        files.append(call)
    assert [path.name for path in files.files()] == [
        "2026-01.jsonl",
        "2026-02.jsonl",
        "2026-03.jsonl",
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.files()} == {0o600}
    assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700


def test_only_the_months_asked_for_are_read(files: JsonlLedger) -> None:
    made = [make_call(n, started_at=NOON + n * 31 * DAY) for n in range(4)]
    for call in made:
        files.append(call)
    files.files()[0].write_bytes(b"broken\n")
    assert list(files.query(made[1].started_at, made[3].started_at)) == made[1:3]
    assert files.malformed == 0
    assert list(files.query()) == made[1:]
    assert files.malformed == 1


def test_questions_have_the_same_answers_as_over_a_database(
    files: JsonlLedger, make_ledger: MakeLedger
) -> None:
    database = make_ledger()
    for call in calls_over(40):
        files.append(call)
        database.append(call)
    assert database.flush(60)
    where = CallFilter(start=NOON + DAY / 2)
    with files.reading() as one, database.reading() as two:
        assert totals(one, where) == totals(two, where)


def _count(ledger: JsonlLedger) -> int:
    with ledger.reading() as connection:
        return totals(connection, CallFilter()).calls


def test_a_reading_sees_what_others_append_and_delete(make_files: MakeFiles) -> None:
    one, two = make_files(), make_files()
    one.append(make_call(1))
    assert _count(two) == 1
    one.append(make_call(2))
    one.append(make_call(2, started_at=NOON + 90 * DAY))
    assert _count(two) == 3
    assert one.prune(NOON + 30 * DAY) == 2
    assert _count(two) == _count(one) == 1


def test_a_line_that_is_no_call_is_passed_over_and_counted(
    files: JsonlLedger,
) -> None:
    files.append(make_call(1))
    with files.files()[0].open("ab") as file:
        file.write(b'[1]\n{"v":1}\n\n{"torn":')
    files.append(make_call(2))
    assert len(list(files.query())) == 2
    assert files.malformed == 3
    assert _count(files) == 2
    assert files.malformed == 3


def test_a_line_that_cannot_be_written_leaves_no_trace(
    make_files: MakeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[t.Any] = []
    files = make_files(failed=lambda *args: told.append(args))
    files.append(make_call(1))
    write = os.write
    with monkeypatch.context() as disk:
        disk.setattr(edits.os, "write", lambda fd, data: write(fd, data[:9]))
        files.append(make_call(2))
    assert files.lost == 1
    assert "LLM_COST_JSONL_DIR" in str(told[0][1])
    assert files.files()[0].read_bytes().count(b"\n") == 1


def test_pruning_is_exact_to_the_millisecond(files: JsonlLedger) -> None:
    made = [make_call(n, started_at=NOON + (n - 40) * DAY) for n in range(50)]
    for call in made:
        files.append(call)
    assert files.prunable(NOON) == 40
    assert files.prune(NOON) == 40
    assert list(files.query()) == made[40:]
    assert files.prune(NOON) == 0
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.files()} == {0o600}


def test_clear_takes_today_or_all(make_files: MakeFiles) -> None:
    files = make_files(settings={"timezone": zoneinfo.ZoneInfo("Pacific/Kiritimati")})
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    for days in (0, 3, 40):
        files.append(make_call(days, started_at=now - days * DAY))
    assert files.clear("today") == 1
    assert files.clear("today") == 0
    assert files.clear("all") == 2
    assert files.files() == []


def test_appends_during_a_prune_are_not_lost(make_files: MakeFiles) -> None:
    done = threading.Event()

    def clean() -> None:
        mine = make_files()
        while not done.is_set():
            mine.prune(NOON)

    def write(offset: int) -> None:
        mine = make_files()
        for n in range(offset, offset + 150):
            mine.append(make_call(n))
            mine.append(make_call(n, started_at=NOON - DAY / 2))

    threads = [threading.Thread(target=write, args=(k * 150,)) for k in range(4)]
    cleaner = threading.Thread(target=clean)
    for thread in [cleaner, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    cleaner.join()
    kept = [call for call in make_files().query() if call.started_at >= NOON]
    assert len(kept) == 600


def test_a_child_leaves_its_parents_index_alone(files: JsonlLedger) -> None:
    files.append(make_call(1))
    assert _count(files) == 1
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            files.append(make_call(2))
            status = 0 if _count(files) == 2 else 2
            files.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert _count(files) == 2


def test_the_index_goes_with_its_ledger(tmp_path: Path) -> None:
    files = JsonlLedger(Settings(), instance_path=str(tmp_path))
    files.append(make_call())
    assert _count(files) == 1
    assert files._index is not None
    folder = Path(files._index._folder)
    assert folder.exists()
    files._index.engines.close()
    del files
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("storage", "kind"), [("jsonl", JsonlLedger), ("database", Ledger)]
)
def test_the_settings_choose_the_ledger(
    make_app: MakeApp, storage: str, kind: type
) -> None:
    app = make_app(LLM_COST_STORAGE=storage)
    assert isinstance(app.extensions["llm_cost"].ledger, kind)


def test_a_relative_folder_is_in_the_instance_folder(tmp_path: Path) -> None:
    ledger = JsonlLedger(Settings(jsonl_dir=Path("x")), instance_path=str(tmp_path))
    assert ledger.folder == tmp_path / "x"


def test_whole_months_alone_can_be_pruned(files: JsonlLedger) -> None:
    days = [dt.datetime(2026, *day, tzinfo=dt.UTC) for day in ((1, 31), (2, 1), (2, 9))]
    for n, day in enumerate(days):
        files.append(make_call(n, started_at=day))
    assert files.prune(days[2], months_only=True) == 1
    assert [path.name for path in files.files()] == ["2026-02.jsonl"]
    assert files.prune(days[2]) == 1


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("db", "upgrade"), "monthly files have no tables"),
        (("db", "current"), "monthly files have no tables"),
        (("db", "check"), "monthly files have no tables"),
        (("db", "sql"), "monthly files have no tables"),
        (("db", "downgrade", "base", "--yes"), "monthly files have no tables"),
        (("partition",), "each month already has its own file"),
        (("drain",), "none is queued or rejected"),
        (("ledger", "requeue"), "none is queued or rejected"),
        (("ledger", "verify"), "monthly files have no rollups"),
        (("ledger", "rezone"), "monthly files have no rollups"),
        (("tags", "forget", "plan"), "monthly files have no rollups"),
        (("prices", "reprice", "--from", "2026-01-01"), "monthly files keep each call"),
        (("prices", "reprice", "--undo", "last"), "monthly files keep each call"),
    ],
)
def test_a_command_says_what_files_cannot_do(
    make_app: MakeApp, command: tuple[str, ...], reason: str
) -> None:
    app = make_app(LLM_COST_STORAGE="jsonl")
    result = app.test_cli_runner().invoke(args=["llm-cost", *command])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: LLM_COST_STORAGE is 'jsonl': ")
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_file_made_anew_is_read_anew(files: JsonlLedger) -> None:
    files.append(make_call(1))
    assert _count(files) == 1
    others = [make_call(2), make_call(3)]
    # In place: it has the old one's number, and is longer.
    files.files()[0].write_bytes(b"".join(map(jsonl.encode, others)))
    with files.reading() as connection:
        ids = connection.exec_driver_sql(
            "SELECT event_id FROM llm_cost_calls"
        ).scalars()
        assert {uuid.UUID(i) for i in ids} == {uuid.UUID(c.event_id) for c in others}
