from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import gc
import inspect
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import typing as t
import weakref
from concurrent.futures import ThreadPoolExecutor
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
from flask_llm_cost.apps import States
from flask_llm_cost.attempt import Attempt
from flask_llm_cost.cli.demo import provider
from flask_llm_cost.event_id import event_time
from flask_llm_cost.providers import paths
from flask_llm_cost.providers import Provider
from flask_llm_cost.state import AppState
from flask_llm_cost.testing import record_calls
from tests.conftest import MakeApp


def test_a_second_init_app_says_what_to_do(app: Flask) -> None:
    with pytest.raises(ConfigError, match="already set up on this app.*extensions"):
        LlmCost(app)


def test_an_invalid_budget_stops_the_set_up(make_app: MakeApp) -> None:
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
    with pytest.raises(PriceFileError, match=r"LLM_COST_PRICES_FILE: .*prices\.json"):
        make_app(LLM_COST_PRICES_FILE=str(prices))


def test_a_missing_price_file_stops_the_set_up_and_the_error_says_how_to_make_it(
    make_app: MakeApp, tmp_path: Path
) -> None:
    prices = tmp_path / "none.json"
    with pytest.raises(PriceFileError) as caught:
        make_app(LLM_COST_PRICES_FILE=str(prices))
    message = str(caught.value)
    assert message.startswith(f"LLM_COST_PRICES_FILE: {prices} cannot be read")
    (command,) = re.findall(r"`python (-m flask_llm_cost .*)`", message)
    subprocess.run([sys.executable, *command.split()], check=True, cwd=tmp_path)
    make_app(LLM_COST_PRICES_FILE=str(prices))


def test_an_invalid_override_is_reported_with_its_own_setting(
    make_app: MakeApp,
) -> None:
    with pytest.raises(PriceFileError, match=r"^LLM_COST_PRICE_OVERRIDES: "):
        make_app(LLM_COST_PRICE_OVERRIDES={"a/b": {"input": "much"}})


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
    assert llm_cost.flush(60)
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
        ({"at": dt.datetime.max.replace(tzinfo=dt.UTC)}, "at must be between 1970"),
        ({"at": dt.datetime(1960, 1, 1, tzinfo=dt.UTC)}, "at must be between 1970"),
        ({"usage": {"input_tokens": 1}}, "usage must be a Usage"),
        ({"input_tokens": 2**63}, "at most"),
        ({"latency_ms": -1}, "latency_ms must be"),
        ({"latency_ms": "fast"}, "latency_ms must be"),
        ({"latency_ms": float("nan")}, "latency_ms must be"),
        ({"reported_cost": 0.1}, "reported_cost must be"),
        ({"reported_cost": "free"}, "reported_cost must be"),
        ({"reported_cost": Decimal("NaN")}, "reported_cost must be"),
        ({"reported_cost": Decimal("1e30")}, "reported_cost must be"),
        ({"service_tier": 3}, "service_tier must be"),
        ({"response_id": 3}, "response_id must be"),
        ({"operation": 3}, "operation must be"),
        ({"provider": " "}, "provider must be"),
    ],
)
def test_an_invalid_argument_of_track_is_an_error(
    llm_cost: LlmCost, wrong: dict[str, t.Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        llm_cost.track(**{"provider": "openai", "model": "gpt-4o"} | wrong)


def test_an_unknown_price_is_none_and_flagged(
    llm_cost: LlmCost, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(12):
            call = llm_cost.track(provider="acme", model="brain-1", input_tokens=5)
    assert call.cost is None
    assert "unpriced" in call.flags
    logged = [each.getMessage() for each in caplog.records]
    first, tenth = (each for each in logged if "No price is known for acme" in each)
    assert first.endswith("recorded without a cost.")
    assert tenth.endswith("(10 times so far)")


def test_an_unknown_price_raises_if_the_app_asks_for_it(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_ON_UNKNOWN_PRICE="raise")
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    with pytest.raises(UnknownPrice, match="acme/brain-1"):
        llm_cost.track(provider="acme", model="brain-1", input_tokens=5)
    assert llm_cost.flush(60)
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
    assert llm_cost.flush(60)
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
    assert "A call was not recorded" in caplog.text


def test_apps_may_be_set_up_while_another_thread_looks_for_the_one_of_a_call() -> None:
    class Living:
        pass

    states = States()
    kept = [Living() for _ in range(3000)]

    def set_up() -> None:
        for each in kept:
            states.add(t.cast(AppState, each))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread = threading.Thread(target=set_up)
        thread.start()
        while thread.is_alive():
            states.alive()
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert states.alive() == kept
    del kept[1:]
    gc.collect()
    assert states.alive() == kept


def test_calls_of_an_app_without_the_extension_are_not_recorded_elsewhere(
    app: Flask, llm_cost: LlmCost
) -> None:
    with record_calls(app) as calls, Flask("other").app_context():
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
    assert calls == []


def test_dead_apps_are_freed(tmp_path: Path) -> None:
    llm_cost = LlmCost()

    def use_one() -> tuple[weakref.ref[Flask], weakref.ref[AppState]]:
        app = Flask("short", instance_path=str(tmp_path / "short"))
        llm_cost.init_app(app)
        state: AppState = app.extensions["llm_cost"]
        with app.app_context():
            llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
            assert llm_cost.flush(60)
        state.close()
        return weakref.ref(app), weakref.ref(state)

    references = use_one()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_a_request_that_is_not_an_llm_call_is_not_a_dropped_call(
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


def test_a_bound_function_has_the_app_and_tags_of_its_binding(tmp_path: Path) -> None:
    llm_cost = LlmCost()
    apps = [Flask(f"a{i}", instance_path=str(tmp_path / f"a{i}")) for i in range(2)]
    for app in apps:
        llm_cost.init_app(app)

    def work() -> Call:
        return llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)

    with record_calls(apps[0]), record_calls(apps[1]) as calls:
        with apps[1].app_context(), llm_cost.tags(feature="chat"):
            bound = llm_cost.bind(work)
        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(bound) for _ in range(4)]:
                done.result()
    assert [call.tags for call in calls] == [{"feature": "chat"}] * 4


def test_a_wrapped_client_is_captured_and_returned(
    app: Flask, llm_cost: LlmCost
) -> None:
    with requests.Session() as session, record_calls(app) as calls:
        assert llm_cost.wrap(session, tags={"a": 1}) is session
        with pytest.raises(requests.ConnectionError):
            session.post("http://127.0.0.1:9/v1/chat/completions", json={"model": "x"})
        assert calls == []  # no host of an LLM
        app.extensions["llm_cost"].settings = dataclasses.replace(
            app.extensions["llm_cost"].settings,
            provider_hosts={"127.0.0.1:9": "openai"},
        )
        with pytest.raises(requests.ConnectionError):
            session.post("http://127.0.0.1:9/v1/chat/completions", json={"model": "x"})
    assert [(call.outcome, call.tags) for call in calls] == [
        ("no_response", {"a": "1"})
    ]


def test_calls_of_an_app_have_its_own_tags_whichever_app_captures_the_process(
    make_app: MakeApp,
) -> None:
    settings = {
        "LLM_COST_INSTRUMENT": ["requests"],
        "LLM_COST_PROVIDER_HOSTS": {"127.0.0.1:9": "openai"},
    }
    apps = [make_app(**settings) for _ in range(2)]
    extensions = [app.extensions["llm_cost"].extension for app in apps]
    extensions[0].tag_provider(lambda: {"app": "first"})
    extensions[1].tag_provider(lambda: {"app": "second"})
    url = "http://127.0.0.1:9/v1/chat/completions"
    try:
        for app, name in zip(apps, ("first", "second"), strict=True):
            with record_calls(app) as calls, app.app_context():
                with pytest.raises(requests.ConnectionError):
                    requests.post(url, json={"model": "x"}, timeout=5)
            assert [call.tags for call in calls] == [{"app": name}]
    finally:
        extensions[0].uninstrument()


@pytest.mark.parametrize("order", [1, -1])
def test_a_call_without_a_context_is_dropped_even_if_each_app_has_its_own_object(
    order: int, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = {"LLM_COST_PROVIDER_HOSTS": {"127.0.0.1:9": "openai"}}
    apps = [make_app(**hosts) for _ in range(2)]
    extensions: list[LlmCost] = [app.extensions["llm_cost"].extension for app in apps]
    for each in extensions[::order]:
        each.instrument("requests")
    try:
        with record_calls(apps[0]) as first, record_calls(apps[1]) as second:
            _refused_post()
            assert first == second == []
            assert "A call was not recorded" in caplog.text
            with apps[0].app_context():
                _refused_post()
            with requests.Session() as session:
                # A client belongs to the app whose object captures it.
                extensions[1].wrap(session)
                _refused_post(session)
            assert (len(first), len(second)) == (1, 1)
            # Only one of them is left.
            apps[1].extensions["llm_cost"].close()
            _refused_post()
            assert (len(first), len(second)) == (2, 1)
    finally:
        extensions[0].uninstrument()


def test_an_app_has_its_own_providers_whichever_object_captures_the_process(
    make_app: MakeApp, tmp_path: Path
) -> None:
    own = Provider("own", ("127.0.0.1:9",), paths.OPENAI)
    app = Flask("own", instance_path=str(tmp_path / "own"))
    llm_cost = LlmCost(app, providers=[own])
    other: LlmCost = make_app().extensions["llm_cost"].extension
    llm_cost.instrument("requests")
    other.instrument("requests")
    try:
        with record_calls(app) as calls, app.app_context():
            _refused_post()
        assert [call.provider for call in calls] == ["own"]
    finally:
        other.uninstrument()
        app.extensions["llm_cost"].close()


def _refused_post(session: requests.Session | None = None) -> None:
    with pytest.raises(requests.ConnectionError):
        (session or requests).post(
            "http://127.0.0.1:9/v1/chat/completions", json={"model": "x"}, timeout=5
        )


def test_a_disabled_app_has_nothing_inspected(make_app: MakeApp) -> None:
    llm_cost: LlmCost = (
        make_app(LLM_COST_ENABLED=False).extensions["llm_cost"].extension
    )
    looks: list[str] = []

    def body() -> bytes:
        looks.append("body")
        return b"{}"

    class Event:
        def model_dump(self, **_: t.Any) -> dict[str, t.Any]:
            looks.append("event")
            return {}

    url = "https://api.openai.com/v1/chat/completions"
    assert llm_cost._tap().open("POST", url, body) is None
    with llm_cost.track_stream(provider="openai") as stream:
        stream.event(Event())
    assert looks == []


def test_the_setting_instruments_the_process(make_app: MakeApp) -> None:
    app = make_app(
        LLM_COST_INSTRUMENT=["requests"],
        LLM_COST_PROVIDER_HOSTS={"127.0.0.1:9": "openai"},
    )
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    url = "http://127.0.0.1:9/v1/chat/completions"
    with record_calls(app) as calls:
        try:
            with pytest.raises(requests.ConnectionError):
                requests.post(url, json={"model": "x"}, timeout=5)
        finally:
            llm_cost.uninstrument()
        with pytest.raises(requests.ConnectionError):
            requests.post(url, json={"model": "x"}, timeout=5)
    assert [call.outcome for call in calls] == ["no_response"]


@pytest.mark.parametrize(
    ("setting", "captured"),
    [(None, ["no_response"]), (False, []), (["httpx2"], []), (True, ["no_response"])],
)
def test_an_argument_instruments_the_process_unless_a_setting_does_not(
    setting: t.Any, captured: list[str], tmp_path: Path
) -> None:
    app = Flask("host", instance_path=str(tmp_path))
    app.config["LLM_COST_PROVIDER_HOSTS"] = {"127.0.0.1:9": "openai"}
    if setting is not None:
        app.config["LLM_COST_INSTRUMENT"] = setting
    llm_cost = LlmCost(app, instrument="requests")
    url = "http://127.0.0.1:9/v1/chat/completions"
    try:
        with record_calls(app) as calls, pytest.raises(requests.ConnectionError):
            requests.post(url, json={"model": "x"}, timeout=5)
    finally:
        llm_cost.uninstrument()
        app.extensions["llm_cost"].close()
    assert [call.outcome for call in calls] == captured


def test_an_invalid_argument_of_instrument_stops_the_set_up() -> None:
    with pytest.raises(ConfigError, match="LLM_COST_INSTRUMENT.*'urllib'"):
        LlmCost(Flask("host"), instrument=["urllib"])


def test_a_stream_that_could_report_usage_is_logged_once(
    app: Flask, llm_cost: LlmCost, caplog: pytest.LogCaptureFixture
) -> None:
    with record_calls(app) as calls:
        for provider in ("openai", "openai", "groq"):
            with llm_cost.track_stream(provider=provider, model="gpt-4o") as stream:
                stream.event({"choices": [{"delta": {"content": "x"}}]})
                stream.event("[DONE]")
    assert ["no_usage" in call.flags for call in calls] == [True] * 3
    assert "No price" not in caplog.text
    assert caplog.text.count("LLM_COST_INJECT_STREAM_USAGE") == 1
    assert "A stream of openai/gpt-4o reported no usage" in caplog.text


def test_an_app_may_ignore_streams_without_usage(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(LLM_COST_ON_UNKNOWN_PRICE="ignore")
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    with record_calls(app) as calls:
        with llm_cost.track_stream(provider="openai", model="gpt-4o") as stream:
            stream.event({"choices": [{"delta": {"content": "x"}}]})
    assert "no_usage" in calls[0].flags
    assert caplog.text == ""


def test_a_tracked_stream_is_recorded_with_its_cost(
    app: Flask, llm_cost: LlmCost
) -> None:
    with record_calls(app) as calls:
        with llm_cost.track_stream(provider="openai", model="gpt-4o") as stream:
            stream.usage(input_tokens=1000, output_tokens=100)
    assert stream.call is not None
    assert stream.call.cost is not None
    assert stream.call.cost.total_usd == Decimal("0.0035")
    assert calls == [stream.call]


def test_each_model_of_an_answer_is_priced_as_itself(
    app: Flask, llm_cost: LlmCost
) -> None:
    with record_calls(app) as calls:
        snapshot = llm_cost.begin(Attempt("anthropic", "chat"))
        assert snapshot is not None
        usage = Usage(input_tokens=1000)
        usage_by_model = {"claude-sonnet-4-5": usage, "claude-opus-4-5": usage}
        model = "claude-sonnet-4-5"
        call = Call(
            snapshot.event_id, snapshot.started_at, "anthropic", model, usage=usage
        )
        llm_cost.record(
            dataclasses.replace(call, usage_by_model=usage_by_model), snapshot
        )
    cost = calls[0].cost
    assert cost is not None
    assert cost.total_usd == Decimal("0.008")  # 3 and 5 USD per 1M
    assert set(cost.parts) == {"input@claude-sonnet-4-5", "input@claude-opus-4-5"}
    assert sum(part.amount_usd for part in cost.parts.values()) == cost.total_usd


def test_old_calls_are_pruned_and_stay_in_the_report(llm_cost: LlmCost) -> None:
    now = dt.datetime.now(dt.UTC)
    for days in (0, 5, 20):
        llm_cost.track(
            provider="openai",
            model="gpt-4o",
            input_tokens=1000,
            at=now - dt.timedelta(days=days),
        )
    assert llm_cost.flush(60)
    assert llm_cost.prune(older_than=dt.timedelta(days=10)) == 1
    assert len(llm_cost.calls.rows(limit=10)) == 2
    assert "$0.007500" in llm_cost.report(days=30)


@pytest.mark.parametrize(
    "age",
    [dt.timedelta(0), dt.timedelta(days=-1), dt.datetime(2020, 1, 1)],  # noqa: DTZ001
)
def test_only_the_past_can_be_pruned(llm_cost: LlmCost, age: t.Any) -> None:
    with pytest.raises(ValueError, match="older_than must be"):
        llm_cost.prune(older_than=age)


@pytest.mark.parametrize("estimate", [True, False])
def test_a_stream_without_usage_is_estimated_on_request(
    make_app: MakeApp, estimate: bool
) -> None:
    with provider.serve() as url:
        app = make_app(
            LLM_COST_ESTIMATE_USAGE=estimate,
            LLM_COST_PROVIDER_HOSTS={url.split("//")[1]: "openai"},
        )
        llm_cost: LlmCost = app.extensions["llm_cost"].extension
        with requests.Session() as session, record_calls(app) as calls:
            session.mount("http://", llm_cost.adapter())
            body = {
                "model": "gpt-4o",
                "stream": True,
                "messages": [{"content": "hello"}],
            }
            session.post(f"{url}/v1/chat/completions", json=body)
    assert calls[0].usage_source == ("estimated" if estimate else "unknown")
    assert (calls[0].usage is not None) is estimate


def _abandon(llm_cost: LlmCost) -> None:
    """A call that ends in ``__del__``: its response is dropped."""
    attempt = Attempt("openai", "chat", "gpt-4o")
    snapshot = llm_cost.begin(attempt)
    assert snapshot is not None
    usage = Usage(input_tokens=1000)
    call = Call(snapshot.event_id, snapshot.started_at, "openai", "gpt-4o", usage=usage)
    llm_cost.record(
        dataclasses.replace(call, outcome="interrupted"), snapshot, deferred=True
    )


def test_an_abandoned_call_reaches_a_custom_storage(make_app: MakeApp) -> None:
    stored: list[Call] = []
    app = make_app(LLM_COST_STORAGE=stored.append)
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    _abandon(llm_cost)
    assert stored == []
    assert llm_cost.flush(60)
    assert [call.outcome for call in stored] == ["interrupted"]
    assert stored[0].cost is not None
    assert not Path(app.instance_path).exists()


def test_an_open_call_reaches_a_custom_storage_at_exit() -> None:
    code = """
import flask, flask_llm_cost
app = flask.Flask("host")
app.config["LLM_COST_STORAGE"] = lambda call: print(call.outcome)
llm_cost = flask_llm_cost.LlmCost(app)
url = "https://api.openai.com/v1/responses"
meters = []
for _ in range(2):
    meters.append(llm_cost._tap().open("POST", url, b"{}"))
    meters[-1].respond(200, {})
meters.pop().abandon()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert sorted(done.stdout.split()) == ["interrupted", "unfinished"]
    assert (done.returncode, done.stderr) == (0, "")


def test_an_abandoned_call_is_collected_and_touches_no_file(
    app: Flask, llm_cost: LlmCost
) -> None:
    with record_calls(app) as calls:
        _abandon(llm_cost)
    assert [call.outcome for call in calls] == ["interrupted"]
    assert not Path(app.instance_path).exists()


def test_an_answer_that_another_request_polls_is_billed_once(
    app: Flask, llm_cost: LlmCost
) -> None:
    url = "https://api.openai.com/v1/responses"
    done = {
        "id": "resp_two_requests",
        "model": "gpt-5",
        "background": True,
        "usage": {"input_tokens": 5, "output_tokens": 2},
    }
    with record_calls(app) as calls:
        for method, path in (("POST", ""), ("GET", "/resp_two_requests")):
            with app.test_request_context():
                meter = llm_cost._tap().open(method, url + path, b"{}")
                assert meter is not None
                meter.respond(200, {"content-type": "application/json"})
                meter.feed(json.dumps(done).encode(), decoded=True)
                meter.end()
    assert [call.response_id for call in calls] == ["resp_two_requests"]


def test_an_abandoned_call_reaches_the_ledger_by_itself(llm_cost: LlmCost) -> None:
    _abandon(llm_cost)
    until = time.monotonic() + 60
    while llm_cost.calls.count() == 0 and time.monotonic() < until:
        time.sleep(0.05)
    assert llm_cost.calls.count() == 1


def test_a_flush_waits_for_a_deferred_call_that_another_thread_stores(
    make_app: MakeApp,
) -> None:
    stored: list[Call] = []
    storing, go_on = threading.Event(), threading.Event()

    def store(call: Call) -> None:
        storing.set()
        assert go_on.wait(30)
        stored.append(call)

    app = make_app(LLM_COST_STORAGE=store)
    state = app.extensions["llm_cost"]
    _abandon(state.extension)
    threading.Thread(target=state.intake.record_deferred, daemon=True).start()
    assert storing.wait(30)
    threading.Timer(0.2, go_on.set).start()
    assert state.ledger.flush(60)
    assert len(stored) == 1


@pytest.mark.parametrize("storage", ["database", "jsonl"])
def test_a_del_during_an_append_does_not_hang(make_app: MakeApp, storage: str) -> None:
    """Garbage is collected inside every lock, and a stream ends in it each time."""
    app = make_app(LLM_COST_STORAGE=storage)
    llm_cost: LlmCost = app.extensions["llm_cost"].extension

    class Abandoned:
        def __init__(self) -> None:
            self.cycle = self
            snapshot = llm_cost.begin(Attempt("openai", "chat", "gpt-4o"))
            assert snapshot is not None
            self.snapshot = snapshot

        def __del__(self) -> None:
            call = Call(
                self.snapshot.event_id,
                self.snapshot.started_at,
                "openai",
                "gpt-4o",
                outcome="interrupted",
            )
            llm_cost.record(call, self.snapshot, deferred=True)

    def work() -> None:
        for _ in range(100):
            Abandoned()
            llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)

    before = gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    try:
        threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert llm_cost.flush(60)
    with app.app_context():
        assert llm_cost.calls.where(outcome="interrupted").count() == 400
        assert llm_cost.calls.count() == 800


def test_a_child_does_not_record_the_deferred_calls_of_its_parent(
    app: Flask, llm_cost: LlmCost
) -> None:
    _abandon(llm_cost)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if llm_cost.flush() else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert llm_cost.flush(60)
    assert llm_cost.calls.count() == 1


def test_a_receiver_may_query_and_flush_the_ledger(
    app: Flask, llm_cost: LlmCost
) -> None:
    flushed: list[bool] = []

    def receiver(sender: t.Any, call: Call) -> None:
        with app.app_context():
            flushed.append(llm_cost.flush(5))
            llm_cost.calls.count()
            app.extensions["llm_cost"].ledger.queue.drain()

    with signals.call_recorded.connected_to(receiver, app):
        _abandon(llm_cost)
        assert llm_cost.flush(5)
    assert flushed
    assert llm_cost.calls.count() == 1


def test_an_error_of_the_storage_never_reaches_the_app(make_app: MakeApp) -> None:
    def broken(call: Call) -> None:
        raise RuntimeError("no room")

    app = make_app(LLM_COST_STORAGE=broken)
    failed: list[Exception] = []

    def note(sender: t.Any, call: Call, error: Exception) -> None:
        failed.append(error)

    with signals.storage_failed.connected_to(note, app):
        app.extensions["llm_cost"].extension.track(
            provider="openai", model="gpt-4o", input_tokens=1
        )
    assert [str(error) for error in failed] == ["no room"]


def test_a_priced_call_does_not_raise_the_error_of_another(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_ON_UNKNOWN_PRICE="raise")
    state: AppState = app.extensions["llm_cost"]
    state.intake.pending_error = UnknownPrice("acme", "brain-1")
    state.extension.track(provider="openai", model="gpt-4o", input_tokens=1)
    with pytest.raises(UnknownPrice, match="brain-1"):
        state.extension.begin(Attempt("openai", "chat"))


def test_bound_generators_and_coroutines_keep_their_tags(
    app: Flask, llm_cost: LlmCost
) -> None:
    def steps() -> t.Iterator[int]:
        for number in range(2):
            llm_cost.track(provider="openai", model="gpt-4o", input_tokens=number)
            yield number

    async def later() -> None:
        await asyncio.sleep(0)
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=9)

    with llm_cost.tags(feature="chat"):
        generator, coroutine = llm_cost.bind(steps), llm_cost.bind(later)
    with record_calls(app) as calls:
        assert list(generator()) == [0, 1]
        asyncio.run(coroutine())
    assert [call.tags for call in calls] == [{"feature": "chat"}] * 3


def test_a_bound_async_generator_keeps_its_tags_in_its_callers_task(
    app: Flask, llm_cost: LlmCost
) -> None:
    def track(number: int) -> None:
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=number)

    async def steps(count: int) -> t.AsyncIterator[asyncio.Task[t.Any] | None]:
        # A timeout may be left only in the task in which it was entered.
        async with asyncio.timeout(60):
            try:
                for number in range(count):
                    await asyncio.sleep(0)
                    track(number)
                    yield asyncio.current_task()
            finally:
                await asyncio.sleep(0)
                track(9)

    with llm_cost.tags(feature="chat"):
        bound = llm_cost.bind(steps)

    async def one() -> None:
        with llm_cost.tags(user="alice"):
            async for task in bound(2):
                assert task is asyncio.current_task()
                track(5)

    async def main() -> None:
        await asyncio.gather(one(), one())

    assert inspect.isasyncgenfunction(bound)
    with record_calls(app) as calls:
        asyncio.run(main())
    ours = [call for call in calls if call.usage != Usage(input_tokens=5)]
    assert [call.tags for call in ours] == [{"feature": "chat"}] * 6
    assert len(calls) == 10
    assert sum(call.tags == {"user": "alice"} for call in calls) == 4


def test_a_fork_during_set_up_does_not_lock_the_child(app: Flask) -> None:
    state: AppState = app.extensions["llm_cost"]
    with state._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            os._exit(0 if state.book is not None else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_measured_latency_and_a_cost_as_text_are_accepted(llm_cost: LlmCost) -> None:
    call = llm_cost.track(
        provider="openai",
        model="gpt-4o",
        input_tokens=1,
        latency_ms=812.4,
        reported_cost="1.25",
    )
    assert call.latency_ms == 812
    assert call.cost is not None
    assert (call.cost.source, call.cost.total_usd) == ("provider", Decimal("1.25"))
    assert llm_cost.flush(60)
    assert llm_cost.calls.total_cost() == Decimal("1.25")


def test_many_failures_are_one_line_in_the_log(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(call: Call) -> None:
        raise RuntimeError("no room")

    app = make_app(LLM_COST_STORAGE=broken)
    state: AppState = app.extensions["llm_cost"]
    for _ in range(5):
        state.extension.track(provider="openai", model="gpt-4o", input_tokens=1)
    assert caplog.text.count("A call could not be stored") == 1
    state.intake._silent_until = 0
    state.extension.track(provider="openai", model="gpt-4o", input_tokens=1)
    assert "(and 4 before it): no room" in caplog.text


def test_calls_are_recorded_under_the_providers_one_name(app: Flask) -> None:
    extension = app.extensions["llm_cost"].extension
    with app.app_context():
        assert extension.track(provider="Google", model="m").provider == "gemini"
        with extension.track_stream(provider="Anthropic", model="m") as stream:
            stream.event({"type": "message_start", "message": {"usage": {}}})
        assert stream.call is not None
        assert stream.call.provider == "anthropic"
