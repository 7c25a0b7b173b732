"""Rows of an export by the names of their columns: CSV, JSON or BigQuery's answer."""

from __future__ import annotations

import functools
import json
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from .document import Document
from .pages import refuse_error
from .sums import Scope
from .values import parse
from .values import Place

Row: t.TypeAlias = Mapping[str, t.Any]


def column_names(document: Document) -> frozenset[str]:
    """Return the names of a file's columns in lower case; of JSON, the first row's."""
    if not document.is_json:
        return frozenset(name.strip().lower() for name in document.columns)
    for _, row in rows_of(document, lenient=True):
        return frozenset(row)
    return frozenset()


def rows_of(
    document: Document, *, lenient: bool = False
) -> Iterator[tuple[Place, Row]]:
    """Iterate over the rows of a file with their places. Names are in lower case.

    :param lenient: To recognize a file: what is not a table has no rows.
    :raises BillError: If a row cannot be read.
    """
    if not document.is_json:
        names = [name.strip().lower() for name in document.columns]
        for number, cells in document.rows():
            yield (
                Place(document.name, f"row {number}"),
                dict(zip(names, cells, strict=True)),
            )
        return
    for number, value in enumerate(document.values()):
        place = document.place.at(number)
        if isinstance(value, dict) and "schema" in value and "rows" in value:
            yield from _bigquery(place, value)
        elif isinstance(value, dict):
            row = {name.lower(): each for name, each in value.items()}
            if len(row) < len(value):
                raise place.error("a name is in it twice, in upper and lower case.")
            yield place, row
        elif not lenient:
            place.mapping(value)


def _bigquery(place: Place, value: Row) -> Iterator[tuple[Place, Row]]:
    """Iterate over the rows of an answer of BigQuery's API."""
    refuse_error(place, value)
    rows = place.at("rows").list(value["rows"])
    if value.get("pageToken") or value.get("jobComplete") is False:
        raise place.error(
            "there are more rows (pageToken). Save the complete result, for example"
            " with bq query --format=json."
        )
    total = parse(value.get("totalRows"))
    if total is not None and total != len(rows):
        raise place.error(f"it has {len(rows)} of {total} rows. Save all of them.")
    schema = place.at("schema").mapping(value["schema"])
    fields = place.at("schema.fields").list(schema.get("fields"))
    for number, row in enumerate(rows):
        at = place.at("rows").at(number)
        yield (
            at,
            {name.lower(): each for name, each in _record(at, row, fields).items()},
        )


def _record(place: Place, row: object, fields: Sequence[t.Any]) -> dict[str, t.Any]:
    cells = place.list(place.mapping(row).get("f"))
    if len(cells) != len(fields):
        raise place.error(
            f"it has {len(cells)} cells, but the schema has {len(fields)} fields."
        )
    found = {}
    for field, cell in zip(fields, cells, strict=True):
        about = place.mapping(field)
        name = str(about.get("name"))
        found[name] = _cell(place.at(name), place.mapping(cell).get("v"), about)
    return found


def _cell(place: Place, value: object, field: Row) -> t.Any:
    if field.get("mode") == "REPEATED":
        single = {**field, "mode": "NULLABLE"}
        items = place.list(value or [])
        return [_cell(place, place.mapping(each).get("v"), single) for each in items]
    if value is not None and field.get("type") in ("RECORD", "STRUCT"):
        return _record(place, value, place.list(field.get("fields")))
    if value is not None and field.get("type") == "TIMESTAMP":
        return place.bigquery_time(value, str(field.get("name"))).isoformat()
    return value


def tags_of(value: object) -> Scope:
    """Return a row's tags as parts of its scope. Azure leaves out the braces of the JSON."""
    return _tags(value) if isinstance(value, str) and value else ()


@functools.lru_cache(maxsize=1024)
def _tags(value: str) -> Scope:
    try:
        found = json.loads(value if value.startswith("{") else f"{{{value}}}")
    except (ValueError, RecursionError):
        return ()
    pairs = [(f"tag:{name}"[:100], each) for name, each in sorted(found.items())]
    return tuple((name, each[:100]) for name, each in pairs if isinstance(each, str))
