"""Budgets and streams: reservations last as long, and no stream is interrupted."""

from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

import pytest
import requests
import sqlalchemy as sa

from flask_llm_cost.db.budget_tables import budget_reservations
from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.errors import BudgetExceeded
from tests.capture.server import Answer
from tests.capture.server import CHAT_STREAM
from tests.capture.server import Provider
from tests.conftest import MakeApp

from .test_enforcement import extension_of

STREAM = Answer(
    CHAT_STREAM, headers=(("Content-Type", "text/event-stream"),), cuts=(99,)
)
ASK = {"model": "gpt-4o", "stream": True}


def test_a_reservation_is_renewed_while_its_stream_is_open(
    make_app: MakeApp, provider: Provider
) -> None:
    provider.play(
        Answer(
            CHAT_STREAM, headers=(("Content-Type", "text/event-stream"),), cuts=(99,)
        )
    )
    entry = {"name": "x", "limit_usd": 5, "behavior": "block", "estimate": "1"}
    app = make_app(
        LLM_COST_BUDGETS=[entry], LLM_COST_PROVIDER_HOSTS={provider.host: "openai"}
    )
    ledger = app.extensions["llm_cost"].ledger

    def window() -> t.Any:
        with ledger.reading() as connection:
            return connection.execute(sa.select(budget_windows)).one()

    with app.app_context(), requests.Session() as session:
        llm_cost = extension_of(app)
        session.mount("http://", llm_cost.adapter())
        with session.post(
            provider.url(), json={"model": "gpt-4o", "stream": True}, stream=True
        ) as response:
            chunks = response.iter_content(99)
            assert next(chunks)
            soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
            with ledger._engines.writing().begin() as connection:
                connection.execute(
                    sa.update(budget_reservations).values(expires_at=soon)
                )
            ledger.budgets._renew_at = 0.0
            ledger.budgets.maintain()  # what the writer's thread does all the time
            assert not ledger.budgets.reservations.expire(
                soon + dt.timedelta(seconds=60)
            )
            assert (window().reserved, window().lost) == (10**12, 0)
            for _ in chunks:
                pass
        assert llm_cost.flush(60)
        spent = llm_cost.calls.total_cost()
    row = window()
    assert (Decimal(row.spent).scaleb(-12), row.reserved, row.lost) == (spent, 0, 0)
    assert spent


@pytest.mark.parametrize("policy", ["estimate", "ceiling"])
@pytest.mark.parametrize("estimate", ["1", "bound"])
def test_an_interrupted_stream_is_unsettled(
    make_app: MakeApp, provider: Provider, estimate: str, policy: str
) -> None:
    provider.play(STREAM, Answer(b"no", status=500))
    entry = {"name": "x", "limit_usd": 5, "behavior": "block", "estimate": estimate}
    app = make_app(
        LLM_COST_BUDGETS=[entry | {"cut": policy}],
        LLM_COST_PROVIDER_HOSTS={provider.host: "openai"},
    )
    ledger = app.extensions["llm_cost"].ledger
    with app.app_context(), requests.Session() as session:
        llm_cost = extension_of(app)
        session.mount("http://", llm_cost.adapter())
        with session.post(provider.url(), json=ASK, stream=True) as response:
            assert next(response.iter_content(99))
        # It failed, so it cost nothing.
        assert session.post(provider.url(), json=ASK).status_code == 500
        assert llm_cost.flush(60)
        (call,) = (
            each for each in llm_cost.calls.rows() if each.outcome != "http_error"
        )
    with ledger.reading() as connection:
        row = connection.execute(sa.select(budget_windows)).one()
        assert ledger.budgets.verify(connection) == ([], 0)
    # The model's largest output.
    ceiling = Decimal(16_384) * 10 / 10**6
    unsettled = Decimal(row.unsettled).scaleb(-12)
    if policy == "ceiling":
        assert ceiling < unsettled < ceiling + Decimal("0.01")
    else:
        assert 0 < unsettled < Decimal("0.001")
    assert call.cost_usd == 0
    assert (row.spent, row.reserved, row.lost) == (0, 0, 0)
    assert ledger.budgets.release(name="x") == 1


@pytest.mark.parametrize("behavior", ["raise", "block"])
def test_a_stream_that_exceeds_a_budget_is_read_to_its_end(
    make_app: MakeApp, provider: Provider, behavior: str
) -> None:
    provider.play(STREAM)
    entry = {"name": "x", "limit_usd": "1e-9", "behavior": behavior, "estimate": "0"}
    app = make_app(
        LLM_COST_BUDGETS=[entry], LLM_COST_PROVIDER_HOSTS={provider.host: "openai"}
    )
    with app.app_context(), requests.Session() as session:
        llm_cost = extension_of(app)
        session.mount("http://", llm_cost.adapter())
        with session.post(provider.url(), json=ASK, stream=True) as response:
            read = b"".join(response.iter_content(50))
        assert read == CHAT_STREAM
        assert llm_cost.flush(60)
        with pytest.raises(BudgetExceeded, match="is exceeded"):
            session.post(provider.url(), json=ASK, stream=True)
        assert llm_cost.calls.count() == 1
