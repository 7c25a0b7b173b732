"""The ledger's SQLite file is deleted or replaced while the app uses it."""

from __future__ import annotations

import logging
import shutil
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_llm_cost.db.engine import Engines
from flask_llm_cost.db.tables import calls
from flask_llm_cost.ledger import Ledger
from tests.conftest import MakeLedger

from .samples import make_call


def stored(ledger: Ledger) -> int:
    with ledger.reading() as connection:
        found: int | None = connection.scalar(
            sa.select(sa.func.count(calls.c.event_id))
        )
    return found or 0


def delete(file: Path) -> None:
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()


def replace_by_backup(file: Path) -> None:
    backup = file.with_name("backup")
    shutil.copy(file, backup)
    backup.rename(file)


def move_away(file: Path) -> None:
    file.rename(file.with_name("old.db"))


@pytest.mark.parametrize("change", [delete, replace_by_backup, move_away])
@pytest.mark.parametrize("write", ["spool", "sync"])
def test_calls_after_the_file_was_changed_are_stored(
    make_ledger: MakeLedger,
    tmp_path: Path,
    change: t.Callable[[Path], None],
    write: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before, 40 later calls were lost: a pooled connection outlives its file."""
    ledger = make_ledger(write=write)
    ledger.append(make_call(0, tags={"user": "alice"}))
    assert ledger.flush(60)
    [file] = tmp_path.rglob("llm_cost.db")
    with caplog.at_level(logging.WARNING):
        change(file)
        for number in range(1, 41):
            ledger.append(make_call(number, tags={"user": "alice"}))
        assert ledger.flush(60)
    # A backup contains the first call if SQLite had moved it out of its log already.
    assert stored(ledger) - 40 in ((0, 1) if change is replace_by_backup else (0,))
    assert ledger.queue.count() == 0
    assert caplog.text.count("was deleted or replaced while it was in use") == 1
    assert file.stat().st_mode & 0o777 == 0o600 or change is replace_by_backup


def test_lines_stay_where_the_file_vanishes_before_they_are_removed(
    make_ledger: MakeLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = make_ledger()
    ledger.append(make_call(0))
    assert ledger.flush(60)
    [file] = tmp_path.rglob("llm_cost.db")
    changed = Engines.changed_file

    def vanish(engines: Engines) -> bool:
        # The last moment at which it can be noticed: the rows are committed.
        if ledger.queue.count() and file.exists():
            monkeypatch.setattr(Engines, "changed_file", changed)
            delete(file)
        return changed(engines)

    ledger.append(make_call(1))
    monkeypatch.setattr(Engines, "changed_file", vanish)
    assert ledger.flush(60)
    assert stored(ledger) == 1
