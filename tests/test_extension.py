from __future__ import annotations

import datetime as dt
import gc
import logging
import typing as t
import weakref
from decimal import Decimal
from pathlib import Path

import pytest
import requests
from flask import Flask

from flask_llm_cost import Call
from flask_llm_cost import ConfigError
from flask_llm_cost import LlmCost
from flask_llm_cost import PriceFileError
from flask_llm_cost import signals
from flask_llm_cost import UnknownPrice
from flask_llm_cost import Usage
from flask_llm_cost.call import event_time
from flask_llm_cost.extension import AppState
from flask_llm_cost.testing import record_calls
from tests.conftest import MakeApp


def test_a_second_init_app_says_what_to_do(app: Flask) -> None:
    with pytest.raises(ConfigError, match="set up on this app already.*extensions"):
        LlmCost(app)


def test_a_wrong_budget_stops_the_set_up(make_app: MakeApp) -> None:
    with pytest.raises(ConfigError, match="LLM_COST_MONTHLY_BUDGET must be.*not 'ten'"):
        make_app(LLM_COST_MONTHLY_BUDGET="ten")


def test_a_misspelt_key_stops_the_set_up(make_app: MakeApp) -> None:
    with pytest.raises(ConfigError, match="Did you mean LLM_COST_MONTHLY_BUDGET"):
        make_app(LLM_COST_MONTLY_BUDGET=10)


def test_a_corrupt_price_file_stops_the_set_up(
    make_app: MakeApp, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"models": {')
    with pytest.raises(PriceFileError, match=r"prices\.json"):
        make_app(LLM_COST_PRICES_FILE=str(prices))


def test_a_setting_without_effect_yet_is_said_so(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    make_app(LLM_COST_MONTHLY_BUDGET=10)
    assert (
        "LLM_COST_MONTHLY_BUDGET is set, but this version does nothing" in caplog.text
    )


def test_tracked_calls_are_priced_and_counted_once(llm_cost: LlmCost) -> None:
    at = dt.datetime(2026, 11, 1, 12, 30, 15, 123456, dt.UTC)
    usage = Usage(input_tokens=1000, cache_read_tokens=2000, output_tokens=500)
    call = llm_cost.track(provider="openai", model="gpt-4o", usage=usage, at=at)
    assert call.cost is not None
    assert call.cost.total_usd == Decimal("0.01")  # 2.5, 1.25 and 10 USD per 1M
    assert (
        event_time(call.event_id) == call.started_at == at.replace(microsecond=123000)
    )
    llm_cost.track(
        provider="openai", model="gpt-4o", usage=usage, event_id=call.event_id
    )
    assert llm_cost.flush()
    assert llm_cost.calls.count() == 1
    assert llm_cost.calls.total_cost() == Decimal("0.01")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input_tokens": -1}, "input_tokens must be a whole number"),
        ({"usage": Usage(), "input_tokens": 1}, "not both"),
        ({"usage_source": "guess"}, "usage_source must be one of"),
        ({"outcome": "fine"}, "outcome must be one of"),
        ({"at": dt.datetime(2026, 1, 1)}, "at must be aware"),  # noqa: DTZ001
        ({"pricing_mode": "turbo"}, "turbo"),
        ({"event_id": "x"}, "event_id"),
    ],
)
def test_a_wrong_argument_of_track_says_so(
    llm_cost: LlmCost, wrong: dict[str, t.Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        llm_cost.track(provider="openai", model="gpt-4o", **wrong)


def test_an_unknown_price_is_none_and_flagged(
    llm_cost: LlmCost, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            call = llm_cost.track(provider="acme", model="brain-1", input_tokens=5)
    assert call.cost is None
    assert "unpriced" in call.flags
    assert caplog.text.count("No price is known for acme/brain-1") == 1


def test_an_unknown_price_raises_where_the_app_asked_for_it(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_ON_UNKNOWN_PRICE="raise")
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    with pytest.raises(UnknownPrice, match="acme/brain-1"):
        llm_cost.track(provider="acme", model="brain-1", input_tokens=5)
    assert llm_cost.flush()
    assert llm_cost.calls.count() == 1


def test_receivers_are_isolated_and_get_the_app(app: Flask, llm_cost: LlmCost) -> None:
    seen: list[tuple[t.Any, Call]] = []

    def broken(sender: t.Any, call: Call) -> None:
        raise RuntimeError("receiver")

    def keep(sender: t.Any, call: Call) -> None:
        seen.append((sender, call))

    with signals.call_recorded.connected_to(broken, app):
        with signals.call_recorded.connected_to(keep, app):
            call = llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
    assert seen == [(app, call)]


def test_the_trace_id_has_a_column_of_its_own(app: Flask, llm_cost: LlmCost) -> None:
    with record_calls(app) as calls, llm_cost.tags(trace_id="t1", feature="chat"):
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
    assert calls[0].trace_id == "t1"
    assert calls[0].tags == {"feature": "chat"}


def test_collected_calls_touch_no_file(app: Flask, llm_cost: LlmCost) -> None:
    with record_calls(app) as calls:
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
    assert len(calls) == 1
    assert not Path(app.instance_path).exists()


def test_storage_can_be_a_callable(make_app: MakeApp) -> None:
    stored: list[Call] = []
    app = make_app(LLM_COST_STORAGE=stored.append)
    call = app.extensions["llm_cost"].extension.track(
        provider="openai", model="gpt-4o", input_tokens=1
    )
    assert stored == [call]


def test_storage_can_be_the_log(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(LLM_COST_STORAGE="log")
    with caplog.at_level(logging.INFO, "flask_llm_cost.calls"):
        app.extensions["llm_cost"].extension.track(
            provider="openai", model="gpt-4o", input_tokens=1000, latency_ms=7
        )
    assert caplog.messages == [
        "openai/gpt-4o tokens=1000 cost=$0.002500 latency=7ms stream=false source=manual"
    ]


def test_disabled_records_nothing(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_ENABLED=False)
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    call = llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
    assert call.cost is None
    assert llm_cost.flush()
    assert not Path(app.instance_path).exists()


def test_with_several_apps_a_call_belongs_to_the_current_one(tmp_path: Path) -> None:
    llm_cost = LlmCost()
    apps = [Flask(f"a{i}", instance_path=str(tmp_path / f"a{i}")) for i in range(2)]
    for app in apps:
        llm_cost.init_app(app)
    with record_calls(apps[0]) as first, record_calls(apps[1]) as second:
        with apps[1].app_context():
            llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
    assert (len(first), len(second)) == (0, 1)


def test_without_a_context_a_call_of_several_apps_is_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    llm_cost = LlmCost()
    apps = [Flask(f"a{i}", instance_path=str(tmp_path / f"a{i}")) for i in range(2)]
    for app in apps:
        llm_cost.init_app(app)
    with record_calls(apps[0]) as first, record_calls(apps[1]) as second:
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
    assert first == second == []
    assert "1 calls were not recorded" in caplog.text


def test_an_app_without_the_extension_gets_no_calls_booked_elsewhere(
    app: Flask, llm_cost: LlmCost
) -> None:
    with record_calls(app) as calls, Flask("other").app_context():
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
    assert calls == []


def test_dead_apps_are_let_go(tmp_path: Path) -> None:
    llm_cost = LlmCost()

    def use_one() -> tuple[weakref.ref[Flask], weakref.ref[AppState]]:
        app = Flask("short", instance_path=str(tmp_path / "short"))
        llm_cost.init_app(app)
        state: AppState = app.extensions["llm_cost"]
        with app.app_context():
            llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
            assert llm_cost.flush()
        state.close()
        return weakref.ref(app), weakref.ref(state)

    references = use_one()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_what_is_no_llm_call_is_no_dropped_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    llm_cost = LlmCost()
    for number in range(2):
        path = str(tmp_path / f"a{number}")
        llm_cost.init_app(Flask(f"a{number}", instance_path=path))
    with requests.Session() as session:
        session.mount("http://", llm_cost.adapter())
        with pytest.raises(requests.ConnectionError):
            session.get("http://127.0.0.1:9/weather")
    assert "not recorded" not in caplog.text
