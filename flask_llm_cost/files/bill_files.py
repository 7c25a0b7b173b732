"""Bills in files, next to the monthly files of calls.

Each is one file of lines: its header, then its lines. Only the owner can read it.
"""

from __future__ import annotations

import datetime as dt
import os
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import StorageError
from ..storage import BillStorage
from ..storage import StoredBillText

_SUFFIX: t.Final = ".jsonl"
_RESULT: t.Final = ".result.json"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"The bill {path} cannot be read: {error}. Restore it, or delete the file."
        ) from error


@dataclass(frozen=True, slots=True)
class BillFiles(BillStorage):
    """Keeps bills in a folder."""

    folder: Path

    def put(self, key: str, header: str, lines: Iterable[str]) -> bool:
        path = self.folder / f"{key}{_SUFFIX}"
        if path.exists():
            return False
        self._write(path, "\n".join((header, *lines, "")))
        return True

    def _write(self, path: Path, text: str) -> None:
        new = path.with_suffix(".new")
        try:
            self.folder.mkdir(0o700, parents=True, exist_ok=True)
            opened = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(opened, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            new.replace(path)
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error}") from error

    def all(self) -> list[StoredBillText]:
        found = [self._bill(path) for path in self.folder.glob(f"*{_SUFFIX}")]
        return sorted(found, key=lambda each: (each.stored_at, each.key), reverse=True)

    def _bill(self, path: Path) -> StoredBillText:
        key = path.name.removesuffix(_SUFFIX)
        result = self.folder / f"{key}{_RESULT}"
        with _explained(path):
            with path.open(encoding="utf-8", newline="\n") as file:
                header = file.readline().rstrip("\n")
            stored_at = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
            text = result.read_text("utf-8") if result.exists() else None
        return StoredBillText(key, stored_at, header, text)

    def lines(self, key: str) -> list[str]:
        path = self.folder / f"{key}{_SUFFIX}"
        with _explained(path), path.open(encoding="utf-8", newline="\n") as file:
            return [line.rstrip("\n") for line in file][1:]

    def note(self, key: str, result: str) -> None:
        self._write(self.folder / f"{key}{_RESULT}", result)

    def forget(self, key: str) -> bool:
        path = self.folder / f"{key}{_SUFFIX}"
        there = path.exists()
        with _explained(path):
            for each in (path, self.folder / f"{key}{_RESULT}"):
                each.unlink(missing_ok=True)
        return there
