"""``report``: the same numbers in three forms, never unknown as 0."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import typing as t
from collections.abc import Callable
from decimal import Decimal

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.cli.text import fit
from flask_llm_cost.cli.text import money
from tests.cli.conftest import NOW
from tests.cli.conftest import Run
from tests.conftest import MakeApp
from tests.ledger.samples import make_call
from tests.query.samples import cost_of

Shown = Callable[..., str]


def refuse(app: Flask, at: dt.datetime = NOW, **tags: str) -> None:
    """Put an attempt that was refused into the ledger."""
    ledger = app.extensions["llm_cost"].ledger
    ledger.append(
        make_call(started_at=at, cost=None, usage=None, outcome="http_error", tags=tags)
    )
    assert ledger.flush(60)


def test_each_reason_of_a_missing_cost_has_its_own_way_out(
    shop: Flask, shown: Callable[..., str]
) -> None:
    with shop.app_context():
        stream = shop.extensions["llm_cost"].extension.track_stream(
            provider="openai", model="writer"
        )
        with stream as reported:
            reported.event({"id": "1", "choices": [{"delta": {"content": "x"}}]})
            reported.event("data: [DONE]\n\n")
    text = " ".join(shown("report").split())
    assert "1 call has no price: openai/mystery. Run `flask llm-cost prices" in text
    assert (
        "1 call reported no usage, so there is nothing to price: openai/writer" in text
    )
    assert "LLM_COST_INJECT_STREAM_USAGE" in text
    assert "no price" not in shown("report", "--format", "csv")


def test_text_shows_totals_and_what_is_not_known(shown: Shown) -> None:
    text = shown("report")
    assert "LLM cost report: 30 days\n2026-10-22 to 2026-11-20, UTC\n" in text
    assert "$0.008970\n             +1 unpriced, +1 incomplete" in text
    assert "Tokens                4,360   4,050 in" in text


@pytest.fixture
def cut(shop: Flask) -> None:
    """A call that was cut, of which $0.14 is open, and one without a known limit."""
    ledger = shop.extensions["llm_cost"].ledger
    for limit in ("0.1400000001", None):
        cost = cost_of("0", complete=False, more=limit)
        ledger.append(make_call(started_at=NOW, cost=cost, model="cut"))
    assert ledger.flush(60)


@pytest.mark.usefixtures("cut")
def test_text_shows_the_most_that_calls_can_have_cost(shown: Shown) -> None:
    lines = shown("report").splitlines()
    [at] = [n for n, line in enumerate(lines) if line.startswith("Total cost")]
    assert lines[at].endswith("$0.008970, at most $0.148971")
    assert (
        lines[at + 1].strip() == "+1 unpriced, +3 incomplete, +2 without a known limit"
    )
    [at] = [n for n, line in enumerate(lines) if line.startswith("  openai/cut ")]
    assert lines[at + 1] == "    at most $0.140001"
    assert lines[at + 2].endswith("+2 incomplete, +1 without a known limit")
    assert all(len(line) <= 80 for line in lines)
    assert "Total cost        $0.008970, at most $0.148971" in shown("summary")


@pytest.mark.usefixtures("cut")
def test_json_and_csv_have_a_ceiling_unless_a_call_has_none(shown: Shown) -> None:
    whole = json.loads(shown("report", "--format", "json"))
    assert whole["totals"]["ceiling_usd"] is None
    assert whole["totals"]["unbounded"] == 2
    rows = {row["key"]: row for row in whole["by"]["model"]}
    assert rows["openai/writer"]["ceiling_usd"] == rows["openai/writer"]["cost_usd"]
    assert whole["most_expensive"][0]["ceiling_usd"] is not None
    total = next(csv.DictReader(io.StringIO(shown("report", "--format", "csv"))))
    assert (total["ceiling_usd"], total["unbounded"]) == ("", "2")
    summed = json.loads(shown("summary", "--format", "json"))
    assert (summed["ceiling"], summed["unbounded"]) == (None, 2)


def test_a_summary_has_the_ceiling_rounded_up(shop: Flask, shown: Shown) -> None:
    ledger = shop.extensions["llm_cost"].ledger
    cost = cost_of("0.1", complete=False, more="0.0400000001")
    ledger.append(make_call(started_at=NOW, cost=cost, model="cut"))
    assert ledger.flush(60)
    found = json.loads(shown("summary", "--model", "cut", "--format", "json"))
    assert (found["total_cost"], found["ceiling"]) == (0.1, 0.140001)


def test_estimates_stand_apart(shop: Flask, shown: Shown) -> None:
    with shop.app_context():
        shop.extensions["llm_cost"].extension.track(
            provider="openai",
            model="writer",
            input_tokens=1_000_000,
            output_tokens=0,
            usage_source="estimated",
            at=NOW,
        )
    text = shown("report")
    assert "$0.008970\n             +1 unpriced, +1 incomplete, +$" in text
    found = json.loads(shown("report", "--format", "json"))["totals"]
    assert (found["estimated"], found["cost_usd"]) == (1, "0.008970000000")
    assert Decimal(found["estimated_usd"]) > Decimal("0.1")
    summed = json.loads(shown("summary", "--format", "json"))
    assert (summed["estimated"], summed["total_cost"]) == (1, 0.00897)
    assert summed["estimated_cost"] > 0
    assert "incomplete, +$" in shown("summary")


def test_text_breaks_down_and_lists_the_most_expensive(shown: Shown) -> None:
    text = shown("report")
    for title in ("Providers", "Models", "Tag feature", "Most expensive calls"):
        assert f"\n{title} " in text
    assert "  openai/writer" in text
    assert "  (untagged)" in text
    assert "at least $0.000570" in text


def test_text_fits_80_columns_and_obeys_no_escape(shown: Shown) -> None:
    for args in ((), ("--by", "tag:feature"), ("--by", "day"), ("--by", "model")):
        text = shown("report", *args)
        assert max(map(len, text.splitlines())) <= 80
        assert "\x1b" not in text
        assert text == "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def test_an_unpriced_model_costs_unknown(shown: Shown) -> None:
    lines = shown("report", "--by", "model").splitlines()
    [line] = [line for line in lines if "mystery" in line]
    assert "unknown" in line
    assert "$0" not in line


@pytest.mark.parametrize(
    "command",
    [
        ("report",),
        ("report", "--by", "provider"),
        ("report", "--by", "model"),
        ("report", "--by", "session"),
        ("report", "--by", "tag:feature"),
        ("summary",),
        ("sessions",),
    ],
)
def test_failed_attempts_alone_cost_no_zero(
    make_app: MakeApp, run: Run, command: tuple[str, ...]
) -> None:
    app = make_app(LLM_COST_ROLLUP_TAGS=("feature",))
    app.extensions["llm_cost"].clock = lambda: NOW
    refuse(app, feature="search", session="s1")
    text = run(*command, app=app).stdout
    assert "\u2013" in text
    assert "$0" not in text


def test_a_day_of_failed_attempts_is_told_from_one_without_calls(
    shop: Flask, shown: Shown
) -> None:
    refuse(shop, at=NOW - dt.timedelta(days=2))
    for command in (("daily",), ("report", "--by", "day")):
        days = {
            line.split()[0]: line.split()[1:]
            for line in shown(*command).splitlines()
            if line.strip().startswith("2026-11-1")
        }
        assert days["2026-11-18"] == ["1", "0", "\u2013"]
        assert days["2026-11-17"][:3] == ["0", "0", "$0.000000"]


def test_days_narrow_the_report(shown: Shown) -> None:
    assert json.loads(shown("report", "--format", "json"))["totals"]["calls"] == 5
    week = json.loads(shown("report", "--days", "7", "--format", "json"))
    assert (week["from"], week["to"]) == ("2026-11-14", "2026-11-20")
    assert week["totals"]["calls"] == 4


def test_from_and_to_include_both_days(shown: Shown) -> None:
    answer = json.loads(
        shown(
            "report", "--from", "2026-11-08", "--to", "2026-11-19", "--format", "json"
        )
    )
    assert answer["totals"]["calls"] == 2


@pytest.mark.parametrize(
    "by",
    ["provider", "model", "session", "tag:feature", "hour", "day", "week", "month"],
)
def test_every_breakdown_sums_up_to_the_total(shown: Shown, by: str) -> None:
    answer = json.loads(shown("report", "--by", by, "--format", "json"))
    rows = answer["rows"]
    assert sum(row["calls"] for row in rows) == answer["totals"]["calls"] == 5
    spent = sum(Decimal(row["cost_usd"] or 0) for row in rows)
    assert spent == Decimal(answer["totals"]["cost_usd"]) == Decimal("0.00897")


def test_days_without_calls_are_there(shown: Shown) -> None:
    rows = json.loads(shown("report", "--by", "day", "--format", "json"))["rows"]
    assert len(rows) == 30
    assert rows[0] == {"key": "2026-10-22"} | rows[0]
    assert rows[0]["calls"] == 0


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("month", ["2026-10", "2026-11"]),
        (
            "week",
            ["2026-10-19", "2026-10-26", "2026-11-02", "2026-11-09", "2026-11-16"],
        ),
    ],
)
def test_periods_are_of_the_calendar(shown: Shown, by: str, keys: list[str]) -> None:
    rows = json.loads(shown("report", "--by", by, "--format", "json"))["rows"]
    assert [row["key"] for row in rows] == keys


def test_a_report_of_a_scope(shop: Flask, shown: Shown) -> None:
    ledger = shop.extensions["llm_cost"].ledger
    for project in ("p1", "p1", "p2"):
        scope = f"organization=o project={project}"
        ledger.append(make_call(started_at=NOW, scope=scope))
    assert ledger.flush()
    found = json.loads(shown("report", "--scope", "project=p1", "--format", "json"))
    assert found["totals"]["calls"] == 2
    rows = json.loads(shown("report", "--by", "scope", "--format", "json"))["rows"]
    calls = {row["key"]: row["calls"] for row in rows}
    assert calls["organization=o project=p1"] == 2
    assert calls["organization=o project=p2"] == 1
    assert "Scopes" in shown("report", "--by", "scope")


def test_hours_are_named_with_their_offset(shown: Shown) -> None:
    hours = ("report", "--by", "hour", "--days", "1", "--format", "json")
    rows = json.loads(shown(*hours))["rows"]
    assert [row["key"] for row in rows if row["calls"]] == ["2026-11-20T12:00+00:00"]
    assert len(rows) == 24


def test_a_report_is_compared_with_the_same_part_of_the_days_before(
    shown: Shown,
) -> None:
    found = json.loads(shown("report", "--days", "2", "--format", "json"))
    assert found["previous"]["from"] == "2026-11-17T00:00:00+00:00"
    assert found["previous"]["to"] == "2026-11-18T12:00:00+00:00"
    assert found["previous"]["calls"] == 0
    text = shown("report", "--days", "11")
    assert (
        "Change              +120.4%   from $0.002800 in the previous 11 days" in text
    )
    assert "the ledger begins on 2026-11-08" in text
    assert max(map(len, text.splitlines())) <= 80
    day = shown("report", "--days", "1", "--by", "hour")
    assert "in the previous 1 day up to 2026-11-19 12:00" in " ".join(day.split())


@pytest.mark.parametrize(
    ("conditions", "calls"),
    [
        (("--provider", "openai"), 4),
        (("--model", "writer"), 3),
        (("--tag", "feature:chat"), 2),
        (("--tag", "feature:chat", "--model", "thinker"), 0),
        (("--provider", "openai", "--by", "day"), 4),
        (("--tag", "feature:search", "--by", "model"), 1),
    ],
)
def test_a_report_of_some_calls(
    shown: Shown, conditions: tuple[str, ...], calls: int
) -> None:
    found = json.loads(shown("report", *conditions, "--format", "json"))
    assert found["totals"]["calls"] == calls
    assert "\nOnly " in shown("report", *conditions)


def test_csv_has_the_total_and_every_breakdown(shown: Shown) -> None:
    rows = list(csv.DictReader(io.StringIO(shown("report", "--format", "csv"))))
    assert [row["by"] for row in rows[:2]] == ["total", "provider"]
    assert {row["by"] for row in rows} == {"total", "provider", "model", "tag:feature"}
    assert rows[0]["cost_usd"] == "0.00897"
    [evil] = [row for row in rows if "=1+1" in row["key"]]
    assert evil["key"].startswith("'=")


def test_the_empty_ledger_has_a_report(shown: Shown) -> None:
    text = shown("report", "--to", "2020-01-01")
    assert "Total cost        $0.000000\n" in text
    assert "Models: none" in text
    assert "Most expensive calls: none" in text


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("--days", "0"), "--days"),
        (("--from", "20261101"), "from: '20261101' is not a valid date"),
        (("--from", "2026-11-02", "--to", "2026-11-01"), "from: 2026-11-02 is after"),
        (("--days", "3", "--to", "2026-11-01"), "not both"),
        (("--by", "color"), "'color' is not one of"),
        (("--by", "tag:a b"), "'a b' is not a valid tag key"),
        (("--tag", "chat"), "tag: 'chat' is not a valid tag; use key:value"),
        (("--format", "xml"), "xml"),
    ],
)
def test_wrong_use_ends_with_2_and_says_why(
    run: Run, args: tuple[str, ...], named: str
) -> None:
    result = run("report", *args)
    assert result.exit_code == 2
    assert named in " ".join(result.stderr.split())
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "unknown"),
        (Decimal(0), "$0.000000"),
        (Decimal("0.000000042"), "<$0.000001"),
        (Decimal("1234.5"), "$1,234.500000"),
    ],
)
def test_something_never_reads_as_nothing(amount: Decimal | None, text: str) -> None:
    assert money(amount) == text


@given(st.text(), st.integers(8, 60))
def test_names_are_cut_to_their_column(name: str, width: int) -> None:
    shown = fit(name, width)
    assert shown.isprintable()
    if shown.isascii():
        assert len(shown) == width


GONE: t.Final = "Calls before 2026-11-13 12:00 were pruned. This part excludes them."


def test_what_sums_do_not_tell_is_said(shown: Shown) -> None:
    assert "pruned" not in shown("report")
    shown("prune", "--older-than", "7d")
    lines = shown("report").splitlines()
    places = [n for n, line in enumerate(lines) if line == GONE]
    assert [lines[n + 1].split("  ")[0] for n in places] == ["Most expensive calls"]
    found = json.loads(shown("report", "--format", "json"))
    assert found["pruned_before"] == "2026-11-13T12:00:00.000+00:00"
    assert found["totals"]["calls"] == 5
    assert "pruned" not in shown("report", "--days", "7")


@pytest.mark.parametrize(
    "by", ["model", "provider", "day", "session", "tag:feature", "tag:tenant"]
)
def test_a_breakdown_says_what_it_lacks(run: Run, by: str) -> None:
    run("prune", "--older-than", "7d")
    lacks = by in ("session", "tag:tenant")  # the feature is added up
    assert (GONE in run("report", "--by", by).stdout) == lacks
    result = run("report", "--by", by, "--format", "json")
    assert (json.loads(result.stdout)["pruned_before"] is not None) == lacks
    assert (GONE in run("report", "--by", by, "--format", "csv").stderr) == lacks
