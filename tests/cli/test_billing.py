"""BillingStore's answers: over monthly files and over a database."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
import zoneinfo
from decimal import Decimal
from pathlib import Path

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost import jsonl
from flask_llm_cost import Usage
from flask_llm_cost.calendar import from_ms
from flask_llm_cost.config import Settings
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.files import clacky
from flask_llm_cost.files.monthly import JsonlLedger
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.query import billing
from flask_llm_cost.query.calls import CallQuery
from flask_llm_cost.storage import Storage
from tests.cli.conftest import Run
from tests.conftest import MakeApp
from tests.ledger.samples import make_call

ZONE = "America/New_York"
NOW = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
START = dt.datetime(2025, 12, 20, tzinfo=dt.UTC)


def names(ids: t.Sequence[str]) -> dict[str, str]:
    return {"a": "Alpha"} if "a" in ids else {}


@st.composite
def some_calls(draw: st.DrawFn) -> list[dict[str, t.Any]]:
    """What calls are made of: their ids are random, which no strategy may be."""
    made = []
    for n in range(draw(st.integers(0, 12))):
        at = START + dt.timedelta(minutes=draw(st.integers(0, 340 * 1440)))
        changes: dict[str, t.Any] = draw(
            st.sampled_from(
                [
                    {},
                    {"cost": None},
                    {"cost": None, "usage": None, "outcome": "http_error"},
                    {"cost": None, "usage": None, "outcome": "failed"},
                    {"usage_source": "estimated"},
                    {
                        "usage": Usage(
                            input_tokens=5,
                            cache_read_tokens=70,
                            cache_write_tokens=11,
                            cache_write_1h_tokens=3,
                            output_tokens=8,
                            other_tokens={"input_video": 6},
                        )
                    },
                ]
            )
        )
        session = draw(st.sampled_from([None, "a", "b", "c"]))
        tags = {} if session is None else {"session": session}
        model = draw(st.sampled_from(["gpt-4o", "claude"]))
        made.append(dict(number=n, started_at=at, model=model, tags=tags, **changes))
    return made


@pytest.fixture(params=["database", "jsonl"])
def app(request: pytest.FixtureRequest, make_app: MakeApp) -> Flask:
    app = make_app(
        LLM_COST_STORAGE=request.param,
        LLM_COST_TIMEZONE=ZONE,
        LLM_COST_WEEK_START="sunday",
        LLM_COST_SESSION_NAMES=names,
    )
    app.extensions["llm_cost"].clock = lambda: NOW
    return app


def asked(app: Flask, *args: str) -> t.Any:
    result = app.test_cli_runner().invoke(args=["llm-cost", *args, "--format", "json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout, parse_float=Decimal)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(drawn=some_calls(), period=st.sampled_from(billing.PERIODS))
def test_answers_are_the_same_over_files_and_by_command(
    app: Flask, tmp_path: Path, drawn: list[dict[str, t.Any]], period: str
) -> None:
    made = [make_call(**each) for each in drawn]
    ledger = app.extensions["llm_cost"].ledger
    ledger.clear("all")
    settings = Settings(
        timezone=zoneinfo.ZoneInfo(ZONE), week_start="sunday", session_names=names
    )
    files = JsonlLedger(settings, instance_path=str(tmp_path / "twin"))
    files.clear("all")
    for call in made:
        ledger.append(call)
        files.append(call)
    calls = CallQuery(files.reading, settings, lambda: NOW)
    summed = billing.summary(calls, period).to_json()
    found = asked(app, "summary", "--period", period)
    assert summed == found
    assert list(summed["by_model"]) == list(found["by_model"])
    sessions = asked(app, "sessions", "--period", period)
    assert billing.session_summary(calls, period).to_json() == sessions
    days = asked(app, "daily", "--days", "21", "--model", "claude")
    found = billing.daily_breakdown(calls.where(model="claude"), 21).to_json()
    assert found == days
    files.close()


@pytest.fixture(params=[Ledger, JsonlLedger])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> t.Iterator[Storage]:
    """A ledger of either kind."""
    ledger = request.param(Settings(), instance_path=str(tmp_path))
    yield ledger
    ledger.close()


def ask(ledger: Storage, now: dt.datetime = NOW) -> CallQuery:
    """All calls of a ledger, in days of New York."""
    ledger.flush()
    zone = zoneinfo.ZoneInfo(ZONE)
    return CallQuery(ledger.reading, Settings(timezone=zone), lambda: now)


@pytest.fixture
def files(tmp_path: Path) -> t.Iterator[JsonlLedger]:
    ledger = JsonlLedger(Settings(), instance_path=str(tmp_path))
    yield ledger
    ledger.close()


def test_days_are_real_ones_where_the_clock_changes(ledger: Storage) -> None:
    # 1 November 2026 has 25 hours in New York.
    first = dt.datetime(2026, 10, 31, 4, 30, tzinfo=dt.UTC)
    for hour in range(72):
        ledger.append(make_call(hour, started_at=first + dt.timedelta(hours=hour)))
    now = dt.datetime(2026, 11, 3, 12, tzinfo=dt.UTC)
    days = billing.daily_breakdown(ask(ledger, now), 5).to_json()
    assert [(day["date"], day["requests"]) for day in days] == [
        ("2026-10-30", 0),
        ("2026-10-31", 24),
        ("2026-11-01", 25),
        ("2026-11-02", 23),
        ("2026-11-03", 0),
    ]
    assert days[0]["cost"] == 0


def test_only_the_months_of_a_period_are_read(files: JsonlLedger) -> None:
    for month in (8, 9, 10, 11):
        files.append(
            make_call(1, started_at=dt.datetime(2026, month, 9, tzinfo=dt.UTC))
        )
    for path in files.files()[:2]:
        path.write_bytes(b"broken\n")
    calls = ask(files)
    assert billing.summary(calls, "month").totals.calls == 1
    assert files.malformed == 0
    assert billing.daily_breakdown(calls, 50).to_json()[6]["requests"] == 1
    assert files.malformed == 0
    assert billing.summary(calls, "all").totals.calls == 2
    assert files.malformed == 2


def test_commands_read_only_the_months_they_need(run: Run, make_app: MakeApp) -> None:
    app = make_app(LLM_COST_STORAGE="jsonl")
    app.extensions["llm_cost"].clock = lambda: NOW
    ledger = app.extensions["llm_cost"].ledger
    for month in (8, 11):
        ledger.append(
            make_call(1, started_at=dt.datetime(2026, month, 9, tzinfo=dt.UTC))
        )
    ledger.files()[0].write_bytes(b"broken\n")
    assert asked(app, "summary")["record_count"] == 1
    assert ledger.malformed == 0
    assert asked(app, "daily", "--days", "20")[8]["requests"] == 1
    assert ledger.malformed == 0
    assert asked(app, "summary", "--period", "all")["record_count"] == 1
    assert ledger.malformed == 1


def test_without_names_no_session_counts_as_deleted(ledger: Storage) -> None:
    for n, session in enumerate(["a", "b", "b"]):
        ledger.append(make_call(n, started_at=NOW, tags={"session": session}))
    found = billing.session_summary(ask(ledger), "day").to_json()
    assert [(s["session_id"], s["requests"]) for s in found] == [("b", 2), ("a", 1)]
    assert not any(s["is_deleted"] for s in found)
    assert len(billing.session_summary(ask(ledger), "day", limit=1).to_json()) == 1


def test_the_latest_of_one_session(files: JsonlLedger) -> None:
    made = [
        make_call(
            n, started_at=NOW + dt.timedelta(seconds=n), tags={"session": str(n % 2)}
        )
        for n in range(6)
    ]
    for call in made:
        files.append(call)
    assert list(files.query(session_id="1", limit=2)) == [made[5], made[3]]
    assert list(files.query(model="other")) == []


def test_an_unknown_period_is_refused(ledger: Storage) -> None:
    for question in (billing.summary, billing.session_summary):
        with pytest.raises(ValueError, match="'decade' is not one of day, week"):
            question(ask(ledger), "decade")


CLACKY = {
    "id": "6c5ab9f2-4f36-4a3c-9d39-5df2a0a3b8ff",
    "session_id": "s1",
    "timestamp": "2026-11-19T23:30:00+08:00",
    "model": "claude-sonnet-4.5",
    "provider": "anthropic",
    "prompt_tokens": 1000,
    "completion_tokens": 50,
    "cache_read_tokens": 900,
    "cache_write_tokens": 40,
    "cost_usd": 0.0033000000000000002,
    "cost_source": "price",
}


def line(**changes: t.Any) -> bytes:
    data = {k: v for k, v in (CLACKY | changes).items() if v != "gone"}
    return json.dumps(data).encode() + b"\n"


def test_a_line_of_clacky_is_a_call() -> None:
    call = clacky.decode(line(), "session")
    assert call.started_at == dt.datetime(2026, 11, 19, 15, 30, tzinfo=dt.UTC)
    assert call.usage == Usage(
        input_tokens=100,
        cache_read_tokens=900,
        cache_write_tokens=40,
        output_tokens=50,
    )
    assert call.cost is not None
    assert call.cost.total_usd == Decimal("0.0033")
    assert call.flags == {"clacky_price"}
    assert call.tags == {"session": "s1"}
    assert clacky.decode(line(), "session") == call
    assert jsonl.decode(jsonl.encode(call)) == call
    assert not clacky.is_clacky(jsonl.encode(call))


@pytest.mark.parametrize(
    ("changes", "cost", "source", "complete"),
    [
        ({"cost_source": "api"}, Decimal("0.0033"), "provider", True),
        ({"cost_source": "estimated"}, Decimal("0.0033"), "file", False),
        ({"cost_source": "unknown", "cost_usd": 0.0}, None, None, None),
        ({"cost_source": "gone"}, Decimal("0.0033"), "file", True),
        ({"cost_source": "gone", "cost_usd": 0.0}, None, None, None),
        ({"cost_source": "api", "cost_usd": 0}, Decimal(0), "provider", True),
    ],
)
def test_the_source_of_a_cost_is_kept(
    changes: dict[str, t.Any], cost: Decimal | None, source: str, complete: bool
) -> None:
    found = clacky.decode(line(**changes), "session")
    if cost is None:
        assert (found.cost, found.flags) == (None, {"clacky_unknown"})
    else:
        assert found.cost is not None
        assert found.cost.total_usd == cost
        assert (found.cost.source, found.cost.complete) == (source, complete)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timestamp": "soon"}, "timestamp: 'soon' is not a valid time"),
        ({"timestamp": "2026-11-19T23:30:00"}, "no time zone"),
        ({"prompt_tokens": -1}, "prompt_tokens: -1 is not a whole"),
        ({"cost_usd": "much"}, "cost_usd: 'much' is not a number"),
        ({"cost_source": "guess"}, "cost_source: 'guess' is not one of"),
        ({"model": 7}, "model: 7 is not text"),
    ],
)
def test_a_wrong_line_of_clacky_says_what_is_wrong(
    changes: dict[str, t.Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        clacky.decode(line(**changes), "session")


def test_clacky_s_files_are_imported_once(app: Flask, tmp_path: Path) -> None:
    path = tmp_path / "2026-11.jsonl"
    path.write_bytes(
        line()
        + b"\n{torn\n"
        + line(id="other", cost_source="unknown", cost_usd=0.0, session_id="s2")
        + line(id="third", provider="gone", cost_source="api", prompt_tokens=5)
    )

    def imported() -> str:
        args = ["llm-cost", "calls", "import", str(path)]
        result = app.test_cli_runner().invoke(args=args)
        assert result.exit_code == 1  # there is a bad line
        return result.stdout

    assert imported().startswith("3 calls new, 0 the same, 0 different, 1 invalid line")
    assert imported().startswith("0 calls new, 3 the same, 0 different, 1 invalid line")
    found = asked(app, "summary")
    assert found["record_count"] == 3
    assert found["prompt_tokens"] == 1000 + 1000 + 905
    assert (found["total_cost"], found["unpriced"]) == (Decimal("0.0066"), 1)


def test_between_files_and_database_nothing_is_lost(
    app: Flask, make_app: MakeApp, tmp_path: Path
) -> None:
    ledger = app.extensions["llm_cost"].ledger
    made = [
        make_call(n, started_at=from_ms(1_700_000_000_000 + n * 9 * 86_400_000))
        for n in range(40)
    ]
    for call in made:
        ledger.append(call)
    out = str(tmp_path / "out.jsonl")
    twin = make_app(
        LLM_COST_STORAGE="database"
        if app.config["LLM_COST_STORAGE"] == "jsonl"
        else "jsonl"
    )
    since = ("--from", "2023-01-01", "--to", "2026-12-31")
    export = ["llm-cost", "calls", "export", "--format", "jsonl", *since, "--output"]
    assert app.test_cli_runner().invoke(args=[*export, out]).exit_code == 0
    for expected in ("40 calls new, 0 the same", "0 calls new, 40 the same"):
        result = twin.test_cli_runner().invoke(
            args=["llm-cost", "calls", "import", out]
        )
        assert result.stdout.startswith(expected)
    again = str(tmp_path / "again.jsonl")
    assert twin.test_cli_runner().invoke(args=[*export, again]).exit_code == 0
    assert Path(again).read_bytes() == Path(out).read_bytes()
    changed = make_call(0, started_at=made[0].started_at, event_id=made[0].event_id)
    path = tmp_path / "changed.jsonl"
    path.write_bytes(jsonl.encode(changed).replace(b"gpt-4o", b"gpt-4p"))
    result = twin.test_cli_runner().invoke(
        args=["llm-cost", "calls", "import", str(path)]
    )
    assert (result.exit_code, "1 different" in result.stdout) == (1, True)
    assert mint_event_id(made[0].started_at) != made[0].event_id
