"""Bring a price file up to date: read it, fetch its sources, and write it."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import tempfile
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path

from ..errors import PriceFileError
from ..errors import PriceSyncError
from ..file_lock import lock
from .conversion import in_usd
from .document import digest
from .document import models_of
from .document import written
from .fetch import fetch
from .fetch import FetchResult
from .fetch import Progress
from .fetch import READERS
from .fetch import TIMEOUT_S
from .layers import parse_file
from .layers import read_file
from .meters import Malformed
from .sync_plan import plan_sync
from .sync_plan import SyncPlan


def sync(
    path: Path,
    sources: Mapping[str, str],
    *,
    now: dt.datetime | None = None,
    accept: Iterable[str] = (),
    add: Iterable[str] = (),
    preview: bool = False,
    strict: bool = False,
    timeout: float = TIMEOUT_S,
    progress: Progress | None = None,
) -> SyncPlan:
    """Bring a price file up to date.

    :param sources: Name to URL or path. Precedence follows :data:`~.fetch.READERS`.
    :param accept: Models whose prices may change more than threefold, or to 0.
    :param add: Globs of ``provider/model`` to add to the file.
    :param preview: Write nothing.
    :param strict: Write nothing if a source failed or a price was rejected or held back.
    :raises PriceFileError: If the file cannot be read or is invalid.
    :raises PriceSyncError: If it cannot be written, if every source failed, or if
        anything went wrong in strict mode.
    """
    moment = now or dt.datetime.now(dt.UTC)
    # Write to a symbolic link's target, and keep the link.
    path = Path(os.path.realpath(path))
    with contextlib.nullcontext() if preview else _lock(path):
        document = read_document(path)
        _check_currency(path, document)
        known = {} if accept or add else _known_versions(document)
        results = fetch_all(
            sources, known=known, now=moment, timeout=timeout, progress=progress
        )
        try:
            plan = plan_sync(document, results, now=moment, accept=accept, add=add)
        except Malformed as error:
            raise PriceFileError(f"{path}: {error}.") from None
        if plan.failed and not plan.used:
            raise PriceSyncError(_problems(plan))
        if strict and (plan.failed or plan.rejected or plan.held_back):
            raise PriceSyncError(f"Nothing was written. {_problems(plan)}")
        if not preview and (plan.document != document or not path.exists()):
            write(path, plan.document)
    return plan


def fetch_all(
    sources: Mapping[str, str],
    *,
    known: Mapping[tuple[str, str], str] | None = None,
    now: dt.datetime,
    timeout: float = TIMEOUT_S,
    progress: Progress | None = None,
) -> list[FetchResult]:
    """Fetch the sources, the most trusted first.

    :param known: The versions we have, by name and URL.
    """
    versions = known or {}
    results = [
        fetch(
            name,
            sources[name],
            known_version=versions.get((name, sources[name])),
            now=now,
            timeout=timeout,
            progress=progress,
        )
        for name in sorted(sources, key=_rank)
    ]
    if not any(each.sheet is not None for each in results):
        return results
    # If one source has changed, the unchanged ones are needed to compare with.
    return [
        fetch(each.name, each.url, now=now, timeout=timeout, progress=progress)
        if each.unchanged
        else each
        for each in results
    ]


def _rank(name: str) -> int:
    names = list(READERS)
    return names.index(name) if name in names else len(names)


def _known_versions(document: Mapping[str, t.Any]) -> dict[tuple[str, str], str]:
    """Return the versions of sources that the file reflects, unless it was edited since."""
    metadata = (document.get("metadata") or {}) if "models" in document else {}
    if metadata.get("synced_sha256") != digest(models_of(document)):
        return {}
    sources = metadata.get("sources")
    return {
        (name, str(each.get("url"))): str(each["version"])
        for name, each in (sources.items() if isinstance(sources, Mapping) else ())
        if isinstance(each, Mapping) and each.get("version")
    }


def _problems(plan: SyncPlan) -> str:
    parts = [f"{name} {reason}" for name, reason in plan.failed.items()]
    parts += [f"{model} was rejected: {why}" for model, why in plan.rejected.items()]
    parts += [f"{model} was held back: {why}" for model, why in plan.held_back.items()]
    return "; ".join(parts) + "."


def read_document(path: Path) -> Mapping[str, t.Any]:
    """Read a price file; an empty one if it does not exist.

    :raises PriceFileError: If it cannot be read or is invalid.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {"metadata": {}, "models": {}}
    except OSError as error:
        raise PriceFileError(f"{path} cannot be read: {error.strerror}.") from error
    read_file(path, data)
    return t.cast("Mapping[str, t.Any]", parse_file(path, data))


def _check_currency(path: Path, document: Mapping[str, t.Any]) -> None:
    if in_usd(document) is not document:
        raise PriceFileError(
            f"{path}: metadata states another currency or unit, but a sync writes USD per"
            " 1M tokens. Convert the rates and remove metadata.currency and metadata.unit,"
            " or sync another file."
        )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Allow one sync of a file at a time.

    The lock is a file next to it, because the price file itself is replaced.
    """
    beside = path.with_name(f".{path.name}.lock")
    try:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(beside, flags, 0o600)
    except OSError as error:
        raise PriceSyncError(
            f"{path} cannot be locked: {beside}: {error.strerror}."
        ) from error
    try:
        # Where there are no locks, two syncs at once replace each other's file as a whole.
        with contextlib.suppress(OSError):
            lock(handle)
        yield
    finally:
        os.close(handle)


def write(path: Path, document: Mapping[str, t.Any]) -> None:
    """Replace a price file atomically, and keep the previous version as ``.bak``.

    In a YAML file, only the entries that change are replaced.

    :raises PriceSyncError: If it cannot be written. The file is then unchanged.
    """
    try:
        data = _data(path, document)
        if path.exists():
            # Root may write to any file, but one without write permission is meant to stay.
            if not os.access(path, os.W_OK) or not path.stat().st_mode & 0o222:
                raise PermissionError(13, "it is read-only")
            _replace(path.with_name(f"{path.name}.bak"), path.read_bytes(), path)
        _replace(path, data, path)
    except OSError as error:
        raise PriceSyncError(f"{path} cannot be written: {error.strerror}.") from error


def _data(path: Path, document: Mapping[str, t.Any]) -> bytes:
    if path.suffix.lower() not in (".yaml", ".yml"):
        return f"{written(document)}\n".encode()
    current = path.read_bytes() if path.exists() else b""
    before = parse_file(path, current) or {}
    from .yaml_edit import edit
    from .yaml_edit import NotEditable

    try:
        return edit(current.decode(), before, document).encode()
    except (NotEditable, UnicodeDecodeError) as error:
        raise PriceSyncError(
            f"{path} cannot be edited entry by entry: {error}. It is unchanged; keep"
            " synced prices in a YAML file of plain entries, or in a .json file."
        ) from None


def _replace(path: Path, data: bytes, like: Path) -> None:
    """Write a file atomically, with the permissions of another."""
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
