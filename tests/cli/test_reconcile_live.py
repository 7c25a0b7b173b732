"""``reconcile --live``, against an admin API on loopback."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterator

import pytest
from flask import Flask

from flask_llm_cost.bills import live
from tests.bills.test_live import Fake
from tests.bills.test_live import openai_page
from tests.bills.test_live import SECRET

DAYS = ("--from", "2026-09-01", "--to", "2026-09-02")


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    fake = Fake()
    fake.reply = lambda path, query, body: openai_page(query, usage=False)
    there = dataclasses.replace(live.APIS["openai"], url=fake.url)
    monkeypatch.setattr(live, "APIS", {**live.APIS, "openai": there})
    monkeypatch.setenv("OPENAI_ADMIN_KEY", SECRET)
    monkeypatch.setenv("XAI_MANAGEMENT_KEY", SECRET)
    yield fake
    fake.close()


def test_a_bill_is_asked_for_and_compared(app: Flask, openai: Fake) -> None:
    words = ["llm-cost", "reconcile", "--live", "openai", *DAYS, "--format", "json"]
    result = app.test_cli_runner().invoke(args=words)
    assert result.exit_code == 1, result.output
    [report] = json.loads(result.stdout)["reports"]
    assert (report["billed_usd"], report["from"]) == ("2", "2026-09-01")
    assert report["verdict"] == "unexplained"
    assert "Requesting from openai: costs of 2026-09-01 to 2026-09-02" in result.stderr
    assert SECRET not in result.output
    [(_, query)] = openai.asked
    start = dt.datetime(2026, 9, 1, tzinfo=dt.UTC).timestamp()
    assert query["start_time"] == [str(int(start))]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "Name the files of a bill, or fetch it with --live"),
        (["--live", "openai"], "--live needs --from and --to"),
        (["--live", "openai", "bill.json", *DAYS], "not both"),
        (["bill.json", "--team", "x"], "--from, --to and --team need --live"),
        (["--live", "gold", *DAYS], "gold: it has no API for bills"),
        (["--live", "xai", *DAYS], "pass the id of the team as --team"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(
    app: Flask, openai: Fake, words: list[str], problem: str
) -> None:
    result = app.test_cli_runner().invoke(args=["llm-cost", "reconcile", *words])
    assert result.exit_code == 2
    assert problem in " ".join(result.output.split())
    assert not openai.asked
