from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable

import pytest
from click.testing import Result
from flask import Flask

from flask_llm_cost import Usage
from tests.conftest import MakeApp

NOW = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)

Run = Callable[..., Result]


@pytest.fixture
def shop(make_app: MakeApp) -> Flask:
    """An app whose ledger holds five calls of November 2026, at the 20th of that month."""
    app = make_app(
        LLM_COST_PRICE_OVERRIDES={
            "openai/writer": {"input": "2", "output": "8"},
            "anthropic/thinker": {"input": "3", "cache_read": "0.3"},
        },
        LLM_COST_ROLLUP_TAGS=("feature",),
        LLM_COST_ON_UNKNOWN_PRICE="ignore",
    )
    state = app.extensions["llm_cost"]
    state.clock = lambda: NOW
    track = state.extension.track
    with app.app_context():
        for days, feature in ((0, "chat"), (1, "chat"), (12, "search")):
            track(
                provider="openai",
                model="writer",
                input_tokens=1000,
                output_tokens=100,
                tags={"feature": feature},
                latency_ms=200,
                at=NOW - dt.timedelta(days=days),
            )
        track(provider="openai", model="mystery", input_tokens=50, at=NOW)
        track(
            provider="anthropic",
            model="thinker",
            usage=Usage(input_tokens=100, cache_read_tokens=900, output_tokens=10),
            at=NOW,
            tags={"feature": "=1+1\x1b[31m"},
        )
    return app


@pytest.fixture
def run(shop: Flask) -> Run:
    """Run ``flask llm-cost ...`` on the shop."""

    def run(*args: str, app: Flask = shop) -> Result:
        return app.test_cli_runner().invoke(args=["llm-cost", *args])

    return run


@pytest.fixture
def shown(run: Run) -> Callable[..., str]:
    """The same, if it must succeed: what it prints."""

    def shown(*args: str, **options: t.Any) -> str:
        result = run(*args, **options)
        assert result.exit_code == 0, result.output
        return result.stdout

    return shown
