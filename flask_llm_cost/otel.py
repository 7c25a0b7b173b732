"""Metrics of OpenTelemetry, with the names of its conventions for generative AI."""

from __future__ import annotations

import typing as t

from flask import Flask

from .call import Call
from .call import REPORTED
from .errors import ConfigError
from .signals import call_recorded

try:
    from opentelemetry import metrics
except ImportError as error:
    raise ConfigError(
        "LLM_COST_OTEL needs the package opentelemetry-api: install Flask-LLM-Cost[otel]."
    ) from error

_TOKENS: t.Final = [4.0**n for n in range(14)]
_SECONDS: t.Final = [0.01 * 2**n for n in range(14)]
"""The bounds of buckets that the conventions recommend."""

_PROVIDERS: t.Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
_OPERATIONS: t.Final = {"responses": "chat", "completions": "text_completion"}


class Instruments:
    """Records each call of an app in the process's meter provider."""

    def __init__(self) -> None:
        meter = metrics.get_meter("flask_llm_cost")
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "Duration of the operation.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._cost = meter.create_counter(
            "llm_cost.cost", "USD", "Known cost of calls when they were recorded."
        )

    def record(self, app: Flask, call: Call) -> None:
        """Receive :data:`.call_recorded`."""
        attributes = _attributes(call)
        if call.latency_ms is not None:
            failed = {} if call.outcome == "ok" else {"error.type": _error(call)}
            self._duration.record(call.latency_ms / 1000, attributes | failed)
        if call.usage is not None:
            # The conventions count cached tokens as input, and reasoning as output.
            for kind, tokens in (
                ("input", call.usage.total_input_tokens),
                ("output", call.usage.total_output_tokens),
            ):
                self._tokens.record(tokens, attributes | {"gen_ai.token.type": kind})
        cost = call.cost
        if cost is not None and (
            call.usage_source != "estimated" or cost.source in REPORTED
        ):
            self._cost.add(float(cost.total_usd), attributes)


def _attributes(call: Call) -> dict[str, str]:
    return {
        "gen_ai.operation.name": _OPERATIONS.get(call.operation, call.operation),
        "gen_ai.provider.name": _PROVIDERS.get(call.provider, call.provider),
        "gen_ai.request.model": call.request_model or call.model,
        "gen_ai.response.model": call.model,
    }


def _error(call: Call) -> str:
    return str(call.http_status) if call.outcome == "http_error" else call.outcome


def connect(app: Flask) -> None:
    """Record the calls of an app."""
    call_recorded.connect(Instruments().record, sender=app, weak=False)
