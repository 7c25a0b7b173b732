from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.event_id import mint_event_id

NOW = dt.datetime(2026, 11, 18, 12, tzinfo=dt.UTC)

MakeSite = t.Callable[..., Flask]
Record = t.Callable[..., Call]


@pytest.fixture
def make_site(make_app: t.Callable[..., Flask]) -> MakeSite:
    """Make apps with the pages at ``/llm-costs`` and a fixed clock."""

    def make(access: t.Any = "public", **config: t.Any) -> Flask:
        app = make_app(**config)
        state = app.extensions["llm_cost"]
        state.clock = lambda: NOW
        app.register_blueprint(
            state.extension.blueprint(access=access), url_prefix="/llm-costs"
        )
        return app

    return make


@pytest.fixture
def site(make_site: MakeSite) -> Flask:
    return make_site()


@pytest.fixture
def visitor(site: Flask) -> FlaskClient:
    return site.test_client()


@pytest.fixture
def record(site: Flask) -> Record:
    """Record a call in the ledger of ``site``."""
    return recorder(site)


def recorder(app: Flask) -> Record:
    ledger = app.extensions["llm_cost"].ledger

    def put(**changes: t.Any) -> Call:
        call = a_call(**changes)
        ledger.append(call)
        assert ledger.flush(60)
        return call

    return put


def a_call(
    *, cost: str | Cost | None = "0.0125", minutes: int = 60, **changes: t.Any
) -> Call:
    """A call some minutes ago, with a cost in USD, or unpriced if it is ``None``."""
    at = changes.pop("at", NOW - dt.timedelta(minutes=minutes))
    values: dict[str, t.Any] = {
        "event_id": mint_event_id(at),
        "started_at": at,
        "provider": "openai",
        "model": "gpt-4o",
        "usage": Usage(input_tokens=1000, cache_read_tokens=500, output_tokens=200),
        "usage_source": "response",
        "cost": a_cost(cost) if isinstance(cost, str) else cost,
        "latency_ms": 840,
        "http_status": 200,
        "response_id": "chatcmpl-1",
        "tags": {"feature": "chat"},
        "flags": frozenset() if cost is not None else frozenset({"unpriced"}),
    }
    return Call(**{**values, **changes})


def a_cost(usd: str) -> Cost:
    return open_cost(usd, "0", complete=True)


def open_cost(usd: str, more: str | None, *, complete: bool = False) -> Cost:
    """A cost of which more may have been billed.

    :param more: At most how much; ``None`` if there is no known limit.
    """
    total = Decimal(usd)
    return Cost(
        total_usd=total,
        parts={"output": Part(Decimal(200), total * 5000, total)},
        source="bundled",
        price_key="openai/gpt-4o",
        valid_from=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        complete=complete,
        ceiling_usd=None if more is None else total + Decimal(more),
    )
