"""The predecessor's cases for filters and page sizes.

Parameters are translated: ``tag[k]=v`` is ``tag=k:v``, page numbers are cursors, and pages
always have a date range, so "all" is requested with ``from``.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import pathlib
import typing as t

import pytest
from flask import Flask

from .conftest import a_call
from .conftest import MakeSite

VECTORS = pathlib.Path(__file__).resolve().parents[3] / "shared" / "vectors"

TODAY = dt.datetime(2026, 4, 20, 12, tzinfo=dt.UTC)

STRICT = "A bad value answers 400 with a page that names the parameter"
DAYS = "strict YYYY-MM-DD"
ALONE = "from alone runs to today, to alone covers the 30 days that end there"
LONG = "reversed or longer than 3,660 days is a 400"
ONE = "provider, model: a value given as a list of one is that value"
WORDS = "stream (yes|no)"
SIZES = "per (25|50|100|200)"

EXCEPTIONS: dict[str, tuple[str, t.Any]] = {
    "bad-dates": (STRICT, "from"),
    "from-only": (ALONE, [1, 2, 3]),
    "to-only": (ALONE, [1, 2]),
    "reversed": (LONG, "from"),
    "367-days": (LONG, [1, 2, 3, 4]),
    "basic-format-date": (DAYS, "from"),
    "week-date": (DAYS, "from"),
    "ordinal-date": (DAYS, "from"),
    "provider-array": (ONE, [1, 2, 4]),
    "stream-TRUE": (WORDS, "stream"),
    "stream-on": (WORDS, "stream"),
    "stream-maybe": (WORDS, "stream"),
    "usage-bogus": (STRICT, "usage_source"),
    "tag-string": (STRICT, "tag"),
    "tag-bad-key-blank-value": (STRICT, "tag"),
    "tag-array": (STRICT, "tag"),
    "date-array": (ONE, [1, 2]),
    "year-99999": (DAYS, "from"),
    "r-bad": (STRICT, "from"),
    "int": (SIZES, 25),
    "zero": (SIZES, "per"),
    "per-1": (SIZES, "per"),
    "per-201": (SIZES, "per"),
}
"""Where the design differs: its sentence, and the expected rows or page size, or the
parameter that a 400 names."""


def cases(name: str, kind: str) -> list[t.Any]:
    path = VECTORS / name
    if not path.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason="no ../shared"))]
    found = json.loads(path.read_text(encoding="utf-8"))["vectors"]
    return [pytest.param(v, id=v["id"]) for v in found if v["kind"] == kind]


@pytest.fixture
def april(make_site: MakeSite) -> Flask:
    """An app with the four calls of the cases, with their numbers as response IDs."""
    app = make_site()
    state = app.extensions["llm_cost"]
    state.clock = lambda: TODAY
    text = (VECTORS / "filters.json").read_text(encoding="utf-8")
    doc = json.loads(text)["doc"]
    rows = json.JSONDecoder().raw_decode(doc[doc.index("[{") :])[0]
    for number, row in enumerate(rows, 1):
        at = dt.datetime.fromisoformat(row.pop("tracked_at"))
        row["usage_source"] = row["usage_source"] or "manual"
        state.ledger.append(a_call(at=at, response_id=str(number), **row))
    assert state.ledger.flush(60)
    return app


def query_of(params: dict[str, t.Any]) -> list[tuple[str, str]]:
    tags = params.get("tag", ())
    pairs = tags.items() if isinstance(tags, dict) else ()
    query = [("tag", f"{key}:{value}") for key, value in pairs]
    for name, value in params.items():
        values = value if isinstance(value, list) else [value]
        if not isinstance(value, dict):
            query += [(name, str(one)) for one in values]
    return query


@pytest.mark.parametrize("vector", cases("filters.json", "filter"))
def test_filters_find_the_expected_calls(
    april: Flask, vector: dict[str, t.Any]
) -> None:
    query = query_of(vector["params"])
    if not {"from", "to"} & dict(query).keys():
        query.append(("from", "2026-01-01"))
    _, expected = EXCEPTIONS.get(vector["id"], ("", vector["expected"].get("ids")))
    response = april.test_client().get("/llm-costs/calls.csv", query_string=query)
    if isinstance(expected, str):
        assert response.status_code == 400
        assert f"<code>{expected}</code>" in response.text
    else:
        rows = csv.DictReader(io.StringIO(response.text))
        assert sorted(int(row["response_id"]) for row in rows) == expected


@pytest.mark.parametrize("vector", cases("filters.json", "overview_range"))
def test_the_date_range_of_the_overview(april: Flask, vector: dict[str, t.Any]) -> None:
    query = query_of(vector["params"])
    response = april.test_client().get("/llm-costs/", query_string=query)
    if vector["id"] in EXCEPTIONS:
        assert response.status_code == 400
    else:
        for name, day in vector["expected"].items():
            assert f'name="{name}" value="{day}"' in response.text


@pytest.mark.parametrize("vector", cases("pagination.json", "params"))
def test_page_sizes(april: Flask, vector: dict[str, t.Any]) -> None:
    query = [("from", "2026-01-01")]
    params = {k: v for k, v in (vector["params"] or {}).items() if k == "per"}
    response = april.test_client().get(
        "/llm-costs/calls", query_string=query + query_of(params)
    )
    _, expected = EXCEPTIONS.get(vector["id"], ("", vector["expected"]["per"]))
    if isinstance(expected, str):
        assert response.status_code == 400
        assert "<code>per</code>" in response.text
    else:
        assert f'<b aria-current="true">{expected}</b>' in response.text


def test_every_exception_is_a_case() -> None:
    if not VECTORS.exists():
        pytest.skip("no ../shared")
    known = {
        vector["id"]
        for name in ("filters.json", "pagination.json")
        for vector in json.loads((VECTORS / name).read_text(encoding="utf-8"))[
            "vectors"
        ]
    }
    assert EXCEPTIONS.keys() <= known
