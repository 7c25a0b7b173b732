"""Hostile URLs and ledgers: values are escaped, rejected or bounded, never a 500."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st

from .conftest import MakeSite
from .conftest import Record

SCRIPT = "\"'><script>alert(1)</script><svg/onload=alert(1)>"
FORMULA = '=HYPERLINK("http://evil.example","x")'
NAMES = [
    SCRIPT,
    FORMULA,
    "{{ 7 * 7 }}",
    "javascript:alert(1)",
    "é\u202e\N{PILE OF POO}",
    "%00",
    "a b",
]

PAGES = [
    "",
    "models",
    "calls",
    "calls.csv",
    "tags",
    "tags/feature",
    "sessions",
    "data-quality",
]

PARAMETERS = {
    "from": "2026-11-01",
    "to": "2026-11-18",
    "provider": "openai",
    "model": "gpt-4o",
    "stream": "yes",
    "usage_source": "response",
    "outcome": "ok",
    "trace_id": "t",
    "tag": "feature:chat",
    "sort": "recent",
    "per": "25",
    "after": "",
    "before": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_in_the_ledger_are_escaped(
    visitor: FlaskClient, record: Record, name: str
) -> None:
    call = record(
        provider=name[:60],
        model=name,
        request_model=f"{name}?",
        trace_id=name,
        response_id=name,
        service_tier=name[:60],
        tags={"feature": name, "a.b-c_1": name, "session": name},
        cost=None,
    )
    for address in (*PAGES[:3], *PAGES[4:], f"calls/{call.event_id}"):
        response = visitor.get(f"/llm-costs/{address}")
        assert response.status_code == 200
        assert "<script" not in response.text
        assert "<svg/onload" not in response.text
        assert 'href="javascript' not in response.text
        assert ">49<" not in response.text


@pytest.mark.parametrize("name", [*NAMES, "feature", "a:b:c", " padded "])
def test_a_tag_of_any_value_leads_to_its_calls(
    visitor: FlaskClient, record: Record, name: str
) -> None:
    record(tags={"feature": name.strip()})
    page = visitor.get("/llm-costs/calls").text
    links = re.findall(r'href="([^"]*tag=[^"]*)" title', page)
    assert links
    assert "1–1 of 1 call" in re.sub(
        r"<[^>]+>", "", visitor.get(html.unescape(links[0])).text
    )


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "parameter", ["from", "to", "stream", "usage_source", "outcome"]
)
@pytest.mark.parametrize("value", ["maybe", SCRIPT, "' OR 1=1 --", "%FF%FE", "1" * 400])
def test_a_bad_value_is_named_and_never_widens(
    visitor: FlaskClient, page: str, parameter: str, value: str
) -> None:
    query = value if value.startswith("%") else quote(value)
    response = visitor.get(f"/llm-costs/{page}?{parameter}={query}&provider=openai")
    assert response.status_code == 400
    assert f"<code>{parameter}</code>" in response.text
    assert "<script" not in response.text
    assert 'href="/llm-costs/' in response.text
    assert "?provider=openai" in response.text


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("sort=cost", "sort"),
        ("sort=recent;DROP TABLE llm_cost_calls", "sort"),
        ("per=10", "per"),
        ("per=50.0", "per"),
        ("per=%D9%A5%D9%A0", "per"),
        ("after=x", "after"),
        ("before=x", "before"),
        ("after=%00", "after"),
        ("after=" + "A" * 100_000, "after"),
        ("tag=feature", "tag"),
        ("tag=;DROP:x", "tag"),
        ("tag=:x", "tag"),
        ("tag=a:" + "x" * 2000, "tag"),
        ("&".join(f"tag=k{i}:v" for i in range(500)), "tag"),
        ("model=" + "x" * 300, "model"),
        ("provider=a&provider=b", "provider"),
        ("from=2026-11-02&to=2026-11-01", "from"),
        ("from=2000-01-01&to=2026-11-01", "from"),
        ("from=20261101", "from"),
        ("from=%202026-11-01", "from"),
        ("from=2026-11-01%0A", "from"),
        ("from=%20", "from"),
        ("to=2026-11-01+", "to"),
        ("from=2026-W16-6", "from"),
        ("to=2026-02-30", "to"),
        ("from=+99999-01-01", "from"),
        ("from=0001-01-01", "from"),
        ("to=9999-12-31", "to"),
        ("after=x&before=y", "before"),
    ],
)
def test_each_parameter_is_strict(
    visitor: FlaskClient, query: str, parameter: str
) -> None:
    response = visitor.get(f"/llm-costs/calls?{query}")
    assert response.status_code == 400
    assert f"<code>{parameter}</code>" in response.text
    assert len(response.text) < 20_000


@pytest.mark.parametrize(
    "query",
    [
        "from=&to=&provider=&model=&stream=&tag=&sort=&per=&after=&before=",
        "unknown=1&tags=x&_scheme=javascript&_external=1&endpoint=x",
        "provider=%20openai%20&tag=%20feature%20:%20chat%20",
        "provider=openai&provider=openai",
        "model=gpt%004o",
        "model=%ED%A0%80&tag=a:%ED%A0%80&trace_id=%FF",
        "x=" + "y" * 100_000,
        "&".join(f"x{i}=1" for i in range(2000)),
        "=&&=;",
    ],
)
@pytest.mark.parametrize("page", PAGES)
def test_unknown_parameters_are_ignored(
    visitor: FlaskClient, record: Record, page: str, query: str
) -> None:
    record()
    assert visitor.get(f"/llm-costs/{page}?{query}").status_code == 200


def test_the_link_of_the_400_page_stays_on_the_page(visitor: FlaskClient) -> None:
    query = "from=x&_scheme=javascript&_external=1&_anchor=y&endpoint=z&values=w&per=25"
    response = visitor.get(f"/llm-costs/calls?{query}")
    assert response.status_code == 400
    assert 'href="/llm-costs/calls?per=25"' in response.text
    assert "javascript" not in response.text


@pytest.mark.parametrize("name", [*NAMES, "%FF", "a" * 100, ""])
def test_a_search_is_only_a_search(visitor: FlaskClient, name: str) -> None:
    response = visitor.get("/llm-costs/prices", query_string={"q": name})
    assert response.status_code == 200
    assert "<script" not in response.text


VALUES = st.text(max_size=40) | st.sampled_from(sorted(set(PARAMETERS.values())))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.dictionaries(st.sampled_from(sorted(PARAMETERS)), VALUES))
def test_no_query_is_a_500(visitor: FlaskClient, query: dict[str, str]) -> None:
    for page in PAGES:
        response = visitor.get(f"/llm-costs/{page}", query_string=query)
        assert response.status_code in (200, 400)


@pytest.mark.parametrize("key", ["%3BDROP", "a b", "x" * 201, "%00", "%FF", SCRIPT])
def test_an_invalid_key_is_rejected(visitor: FlaskClient, key: str) -> None:
    response = visitor.get(f"/llm-costs/tags/{key}")
    assert response.status_code in (400, 404)
    assert "<script" not in response.text


def test_a_cursor_of_another_sort_is_rejected(
    visitor: FlaskClient, site: Flask
) -> None:
    from .conftest import a_call

    ledger = site.extensions["llm_cost"].ledger
    for minutes in range(30):
        ledger.append(a_call(minutes=minutes + 1))
    assert ledger.flush(60)
    page = visitor.get("/llm-costs/calls?per=25").text
    [cursor] = re.findall(r"after=([^\"&]+)", page)
    ok = f"/llm-costs/calls?per=25&after={cursor}"
    assert visitor.get(ok).status_code == 200
    assert visitor.get(f"{ok}&sort=slow").status_code == 400


def test_an_unreadable_spool_hides_no_figures(
    make_site: MakeSite, tmp_path: Path
) -> None:
    blocker = tmp_path / "file"
    app = make_site(LLM_COST_SPOOL_DIR=str(blocker))
    shutil.rmtree(blocker, ignore_errors=True)
    blocker.write_text("not a folder")
    assert app.test_client().get("/llm-costs/").status_code == 200


HOSTILE = {
    "a query of 100 KB": "model=" + "x" * 100_000,
    "100 KB of tags": "&".join(f"tag=k{n}:v" for n in range(9_000)),
    "500 tags": "&".join(f"tag=key{n}:value" for n in range(500)),
    "invalid UTF-8": "provider=%ff%fe&tag=%c3%28:%80&q=%ff",
    "a null byte": "provider=%00&model=%00&trace_id=%00&tag=a:%00&q=%00",
    "a lone surrogate": "model=%ed%a0%80&tag=a:%ed%a0%80",
    "a huge cursor": "after=" + "A" * 90_000,
    "a cursor of numbers": "before=" + "9" * 5_000,
    "SQL in sort": "sort=cost_total;DROP TABLE llm_cost_calls--",
    "SQL in a name": "provider=' OR '1'='1&model=\\' UNION SELECT 1--&tag=a:' OR 1=1--",
    "SQL in per": "per=25;SELECT pg_sleep(9)",
    "SQL in a tag's key": "tag=a'--:b",
    "a huge number": "per=" + "9" * 400,
    "many of each": "&".join("from=2026-11-01&provider=a" for _ in range(2_000)),
    "a bracketed name": "tag[feature]=chat&tag[]=x&provider[]=y",
    "no equals": "&&&=&=x&tag&provider&sort",
}
"""These return a page, a 400 or, if the query is too long, a 414; never a 5xx."""


@pytest.mark.parametrize("query", HOSTILE.values(), ids=HOSTILE)
def test_hostile_urls_are_rejected_or_bounded(
    visitor: FlaskClient, record: Record, query: str
) -> None:
    record(tags={f"key{n}": "value" for n in range(50)})
    for page in (*PAGES, "prices", "budgets", "calls/" + "9" * 300):
        response = visitor.get(f"/llm-costs/{page}?{query}")
        assert response.status_code in (200, 400, 404, 414)
        # The response is bounded, too: it does not repeat everything that was sent.
        assert len(response.data) < 300_000
    assert visitor.get("/llm-costs/").status_code == 200


def test_long_names_fit_their_pages(visitor: FlaskClient, record: Record) -> None:
    record(provider="p" * 64, model="m" * 255, tags={"k" * 200: "v" * 1024})
    for page in (*PAGES, "tags/" + "k" * 200):
        assert visitor.get(f"/llm-costs/{page}").status_code == 200
