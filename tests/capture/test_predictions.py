"""A prediction of Replicate is one call, whether its order waits or it is polled."""

from __future__ import annotations

import datetime as dt
import json
import typing as t

import pytest

from flask_llm_cost.attempt import Snapshot
from flask_llm_cost.call import Call
from flask_llm_cost.capture.calls import calls_of
from flask_llm_cost.capture.calls import Ending
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import route

ORDER = "https://api.replicate.com/v1/predictions"


def calls(method: str, url: str, body: t.Any) -> list[Call]:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    found = route(method, url)
    assert found is not None
    exchange = Exchange(found, request_body=None)
    exchange.begin_response(200, {})
    exchange.feed(json.dumps(body).encode(), decoded=True)
    snapshot = Snapshot(mint_event_id(now), now, {})
    return list(calls_of(exchange, snapshot, Ending("ok", True, http_status=200)))


@pytest.mark.parametrize("waits", [True, False])
def test_a_prediction_has_its_usage_once(waits: bool) -> None:
    name = f"prediction-{waits}"
    done = {"id": name, "completed_at": "x", "metrics": {"predict_time": 2}}
    ordered = calls("POST", ORDER, done if waits else {"id": name, "metrics": {}})
    polled = [calls("GET", f"{ORDER}/{name}", done) for _ in range(3)]
    assert len(ordered) == 1
    assert sum(map(len, polled)) == (not waits)
    found = [call for call in [*ordered, *sum(polled, [])] if call.usage is not None]
    assert len(found) == 1
