"""``doctor``: each problem is found, named, and comes with a fix."""

from __future__ import annotations

import datetime as dt
import json
import os
import pathlib
import re
import sqlite3
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskCliRunner

from flask_llm_cost.capture import clients
from flask_llm_cost.cli import doctor
from flask_llm_cost.cli import queued
from flask_llm_cost.cli import uncaptured
from flask_llm_cost.rollups.dirty_marks import delete_marks
from flask_llm_cost.rollups.dirty_marks import dirty_hours
from flask_llm_cost.rollups.dirty_marks import mark_dirty
from flask_llm_cost.rollups.dirty_marks import marks_of
from tests.cli.conftest import NOW
from tests.cli.conftest import Run
from tests.conftest import MakeApp
from tests.web.conftest import a_call

Shown = Callable[..., str]


@pytest.fixture
def examined(run: Run) -> Callable[..., dict[str, tuple[str, str]]]:
    """The findings by name, and the exit status as ``exit``."""

    def examined(**options: t.Any) -> dict[str, tuple[str, str]]:
        result = run("doctor", "--format", "json", **options)
        found = json.loads(result.stdout)
        by_name = {f["name"]: (f["status"], f["message"]) for f in found}
        return by_name | {"exit": (str(result.exit_code), "")}

    return examined


Examined = Callable[..., dict[str, tuple[str, str]]]


@pytest.fixture
def instrumented(shop: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Some of these are installed here, and are no fault of the shop.
    monkeypatch.setattr(uncaptured, "UNCAPTURED", ())
    shop.extensions["llm_cost"].extension.instrument()
    yield
    clients.uninstrument()


@pytest.mark.usefixtures("instrumented")
def test_a_healthy_ledger_has_no_error(
    shop: Flask, shown: Shown, examined: Examined
) -> None:
    shown("drain")
    found = examined()
    assert found["exit"][0] == "0"
    good = ("configuration", "database", "schema", "spool", "calls")
    assert {found[name][0] for name in good} == {"ok"}
    assert "2026-11-20 12:00:00 UTC" in found["calls"][1]


@pytest.mark.usefixtures("instrumented")
def test_text_has_a_line_per_finding(shown: Shown) -> None:
    lines = shown("doctor").splitlines()
    assert all(line.startswith("[") for line in lines)
    assert any(line.startswith("[   ok] schema: version") for line in lines)


def test_unpriced_models_are_named(shown: Shown, examined: Examined) -> None:
    shown("drain")
    status, message = examined()["pricing"]
    assert status == "warn"
    assert message.startswith(
        "1 call in the last 30 days has no price: openai/mystery."
    )
    assert "prices explain openai/mystery`" in message


def test_unlisted_hosts_come_with_the_setting(shop: Flask, examined: Examined) -> None:
    assert "unlisted hosts" not in examined()
    for _ in range(3):
        shop.extensions["llm_cost"].ledger.unlisted.add("llm.internal:8000")
    shop.extensions["llm_cost"].ledger.flush()
    status, message = examined()["unlisted hosts"]
    assert status == "warn"
    assert "3 calls not recorded" in message
    setting = "LLM_COST_PROVIDER_HOSTS = {'llm.internal:8000': 'llm.internal'}"
    assert setting in message


def test_missing_usage_is_not_a_missing_price(shop: Flask, examined: Examined) -> None:
    ledger = shop.extensions["llm_cost"].ledger
    mute = {
        "usage": None,
        "cost": None,
        "stream": True,
        "flags": frozenset({"no_usage"}),
    }
    for model in ("mute", "dumb"):
        ledger.append(a_call(at=NOW, model=model, **mute))
    assert ledger.flush(60)
    found = examined()
    assert "mute" not in found["pricing"][1]
    status, message = found["usage"]
    assert status == "warn"
    assert message.startswith("2 calls in the last 30 days reported no usage")
    assert "openai/mute" in message
    assert "LLM_COST_INJECT_STREAM_USAGE" in message


def test_a_captured_process_is_not_advised_to_mount_the_adapter(
    make_app: MakeApp, examined: Examined
) -> None:
    app = make_app(LLM_COST_INSTRUMENT=["requests"])
    try:
        message = examined(app=app)["calls"][1]
    finally:
        clients.uninstrument()
    assert message == "none yet. These clients are captured: requests. Make a call."


def test_queued_calls_are_counted(
    make_app: MakeApp, examined: Examined, tmp_path: pathlib.Path
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path / 'x.db'}")
    with app.app_context():
        app.extensions["llm_cost"].extension.track(
            provider="openai", model="gpt-4o", input_tokens=1
        )
    found = examined(app=app)
    assert found["exit"][0] == "1"
    assert found["schema"][0] == "error"
    assert "db upgrade" in found["schema"][1]
    assert found["spool"][0] == "ok"
    assert found["spool"][1].startswith("1 call ")


def test_calls_for_the_database_before_this_one_are_not_forgotten(
    make_app: MakeApp, examined: Examined, tmp_path: pathlib.Path
) -> None:
    before = make_app(
        LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path / 'x.db'}",
        LLM_COST_SPOOL_DIR=str(tmp_path / "spool"),
    )
    with before.app_context():
        before.extensions["llm_cost"].extension.track(
            provider="openai", model="gpt-4o", input_tokens=1
        )
    app = make_app(
        LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path / 'y.db'}",
        LLM_COST_SPOOL_DIR=str(tmp_path / "spool"),
    )
    runner = app.test_cli_runner()
    assert runner.invoke(args=["llm-cost", "db", "upgrade"]).exit_code == 0
    assert "other databases" not in examined(app=app)  # it may be stored at any moment
    (left,) = (tmp_path / "spool").glob("*.jsonl")
    os.utime(left, (0, 0))
    status, message = examined(app=app)["other databases"]
    assert status == "warn"
    assert message.startswith("1 call in 1 file of ")
    assert f"calls import FILE` and delete the file, for example {left}." in message
    for stored in (1, 0):
        shown = runner.invoke(args=["llm-cost", "calls", "import", str(left)])
        assert shown.exit_code == 0, shown.output
        assert f"{stored} call" in shown.output
    assert app.extensions["llm_cost"].extension.calls.count() == 1


def test_entries_of_the_spool_that_cannot_be_read_are_reported(
    app: Flask, examined: Examined, runner: FlaskCliRunner
) -> None:
    queue = app.extensions["llm_cost"].ledger.queue
    queue.spool.append(b"")
    (made,) = queue.folder.iterdir()
    other = made.with_name(made.name.replace(made.name.split(".")[0], "a", 1))
    other.mkdir()
    status, message = examined(app=app)["spool"]
    assert status == "error"
    assert f"{other}: not a regular file." in message
    assert "move it out of the spool" in message
    result = runner.invoke(args=["llm-cost", "drain"])
    assert result.exit_code == 1
    assert "1 entry of the spool cannot be read" in result.output
    assert "Traceback" not in result.output
    other.rmdir()
    assert runner.invoke(args=["llm-cost", "drain"]).exit_code == 0


def test_calls_that_are_queued_for_long_are_a_warning(
    make_app: MakeApp, examined: Examined, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "spool"
    app = make_app(
        LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path / 'x.db'}",
        LLM_COST_SPOOL_DIR=str(folder),
    )
    with app.app_context():
        app.extensions["llm_cost"].extension.track(
            provider="openai", model="gpt-4o", input_tokens=1
        )
    (file,) = folder.iterdir()
    before = file.stat().st_mtime - 180
    os.utime(file, (before, before))
    status, message = examined(app=app)["spool"]
    assert status == "warn"
    assert message.startswith("1 call ")
    assert "the oldest for 3 min" in message
    assert "flask llm-cost drain" in message


def test_monthly_files_have_no_rollups(make_app: MakeApp, examined: Examined) -> None:
    app = make_app(LLM_COST_STORAGE="jsonl")
    with app.app_context():
        app.extensions["llm_cost"].extension.track(
            provider="openai",
            model="gpt-4o",
            input_tokens=1,
            at=dt.datetime.now(dt.UTC) - dt.timedelta(hours=9),
        )
    found = examined(app=app)
    assert found["calls"][0] == "ok"
    assert "rollups" not in found


def test_overdue_rollups_are_a_warning(
    shop: Flask, shown: Shown, examined: Examined
) -> None:
    shown("drain")
    state = shop.extensions["llm_cost"]
    state.ledger.queue.writer.stop(10)  # it would build the rollups
    with state.ledger._engines.writing().begin() as connection:
        oldest = dt.datetime(2026, 11, 19, 8, tzinfo=dt.UTC)
        delete_marks(
            connection,
            [i for h in dirty_hours(connection) for i in marks_of(connection, h)],
        )
        mark_dirty(connection, [oldest])
    state.clock = lambda: oldest + dt.timedelta(minutes=170)
    assert examined()["rollups"] == ("ok", "up to date.")
    state.clock = lambda: oldest + dt.timedelta(minutes=190)
    status, message = examined()["rollups"]
    assert status == "warn"
    assert f"{oldest:%Y-%m-%d %H}:00 UTC" in message
    state.ledger.rollups.build()
    assert examined()["rollups"][0] == "ok"


def test_an_unreachable_database_is_an_error(
    make_app: MakeApp, examined: Examined, tmp_path: pathlib.Path
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path}/no/such/x.db")
    found = examined(app=app)
    assert (found["exit"][0], found["database"][0]) == ("1", "error")
    assert "schema" not in found


def test_a_spool_that_cannot_be_written_is_an_error(
    make_app: MakeApp, examined: Examined, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "file").touch()
    app = make_app(LLM_COST_SPOOL_DIR=str(tmp_path / "file" / "spool"))
    found = examined(app=app)
    assert found["spool"][0] == "error"
    assert "LLM_COST_SPOOL_DIR" in found["spool"][1]


def test_a_full_disk_is_an_error(make_app: MakeApp, tmp_path: pathlib.Path) -> None:
    """As on a full disk: files can be created, but not written."""
    resource = pytest.importorskip("resource")
    app = make_app(LLM_COST_SPOOL_DIR=str(tmp_path / "spool"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        (found,) = queued.spool(app.extensions["llm_cost"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found.status == "error"
    assert "No space left on device" in found.message
    assert not any(path.name.startswith(".llm") for path in tmp_path.iterdir())


def test_the_written_file_is_deleted(
    make_app: MakeApp, examined: Examined, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "a" / "spool"
    assert examined(app=make_app(LLM_COST_SPOOL_DIR=str(folder)))["spool"][0] == "ok"
    assert not (tmp_path / "a").exists()
    folder.mkdir(parents=True)
    examined(app=make_app(LLM_COST_SPOOL_DIR=str(folder)))
    assert list(folder.iterdir()) == []


def test_lost_calls_are_an_error(
    make_app: MakeApp, examined: Examined, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "file").touch()
    app = make_app(
        LLM_COST_SPOOL_DIR=str(tmp_path / "file" / "spool"),
        LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path}/no/such/x.db",
        LLM_COST_ON_STORAGE_ERROR="ignore",
    )
    with app.app_context():
        app.extensions["llm_cost"].extension.track(
            provider="openai", model="gpt-4o", input_tokens=1
        )
    status, message = examined(app=app)["lost"]
    assert status == "error"
    assert message.startswith("1 call ")


def test_an_invalid_url_is_an_error(make_app: MakeApp, examined: Examined) -> None:
    found = examined(app=make_app(LLM_COST_DATABASE_URI="postgresql://u:p@a:1,b:2/y"))
    assert found["database"][0] == "error"
    assert "LLM_COST_DATABASE_URI" in found["database"][1]
    assert found["spool"][0] == "ok"


def test_rejected_lines_are_counted(
    make_app: MakeApp, examined: Examined, run: Run, tmp_path: pathlib.Path
) -> None:
    app = make_app(LLM_COST_SPOOL_DIR=str(tmp_path))
    state = app.extensions["llm_cost"]
    state.ledger.queue.spool.append(b"{poison\n")
    drained = run("drain", app=app)
    assert "1 line could not be" in drained.stdout
    assert examined(app=app)["rejected"][0] == "warn"


def test_old_prices_are_a_warning(shop: Flask, examined: Examined) -> None:
    shop.extensions["llm_cost"].clock = lambda: dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    status, message = examined()["prices"]
    assert status == "warn"
    assert "over 30 days ago" in message


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"LLM_COST_ENABLED": False}, "LLM_COST_ENABLED"),
        ({"LLM_COST_STORAGE": "log"}, "LLM_COST_STORAGE is log"),
    ],
)
def test_settings_that_keep_calls_from_the_ledger_are_named(
    make_app: MakeApp, examined: Examined, config: dict[str, t.Any], named: str
) -> None:
    found = examined(app=make_app(**config))
    assert found["configuration"][0] == "warn"
    assert named in found["configuration"][1]
    assert found["calls"] == (
        "warn",
        "none yet. Call LlmCost(app, instrument=True), or mount llm_cost.adapter() on the"
        " session that calls the LLM.",
    )


def test_a_changed_zone_is_an_error(
    make_app: MakeApp, examined: Examined, run: Run, tmp_path: pathlib.Path
) -> None:
    uri = f"sqlite:///{tmp_path / 'x.db'}"
    before = make_app(LLM_COST_DATABASE_URI=uri)
    run("db", "upgrade", app=before)
    before.extensions["llm_cost"].ledger.rollups.build()
    after = make_app(LLM_COST_DATABASE_URI=uri, LLM_COST_TIMEZONE="Asia/Tokyo")
    found = examined(app=after)
    assert found["timezone"][0] == "error"
    assert "time zone UTC" in found["timezone"][1]
    run("ledger", "rezone", app=after)
    assert "timezone" not in examined(app=after)


def test_a_missing_column_is_an_error(shop: Flask, examined: Examined) -> None:
    assert "columns" not in examined()
    ledger = shop.extensions["llm_cost"].ledger
    with ledger.reading() as connection:
        url = connection.engine.url
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE llm_cost_calls DROP COLUMN operation"))
    engine.dispose()
    found = examined()
    assert found["exit"][0] == "1"
    assert found["columns"][0] == "error"
    assert "llm_cost_calls.operation" in found["columns"][1]


def test_a_replica_that_is_late_is_a_warning(
    make_app: MakeApp, run: Run, examined: Examined, tmp_path: pathlib.Path
) -> None:
    here, copy = tmp_path / "here.db", tmp_path / "copy.db"
    app = make_app(
        LLM_COST_DATABASE_URI=f"sqlite:///{here}",
        LLM_COST_READ_DATABASE_URI=f"sqlite:///{copy}",
    )
    run("db", "upgrade", app=app)
    ledger = app.extensions["llm_cost"].ledger
    at = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)

    def call(moment: dt.datetime) -> None:
        with app.app_context():
            app.extensions["llm_cost"].extension.track(
                provider="openai", model="gpt-4o", input_tokens=1, at=moment
            )
        ledger.queue.drain()

    call(at)
    with closing(sqlite3.connect(here)) as source:
        with closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    assert examined(app=app)["replica"][0] == "ok"
    call(at + dt.timedelta(seconds=90))
    status, message = examined(app=app)["replica"]
    assert status == "warn"
    assert "90 s older" in message


def test_an_unknown_replica_lag_is_a_warning(
    make_app: MakeApp, run: Run, examined: Examined, tmp_path: pathlib.Path
) -> None:
    app = make_app(
        LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path}/here.db",
        LLM_COST_READ_DATABASE_URI=f"sqlite:///{tmp_path}/no/such/folder/x.db",
    )
    run("db", "upgrade", app=app)
    status, message = examined(app=app)["replica"]
    assert status == "warn"
    assert "lag is unknown" in message


def test_every_check_is_named_in_the_docs() -> None:
    page = pathlib.Path(__file__).parents[2] / "docs" / "cli.rst"
    [(_, section)] = re.findall(
        r"\n(``doctor``)\n-+\n(.*?)\nAn SDK is", page.read_text(), re.DOTALL
    )
    words = {
        "configuration": "settings",
        "calls": "last call",
        "lost": "lost",
        "standard_library": "http.client",
        "unlisted_hosts": "unlisted hosts",
        "other_databases": "other databases",
    }
    for check in doctor.CHECKS:
        name = check.__name__
        assert words.get(name, name) in " ".join(section.split()), name
