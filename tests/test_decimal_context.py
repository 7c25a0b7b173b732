"""The host's decimal context changes no amount: not in a thread, nor as the default."""

from __future__ import annotations

import decimal
import json
import subprocess
import sys
import textwrap
import typing as t
from pathlib import Path

import pytest

FLOW = textwrap.dedent(
    """
    import datetime as dt, decimal, json, os, re, sys, threading, traceback
    from decimal import Decimal

    HOSTILE = {
        "usual": {},
        "short": {"prec": 2, "rounding": decimal.ROUND_UP},
        "down": {"prec": 5, "rounding": decimal.ROUND_DOWN},
        "traps": {"prec": 1, "traps": [decimal.Inexact, decimal.Rounded,
                                       decimal.FloatOperation, decimal.Subnormal]},
        "tiny": {"prec": 3, "Emax": 2, "Emin": -2, "traps": []},
    }
    name, place, folder = sys.argv[1:]
    context = decimal.Context(**HOSTILE[name])
    if place == "default":
        for key in ("prec", "rounding", "Emin", "Emax"):
            setattr(decimal.DefaultContext, key, getattr(context, key))
        for key, value in context.traps.items():
            decimal.DefaultContext.traps[key] = value

    from flask import Flask
    from flask_llm_cost import LlmCost, Usage, wait_limit
    from flask_llm_cost.signals import storage_failed

    wait_limit.CALL_SECONDS = 20.0  # on a slow machine, too
    app = Flask("host", instance_path=folder)
    app.config["LLM_COST_BUDGETS"] = [
        {"name": "day", "limit_usd": "7.7777777", "period": "day", "thresholds": ["0.333"],
         "estimate": "average"},
        {"name": "user", "limit_usd": "77.00000001", "period": "month", "tags": {"user": "*"},
         "behavior": "block"},
    ]
    app.config["LLM_COST_COST_HEADER"] = True
    app.config["LLM_COST_ROLLUP_TAGS"] = ["user"]
    app.config["LLM_COST_PRICE_OVERRIDES"] = {
        "acme/m": {"input": "1.23456789", "output": "9.87654321", "page": "0.000333",
                   "multipliers": {"region.us": "1.1"}},
        "acme/*": {"multiplier": "0.987654321"},
    }
    llm_cost = LlmCost(app)
    app.register_blueprint(llm_cost.blueprint(access=lambda: True), url_prefix="/c")
    now = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
    app.extensions["llm_cost"].clock = lambda: now

    @app.get("/spend")
    def spend():
        llm_cost.track(provider="acme", model="m", input_tokens=12_345)
        return ""

    def track(number, at):
        usage = Usage(input_tokens=98_765 + number, output_tokens=4_321 * number,
                      cache_read_tokens=77, units={"page": Decimal("1.5")})
        llm_cost.track(provider="acme", model="m", usage=usage, at=at,
                       tags={"user": f"u{number % 3}"}, latency_ms=100 + number)
        llm_cost.track(provider="openrouter", model="x", at=at, input_tokens=3,
                       reported_cost="0.000123456789")
        llm_cost.track(provider="acme", model="none", at=at, input_tokens=5)
        llm_cost.track(provider="gemini", model="gemini-2.5-pro", at=at,
                       usage=Usage(input_tokens=250_001, output_tokens=7, cache_write_tokens=3))

    def numbers(text):
        text = re.sub(r"[0-9-]+[ T][0-9]+:[0-9:.]+|[0-9a-f]{8}-[-0-9a-f]+", "", text)
        return sorted(re.findall(r"[0-9,]+[.][0-9]+%?", text))

    @storage_failed.connect_via(app)
    def failed(_, call, error):
        traceback.print_exception(error)
        os._exit(1)

    def run():
        decimal.setcontext(context)
        found = {}
        for number in range(14):
            track(number, now - dt.timedelta(days=13 - number, seconds=7))
        client = app.test_client()
        found["header"] = client.get("/spend").headers["X-LLM-Cost-USD"]
        with app.app_context():
            assert llm_cost.flush(60)
            app.extensions["llm_cost"].ledger.rollups.build(seconds=30)
            calls = llm_cost.calls
            found["total"] = str(calls.total_cost())
            totals = calls.totals()
            found["totals"] = {n: str(getattr(totals, n)) for n in (
                "spend_usd", "average_usd", "possible_usd", "cache_hit_rate",
                "usd_per_million")}
            found["models"] = {k: str(v) for k, v in calls.cost_by("model").items()}
            found["users"] = {k: str(v) for k, v in calls.cost_by_tag("user").items()}
            found["days"] = {k: str(v) for k, v in calls.daily_costs(days=14).items()}
            ids = [row.event_id for row in calls.last(days=30).rows(limit=3)]
        for path in ("/", "/models", "/calls?per=100", "/calls.csv", "/tags", "/tags/user",
                     "/sessions", "/budgets", "/prices", "/data-quality",
                     "/?group=model&grain=day&compare=previous",
                     "/calls?sort=expensive&per=100",
                     *(f"/calls/{i}" for i in ids[:1])):
            page = client.get("/c" + path)
            assert page.status_code == 200, (path, page.status_code)
            found[path.replace(ids[0], "ID")] = numbers(page.get_data(as_text=True))
        runner = app.test_cli_runner()
        for line in ("report --format json", "report --format csv --by model", "report",
                     "summary --format json", "summary", "daily --format json",
                     "sessions --format json", "budgets list", "budgets show day",
                     "budgets verify", "ledger verify", "prices list", "prices explain acme/m",
                     "prices check", "calls export --format jsonl --days 30"):
            result = runner.invoke(args=["llm-cost", *line.split()])
            error = result.exception
            assert error is None or isinstance(error, SystemExit), (line, error)
            found[line] = numbers(result.output)
        print(json.dumps(found))

    if place == "thread":
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    else:
        run()
    """
)


def flow(tmp_path: Path, name: str, place: str) -> dict[str, t.Any]:
    folder = tmp_path / f"{name}-{place}"
    done = subprocess.run(
        [sys.executable, "-c", FLOW, name, place, str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr[-4000:]
    found: dict[str, t.Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, t.Any]:
    return flow(tmp_path_factory.mktemp("usual"), "usual", "thread")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("short", "thread"),
        ("traps", "thread"),
        ("traps", "default"),
        pytest.param("down", "default", marks=pytest.mark.stress),
        pytest.param("tiny", "default", marks=pytest.mark.stress),
    ],
)
def test_a_hostile_context_changes_nothing(
    tmp_path: Path, usual: dict[str, t.Any], name: str, place: str
) -> None:
    found = flow(tmp_path, name, place)
    for key, value in usual.items():
        assert found[key] == value, key
    assert decimal.Decimal(usual["total"]) > 1
