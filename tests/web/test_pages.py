from __future__ import annotations

import dataclasses
import datetime as dt
import html
import re
import threading
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import StrictUndefined
from werkzeug.serving import make_server

import flask_llm_cost.web
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Usage
from flask_llm_cost.web import labels
from flask_llm_cost.web.rendering import Dashboard
from flask_llm_cost.web.views import overview

from .conftest import a_call
from .conftest import MakeSite
from .conftest import NOW
from .conftest import open_cost
from .conftest import Record
from .conftest import recorder


def text(page: str) -> str:
    """The text of a page, without its tags."""
    page = re.sub(r"<title>.*?</title>|<datalist.*?</datalist>", " ", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_first_visit_shows_the_code_to_add(visitor: FlaskClient) -> None:
    page = visitor.get("/llm-costs/").text
    assert "No calls recorded yet" in page
    assert "llm_cost.adapter()" in page


def test_an_app_that_stores_elsewhere_gets_a_hint(make_site: MakeSite) -> None:
    app = make_site(LLM_COST_STORAGE="log")
    assert "LLM_COST_STORAGE" in app.test_client().get("/llm-costs/").text


def test_an_empty_range_links_to_the_latest_call(
    visitor: FlaskClient, record: Record
) -> None:
    record(minutes=60 * 24 * 40)
    page = visitor.get("/llm-costs/").text
    assert "No matching calls" in page
    assert "Fri 9 Oct 2026" in page
    assert "$" in text(visitor.get("/llm-costs/?to=2026-10-09").text)


def test_the_overview_has_totals_and_what_they_exclude(
    visitor: FlaskClient, record: Record
) -> None:
    record(cost="1.25")
    record(cost="0.000042", provider="anthropic", model="claude-haiku-4-5")
    record(cost=None, model="mystery")
    said = text(visitor.get("/llm-costs/").text)
    assert "Spend $1.25 No spend in the previous 30 days up to 19 Oct, 12:00" in said
    assert "See calls +1 unpriced" in said
    assert "Calls 3" in said
    assert "$0.000042" in said
    assert "mystery" in said


def test_incomplete_calls_are_shown_beside_the_total(
    visitor: FlaskClient, record: Record
) -> None:
    record(cost=None)
    record(cost=open_cost("2", None))
    said = text(visitor.get("/llm-costs/").text)
    assert "+1 unpriced +1 incomplete" in said
    assert "at most" not in said
    assert "≥ $2.00" in text(visitor.get("/llm-costs/calls").text)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("", "Spend $2.27 at most $2.41 No spend"),
        ("", "Wed 18 Nov 2026 $2.27 at most $2.41 +2 incomplete"),
        ("", "Wed 18 Nov 2026: $2.27, at most $2.41 +2 incomplete +1 without a"),
        ("", "$2.27 at most $2.41 +1 without limit"),
        ("models", "$2.27 100% at most $2.41 +1 without limit"),
        ("models", "Total +2 incomplete +1 without a known limit 2"),
        ("tags/feature", "$2.27, at most $2.41 total +2 incomplete"),
        ("tags/feature", "$2.27 at most $2.41 +1 without limit"),
        ("sessions", "$2.27 at most $2.41 +1 without limit"),
        ("calls", "≥ $2.00 at most $2.14"),
        ("data-quality", "The stream was cut before its final usage 1 $2.00 $2.14"),
        ("data-quality", "Part of the usage has no price 1 $0.27 unknown"),
    ],
)
def test_every_page_shows_the_most_that_calls_can_have_cost(
    visitor: FlaskClient, record: Record, address: str, shown: str
) -> None:
    tags = {"feature": "chat", "session": "s"}
    record(cost=open_cost("2", "0.1301"), flags=frozenset({"cut"}), tags=tags)
    record(cost=open_cost("0.27", None), flags=frozenset(), tags=tags)
    page = visitor.get(f"/llm-costs/{address}").text
    assert shown in text(page) or shown in page


@pytest.mark.parametrize(
    ("cost", "flags", "shown"),
    [
        (
            open_cost("0.002", "0.05"),
            {"cut"},
            (
                "$0.002 at most $0.052 incomplete"
                " The response was cut before its final usage.",
                "At least $0.002 Probably $0.01 At most $0.052",
                "No The response was cut before its final usage.",
            ),
        ),
        (
            open_cost("0.002", None),
            set(),
            (
                "$0.002 incomplete Part of the usage has no price.",
                "At most No known limit",
            ),
        ),
    ],
)
def test_a_call_shows_its_floor_estimate_and_ceiling(
    visitor: FlaskClient,
    record: Record,
    cost: Cost,
    flags: set[str],
    shown: tuple[str, ...],
) -> None:
    cost = dataclasses.replace(cost, estimate_usd=Decimal("0.01"))
    call = record(cost=cost, flags=frozenset(flags))
    said = text(visitor.get(f"/llm-costs/calls/{call.event_id}").text)
    for each in shown:
        assert each in said


def test_a_call_that_was_cut_before_any_usage_is_not_free(
    visitor: FlaskClient, record: Record
) -> None:
    cost = dataclasses.replace(open_cost("0", "0.05"), parts={})
    call = record(cost=cost, usage=None, flags=frozenset({"cut"}))
    said = text(visitor.get(f"/llm-costs/calls/{call.event_id}").text)
    assert "$0.00 at most $0.05" in said
    assert "Nothing that is billed was reported." in said
    assert "cost nothing" not in said


def test_estimated_costs_are_not_in_the_total(
    visitor: FlaskClient, record: Record
) -> None:
    record(cost="1.25")
    record(
        cost=open_cost("4", None),
        usage_source="estimated",
        flags=frozenset({"estimated"}),
    )
    for address in "", "models", "tags/feature":
        page = visitor.get(f"/llm-costs/{address}").text
        assert "+$4.00 estimated" in text(page), address
        assert "$1.25" in text(page), address
        assert "$5.25" not in page, address
    assert "Spend $1.25" in text(visitor.get("/llm-costs/").text)
    assert "Usage was estimated" in text(visitor.get("/llm-costs/data-quality").text)


def test_only_unpriced_calls_have_an_unknown_total(
    visitor: FlaskClient, record: Record
) -> None:
    record(cost=None)
    said = text(visitor.get("/llm-costs/").text)
    assert "Spend unknown" in said
    assert "Average cost unknown" in said
    assert "Wed 18 Nov 2026 unknown +1 unpriced" in said


def test_spend_is_compared_with_the_previous_period(
    visitor: FlaskClient, record: Record
) -> None:
    record(cost="3")
    record(cost="2", minutes=60 * 24 * 35)
    said = text(visitor.get("/llm-costs/").text)
    # Today is not over: half of it is compared with half a day.
    assert "$2.00 in the previous 30 days up to 19 Oct, 12:00" in said
    assert "The ledger begins on Wed 14 Oct 2026" in said
    assert "+50.0%" not in said
    record(cost="0", minutes=60 * 24 * 60)
    said = text(visitor.get("/llm-costs/").text)
    assert "+50.0% from $2.00 in the previous 30 days up to 19 Oct, 12:00" in said
    assert "The ledger begins" not in said


def test_the_chart_has_titles_links_and_a_table_twin(
    visitor: FlaskClient, record: Record
) -> None:
    record(cost="3")
    page = visitor.get("/llm-costs/").text
    assert "<title>Wed 18 Nov 2026: $3.00, 1 call</title>" in page
    assert 'href="/llm-costs/?from=2026-11-18&amp;to=2026-11-18"' in page
    assert "<caption>Spend by day" in page


def test_a_year_has_a_bar_for_each_month(visitor: FlaskClient, record: Record) -> None:
    record(cost="3")
    page = visitor.get("/llm-costs/?from=2025-11-19&to=2026-11-18").text
    assert page.count('class="slot"') == 13
    assert "Nov 2026</text>" in page
    weeks = visitor.get("/llm-costs/?from=2026-11-01&to=2026-11-18&grain=week").text
    assert weeks.count('class="slot"') == 4
    assert "2 Nov – 8 Nov 2026" in weeks


def test_calls_are_listed_with_their_costs(
    visitor: FlaskClient, record: Record
) -> None:
    call = record(cost="0.000042")
    record(cost=None, usage=None, outcome="http_error", http_status=429, minutes=3)
    page = visitor.get("/llm-costs/calls").text
    assert f'href="/llm-costs/calls/{call.event_id}"' in page
    assert "$0.000042" in page
    assert "HTTP error 429" in page
    assert "1–2 of 2 calls" in text(page)


def test_filters_narrow_and_can_be_removed(
    visitor: FlaskClient, record: Record
) -> None:
    record()
    record(provider="anthropic", model="claude", tags={"feature": "search"})
    page = visitor.get("/llm-costs/calls?provider=anthropic&tag=feature:search").text
    assert "1–1 of 1 call" in text(page)
    assert 'href="/llm-costs/calls?provider=anthropic" aria-label="Remove' in page
    assert 'href="/llm-costs/calls?tag=feature:search" aria-label="Remove' in page
    assert 'href="/llm-costs/calls">Clear all</a>' in page


def test_filters_and_chips_have_labels(visitor: FlaskClient) -> None:
    page = visitor.get("/llm-costs/calls?outcome=failed&usage_source=stream_final").text
    assert '<option value="failed" selected>Connection lost</option>' in page
    assert "Usage source End of stream × Outcome Connection lost ×" in text(page)


def test_calls_can_be_paged_forward_and_back(
    visitor: FlaskClient, record: Record, site: Flask
) -> None:
    ledger = site.extensions["llm_cost"].ledger
    for minutes in range(60):
        ledger.append(a_call(minutes=minutes + 1))
    assert ledger.flush(60)
    first = visitor.get("/llm-costs/calls?per=25&sort=expensive").text
    [next_] = re.findall(r'rel="next" href="([^"]+)"', first)
    assert "sort=expensive" in next_
    assert "per=25" in next_
    second = visitor.get(next_.replace("&amp;", "&")).text
    assert "26–50 of 60 calls" in text(second)
    [back] = re.findall(r'rel="prev" href="([^"]+)"', second)
    assert "1–25 of 60" in text(visitor.get(back.replace("&amp;", "&")).text)


def test_the_app_sets_the_page_size(make_site: MakeSite) -> None:
    app = make_site(LLM_COST_PER_PAGE=25)
    ledger = app.extensions["llm_cost"].ledger
    for minutes in range(30):
        ledger.append(a_call(minutes=minutes + 1))
    assert ledger.flush(60)
    page = app.test_client().get("/llm-costs/calls").text
    assert "1–25 of 30 calls" in text(page)


def test_unlisted_hosts_are_shown_even_if_nothing_is_recorded(
    site: Flask, visitor: FlaskClient
) -> None:
    assert "Unlisted hosts" not in visitor.get("/llm-costs/data-quality").text
    ledger = site.extensions["llm_cost"].ledger
    ledger.unlisted.add("<b>.internal:8000")
    ledger.unlisted.add("llm.internal")
    assert ledger.flush(60)
    page = html.unescape(visitor.get("/llm-costs/data-quality").text)
    assert "2 calls not recorded" in page
    assert "'llm.internal': 'llm.internal'" in page
    assert "<b>" not in visitor.get("/llm-costs/data-quality").text


def test_unpriced_calls_can_be_found(visitor: FlaskClient, record: Record) -> None:
    record()
    record(cost=None, model="mystery")
    page = visitor.get("/llm-costs/calls?sort=unknown_pricing").text
    assert "1–1 of 1 call" in text(page)
    assert "mystery" in page


def test_incomplete_costs_can_be_found_from_their_number(
    visitor: FlaskClient, record: Record
) -> None:
    record()
    page = visitor.get("/llm-costs/calls?sort=incomplete").text
    assert "No incomplete costs" in page
    record(model="partly", cost=open_cost("0.5", "0.1"))
    quality = visitor.get("/llm-costs/data-quality").text
    [link] = re.findall(r'href="([^"]+sort=incomplete[^"]*)">1 call<', quality)
    page = visitor.get(html.unescape(link)).text
    assert "1–1 of 1 call" in text(page)
    assert "partly" in page


def test_no_unpriced_calls_is_good_news(visitor: FlaskClient, record: Record) -> None:
    record()
    page = visitor.get("/llm-costs/calls?sort=unknown_pricing").text
    assert "No unpriced calls" in page


def test_one_call_shows_how_its_cost_is_made_up(
    visitor: FlaskClient, record: Record
) -> None:
    call = record(
        cost="0.0125",
        usage=Usage(
            input_tokens=1000, output_tokens=200, units={"web_search": Decimal(3)}
        ),
        trace_id="trace-9",
        scope="organization=org-1 project=proj_1 key=0123456789abcdef",
        stream=True,
        first_byte_ms=120,
    )
    said = text(visitor.get(f"/llm-costs/calls/{call.event_id}").text)
    for part in (
        "$0.0125",
        "$62.50 per 1M",
        "1,000",
        "Web search 3",
        "openai/gpt-4o",
        "2026-01-01",
        "trace-9",
        "Scope organization=org-1 project=proj_1 key=0123456789abcdef",
        "feature chat",
        "chatcmpl-1",
        call.event_id,
    ):
        assert part in said


def test_an_unpriced_call_says_how_to_find_out(
    visitor: FlaskClient, record: Record
) -> None:
    call = record(cost=None, model="mystery")
    page = visitor.get(f"/llm-costs/calls/{call.event_id}").text
    assert "No price was found for this model" in page
    assert f"flask llm-cost prices explain --call {call.event_id}" in page


def test_a_failed_call_is_not_unpriced(visitor: FlaskClient, record: Record) -> None:
    call = record(
        cost=None,
        usage=None,
        outcome="no_response",
        http_status=None,
        flags=frozenset(),
    )
    said = text(visitor.get(f"/llm-costs/calls/{call.event_id}").text)
    assert "Cost – The attempt got an HTTP error or no response" in said
    assert "unpriced" not in text(visitor.get("/llm-costs/").text)


@pytest.mark.parametrize(
    "event_id", ["1", "019a0000-0000-7000-8000-000000000000", "x" * 3000, "%00", "%FF"]
)
def test_a_missing_call_is_404(visitor: FlaskClient, event_id: str) -> None:
    response = visitor.get(f"/llm-costs/calls/{event_id}")
    assert response.status_code == 404
    assert "no call with this ID" in response.text


def test_an_unknown_page_says_where_to_go(visitor: FlaskClient) -> None:
    response = visitor.get("/llm-costs/nothing/here")
    assert response.status_code == 404
    assert "Go to overview" in response.text


@pytest.mark.parametrize("address", ["/llm-costs/", "/llm-costs", "/llm-costs/calls"])
def test_pages_only_read(visitor: FlaskClient, address: str) -> None:
    response = visitor.post(address)
    assert response.status_code == 405
    assert "GET" in response.headers["Allow"]


def test_times_are_in_the_zone_of_the_reports(make_site: MakeSite) -> None:
    app = make_site(LLM_COST_TIMEZONE="Asia/Tokyo")
    recorder(app)(minutes=0)
    page = app.test_client().get("/llm-costs/calls").text
    assert "2026-11-18 21:00:00" in page
    assert 'datetime="2026-11-18T12:00:00.000Z"' in page
    assert "Time zone: Asia/Tokyo" in page


def test_queued_calls_are_shown(make_site: MakeSite, tmp_path: Path) -> None:
    app = make_site(LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path / 'host.db'}")
    app.extensions["llm_cost"].ledger.append(a_call())
    response = app.test_client().get("/llm-costs/")
    assert response.status_code == 503
    assert text(response.text).count("1 call queued") == 1


def test_missing_tables_say_the_command(make_site: MakeSite, tmp_path: Path) -> None:
    app = make_site(LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path / 'host.db'}")
    for address in ("/", "/calls", "/calls.csv", "/calls/1"):
        response = app.test_client().get(f"/llm-costs{address}")
        assert response.status_code == 503
        assert "flask llm-cost db upgrade" in response.text


def test_a_database_that_is_down_is_503(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_site(
        LLM_COST_DATABASE_URI="postgresql+psycopg://someone:geheim@127.0.0.1:9/x"
    )
    for address in ("/", "/calls", "/calls.csv", "/calls/1"):
        response = app.test_client().get(f"/llm-costs{address}")
        assert response.status_code == 503
        assert "cannot be reached" in response.text
        assert "geheim" not in response.text + caplog.text


@pytest.mark.parametrize("uri", ["mysql://u:ge#heim@h1:1,h2:2/x", "odd://u:geheim@h/x"])
def test_a_database_that_cannot_be_named_is_503(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture, uri: str
) -> None:
    response = make_site(LLM_COST_DATABASE_URI=uri).test_client().get("/llm-costs/")
    assert response.status_code == 503
    assert "heim" not in response.text + caplog.text


def test_an_unreadable_spool_does_not_hide_the_error(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_site(LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path / 'host.db'}")
    ledger = app.extensions["llm_cost"].ledger
    monkeypatch.setattr(ledger.queue.spool, "directory", "a\0b")  # ValueError
    response = app.test_client().get("/llm-costs/")
    assert response.status_code == 503
    assert "flask llm-cost db upgrade" in response.text


def test_templates_can_be_overridden(make_app: t.Any, tmp_path: Path) -> None:
    folder = tmp_path / "templates" / "llm_cost"
    folder.mkdir(parents=True)
    folder.joinpath("problem.html").write_text("Ours: {{ status }}")
    app = make_app()
    app.jinja_loader.searchpath.append(str(tmp_path / "templates"))
    extension = app.extensions["llm_cost"].extension
    app.register_blueprint(extension.blueprint(access="public"), url_prefix="/costs")
    assert app.test_client().get("/costs/nothing").text == "Ours: 404"


ADDRESSES = [
    "",
    "?from=2026-11-18",
    "?from=2025-01-01",
    "models",
    "calls?tag=feature:chat",
    "calls?sort=unknown_pricing",
    "tags",
    "tags/feature",
    "sessions",
    "prices",
    "prices?q=gpt",
    "data-quality",
]


def test_templates_use_only_defined_names(
    site: Flask, visitor: FlaskClient, record: Record
) -> None:
    dashboard = t.cast(Dashboard, site.blueprints["llm_cost"])
    with site.app_context():
        dashboard.environment.undefined = StrictUndefined
    for address in (*ADDRESSES, "calls/1", "calls?from=x"):
        assert visitor.get(f"/llm-costs/{address}").status_code < 500
    call = record(trace_id="t")
    record(cost=None, usage=None, outcome="failed", latency_ms=None, response_id=None)
    for address in (*ADDRESSES, f"calls/{call.event_id}"):
        assert visitor.get(f"/llm-costs/{address}").status_code == 200


def test_pages_work_on_a_hosts_postgresql(
    make_site: MakeSite, postgresql_uri: str
) -> None:
    app = make_site(
        LLM_COST_DATABASE_URI=postgresql_uri, LLM_COST_ROLLUP_TAGS=("feature",)
    )
    app.extensions["llm_cost"].ledger.schema.upgrade()
    call = recorder(app)()
    for address in (*ADDRESSES, "calls.csv", f"calls/{call.event_id}"):
        assert app.test_client().get(f"/llm-costs/{address}").status_code == 200


def test_sessions_show_what_each_cost(make_site: MakeSite) -> None:
    app = make_site(
        LLM_COST_SESSION_NAMES=lambda ids: {"s1": "Refund of order 7"},
        LLM_COST_SESSION_TAG="chat_id",
    )
    record = recorder(app)
    record(cost="2", tags={"chat_id": "s1"})
    record(cost="1", tags={"chat_id": "s2"})
    record(cost="0.5")
    page = app.test_client().get("/llm-costs/sessions").text
    assert re.search(r'tag=chat_id:s1" title="s1">Refund of order 7</a>', page)
    assert "Deleted sessions" in page
    assert "No session" in page


def test_a_failing_session_names_callable_costs_only_the_names(
    make_site: MakeSite,
) -> None:
    app = make_site(LLM_COST_SESSION_NAMES=lambda ids: 1 / 0)
    recorder(app)(tags={"session": "s1"})
    response = app.test_client().get("/llm-costs/sessions")
    assert response.status_code == 200
    assert ">s1</a>" in response.text


def test_without_sessions_the_page_says_how_to_tag_them(
    visitor: FlaskClient, record: Record
) -> None:
    assert "No calls recorded yet" in visitor.get("/llm-costs/sessions").text
    record()
    assert "llm_cost.tags(session=" in visitor.get("/llm-costs/sessions").text


def test_a_day_or_two_are_shown_by_the_hour(
    visitor: FlaskClient, record: Record
) -> None:
    record(cost="3", minutes=30)
    page = visitor.get("/llm-costs/?from=2026-11-18").text
    assert page.count('class="slot"') == 24
    assert "Wed 18 Nov 2026, 11:00–12:00: $3.00, 1 call" in page
    assert "<caption>Spend by hour" in page
    assert "Wed 18 Nov 2026, 11:00–12:00 $3.00 $0.00 1 1,700" in text(page)


def test_a_day_of_25_hours_has_25_bars(make_site: MakeSite) -> None:
    app = make_site(LLM_COST_TIMEZONE="Europe/Berlin")
    recorder(app)(minutes=60 * 24 * 24)
    page = app.test_client().get("/llm-costs/?from=2026-10-25&to=2026-10-25").text
    assert page.count('class="slot"') == 25


def test_the_navigation_marks_the_current_page(
    visitor: FlaskClient, record: Record
) -> None:
    call = record()
    page = visitor.get(f"/llm-costs/calls/{call.event_id}").text
    assert re.findall(r'aria-current="true">(\w+)', page) == ["Calls"]
    page = visitor.get("/llm-costs/").text
    assert re.findall(r'aria-current="page">(\w+)', page) == ["Overview"]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("", ["gpt-4o", "small", "mystery"]),
        ("calls", ["small", "gpt-4o", "mystery"]),
        ("avg_cost", ["gpt-4o", "small", "mystery"]),
        ("latency", ["mystery", "gpt-4o", "small"]),
    ],
)
def test_models_can_be_sorted(
    visitor: FlaskClient, record: Record, sort: str, order: list[str]
) -> None:
    record(cost="3")
    record(cost="1", model="small", latency_ms=100)
    record(cost="1", model="small", latency_ms=None)
    record(cost=None, model="mystery", latency_ms=9000)
    page = visitor.get(f"/llm-costs/models?sort={sort}").text
    assert re.findall(r'<a class="cut" href="[^"]+" title="([^"]+)"', page) == order
    assert "Total +1 unpriced 4" in text(page)


def test_a_model_leads_to_its_calls(visitor: FlaskClient, record: Record) -> None:
    record()
    page = visitor.get("/llm-costs/models?from=2026-11-01&tag=feature:chat").text
    [link] = re.findall(r'<a class="cut" href="([^"]+)"', page)
    for part in (
        "from=2026-11-01",
        "provider=openai",
        "model=gpt-4o",
        "tag=feature:chat",
    ):
        assert part in link


def test_tag_keys_say_how_much_they_cover(visitor: FlaskClient, record: Record) -> None:
    record(tags={"feature": "a", "tenant": "t"})
    record(tags={"feature": "b"})
    record(tags={})
    said = text(visitor.get("/llm-costs/tags").text)
    assert "66.7% of 3 calls tagged" in said
    assert "feature 2 2 66.7%" in said
    assert "tenant 1 1 33.3%" in said


def test_the_values_of_a_tag_sum_to_the_total(
    visitor: FlaskClient, record: Record
) -> None:
    record(cost="3", tags={"feature": "chat"})
    record(cost="2", tags={"feature": "chat"}, minutes=60 * 24 * 31)
    record(cost="1", tags={})
    said = text(visitor.get("/llm-costs/tags/feature").text)
    assert "$4.00 total" in said
    assert "+50.0% 75.0% $3.00" in said
    assert "(untagged)" in said


def test_many_values_are_truncated_but_counted(
    visitor: FlaskClient, record: Record, site: Flask
) -> None:
    ledger = site.extensions["llm_cost"].ledger
    for number in range(130):
        ledger.append(a_call(cost="1", tags={"user": f"u{number}"}))
    assert ledger.flush(60)
    said = text(visitor.get("/llm-costs/tags/user").text)
    assert "Other 80 $80.00" in said
    assert "1–50 of 130 values" in said


def test_without_tags_the_page_says_how_to_tag(
    visitor: FlaskClient, record: Record
) -> None:
    record(tags={})
    assert "@llm_cost.tag_provider" in visitor.get("/llm-costs/tags").text


def test_a_rise_is_shown_with_its_cause(make_site: MakeSite) -> None:
    app = make_site(LLM_COST_ROLLUP_TAGS=("feature",))
    ledger = app.extensions["llm_cost"].ledger
    for day in range(1, 10):
        ledger.append(a_call(cost="1", minutes=60 * 24 * day))
    ledger.append(a_call(cost="40", tags={"feature": "bulk"}))
    assert ledger.flush(60)
    page = app.test_client().get("/llm-costs/").text
    said = text(page)
    assert "gpt-4o (openai) cost $40.00 on Wed 18 Nov 2026" in said
    assert "40 times its daily average" in said
    assert "Most of the increase has the tag feature:bulk" in said
    link, *_ = re.findall(r'<a href="([^"]+)">View these calls', page)
    assert "1–1 of 1 call" in text(app.test_client().get(html.unescape(link)).text)


def test_the_overview_forecasts_the_month(visitor: FlaskClient, record: Record) -> None:
    for day in range(17):
        record(cost="1", minutes=60 * 24 * day + 5)
    assert "Forecast $29 by 30 Nov" in text(visitor.get("/llm-costs/").text)


def test_rollup_tags_are_broken_down(make_site: MakeSite) -> None:
    app = make_site(LLM_COST_ROLLUP_TAGS=("feature", "tenant"))
    recorder(app)(cost="2")
    said = text(app.test_client().get("/llm-costs/").text)
    assert "View all Spend by feature Value Calls Share Spend chat 1 100% $2.00" in said
    assert "View all Spend by tenant Value Calls Share Spend (untagged) 1" in said


def test_the_heat_map_has_a_link_for_each_day(
    visitor: FlaskClient, record: Record
) -> None:
    record(cost="2", minutes=30)
    page = visitor.get("/llm-costs/").text
    assert "<title>Wed 18 Nov 2026: $2.00</title>" in page
    assert page.count('<rect class="h0"') == 30
    assert "The most expensive hour cost $2.00." in text(page)


def test_data_quality_says_what_is_missing_and_what_to_do(
    visitor: FlaskClient, record: Record
) -> None:
    record()
    record(cost=None, model="mystery", tags={})
    record(cost=None, usage=None, stream=True, usage_source="unknown", model="mute")
    record(cost=None, usage=None, outcome="http_error", http_status=429)
    said = text(visitor.get("/llm-costs/data-quality").text)
    assert "4 calls, 1 failed" in said
    assert "mystery openai 1.7K 1" in said
    assert "mute openai chat, streamed OK 1" in said
    assert "openai HTTP error 429 1" in said
    assert "LLM_COST_PRICE_OVERRIDES" in said
    assert "include_usage" in said


def test_what_is_missing_leads_to_its_calls(
    visitor: FlaskClient, record: Record
) -> None:
    record()
    record(cost=None, model="mystery", usage_source="manual")
    mute = {"cost": None, "usage": None, "usage_source": "unknown"}
    record(**mute, model="mute", stream=True, flags=frozenset({"unpriced", "no_usage"}))
    record(**mute, model="refused", outcome="http_error", http_status=429)
    record(usage_source="estimated", model="guess", flags=frozenset({"estimated"}))
    quality = visitor.get("/llm-costs/data-quality").text

    def behind(section: str, row: str) -> set[str]:
        table = quality.partition(f'aria-labelledby="{section}"')[2]
        line = re.search(f"<tr>(?:(?!</tr>).)*>{row}<.*?</tr>", table, re.DOTALL)
        assert line is not None
        [href] = re.findall(r'href="([^"]+)"', line[0])
        calls = visitor.get(html.unescape(href)).text
        return set(re.findall(r'href="/llm-costs/calls/[^"]+" title="([^"]+)"', calls))

    assert behind("coverage", "Cost") == {"mystery", "mute"}
    assert behind("coverage", "Usage of streams") == {"mute"}
    assert behind("coverage", "Usage") == {"mute", "refused"}
    assert behind("usage", "mute") == {"mute"}
    assert behind("failed", "openai") == {"refused"}
    assert behind("flags", "unpriced") == {"mystery", "mute"}
    assert behind("flags", "no usage") == {"mute", "refused"}
    assert behind("flags", "estimated") == {"guess"}


def test_data_quality_shows_what_contradicts_itself(make_site: MakeSite) -> None:
    """From the response to the page: more tokens were cached than sent."""
    with provider_of_contradictions() as url:
        app = make_site(LLM_COST_PROVIDER_HOSTS={url.removeprefix("http://"): "ours"})
        state = app.extensions["llm_cost"]
        state.clock = lambda: dt.datetime.now(dt.UTC)
        with requests.Session() as session:
            session.mount("http://", state.extension.adapter())
            session.post(f"{url}/v1/chat/completions", json={"model": "m"})
        assert state.ledger.flush(60)
        said = text(app.test_client().get("/llm-costs/data-quality").text)
    assert "contradictory or incomplete" in said


@contextmanager
def provider_of_contradictions() -> Iterator[str]:
    app = Flask("contradictions")

    @app.post("/v1/chat/completions")
    def chat() -> dict[str, t.Any]:
        details = {"cached_tokens": 161}
        counts = {"prompt_tokens": 31, "completion_tokens": 5, "total_tokens": 36}
        return {"id": "c1", "usage": {**counts, "prompt_tokens_details": details}}

    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_data_quality_finds_duplicates(visitor: FlaskClient, record: Record) -> None:
    record(cost="2", response_id="r1")
    record(cost="2", response_id="r1", minutes=59)
    said = text(visitor.get("/llm-costs/data-quality").text)
    assert "Duplicates 1 call with the response ID of another call ($2.00)" in said


def test_prices_of_the_models_in_use_are_listed(make_site: MakeSite) -> None:
    app = make_site(
        LLM_COST_PRICE_OVERRIDES={"openai/ours": {"input": "1.5", "output": "0.000042"}}
    )
    record = recorder(app)
    record(model="ours")
    record(model="nobody-knows", provider="acme", cost=None)
    said = text(app.test_client().get("/llm-costs/prices").text)
    assert "openai/ours" in said
    assert "Price overrides $1.50" in said
    assert "$0.000042" in said
    assert "acme/nobody-knows no price" in said


def test_prices_can_be_searched(visitor: FlaskClient) -> None:
    said = text(visitor.get("/llm-costs/prices?q=OPENAI+gpt-4o-mini").text)
    assert "openai/gpt-4o-mini Bundled prices $0.15" in said
    nothing = visitor.get("/llm-costs/prices?q=no+such+model").text
    assert "No matching prices" in nothing


def test_a_search_text_has_a_maximum_length(visitor: FlaskClient) -> None:
    response = visitor.get(f"/llm-costs/prices?q={'x' * 101}")
    assert response.status_code == 400
    assert "<code>q</code>" in response.text


def test_prices_need_no_ledger_to_be_searched(
    make_site: MakeSite, tmp_path: Path
) -> None:
    app = make_site(LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path / 'host.db'}")
    assert app.test_client().get("/llm-costs/prices?q=gpt").status_code == 200
    assert app.test_client().get("/llm-costs/prices").status_code == 503


def test_every_command_that_a_page_names_exists(site: Flask) -> None:
    folder = Path(flask_llm_cost.web.__file__).parent
    sources = [*folder.rglob("*.html"), *folder.glob("*.py")]
    named = {
        words
        for source in sources
        for words in re.findall(
            r"flask llm-cost ([a-z]+(?: [a-z]+)*)", source.read_text()
        )
    }
    assert {"db upgrade", "doctor"} <= named
    for words in named:
        command: t.Any = site.cli.commands["llm-cost"]
        for word in words.split():
            if not hasattr(command, "commands"):
                break
            command = command.commands[word]


@pytest.fixture
def pruned(site: Flask, record: Record) -> None:
    """Of three calls on three days, the oldest is pruned."""
    for days in (12, 2, 0):
        record(minutes=60 * 24 * days + 1, tags={"conversation_id": str(days)})
    assert site.extensions["llm_cost"].ledger.prune(NOW - dt.timedelta(days=7)) == 1


GONE = "Calls before 2026-11-11 12:00:00 were pruned. "


@pytest.mark.usefixtures("pruned")
@pytest.mark.parametrize(
    "path",
    ["calls", "tags", "tags/conversation_id", "sessions", "data-quality"]
    + ["?stream=no", "models?tag=conversation_id:2"],
)
def test_a_page_says_that_calls_were_pruned(visitor: FlaskClient, path: str) -> None:
    page = text(visitor.get(f"/llm-costs/{path}").text)
    assert page.count(GONE) == 1
    assert len(re.findall(r"pruned\. [A-Z][a-z ]+ excludes? them\.", page)) == 1
    day = "&from=2026-11-18" if "?" in path else "?from=2026-11-18"
    assert GONE not in text(visitor.get(f"/llm-costs/{path}{day}").text)


@pytest.mark.usefixtures("pruned")
def test_totals_include_pruned_calls_and_lists_say_they_do_not(
    visitor: FlaskClient,
) -> None:
    said = text(visitor.get("/llm-costs/").text)
    assert "Calls 3" in said
    head, tail = said.split(GONE + "The sections below exclude them.")
    assert "Top models" in head
    assert tail.strip().startswith("Most expensive calls")
    assert GONE not in text(visitor.get("/llm-costs/models").text)


def options(page: str, name: str) -> list[str]:
    part = page.partition(f'<datalist id="{name}">')[2].partition("</datalist>")[0]
    return re.findall(r'value="([^"]+)"', part)


def test_filters_suggest_what_is_in_the_range(make_site: MakeSite) -> None:
    app = make_site(LLM_COST_ROLLUP_TAGS=("feature",))
    put = recorder(app)
    put(provider="openai", model="gpt-4o", cost="2", tags={"feature": "chat"})
    put(provider="gemini", model="flash", cost="1", tags={"feature": "search"})
    put(provider="old", model="older", minutes=60 * 24 * 90, tags={"feature": "gone"})
    page = app.test_client().get("/llm-costs/calls").text
    assert options(page, "providers") == ["openai", "gemini"]
    assert options(page, "models") == ["gpt-4o", "flash"]
    assert options(page, "tags") == ["feature:chat", "feature:search"]
    page = app.test_client().get("/llm-costs/calls?provider=gemini").text
    assert options(page, "models") == ["flash"]


def test_filters_suggest_at_most_a_hundred_names(site: Flask) -> None:
    ledger = site.extensions["llm_cost"].ledger
    for number in range(120):
        ledger.append(a_call(model=f"model-{number}"))
    assert ledger.flush(60)
    page = site.test_client().get("/llm-costs/calls").text
    assert len(options(page, "models")) == 100


def test_a_call_links_to_its_price(visitor: FlaskClient, record: Record) -> None:
    call = record(cost="0.5")
    page = visitor.get(f"/llm-costs/calls/{call.event_id}").text
    assert f"flask llm-cost prices explain --call {call.event_id}" in page
    [link] = re.findall(r'href="([^"]+)">View the current price', page)
    assert "gpt-4o" in text(visitor.get(html.unescape(link)).text)


def test_only_failed_attempts_do_not_cost_zero(
    visitor: FlaskClient, record: Record
) -> None:
    record(cost=None, usage=None, outcome="http_error", http_status=429, model="busy")
    body = visitor.get("/llm-costs/models").text.partition("<tbody>")[2]
    row = body.partition("</tr>")[0]
    assert "$0" not in row
    assert "unknown" not in row


@pytest.mark.parametrize(
    ("page", "sections"), [("/", 4), ("/tags/feature", 1), ("/sessions", 1)]
)
def test_only_failed_attempts_do_not_cost_zero_anywhere(
    visitor: FlaskClient, record: Record, page: str, sections: int
) -> None:
    record(
        cost=None,
        usage=None,
        outcome="http_error",
        http_status=429,
        provider="anthropic",
        tags={"feature": "chat", "session": "s1"},
    )
    record(cost="0.5", model="other", tags={"feature": "other", "session": "s2"})
    body = visitor.get(f"/llm-costs{page}").text
    rows = re.findall(
        r"<tr>(?:(?!</tr>).)*nothing was used(?:(?!</tr>).)*</tr>", body, re.S
    )
    assert len(rows) >= sections
    assert not [row for row in rows if "$0" in row or "unknown" in row]


def test_every_flag_has_a_meaning_and_a_fix() -> None:
    assert labels.FLAG_FIXES.keys() == labels.FLAGS.keys()


def test_the_overview_does_not_sort_too_many_filtered_calls(
    visitor: FlaskClient, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(cost="7.5")
    assert "Not listed here" not in text(visitor.get("/llm-costs/").text)
    monkeypatch.setattr(overview, "MAX_SORTED", 0)
    assert "Not listed here" not in text(visitor.get("/llm-costs/").text)
    page = visitor.get("/llm-costs/?provider=openai").text
    assert "Not listed here for 1 call. Find them on the Calls page" in text(page)
    assert "sort=expensive" in page
