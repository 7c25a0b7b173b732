"""Manifests of Azure's exports: which parts a run has, and which run is the newest."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from .document import Document
from .values import parse
from .values import text


@dataclass(frozen=True, slots=True)
class Parts:
    """The files to read, and how many rows their manifests give them."""

    parts: Sequence[Document]
    rows: Mapping[str, int]
    warnings: Sequence[str]

    def refuse_other_count(self, document: Document, rows: int) -> None:
        """Refuse a part that does not have the rows that its manifest counts.

        :raises BillError: If it has more or fewer.
        """
        expected = self.rows.get(document.name, rows)
        if rows != expected:
            raise document.place.error(
                f"it has {rows} rows, but its manifest counts {expected}. Download it"
                " again."
            )


@dataclass(frozen=True, slots=True)
class _Run:
    manifest: Document
    export: str
    month: str
    submitted: dt.datetime
    blobs: Mapping[str, int | None]
    """The end of a part's path, to its rows."""


def is_manifest(document: Document) -> bool:
    """Whether it is the manifest of an export."""
    value = document.json
    return isinstance(value, dict) and {"blobs", "runInfo"} <= {*value}


def newest(documents: Sequence[Document]) -> Parts:
    """Return the parts of the newest run of each month; without manifests, all files.

    :raises BillError: If a part of a run is missing.
    """
    manifests = [each for each in documents if each.is_json and is_manifest(each)]
    files = [each for each in documents if each not in manifests]
    runs = [_run(each) for each in manifests]
    kept: dict[tuple[str, str], _Run] = {}
    for run in sorted(runs, key=lambda each: each.submitted):
        kept[run.export, run.month] = run
    parts, rows = list[Document](), dict[str, int]()
    old = [_find(run, name, files) for run in runs for name in run.blobs]
    for run in kept.values():
        for name, count in run.blobs.items():
            part = _find(run, name, files)
            parts.append(part)
            if count is not None:
                rows[part.name] = count
    parts.extend(each for each in files if each not in old)
    replaced = [run for run in runs if run not in kept.values()]
    warnings = [f"{run.manifest.name}: a newer run replaces it." for run in replaced]
    return Parts(parts, rows, warnings)


def _run(document: Document) -> _Run:
    place = document.place
    value = place.mapping(document.json)
    info = place.at("runInfo").mapping(value.get("runInfo"))
    config = value.get("exportConfig")
    blobs: dict[str, int | None] = {}
    for each in place.at("blobs").list(value["blobs"]):
        blob = place.at("blobs").mapping(each)
        count = parse(blob.get("dataRowCount"))
        blobs[str(blob.get("blobName"))] = None if count is None else int(count)
    start = place.at("runInfo").time(info.get("startDate"), "startDate")
    name = text(config.get("exportName")) if isinstance(config, dict) else None
    submitted = str(info.get("submittedTime"))
    return _Run(
        document,
        name or "export",
        f"{start:%Y-%m}",
        place.at("runInfo").time(_microseconds(submitted), "submittedTime"),
        blobs,
    )


def _microseconds(value: str) -> str:
    """Shorten Azure's seven digits of a second to six."""
    head, point, rest = value.partition(".")
    return f"{head}{point}{rest.rstrip('Z')[:6]}Z" if point else value


def _find(run: _Run, blob: str, files: Sequence[Document]) -> Document:
    """Return the file of a part, by as much of its path as is there."""
    folder = run.manifest.name.replace("\\", "/").rpartition("/")[0]
    last = blob.rpartition("/")[2]
    for name in (blob, f"{folder}/{last}" if folder else last):
        for file in files:
            path = file.name.replace("\\", "/")
            if path == name or path.endswith(f"/{name}"):
                return file
    raise run.manifest.place.error(
        f"it names {last}, which is not beside it among the files. Name all parts."
    )
