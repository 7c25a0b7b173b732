"""Statements: they add up to the month, and those of closed months never change."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
import zoneinfo
from decimal import Decimal

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.call import Call
from flask_llm_cost.errors import ConfigError
from flask_llm_cost.errors import FilterError
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.query import focus
from flask_llm_cost.query.aggregate import tag_breakdown
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.statement import Markup
from flask_llm_cost.query.statement import Statement
from flask_llm_cost.query.statement import statement
from flask_llm_cost.query.statement_export import to_csv
from flask_llm_cost.query.statement_export import to_html
from flask_llm_cost.query.statement_export import to_json
from tests.conftest import every_database
from tests.conftest import MakeApp
from tests.conftest import MakeLedger
from tests.ledger.samples import make_call
from tests.query.samples import calls as any_calls
from tests.query.samples import Store
from tests.query.test_focus import effective
from tests.query.test_savings import memory
from tests.rollups.test_tag_meter_sums import made
from tests.rollups.test_tag_meter_sums import store

FEBRUARY = dt.date(2026, 2, 1)
NOW = dt.datetime(2026, 3, 8, tzinfo=dt.UTC)
LATE = dt.datetime(2026, 2, 26, 3, tzinfo=dt.UTC)
KOLKATA = zoneinfo.ZoneInfo("Asia/Kolkata")


def of_month(month: dt.date) -> CallFilter:
    start = dt.datetime(month.year, month.month, 1, tzinfo=dt.UTC)
    end = (start + dt.timedelta(days=32)).replace(day=1)
    return CallFilter(start=start, end=end)


def asked(
    ledger: Ledger | Store,
    key: str = "user",
    value: str | None = None,
    month: dt.date = FEBRUARY,
    markup: Markup | None = None,
    zone: dt.tzinfo = KOLKATA,
) -> Statement:
    with ledger.reading() as connection:
        return statement(connection, zone, month, key, value=value, markup=markup)


@pytest.fixture
def ledger(database: str | None, make_ledger: MakeLedger) -> Ledger:
    return make_ledger(database, rollup_tags=("user",), timezone=KOLKATA)


@every_database
def test_sections_are_the_breakdown_by_tag_and_sum_to_the_month(ledger: Ledger) -> None:
    store(ledger, made())
    ledger.rollups.build()
    found = asked(ledger)
    where = of_month(FEBRUARY)
    with ledger.reading() as connection:
        groups = tag_breakdown(connection, where, "user")
        assert found.cost_usd == totals(connection, where).spend_usd > 0
    wanted = {g.key[0]: (g.totals.spend_usd, g.totals.calls) for g in groups}
    wanted[""] = wanted.pop("(untagged)")
    assert {
        s.value: (s.cost_usd, sum(s.calls.values())) for s in found.sections
    } == wanted
    assert found.sections[-1].value == ""
    first = found.sections[0].value
    [one] = asked(ledger, value=first).sections
    assert one == found.sections[0]
    ledger.prune(NOW)
    assert asked(ledger).sections == found.sections


@every_database
def test_a_statement_of_a_closed_month_never_changes(ledger: Ledger) -> None:
    calls = made()
    store(ledger, calls)
    ledger.rollups.build()
    before = asked(ledger)
    ledger.rollups.close(FEBRUARY, NOW)
    late = make_call(999, started_at=LATE, tags={"user": "u9"})
    assert late.cost is not None
    store(ledger, [late])
    for _ in range(2):
        after = asked(ledger)
        assert after.sections == before.sections
        assert after.cost_usd == before.cost_usd
        [section] = after.corrections
        assert (section.value, section.cost_usd) == ("u9", late.cost.total_usd)
        with ledger.reading() as connection:
            known = totals(connection, of_month(FEBRUARY))
        assert after.corrected_usd == known.spend_usd
        ledger.rollups.build()
    ledger.prune(NOW)
    assert asked(ledger).sections == before.sections


def test_a_tag_that_was_not_declared_cannot_split_a_closed_month(
    ledger: Ledger,
) -> None:
    store(ledger, made())
    assert asked(ledger, "feature").cost_usd == asked(ledger).cost_usd
    ledger.rollups.close(FEBRUARY, NOW)
    with pytest.raises(FilterError, match="closed without the tag 'feature'"):
        asked(ledger, "feature")


def test_a_markup_counts_from_its_day(ledger: Ledger) -> None:
    days = [LATE, LATE + dt.timedelta(days=1)]
    store(
        ledger,
        [
            make_call(n, started_at=day, tags={"user": user})
            for n, (day, user) in enumerate((d, u) for d in days for u in ("a", "b"))
        ],
    )
    ten, two = Decimal("1.1"), Decimal(2)
    markup = {"a": [(days[1].date(), ten)], "*": [(days[0].date(), two)]}
    found = {s.value: s for s in asked(ledger, markup=markup).sections}
    cost = {value: section.cost_usd for value, section in found.items()}
    assert found["b"].charged_usd == cost["b"] * 2
    assert cost["a"] < found["a"].charged_usd < cost["a"] * ten


def test_what_is_not_known_is_apart(ledger: Ledger) -> None:
    store(
        ledger,
        [
            make_call(0, started_at=LATE, tags={"user": "a"}),
            make_call(1, started_at=LATE, tags={"user": "a"}, cost=None),
            make_call(2, started_at=LATE, tags={"user": "a"}, usage_source="estimated"),
        ],
    )
    [section] = asked(ledger).sections
    assert section.calls == {"priced": 1, "unpriced": 1, "estimated": 1}
    assert section.cost_usd == Decimal("0.0025")
    statuses = {line.key.status: line for line in section.lines}
    assert set(statuses) == {"priced", "unpriced", "estimated"}
    assert statuses["unpriced"].cost_usd is None


@settings(max_examples=40, deadline=None)
@given(
    st.lists(any_calls, max_size=10, unique_by=lambda call: call.event_id),
    st.sampled_from([dt.date(2026, 3, 1), dt.date(2026, 11, 1)]),
)
def test_statement_focus_and_report_agree(found: list[Call], month: dt.date) -> None:
    memory().fill(*found)
    where = of_month(month)
    with memory().reading() as connection:
        spend = totals(connection, where).spend_usd
        assert effective([*focus.rows(connection, focus.Month(month))]) == spend
        assert (
            effective([*focus.rows(connection, focus.Month(month, ["user"]))]) == spend
        )
    for key in ("user", "feature"):
        assert asked(memory(), key, month=month, zone=dt.UTC).cost_usd == spend


def test_every_format_has_the_same_amounts(ledger: Ledger) -> None:
    odd = "<b>=1+1</b>"
    store(ledger, [make_call(n, started_at=LATE, tags={"user": odd}) for n in range(3)])
    found = asked(ledger)
    text = str(found.cost_usd.normalize())
    assert to_json(found)["cost_usd"] == text
    rows = list(csv.DictReader(io.StringIO("".join(to_csv(found)))))
    assert sum(Decimal(row["cost_usd"]) for row in rows if row["cost_usd"]) == (
        found.cost_usd
    )
    page = "".join(to_html(found))
    assert f"Total: {text}" in page
    assert "<b>" not in page


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    app: Flask = make_app(
        LLM_COST_ROLLUP_TAGS=["user"],
        LLM_COST_STATEMENT_MARKUP={"*": [{"from": "2026-01-01", "factor": "1.5"}]},
    )
    extension = app.extensions["llm_cost"].extension
    app.register_blueprint(extension.blueprint(access="public"), url_prefix="/llm")
    extension.track(
        provider="openai",
        model="gpt-4o",
        input_tokens=1000,
        tags={"user": "a"},
        at=LATE,
    )
    assert extension.flush(20)
    return app


def run(app: Flask, *args: str) -> str:
    result = app.test_cli_runner().invoke(args=["llm-cost", "statement", *args])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_prints_each_format(app: Flask) -> None:
    options = "--tag=user", "--month=2026-02"
    text = run(app, *options)
    assert "Statement by user: 2026-02 (UTC)" in text
    assert "charged $0.003750" in text
    answer = json.loads(run(app, *options, "--format=json"))
    assert (answer["cost_usd"], answer["charged_usd"]) == ("0.0025", "0.00375")
    assert run(app, *options, "--format=csv").startswith("month,tag,value,")
    assert run(app, *options, "--format=html").startswith("<!doctype html>")
    assert (
        json.loads(run(app, *options, "--value=b", "--format=json"))["sections"] == []
    )


def test_the_page_shows_a_month(app: Flask) -> None:
    client = app.test_client()
    page = client.get("/llm/statements?month=2026-02&key=user")
    assert page.status_code == 200
    assert "February 2026" in page.text
    assert "$0.0025" in page.text
    assert "$0.00375" in page.text
    rows = client.get("/llm/statements.csv?month=2026-02&key=user").text
    assert "2026-02,user,a,,priced,openai,gpt-4o,input,Tokens,1,1000,0.0025" in rows
    assert client.get("/llm/statements").status_code == 200
    assert re.search(r'statements[^>]*aria-current="page"', page.text)


@pytest.mark.parametrize("month", ["2026-13", "x", "0001-01", "9999-12", "2026-02-01"])
def test_what_is_not_a_month_is_a_400(app: Flask, month: str) -> None:
    wrong = app.test_client().get(f"/llm/statements?key=user&month={month}")
    assert wrong.status_code == 400
    assert "is not a valid month; use YYYY-MM" in wrong.text


@pytest.mark.parametrize(
    "value", [{"a": 2}, {"a": [{"from": "soon", "factor": 1}]}, {"a": [{"factor": 1}]}]
)
def test_a_wrong_markup_is_rejected(make_app: MakeApp, value: object) -> None:
    with pytest.raises(ConfigError, match=r"LLM_COST_STATEMENT_MARKUP\['a'\]"):
        make_app(LLM_COST_STATEMENT_MARKUP=value)
