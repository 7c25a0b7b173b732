"""The embedded ledger where the system has no POSIX locks and no fork: as on Windows."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import typing as t
from pathlib import Path

import pytest

# What Windows, or another system, lacks is taken away before the package is imported; the
# standard library and the dependencies stay those of this system.
SYSTEM: t.Final = """
    import asyncio, fcntl, json, logging, multiprocessing, os, signal, sys, tempfile, types
    import alembic.command, flask, flask_sqlalchemy, requests, sqlalchemy.dialects.sqlite
    import urllib3.connectionpool, werkzeug.serving, wtforms, zoneinfo

    logging.basicConfig(level="WARNING", stream=sys.stderr)
    flock, LOCK_EX, LOCK_NB = fcntl.flock, fcntl.LOCK_EX, fcntl.LOCK_NB
    sys.modules["fcntl"] = None
    for name in ("register_at_fork", "fork", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
        delattr(os, name)
    if "darwin" not in sys.argv:
        # Windows has its own locks, which no one else can hold on the same byte.
        def locking(fd, mode, count):
            assert (mode, count) == (2, 1)
            assert os.lseek(fd, 0, os.SEEK_CUR) > 2**30
            try:
                flock(fd, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                raise PermissionError(13, "Permission denied") from None

        sys.modules["msvcrt"] = (
            None if "bare" in sys.argv
            else types.SimpleNamespace(locking=locking, LK_NBLCK=2)
        )
    sys.platform = "darwin" if "darwin" in sys.argv else "win32"
    system = sys.argv[1]

    from flask_llm_cost import LlmCost
    from flask_llm_cost.call import Usage

    def make(**config):
        app = flask.Flask("host", instance_path=os.environ["INSTANCE"])
        app.config.update(config)
        return app, LlmCost(app)

    def record(llm_cost, number):
        llm_cost.track(
            provider="openai", model="gpt-4o", input_tokens=number, output_tokens=1
        )

    def run(app, *args):
        done = app.test_cli_runner().invoke(args=["llm-cost", *args])
        assert done.exit_code == 0, (args, done.output, done.exception)
        return done.output
"""

SYSTEMS = ("windows", "bare", "darwin")
"""With Windows' locks, with none at all, and with none on another system."""


def run(tmp_path: Path, system: str, code: str, *args: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            *("-c", textwrap.dedent(SYSTEM) + textwrap.dedent(code), system, *args),
        ],
        env={**os.environ, "INSTANCE": str(tmp_path / "instance")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("system", "fsync"), [("windows", "True"), ("bare", "False"), ("darwin", "True")]
)
def test_calls_are_captured_drained_and_read(
    tmp_path: Path, system: str, fsync: str
) -> None:
    code = """
        app, llm_cost = make(LLM_COST_SPOOL_FSYNC=sys.argv[2] == "True")
        with app.app_context():
            for number in range(30):
                record(llm_cost, number + 1)
            assert llm_cost.flush(20)
            assert llm_cost.calls.count() == 30
            assert llm_cost.calls.total_tokens() == 495
            record(llm_cost, 1)
        run(app, "drain")
        assert "Calls 31 " in " ".join(run(app, "report").split())
        run(app, "ledger", "verify")
        checked = app.test_cli_runner().invoke(args=["llm-cost", "doctor"]).output
        assert "is writable, and no calls are queued" in checked
        run(app, "prune", "--older-than", "30d")
        folder = os.path.join(os.environ["INSTANCE"], "llm_cost_spool")
        app.extensions["llm_cost"].close()
        assert os.listdir(folder) == [], os.listdir(folder)
    """
    run(tmp_path, system, code, fsync)


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_a_killed_process_left_is_stored_once(tmp_path: Path, system: str) -> None:
    dying = """
        app, llm_cost = make(LLM_COST_DATABASE_URI="sqlite:///llm_cost.db")
        app.extensions["llm_cost"].ledger.queue.wake = lambda: None
        with app.app_context():
            for number in range(5):
                record(llm_cost, number)
            os._exit(0)
    """
    run(tmp_path, system, dying)
    code = """
        app, llm_cost = make()
        run(app, "drain")
        with app.app_context():
            print("stored", llm_cost.calls.count())
    """
    assert "stored 5\n" in run(tmp_path, system, code)


def test_a_living_process_keeps_its_file_on_windows(tmp_path: Path) -> None:
    code = """
        app, llm_cost = make()
        ledger = app.extensions["llm_cost"].ledger
        ledger.queue.wake = lambda: None
        with app.app_context():
            record(llm_cost, 1)
            from flask_llm_cost.ledger import spool_file
            [path] = ledger.queue.spool._paths()
            assert spool_file.claim(path, path.with_name("x.y.z.jsonl")) is None
            assert ledger.flush(20)
            assert not path.exists()
    """
    run(tmp_path, "windows", code)


@pytest.mark.parametrize("system", SYSTEMS)
def test_monthly_files_are_appended_to_and_rewritten(
    tmp_path: Path, system: str
) -> None:
    code = """
        import datetime as dt
        app, llm_cost = make(LLM_COST_STORAGE="jsonl")
        ledger = app.extensions["llm_cost"].ledger
        old = dt.datetime.now(dt.UTC) - dt.timedelta(days=90)
        with app.app_context():
            for number in range(5):
                record(llm_cost, number)
                llm_cost.track(
                    provider="openai", model="gpt-4o", input_tokens=1, at=old,
                    tags={"user": "alice"},
                )
            assert llm_cost.calls.count() == 10
            if system == "windows":
                assert ledger.erase_tag("user", "alice").calls == 5
                assert llm_cost.calls.by_tag("user", "alice").count() == 0
                assert llm_cost.prune(older_than=dt.timedelta(days=30)) == 5
                assert llm_cost.calls.count() == 5
        assert not [p for p in os.listdir(ledger.folder) if p.endswith(".new")]
    """
    run(tmp_path, system, code)


@pytest.mark.parametrize("system", ["windows", "bare"])
def test_a_price_file_is_synced(tmp_path: Path, system: str) -> None:
    source = tmp_path / "litellm.json"
    source.write_text(
        '{"gpt-4o": {"litellm_provider": "openai", "mode": "chat",'
        ' "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05}}'
    )
    code = """
        file = os.path.join(os.environ["INSTANCE"], "prices.json")
        os.makedirs(os.environ["INSTANCE"])
        open(file, "w").write('{"models": {}}')
        app, llm_cost = make(
            LLM_COST_PRICES_FILE=file, LLM_COST_PRICE_SOURCES={"litellm": sys.argv[2]}
        )
        run(app, "prices", "sync", "--add", "openai/gpt-4o")
        assert "gpt-4o" in open(file).read()
    """
    run(tmp_path, system, code, str(source))


def test_every_module_is_imported_without_posix(tmp_path: Path) -> None:
    code = """
        import importlib, importlib.util, pkgutil, flask_llm_cost
        for found in pkgutil.walk_packages(flask_llm_cost.__path__, "flask_llm_cost."):
            if "r000" in found.name or found.name.endswith((".env", "__main__")):
                continue
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                # A client that is captured need not be installed.
                if importlib.util.find_spec(error.name.partition(".")[0]):
                    raise
    """
    run(tmp_path, "darwin", code)
