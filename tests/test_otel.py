"""OpenTelemetry's SDK receives tokens, durations and costs."""

from __future__ import annotations

import builtins
import sys
import typing as t
from decimal import Decimal

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from flask_llm_cost.call import Usage
from flask_llm_cost.errors import ConfigError
from tests.conftest import MakeApp


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
    """A reader of what is recorded: a process has one provider, which cannot be reset."""
    found = InMemoryMetricReader()
    provider = MeterProvider([found])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    return found


Points = dict[str, list[tuple[dict[str, t.Any], float]]]


def points(reader: InMemoryMetricReader) -> Points:
    data = reader.get_metrics_data()
    found: Points = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    value = getattr(point, "sum", getattr(point, "value", None))
                    assert value is not None
                    each = dict(point.attributes or {}), value
                    found.setdefault(metric.name, []).append(each)
    return found


def test_a_call_is_recorded_with_the_names_of_the_conventions(
    make_app: MakeApp, reader: InMemoryMetricReader
) -> None:
    app = make_app(LLM_COST_OTEL=True)
    track = app.extensions["llm_cost"].extension.track
    usage = Usage(input_tokens=900, cache_read_tokens=100, output_tokens=50)
    for cost in (Decimal("0.25"), Decimal("0.5")):
        track(
            provider="gemini",
            model="gemini-2.5-pro",
            usage=usage,
            reported_cost=cost,
            latency_ms=1500,
        )
    track(
        provider="openai",
        model="gpt-4o",
        usage=usage,
        usage_source="estimated",
        outcome="interrupted",
        latency_ms=20,
    )
    found = points(reader)
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "gemini-2.5-pro",
        "gen_ai.response.model": "gemini-2.5-pro",
    }
    # Estimates are no cost.
    assert found["llm_cost.cost"] == [(common, 0.75)]
    tokens = found["gen_ai.client.token.usage"]
    assert (common | {"gen_ai.token.type": "input"}, 2000) in tokens
    assert (common | {"gen_ai.token.type": "output"}, 100) in tokens
    durations = found["gen_ai.client.operation.duration"]
    assert (common, 3.0) in durations
    [failed] = [a for a, _ in durations if a["gen_ai.provider.name"] == "openai"]
    assert failed["error.type"] == "interrupted"


def test_nothing_is_recorded_without_the_setting(
    make_app: MakeApp, reader: InMemoryMetricReader
) -> None:
    app = make_app()
    app.extensions["llm_cost"].extension.track(provider="openai", model="gpt-4o")
    assert points(reader) == {}


def test_a_missing_package_is_named(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: t.Any, **options: t.Any) -> t.Any:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.delitem(sys.modules, "flask_llm_cost.otel", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"Flask-LLM-Cost\[otel\]"):
        make_app(LLM_COST_OTEL=True)
