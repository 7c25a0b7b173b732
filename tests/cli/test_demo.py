"""``demo``: the second command of the README, from start to end."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests

from flask_llm_cost.cli.demo import send
from flask_llm_cost.cli.demo.local import LocalProvider
from flask_llm_cost.cli.demo.traffic import BUSY_DAY
from flask_llm_cost.cli.demo.traffic import plan
from flask_llm_cost.query.detail import stream_calls
from flask_llm_cost.query.filters import CallFilter
from tests.cli.conftest import Run
from tests.conftest import MakeApp

DEMO = [sys.executable, "-m", "flask_llm_cost", "demo"]
NOW = dt.datetime(2026, 11, 20, 15, 30, tzinfo=dt.UTC)


@pytest.fixture
def temporary(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder in which only the demo creates temporary folders."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_once_prints_the_report_and_deletes_its_files(temporary: pathlib.Path) -> None:
    done = subprocess.run(
        [*DEMO, "--once", "--calls", "30"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Sending 30 calls to a fake provider" in done.stdout
    assert re.search(r"Calls +30 ", done.stdout)
    assert re.search(r"Total cost +\$\d+\.\d*[1-9]", done.stdout)
    assert done.stderr == ""
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_the_dashboard_until_interrupted(
    temporary: pathlib.Path, ended_by: signal.Signals
) -> None:
    with (
        subprocess.Popen(
            [*DEMO[:1], "-u", *DEMO[1:], "--calls", "5"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(process.kill)
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        address = next(line for line in lines if line.startswith("Dashboard:"))
        with requests.Session() as session:
            page = session.get(address.split()[1], timeout=10)
            budgets = session.get(f"{page.url}budgets", timeout=10).text
        process.send_signal(ended_by)
        assert process.wait(timeout=20) == 0
        assert "Traceback" not in process.stdout.read()
    assert page.status_code == 200
    assert all(name in budgets for name in ("everything", "chat", "each tenant"))
    assert list(temporary.iterdir()) == []


def test_a_port_in_use_is_reported_before_anything_is_sent(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("demo", "--port", str(port))
    assert done.exit_code == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in done.stderr
    assert done.stdout == ""


def test_a_given_database_is_not_deleted(
    run: Run, make_app: MakeApp, tmp_path: pathlib.Path
) -> None:
    uri = f"sqlite:///{tmp_path / 'kept.db'}"
    for _ in range(2):
        result = run("demo", "--once", "--calls", "2", "--database-uri", uri)
        assert result.exit_code == 0
    app = make_app(LLM_COST_DATABASE_URI=uri)
    assert (
        "Calls                     4"
        in run("summary", "--period", "all", app=app).stdout
    )


def test_an_unreachable_database_is_one_line(run: Run, tmp_path: pathlib.Path) -> None:
    uri = f"sqlite:///{tmp_path}/no/such/x.db"
    result = run("demo", "--once", "--database-uri", uri)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")


def test_the_plan_is_varied_and_never_in_the_future() -> None:
    planned = plan(1000, NOW)
    assert [p.at for p in planned] == sorted(p.at for p in planned)
    assert planned[-1].at <= NOW
    assert (NOW - planned[0].at).days >= 85
    assert {p.provider for p in planned} == {"openai", "anthropic", "gemini"}
    assert len({p.tags.get("feature") for p in planned}) == 10
    assert sum(p.stream for p in planned) > 60
    assert {"status", "drop", "cut"} <= set(re.findall(r"[a-z]+", _orders(planned)))


def test_the_default_plan_shows_what_the_pages_can(make_app: MakeApp) -> None:
    planned = plan(5000, NOW)
    per_day = collections.Counter(p.at.date() for p in planned)
    [(busiest, _)] = per_day.most_common(1)
    assert (NOW.date() - busiest).days == BUSY_DAY
    busy = [p for p in planned if p.at.date() == busiest and p.tags]
    imported = [p.tags for p in busy if p.tags["feature"] == "import"]
    assert len(imported) > len(busy) / 2
    assert {tags["tenant"] for tags in imported} == {"globex"}
    assert sum(p.estimate is not None for p in planned) > 20
    assert len({p.tags.get("session") for p in planned}) > 100


def test_calls_are_answered_in_this_process_as_a_server_answers() -> None:
    session = requests.Session()
    session.mount("https://", LocalProvider())
    url = "https://api.openai.com/v1/chat/completions"
    body = {"model": "gpt-4o", "messages": [], "stream": True}
    whole = session.post(url, json=body)
    assert whole.text.endswith("data: [DONE]\n\n")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        session.post(url, json=body, headers={"X-Loopback": "cut"})
    with pytest.raises(requests.ConnectionError):
        session.post(url, json=body, headers={"X-Loopback": "drop"})
    refused = session.post(url, json=body, headers={"X-Loopback": "status=429"})
    assert refused.status_code == 429


def _orders(planned: object) -> str:
    return " ".join(p.orders for p in planned)  # type: ignore[attr-defined]


def test_the_plan_is_the_same_every_time() -> None:
    assert plan(50, NOW) == plan(50, NOW)


def test_every_call_arrives_at_its_own_time(make_app: MakeApp) -> None:
    planned = plan(60, NOW)
    app = make_app(LLM_COST_ON_UNKNOWN_PRICE="ignore")
    send(app, planned)
    state = app.extensions["llm_cost"]
    assert state.extension.flush(20)
    stored = list(stream_calls(state.ledger.reading, CallFilter()))
    times = sorted(
        p.at.replace(microsecond=p.at.microsecond // 1000 * 1000) for p in planned
    )
    assert sorted(call.started_at for call in stored) == times
    assert abs(state.clock().timestamp() - time.time()) < 5


def test_an_interrupt_while_sending_deletes_its_files(temporary: pathlib.Path) -> None:
    with subprocess.Popen(
        [*DEMO[:1], "-u", *DEMO[1:], "--calls", "20000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any("Sending" in line for line in iter(process.stdout.readline, ""))
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=20) == 1
    assert "Traceback" not in rest
    assert list(temporary.iterdir()) == []


def test_a_terminal_shows_the_progress() -> None:
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        command = [*DEMO, "--once", "--calls", "3"]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=theirs
        ) as process:
            os.close(theirs)
            seen = b""
            with contextlib.suppress(OSError):  # raised at the end of a terminal
                while data := terminal.read(1000):
                    seen += data
        assert process.returncode == 0
    assert b"100%" in seen


def test_the_command_of_an_app_runs_the_same_demo(run: Run) -> None:
    result = run("demo", "--once", "--calls", "3")
    assert result.exit_code == 0, result.output
    assert re.search(r"Calls +3 ", result.stdout)
