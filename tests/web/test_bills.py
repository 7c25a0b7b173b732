"""The page of bills."""

from __future__ import annotations

import csv
import io
import json
import re
from decimal import Decimal

from flask import Flask
from flask.testing import FlaskClient

from flask_llm_cost import LlmCost
from flask_llm_cost.money import digits
from tests.cli.test_reconcile import FILES
from tests.cli.test_reconcile import real_calls
from tests.cli.test_reconcile import run
from tests.cli.test_reconcile import store
from tests.conftest import MakeApp


def _open(make_app: MakeApp) -> tuple[Flask, FlaskClient]:
    app = make_app()
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    app.register_blueprint(llm_cost.blueprint(access="public"), url_prefix="/costs")
    return app, app.test_client()


def test_the_page_says_how_to_begin(make_app: MakeApp) -> None:
    _, client = _open(make_app)
    page = client.get("/costs/bills")
    assert page.status_code == 200
    assert "No bills yet" in page.text


def test_the_page_shows_verdicts_and_causes(make_app: MakeApp) -> None:
    app, client = _open(make_app)
    run(app, "reconcile", *FILES, status=1)
    before = client.get("/costs/bills").text
    assert "Unexplained" in before
    assert "captured" in before
    store(app, real_calls())
    run(app, "reconcile", *FILES)
    after = client.get("/costs/bills").text
    assert "Reconciled" in after
    assert "$0.982742" in after
    download = client.get("/costs/bills.csv")
    assert download.mimetype == "text/csv"
    [row] = csv.DictReader(io.StringIO(download.text))
    assert (row["month"], row["source"], row["verdict"]) == (
        "2025-10",
        "openai",
        "reconciled",
    )
    assert row["billed_usd"] == row["ledger_usd"] == "0.982742"


def test_totals_of_closed_months_say_what_bills_prove(make_app: MakeApp) -> None:
    app, client = _open(make_app)
    store(app, real_calls())
    october = ("--from", "2025-10-01", "--to", "2025-10-31")
    url = "/costs/?from=2025-10-01&to=2025-10-31"
    run(app, "reconcile", *FILES)
    assert "proved by bills" not in client.get(url).text
    run(app, "ledger", "close", "2025-10")
    report = json.loads(run(app, "report", *october, "--format", "json"))
    [month] = report["proved_by_bills"]
    assert month["proved_usd"] == "0.982742"  # of the three days that tie
    assert month["total_usd"] == digits(Decimal(report["totals"]["cost_usd"]))
    share = Decimal("0.982742") / Decimal(month["total_usd"])
    assert 0 < share < 1
    assert f"{share:.1%}   proved by bills" in run(app, "report", *october)
    assert f"{share:.1%} proved by bills" in client.get(url).text
    partly = client.get("/costs/?from=2025-10-02&to=2025-10-31").text
    one_model = client.get(f"{url}&model=gpt-5-mini-2025-08-07").text
    assert "proved by bills" not in partly + one_model
    key = run(app, "bills", "list").splitlines()[-1].split()[0]
    run(app, "bills", "forget", key)
    assert re.search(r">2025-10: 0(\.0)?% proved by bills", client.get(url).text)
