"""Every table: pages, search, order, totals, and the same as CSV."""

from __future__ import annotations

import csv
import io
import re
import typing as t
from decimal import Decimal

import pytest
from flask import Flask
from flask.testing import FlaskClient

from .conftest import a_call
from .conftest import MakeSite


@pytest.fixture
def many(make_site: MakeSite) -> FlaskClient:
    app: Flask = make_site(LLM_COST_ROLLUP_TAGS=("tenant",))
    ledger = app.extensions["llm_cost"].ledger
    for number in range(60):
        ledger.append(
            a_call(
                minutes=number + 1,
                model=f"model-{number:02}",
                cost=f"0.{number + 10:02}",
                tags={"tenant": f"t{number:02}", "session": f"s{number:02}"},
            )
        )
    ledger.append(a_call(model="=1+1", tags={"tenant": "=2+2", "session": "-3"}))
    assert ledger.flush(60)
    return app.test_client()


def rows(client: FlaskClient, path: str) -> list[dict[str, str]]:
    response = client.get(f"/llm-costs{path}")
    assert response.status_code == 200
    assert response.mimetype == "text/csv"
    return list(csv.DictReader(io.StringIO(response.text, newline="")))


TABLES: t.Final = {
    "/models": "/models.csv",
    "/tags/tenant": "/tags/tenant/values.csv",
    "/sessions": "/sessions.csv",
}


def shown(client: FlaskClient, path: str) -> list[str]:
    page = client.get(f"/llm-costs{path}").text
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    return re.findall(r'<th scope="row".*?class="cut[^"]*".*?>([^<]+)<', body, re.S)


@pytest.mark.parametrize("path", TABLES)
def test_pages_together_have_every_row_once(many: FlaskClient, path: str) -> None:
    first, second = shown(many, path), shown(many, f"{path}?page=2")
    assert (len(first), len(second)) == (50, 11)
    assert len({*first, *second}) == 61
    page = many.get(f"/llm-costs{path}").text
    assert ">Other<" in page
    assert ">Total" in page
    assert "1–50</b> of 61" in page


@pytest.mark.parametrize(("path", "file"), TABLES.items())
def test_the_csv_is_the_table(many: FlaskClient, path: str, file: str) -> None:
    for order in ("", "sort=name", "sort=calls", "q=1"):
        found = rows(many, f"{file}?{order}")
        key = next(
            name for name in found[0] if name not in ("provider", "session_name")
        )
        listed = shown(many, f"{path}?{order}&per=100")
        assert [row[key].removeprefix("'") for row in found] == listed
    total = sum(Decimal(row["cost_usd"]) for row in rows(many, file))
    assert f"${total:,.2f}" in many.get(f"/llm-costs{path}").text
    dangerous = [row[key] for row in rows(many, file) if row[key].startswith("'")]
    assert len(dangerous) == 1


def test_a_search_narrows_a_table_and_is_kept(many: FlaskClient) -> None:
    page = many.get("/llm-costs/models?q=MODEL-1&sort=name").text
    assert shown(many, "/models?q=MODEL-1&sort=name") == [
        f"model-{n}" for n in range(10, 20)
    ]
    assert 'value="MODEL-1"' in page
    assert "q=MODEL-1" in page
    none = many.get("/llm-costs/models?q=nobody").text
    assert "No matching rows" in none


@pytest.mark.parametrize("page", ["0", "x", "-1", "1e3"])
def test_a_page_is_a_number(many: FlaskClient, page: str) -> None:
    response = many.get(f"/llm-costs/models?page={page}")
    assert response.status_code == 400
    assert "page" in response.text


def test_the_file_of_the_overview_has_a_column_for_each_group(
    many: FlaskClient,
) -> None:
    found = rows(many, "/overview.csv?group=tag:tenant&grain=week")
    groups = [name for name in found[0] if name.endswith("_usd")][3:]
    groups = [name for name in groups if name != "compared_usd"]
    assert "Other_usd" in groups
    for row in found:
        parts = [Decimal(row[name] or 0) for name in groups]
        assert sum(parts) == Decimal(row["cost_usd"] or 0)


def a_call_of(client: FlaskClient) -> str:
    return f"/calls/{rows(client, '/calls.csv')[0]['event_id']}"


def test_a_statement_and_a_call_keep_what_they_show_without_the_filters(
    many: FlaskClient,
) -> None:
    query = "provider=openai&key=tenant&month=2026-11&value=t01"
    page = many.get(f"/llm-costs/statements?{query}").text
    [chip] = re.findall(r'href="([^"]*)" aria-label="Remove filter', page)
    assert chip == "/llm-costs/statements?key=tenant&amp;month=2026-11&amp;value=t01"
    assert '<input type="hidden" name="provider" value="openai">' in page
    address = a_call_of(many)
    page = many.get(f"/llm-costs{address}?provider=openai").text
    assert f'href="/llm-costs{address}" aria-label="Remove filter' in page
    assert 'href="/llm-costs/calls?provider=openai">Calls</a>' in page
    assert (
        f"{address}?provider=openai"
        in many.get("/llm-costs/calls?provider=openai").text
    )


def test_a_model_without_its_filter_is_the_overview(many: FlaskClient) -> None:
    page = many.get("/llm-costs/models/page?provider=openai&model=model-59").text
    removes = re.findall(r'href="([^"]*)" aria-label="Remove filter', page)
    removes += re.findall(r'clear" href="([^"]*)"', page)
    assert removes == [
        "/llm-costs/?model=model-59",
        "/llm-costs/?provider=openai",
        "/llm-costs/",
    ]


@pytest.mark.parametrize("query", ["outcome=error", "usage_source=x", "stream=maybe"])
def test_a_wrong_filter_is_named_once(many: FlaskClient, query: str) -> None:
    response = many.get(f"/llm-costs/calls?{query}")
    assert response.status_code == 400
    assert response.text.count(f"<code>{query.partition('=')[0]}</code>") == 1


def test_filters_are_carried_by_the_navigation(many: FlaskClient) -> None:
    query = "provider=openai&tag=tenant:t01&from=2026-11-01&to=2026-11-18"
    paths = ("/", "/models", "/calls", "/tags", "/sessions", "/budgets", "/prices")
    paths += ("/bills", "/statements", "/savings", "/data-quality", a_call_of(many))
    for path in paths:
        page = many.get(f"/llm-costs{path}?{query}").text
        nav = page[page.index('aria-label="Pages"') : page.index("</nav>")]
        for target in ("/calls", "/models", "/bills", "/data-quality"):
            [link] = re.findall(rf'href="/llm-costs{target}\?([^"]*)"', nav)
            assert "provider=openai" in link
            assert "tag=tenant:t01" in link
        assert 'aria-label="Remove filter Tag tenant:t01"' in page
    calls = many.get(f"/llm-costs/calls?{query}").text
    assert "$0.11" in calls[calls.index('class="strip"') :][:600]


def test_rows_open_the_page_of_what_they_name(many: FlaskClient) -> None:
    page = many.get("/llm-costs/").text
    assert 'href="/llm-costs/models/page?provider=openai&amp;model=model-59"' in page
    assert 'href="/llm-costs/?provider=openai"' in page
    assert 'href="/llm-costs/?tag=tenant:t59"' in page
    model = many.get("/llm-costs/models/page?provider=openai&model=model-59")
    assert "<h1>model-59</h1>" in model.text
    assert "$0.69" in model.text
    nameless = many.get("/llm-costs/models/page?provider=openai")
    assert nameless.status_code == 400
    assert "<code>model</code>" in nameless.text
    assert "is required on this page" in nameless.text


def test_a_failed_attempt_is_shown_with_the_model_that_it_meant(
    make_site: MakeSite,
) -> None:
    app = make_site()
    ledger = app.extensions["llm_cost"].ledger
    ledger.append(a_call(model="gpt-4o-2024-08-06"))
    ledger.append(a_call(usage=None, cost=None, outcome="http_error", http_status=429))
    assert ledger.flush(60)
    client = app.test_client()
    assert shown(client, "/models") == ["gpt-4o-2024-08-06"]
    assert "1 failed" in client.get("/llm-costs/models").text
