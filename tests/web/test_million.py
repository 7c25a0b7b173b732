"""A ledger with a million calls: every page opens, and a spreadsheet reads the CSV."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import typing as t
import zipfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost.db.tables import calls
from tests.conftest import MakeApp

from .conftest import a_call
from .conftest import NOW
from .test_browser import ADDRESSES
from .test_browser import barriers
from .test_browser import browser as browser
from .test_browser import serve as serve
from .test_browser import Visit

if t.TYPE_CHECKING:
    from playwright.sync_api import Browser

SEED: t.Final = 2_000


def fill(app: Flask, doublings: int) -> int:
    """Add some calls, and let the database double them, some milliseconds later."""
    ledger = app.extensions["llm_cost"].ledger
    for number in range(SEED):
        ledger.append(
            a_call(
                minutes=5 + number * 40,
                model=f"model-{number % 17}",
                cost=None if number % 50 == 0 else f"0.0{number % 90 + 10}",
                tags={"feature": f"f{number % 6}", "user": f"u{number % 400}"},
                response_id=f"r{number}",
            )
        )
    assert ledger.flush(60)
    names = [c.name for c in calls.c if c.name not in ("event_id", "started_at")]
    columns = ", ".join(f'"{name}"' for name in names)
    with ledger._engines.writing().begin() as connection:
        for turn in range(doublings):
            connection.execute(
                sa.text(
                    f"INSERT INTO {calls.name} (started_at, event_id, {columns})"
                    f" SELECT started_at + {2**turn}, printf('%012x', started_at + {2**turn})"
                    " || '7' || substr(lower(hex(randomblob(2))), 2)"
                    " || '8' || substr(lower(hex(randomblob(8))), 2),"
                    f" {columns} FROM {calls.name}"
                )
            )
    ledger.rollups.rezone()
    while ledger.rollups.build():
        pass
    return SEED * 2**doublings


def site_of(make_app: MakeApp) -> Flask:
    app = make_app(LLM_COST_ROLLUP_TAGS=("feature",))
    state = app.extensions["llm_cost"]
    state.clock = lambda: NOW
    app.register_blueprint(
        state.extension.blueprint(access="public"), url_prefix="/llm-costs"
    )
    return app


@pytest.mark.stress
def test_every_page_opens_with_a_million_calls(
    make_app: MakeApp, browser: Browser, serve: t.Callable[[Flask], str]
) -> None:
    app = site_of(make_app)
    count = fill(app, 9)
    assert count > 1_000_000
    address = serve(app)
    visit = Visit(browser, 1280)
    visit.page.set_default_timeout(120_000)
    for path in ADDRESSES:
        visit.goto(address + path)
        assert barriers(visit) == []
    visit.goto(f"{address}/calls?from=2026-01-01&per=200")
    assert f"1–200 of {count:,} calls" in visit.page.inner_text(".pager")
    for _ in range(5):
        visit.page.get_by_role("link", name="Next").click()
        visit.settled()
    assert "1,001–1,200" in visit.page.inner_text(".pager")


TEXTS: t.Final = (
    '=HYPERLINK("http://evil.example","x")',
    "+1+1",
    "-2",
    "@SUM(1)",
    "\t=1",
    "\u200b=1",
    "＝1",
    'a "quoted", text',
    "line\nbreak",
    "é 漢字 \N{PILE OF POO}",
    "0012",
)


@pytest.mark.stress
def test_a_spreadsheet_reads_the_file_unchanged(
    make_app: MakeApp, tmp_path: Path
) -> None:
    office = shutil.which("soffice") or shutil.which("localc")
    if office is None:
        pytest.skip("install libreoffice-calc")
    app = site_of(make_app)
    ledger = app.extensions["llm_cost"].ledger
    for number, text in enumerate(TEXTS):
        ledger.append(a_call(minutes=number + 1, model=text, tags={"note": text}))
    assert ledger.flush(60)
    source = app.test_client().get("/llm-costs/calls.csv").data
    (tmp_path / "calls.csv").write_bytes(source)
    # Convert to a workbook (UTF-8, commas) and back to CSV, with the values as shown.
    for kind, file in (("ods", "calls.csv"), ("csv", "calls.ods")):
        subprocess.run(
            [
                office,
                f"-env:UserInstallation=file://{tmp_path}/profile",
                "--headless",
                "--infilter=CSV:44,34,76,1" if kind == "ods" else "--nologo",
                "--convert-to",
                kind if kind == "ods" else "csv:Text - txt - csv (StarCalc):44,34,76",
                "--outdir",
                str(tmp_path),
                str(tmp_path / file),
            ],
            check=True,
            timeout=180,
            capture_output=True,
        )
    with zipfile.ZipFile(tmp_path / "calls.ods") as book:
        assert b"table:formula" not in book.read("content.xml")
    sent = list(csv.DictReader(io.StringIO(source.decode(), newline="")))
    shown = list(
        csv.DictReader(io.StringIO((tmp_path / "calls.csv").read_text(), newline=""))
    )
    assert len(shown) == len(sent) == len(TEXTS)
    for before, after in zip(sent, shown, strict=True):
        # LibreOffice drops a leading tab, and leading zeros of numbers.
        assert after["model"].lstrip("'\t0") == before["model"].lstrip("'\t0")
        assert after["event_id"] == before["event_id"]
        assert after["tags"] == before["tags"]
        assert float(after["cost_usd"]) == float(before["cost_usd"])
        assert after["input_tokens"] == before["input_tokens"]
