"""Write the table of SDKs in the documentation from what a run of the matrix recorded.

``nox -s matrix`` runs it: ``python -m tools.sdk_matrix RECORDED TABLE``.
"""

from __future__ import annotations

import json
import sys
import typing as t
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path

COLUMNS: t.Final[dict[str, tuple[str, ...]]] = {
    "Plain": ("plain",),
    "Streamed": ("streamed to the end", "gzipped stream"),
    "Cut": ("stopped early", "dies mid-stream", "never read", "never closed"),
    "Refused": ("401",),
    "Retried": ("429, then 200", "500 each time"),
}
"""The scenes that a column sums up."""

_HEAD: t.Final = """\
SDKs that were tried
====================

.. This page is written by ``nox -s matrix``.

{count} packages were called against a provider on loopback, with and without capture. In
each scene, the provider received the same bytes, the app saw the same answer or exception,
and the ledger had one row per attempt, with the usage of the answer. *Cut* are streams that
were stopped early or lost; *refused* is an HTTP error, *retried* an attempt of the SDK's own
after one. A dash means that the SDK has no such thing, or that it was not tried.

.. list-table::
    :header-rows: 1
    :widths: 34 16 14 9 9 9 9 9

"""

Line: t.TypeAlias = dict[str, t.Any]


def page(lines: Iterable[Line]) -> str:
    """Return the page, with a row for each package."""
    packages: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        packages[line["package"]].append(line)
    rows = [("Package", "Version", "Clients", *COLUMNS)]
    rows += [_row(name, packages[name]) for name in sorted(packages, key=str.lower)]
    return _HEAD.format(count=len(packages)) + "".join(map(_written, rows))


def _row(name: str, lines: list[Line]) -> tuple[str, ...]:
    asynchronous = {line["asynchronous"] for line in lines}
    kinds = ", ".join("async" if each else "sync" for each in sorted(asynchronous))
    cells = tuple(_cell(lines, scenes) for scenes in COLUMNS.values())
    return f"``{name}``", lines[-1]["version"], kinds, *cells


def _cell(lines: list[Line], scenes: tuple[str, ...]) -> str:
    played = [line["passed"] for line in lines if line["scene"] in scenes]
    if not played:
        return "\u2013"
    return "yes" if all(played) else "no"


def _written(cells: tuple[str, ...]) -> str:
    first, *rest = cells
    return f"    * - {first}\n" + "".join(
        f"      - {cell}".rstrip() + "\n" for cell in rest
    )


def _read(path: Path) -> Iterator[Line]:
    for line in path.read_text("utf-8").splitlines():
        yield json.loads(line)


if __name__ == "__main__":
    recorded, table = map(Path, sys.argv[1:])
    table.write_text(page(_read(recorded)), encoding="utf-8")
