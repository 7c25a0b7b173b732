"""A file for every table of every page, with the same rows."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import typing as t
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal
from html.parser import HTMLParser

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_llm_cost.call import Cost
from flask_llm_cost.call import OUTCOME_LABELS
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.call import USAGE_SOURCE_LABELS
from flask_llm_cost.query.aggregate import UNTAGGED
from flask_llm_cost.web.labels import COVERAGE
from flask_llm_cost.web.labels import flag
from flask_llm_cost.web.labels import meter
from flask_llm_cost.web.labels import words
from tests.cli.test_reconcile import FILES
from tests.cli.test_reconcile import run

from .conftest import a_call
from .conftest import MakeSite
from .conftest import open_cost

Row = dict[str, str]


@dataclass
class Table:
    caption: str = ""
    names: list[str] = field(default_factory=list)
    """The first words of each row of the body."""


class Tables(HTMLParser):
    """The tables of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[Table] = []
        self._in = ""
        self._body = self._named = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.found.append(Table())
        elif tag == "caption":
            self._in = tag
        elif tag in ("tbody", "tfoot"):
            self._body = tag == "tbody"
        elif tag == "th" and self._body and ("scope", "row") in attrs:
            self._in, self._named = tag, False

    def handle_endtag(self, tag: str) -> None:
        if tag in ("caption", "th"):
            self._in = ""
        elif tag == "table":
            self._body = False

    def handle_data(self, data: str) -> None:
        if not (text := data.strip()):
            return
        if self._in == "caption":
            self.found[-1].caption += text
        elif self._in == "th" and not self._named:
            self.found[-1].names.append(text)
            self._named = True


def _column(name: str, table: str = "", **equals: str) -> t.Callable[[Row], str | None]:
    def of(row: Row) -> str | None:
        if table and row["table"] != table:
            return None
        if any(row[key] != value for key, value in equals.items()):
            return None
        return row[name].removeprefix("'")

    return of


def _label(
    of: t.Callable[[Row], str | None], name: t.Callable[[str], str]
) -> t.Callable[[Row], str | None]:
    return lambda row: None if (found := of(row)) is None else name(found)


def _session(name: str) -> str:
    return "No session" if name == "unknown" else name


def _groups(rows: list[Row]) -> list[str]:
    found = [name.removesuffix("_usd") for name in rows[0]]
    names = [name.rpartition(" ")[2] for name in found[found.index("compared") + 1 :]]
    return [name.removeprefix("'") for name in names]


QUALITY = "/data-quality.csv"
TAG = "/tags/tenant/values.csv"
FILES_OF: tuple[tuple[str, str, t.Callable[[Row], str | None]], ...] = (
    ("Spend by day", "/overview.csv", lambda row: _day(row["start"])),
    ("Top models|Models by spend|Models,", "/models.csv", _column("model")),
    ("Values of tenant|Spend by tenant", TAG, _column("tag.tenant")),
    ("Spend by feature", "/tags/feature/values.csv", _column("tag.feature")),
    ("Most expensive calls|Latest calls", "/calls.csv", _column("model")),
    (r"\d+ to \d+ of", "/calls.csv", _column("model")),
    ("Tag keys", "/tags.csv", _column("key")),
    ("Sessions", "/sessions.csv", _label(_column("session_id"), _session)),
    ("each, nearest", "/budgets.csv", lambda row: row["tags"][7:] or None),
    ("each, past", "/budgets.csv", lambda row: _day(row["starts_at"])),
    ("monthly, past", "/budgets.csv", lambda row: _month(row["starts_at"])),
    ("Bills", "/bills.csv", lambda row: f"{row['month']} {row['source']}"),
    ("Values of", "/statements.csv?key=tenant", _column("value")),
    ("Prices", "/prices.csv", _column("model")),
    ("Possible savings", "/savings.csv", _column("subject")),
    ("Caching by", "/savings/caching.csv", _column("subject")),
    (
        "Completeness",
        QUALITY,
        _label(_column("name", "missing"), lambda n: COVERAGE[n][0]),
    ),
    ("Unpriced calls by model", QUALITY, _column("model", "unpriced")),
    ("Calls without usage", QUALITY, _column("model", "without_usage")),
    ("Failed attempts", QUALITY, _column("provider", "failed")),
    (
        "Calls by outcome",
        QUALITY,
        _label(_column("outcome", "outcomes"), lambda n: OUTCOME_LABELS[n]),
    ),
    (
        "Calls by usage source",
        QUALITY,
        _label(_column("name", "usage_sources"), lambda n: USAGE_SOURCE_LABELS[n]),
    ),
    (
        "Calls with an incomplete cost",
        QUALITY,
        _label(_column("name", "incomplete"), lambda n: flag(n)[0] or PART),
    ),
    ("Calls by warning", QUALITY, _label(_column("name", "warnings"), words)),
    ("Calls to unlisted hosts", QUALITY, _column("name", "unlisted_hosts")),
)
PART = "Part of the usage has no price"


def _day(start: str) -> str:
    at = dt.datetime.fromisoformat(start)
    return f"{at:%a} {at.day} {at:%b %Y}"


def _month(start: str) -> str:
    first = dt.datetime.fromisoformat(start)
    last = (first + dt.timedelta(31)).replace(day=1) - dt.timedelta(1)
    return f"1 {first:%b} – {last.day} {first:%b %Y}"


CACHED = Cost(
    total_usd=Decimal("0.001875"),
    parts={
        "input": Part(Decimal(500), Decimal("2.5"), Decimal("0.00125")),
        "cache_read": Part(Decimal(500), Decimal("1.25"), Decimal("0.000625")),
    },
    source="bundled",
    price_key="openai/gpt-4o",
    complete=True,
    ceiling_usd=Decimal("0.001875"),
)


@pytest.fixture
def site(make_site: MakeSite) -> Flask:
    app: Flask = make_site(
        LLM_COST_ROLLUP_TAGS=("feature", "tenant"),
        LLM_COST_MONTHLY_BUDGET="100",
        LLM_COST_BUDGETS=[
            {"name": "each", "limit_usd": "5", "period": "day", "tags": {"tenant": "*"}}
        ],
    )
    ledger = app.extensions["llm_cost"].ledger
    usage = Usage(input_tokens=900, cache_write_tokens=300, output_tokens=100)
    for n in range(24):
        tags = {"tenant": f"t{n % 3}", "feature": "chat", "session": f"s{n % 4}"}
        made = a_call(minutes=1 + n * 4000, tags=tags, model=f"m{n % 5}", usage=usage)
        ledger.append(made)
    ledger.append(a_call(model="=cheap", provider="gemini", tags={"tenant": "=1+1"}))
    ledger.append(a_call(model="mystery", cost=None))
    ledger.append(a_call(cost=CACHED))
    ledger.append(a_call(usage=None, cost=None, outcome="http_error", http_status=429))
    ledger.append(
        a_call(usage=None, cost=None, outcome="interrupted", flags=frozenset({"cut"}))
    )
    ledger.append(
        a_call(cost=open_cost("0.2", "0.1"), flags=frozenset({"cut"}), stream=True)
    )
    ledger.append(a_call(cost="2", outcome="interrupted", usage_source="stream_final"))
    assert ledger.flush()
    return app


def file(client: FlaskClient, path: str) -> list[Row]:
    response = client.get(f"/llm-costs{path}")
    assert response.status_code == 200, path
    assert response.mimetype == "text/csv"
    return list(csv.DictReader(io.StringIO(response.text, newline="")))


def test_every_table_has_a_file_with_its_rows(site: Flask) -> None:
    run(site, "reconcile", *FILES, status=1)
    client = site.test_client()
    pages: tuple[str, ...]
    pages = ("/", "/models", "/calls", "/tags", "/tags/tenant", "/sessions", "/budgets")
    pages += ("/bills", "/statements?key=tenant", "/savings", "/prices")
    seen = set()
    wrong: list[tuple[str, str, set[str], list[str]]] = []
    for path in (*pages, "/data-quality"):
        html = client.get(f"/llm-costs{path}").text
        for table in Tables(html).found:
            known = [each for each in FILES_OF if re.match(each[0], table.caption)]
            if not known:
                starts = ("By ", *(f"{name}, by model" for name in VALUES))
                if table.caption not in DERIVED and not table.caption.startswith(
                    starts
                ):
                    wrong.append((path, table.caption, set(), []))
                continue
            pattern, address, name = known[-1 if "statements" in path else 0]
            seen.add(pattern)
            rows = [found for row in file(client, address) if (found := name(row))]
            rows = [UNTAGGED if row == "" else row for row in rows]
            missing = {*table.names} - {*rows, "Other", UNTAGGED}
            if missing or not table.names:
                wrong.append((path, table.caption, missing, rows))
    assert not wrong
    assert {each[0] for each in FILES_OF} - seen == {"Calls to unlisted hosts"}


VALUES = ("t0", "t1", "t2", "=1+1", UNTAGGED)
DERIVED = ("Spend by provider", "Cost by token type")
"""The columns of the overview's file, by provider and by token type."""


def test_the_groups_of_the_overview_are_columns_of_its_file(site: Flask) -> None:
    client = site.test_client()
    for group in ("provider", "meter", "model", "scope", "session", "tag:tenant"):
        html = client.get(f"/llm-costs/?group={group}").text
        tables = [each for each in Tables(html).found if "Spend by " in each.caption]
        table = next(each for each in tables if each.caption == GROUPED[group])
        columns = _groups(file(client, f"/overview.csv?group={group}"))
        assert [name.rpartition(" ")[2] for name in table.names] == columns


GROUPED = {
    "provider": "Spend by provider",
    "meter": "Spend by token type",
    "model": "Spend by model",
    "scope": "Spend by scope",
    "session": "Spend by session",
    "tag:tenant": "Spend by tenant",
}


def test_the_lists_of_what_changed_are_in_one_file(site: Flask) -> None:
    client = site.test_client()
    html = client.get("/llm-costs/?from=2026-11-10").text
    lists = [each for each in Tables(html).found if each.caption.startswith("By ")]
    assert len(lists) == 5
    rows = file(client, "/overview/changes.csv?from=2026-11-10")
    for table in lists:
        found = [row["name"] for row in rows if row["list"] == table.caption]
        assert len(found) == len(table.names)


def test_the_parts_of_a_call_have_a_file(site: Flask) -> None:
    client = site.test_client()
    [call, *_] = file(client, "/calls.csv?model=m1")
    html = client.get(f"/llm-costs/calls/{call['event_id']}").text
    rows = file(client, f"/calls/{call['event_id']}/parts.csv")
    assert f"/calls/{call['event_id']}/parts.csv" in html
    shown = {name for table in Tables(html).found for name in table.names}
    assert {meter(row["type"]) for row in rows} == shown
    assert client.get("/llm-costs/calls/nothing/parts.csv").status_code == 404


def test_declared_tags_are_columns_of_the_calls(site: Flask) -> None:
    rows = file(site.test_client(), "/calls.csv")
    assert list(rows[0])[-2:] == ["tag.feature", "tag.tenant"]
    assert {row["tag.tenant"] for row in rows} == {"t0", "t1", "t2", "'=1+1", ""}
