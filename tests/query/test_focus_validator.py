"""Validators from the package index read our exports: ``nox -s focus`` runs them.

That of the FinOps Foundation knows version 1.2, and contradicts itself in one rule: an
``InvoiceId`` has to be null where there is no invoice, and must never be null. For 1.4
there are the structural and semantic checks of ``focus-data-toolkit``.
"""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from flask import Flask

from flask_llm_cost.ledger import Ledger
from tests.conftest import MakeApp

from .test_focus import MONTH
from .test_focus_rules import store_closed
from .test_focus_rules import store_every_meter

pytestmark = pytest.mark.focus

CRITERIA = (
    *("PUBLIC_PRICE_LIST", "USAGE_MEASUREMENT", "UNIT_PRICING", "NEGOTIATED_PRICING"),
    *("MULTIPLE_PRICING_CATEGORIES", "TAGGING", "ACCOUNT_NAMING", "SUB_ACCOUNT"),
    "MULTIPLE_SUB_ACCOUNT_TYPES",
)
"""What we support, so that its rules are applied."""
CONTRADICTION = {"InvoiceId-C-005-C"}
KNOWN = {"effective_cost_differs_from_billed"}
"""Of credits and taxes: our ``EffectiveCost`` is what calls cost, and sums to the ledger."""
VIOLATION = re.compile(r"^  \[\w+:(\w+)\]", re.MULTILINE)
RULE = re.compile(r"(\S+): (PASS|FAIL|SKIPPED) ")


def results(path: Path) -> dict[str, set[str]]:
    """Return the rules that passed, failed and were skipped."""
    package = distribution("focus-validator")
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from focus_validator.main import main; main()"),
            *("--data-file", str(path), "--validate-version", "1.2"),
            *("--focus-dataset", "CostAndUsage", "--block-download"),
            *(
                "--applicability-criteria",
                ",".join(f"{each}_SUPPORTED" for each in CRITERIA),
            ),
        ],
        cwd=str(package.locate_file("")),  # it reads a file of its own by that
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, set[str]] = {"PASS": set(), "FAIL": set(), "SKIPPED": set()}
    for name, verdict in RULE.findall(done.stdout):
        found[verdict].add(name)
    assert len(found["PASS"]) > 200, done.stdout + done.stderr
    return found


def check(app: Flask, path: Path, month: dt.date = MONTH) -> None:
    """Write a month as the command does, in both versions, and validate it."""
    command = ["llm-cost", "focus", "--month", f"{month:%Y-%m}", "--output", str(path)]
    for spec in ("1.4", "1.2"):
        result = app.test_cli_runner().invoke(args=[*command, "--spec", spec])
        assert result.exit_code == 0, result.output
        assert path.read_text("utf-8").count("\n") > 1
        if spec == "1.4":
            toolkit = (sys.executable, "-m", "focus_data_toolkit", "validate", path)
            done = subprocess.run(toolkit, capture_output=True, text=True, check=False)
            assert path.name in done.stdout, done.stderr
            assert set(VIOLATION.findall(done.stdout)) <= KNOWN, done.stdout
            path.unlink()
    assert results(path)["FAIL"] == CONTRADICTION


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(LLM_COST_ROLLUP_TAGS=("tenant",))


@pytest.fixture
def ledger(app: Flask) -> Ledger:
    found = app.extensions["llm_cost"].ledger
    assert isinstance(found, Ledger)
    return found


def test_the_demo(make_app: MakeApp, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'demo.db'}"
    demo = (sys.executable, "-m", "flask_llm_cost", "demo", "--once", "--calls", "2000")
    subprocess.run([*demo, "--database-uri", uri], check=True, capture_output=True)
    month = dt.datetime.now(dt.UTC).date().replace(day=1) - dt.timedelta(days=1)
    check(make_app(LLM_COST_DATABASE_URI=uri), tmp_path / "f.csv", month)


def test_every_meter(app: Flask, ledger: Ledger, tmp_path: Path) -> None:
    store_every_meter(ledger)
    check(app, tmp_path / "f.csv")


def test_a_reconciled_month_with_corrections(
    app: Flask, ledger: Ledger, tmp_path: Path
) -> None:
    store_closed(ledger)
    check(app, tmp_path / "f.csv")
    text = (tmp_path / "f.csv").read_text("utf-8")
    assert all(f",{name}," in text for name in ("Credit", "Tax", "Purchase"))
    assert ",Correction," in text
