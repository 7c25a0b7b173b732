"""``/metrics``, as Prometheus reads it."""

from __future__ import annotations

import re
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from flask_llm_cost.errors import ConfigError

from .conftest import MakeSite
from .conftest import recorder

DOCS = Path(__file__).parents[2] / "docs"
TOKEN = {"LLM_COST_METRICS_TOKEN": "s3cret"}
Samples: t.TypeAlias = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(app: Flask, **headers: str) -> Samples:
    response = app.test_client().get("/llm-costs/metrics", headers=headers)
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def labels(**found: str) -> frozenset[tuple[str, str]]:
    return frozenset({"provider": "openai", "model": "gpt-4o", **found}.items())


def test_prometheus_reads_counters_and_gauges(make_site: MakeSite) -> None:
    app = make_site()
    record = recorder(app)
    record()
    record(cost="0.000000000005", minutes=10)
    record(cost=None, minutes=5)
    record(minutes=24 * 60)
    found = read(app)
    assert found["llm_cost_calls_total", labels()] == 4
    assert found["llm_cost_unpriced_calls_total", labels()] == 1
    # To the last bit that a float has.
    assert found["llm_cost_cost_usd_total", labels()] == float("0.025000000005")
    assert found["llm_cost_tokens_total", labels(type="input")] == 4000
    assert found["llm_cost_tokens_total", labels(type="cache_read")] == 2000
    assert found["llm_cost_latency_seconds_sum", labels()] == 3.36
    assert found["llm_cost_latency_seconds_count", labels()] == 4
    assert found["llm_cost_today_cost_usd", labels()] == float("0.012500000005")
    assert found["llm_cost_month_cost_usd", labels()] == float("0.025000000005")
    assert found["llm_cost_queued_calls", frozenset()] == 0


def test_tags_are_labels_if_the_app_says_so(make_site: MakeSite) -> None:
    app = make_site(LLM_COST_METRICS_TAGS=["tenant.id"])
    record = recorder(app)
    odd = 'a "b"\\n\nc'
    record(tags={"tenant.id": odd, "user": "secret"})
    record(tags={}, minutes=5)
    found = read(app)
    assert found["llm_cost_calls_total", labels(tag_tenant_id=odd)] == 1
    assert found["llm_cost_calls_total", labels(tag_tenant_id="")] == 1
    assert "secret" not in str(found)


def test_budgets_are_gauges_without_their_tags(make_site: MakeSite) -> None:
    budget = {"name": "users", "limit_usd": "1", "period": "day", "tags": {"user": "*"}}
    app = make_site(LLM_COST_BUDGETS=[budget])
    record = recorder(app)
    record(tags={"user": "jane"})
    record(tags={"user": "joe"}, cost="0.25", minutes=5)
    found = read(app)
    which = frozenset({"budget": "users", "period": "day"}.items())
    assert found["llm_cost_budget_limit_usd", which] == 1
    assert found["llm_cost_budget_spent_usd", which] == 0.25
    assert "jane" not in str(found)


def test_a_token_opens_the_metrics_alone(make_site: MakeSite) -> None:
    app = make_site(access=lambda: False, **TOKEN)
    assert read(app, Authorization="Bearer s3cret")
    client = app.test_client()
    for given in ("Bearer wrong", "Basic czNjcmV0", "s3cret", "Bearer ", "Bearer é"):
        response = client.get("/llm-costs/metrics", headers={"Authorization": given})
        assert response.status_code == 403
    page = client.get("/llm-costs/", headers={"Authorization": "Bearer s3cret"})
    assert page.status_code == 403


def test_a_token_opens_the_metrics_of_pages_that_are_closed(
    make_site: MakeSite,
) -> None:
    app = make_site(access=None, **TOKEN)
    assert app.test_client().get("/llm-costs/metrics").status_code == 404
    assert read(app, Authorization="bearer s3cret")


def test_monthly_files_have_gauges_only(make_site: MakeSite) -> None:
    app = make_site(LLM_COST_STORAGE="jsonl")
    recorder(app)()
    found = read(app)
    assert found["llm_cost_month_cost_usd", labels()] == float(Decimal("0.0125"))
    assert ("llm_cost_calls_total", labels()) not in found


def test_tags_that_are_one_label_are_rejected(make_site: MakeSite) -> None:
    with pytest.raises(ConfigError, match="'a-b' and 'a.b'.*'tag_a_b'"):
        make_site(LLM_COST_METRICS_TAGS=["a-b", "a.b"])


def test_a_page_of_metrics_is_not_in_the_navigation(make_site: MakeSite) -> None:
    app = make_site()
    assert "/metrics" not in app.test_client().get("/llm-costs/").text


def test_grafanas_dashboard_shows_metrics_that_exist(make_site: MakeSite) -> None:
    app = make_site(LLM_COST_DAILY_BUDGET="1")
    recorder(app)()
    text = app.test_client().get("/llm-costs/metrics").text
    names = {name for name, _ in read(app)}
    used = set(re.findall(r"llm_cost_\w+", (DOCS / "grafana.json").read_text()))
    documented = set(re.findall(r"llm_cost_\w+", (DOCS / "monitoring.rst").read_text()))
    assert used
    assert used | documented - {"llm_cost_latency_seconds_sum"} <= names
    assert set(re.findall(r"^# TYPE (\w+)", text, re.M)) <= documented | {
        "llm_cost_latency_seconds"
    }
