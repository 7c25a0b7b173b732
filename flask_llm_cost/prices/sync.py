"""How does a price file follow its sources? It is read, they are asked, it is written."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import tempfile
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path

from ..errors import PriceFileError
from ..errors import PriceSyncError
from .document import digest
from .document import dumps
from .document import models_of
from .drift import plan as plan
from .drift import SyncPlan as SyncPlan
from .fetch import Answer
from .fetch import ask
from .fetch import Progress
from .fetch import READERS
from .fetch import TIMEOUT
from .layers import parse_file
from .layers import read_file
from .meters import Malformed


def sync(
    path: Path,
    sources: Mapping[str, str],
    *,
    now: dt.datetime | None = None,
    accept: Iterable[str] = (),
    add: Iterable[str] = (),
    preview: bool = False,
    strict: bool = False,
    timeout: float = TIMEOUT,
    progress: Progress | None = None,
) -> SyncPlan:
    """Bring a price file up to date.

    :param sources: Name to URL or path; they are believed in the order of
        :data:`~.fetch.READERS`.
    :param preview: Write nothing.
    :param strict: Write nothing if a source failed or a price was refused or held back.
    :raises PriceFileError: If the file cannot be read, or is wrong.
    :raises PriceSyncError: If it cannot be written, or every source failed, or in strict
        mode anything went wrong.
    """
    moment = now or dt.datetime.now(dt.UTC)
    # What a link points to is written, and the link stays one.
    path = Path(os.path.realpath(path))
    with contextlib.nullcontext() if preview else _lock(path):
        document = read_document(path)
        known = {} if accept or add else known_versions(document)
        answers = ask_all(
            sources, known=known, now=moment, timeout=timeout, progress=progress
        )
        try:
            made = plan(document, answers, now=moment, accept=accept, add=add)
        except Malformed as error:
            raise PriceFileError(f"{path}: {error}.") from None
        if made.failed and not made.used:
            raise PriceSyncError(_failures(made))
        if strict and (made.failed or made.rejected or made.held):
            raise PriceSyncError(f"Nothing was written. {_failures(made)}")
        if not preview and (made.document != document or not path.exists()):
            write(path, made.document)
    return made


def ask_all(
    sources: Mapping[str, str],
    *,
    known: Mapping[tuple[str, str], str] | None = None,
    now: dt.datetime,
    timeout: float = TIMEOUT,
    progress: Progress | None = None,
) -> list[Answer]:
    """Ask the sources, in the order in which they are believed.

    :param known: The versions that we have, by name and address.
    """
    versions = known or {}
    answers = [
        ask(
            name,
            sources[name],
            known_version=versions.get((name, sources[name])),
            now=now,
            timeout=timeout,
            progress=progress,
        )
        for name in sorted(sources, key=_rank)
    ]
    if not any(answer.sheet is not None for answer in answers):
        return answers
    # One that is as it was is needed again, to be compared with those that moved.
    return [
        ask(each.name, each.url, now=now, timeout=timeout, progress=progress)
        if each.unchanged
        else each
        for each in answers
    ]


def _rank(name: str) -> int:
    names = list(READERS)
    return names.index(name) if name in names else len(names)


def known_versions(document: Mapping[str, t.Any]) -> dict[tuple[str, str], str]:
    """The versions of sources that this file agrees with, if no one has edited it since."""
    metadata = (document.get("metadata") or {}) if "models" in document else {}
    if metadata.get("synced_sha256") != digest(models_of(document)):
        return {}
    said = metadata.get("sources")
    return {
        (name, str(each.get("url"))): str(each["version"])
        for name, each in (said.items() if isinstance(said, Mapping) else ())
        if isinstance(each, Mapping) and each.get("version")
    }


def _failures(made: SyncPlan) -> str:
    parts = [f"{name} {reason}" for name, reason in made.failed.items()]
    parts += [f"{model} was refused: {why}" for model, why in made.rejected.items()]
    parts += [f"{model} was held back: {why}" for model, why in made.held.items()]
    return "; ".join(parts) + "."


def read_document(path: Path) -> Mapping[str, t.Any]:
    """A price file, or an empty one if there is none.

    :raises PriceFileError: If it cannot be read, or is wrong.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {"metadata": {}, "models": {}}
    except OSError as error:
        raise PriceFileError(f"{path} cannot be read: {error.strerror}.") from error
    read_file(path, data)
    return t.cast("Mapping[str, t.Any]", parse_file(path, data))


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One sync of a file at a time; the lock is beside it, for the file is replaced."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PriceSyncError(
            f"{path} cannot be locked: {lock}: {error.strerror}."
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write(path: Path, document: Mapping[str, t.Any]) -> None:
    """Replace a price file at once; what was there is kept beside it as ``.bak``.

    Of a YAML file only the entries that change are replaced.

    :raises PriceSyncError: If it cannot be written. The old file is then as it was.
    """
    try:
        data = _data(path, document)
        if path.exists():
            # Root may write to any file; one without any write bit is meant to stay.
            if not os.access(path, os.W_OK) or not path.stat().st_mode & 0o222:
                raise PermissionError(13, "it is read-only")
            _replace(path.with_name(f"{path.name}.bak"), path.read_bytes(), path)
        _replace(path, data, path)
    except OSError as error:
        raise PriceSyncError(f"{path} cannot be written: {error.strerror}.") from error


def _data(path: Path, document: Mapping[str, t.Any]) -> bytes:
    if path.suffix.lower() not in (".yaml", ".yml"):
        return f"{dumps(document)}\n".encode()
    held = path.read_bytes() if path.exists() else b""
    before = parse_file(path, held) or {}
    from .yamlfile import rewritten
    from .yamlfile import Unwritable

    try:
        return rewritten(held.decode(), before, document).encode()
    except (Unwritable, UnicodeDecodeError) as error:
        raise PriceSyncError(
            f"{path} cannot be changed entry by entry: {error}. It is left as it is: keep"
            " synced prices in a file of plain entries, or in a .json file."
        ) from None


def _replace(path: Path, data: bytes, like: Path) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        mode = like.stat().st_mode & 0o777 if like.exists() else 0o644
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
