"""Whole host apps: their mistakes and failures are reported clearly."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa
from flask import Flask
from flask_login import current_user
from flask_login import login_user
from flask_login import LoginManager
from flask_login import UserMixin
from flask_sqlalchemy import SQLAlchemy

from flask_llm_cost import LlmCost
from flask_llm_cost import SetupRequired
from flask_llm_cost import signals
from flask_llm_cost import StorageError
from flask_llm_cost.attempt import Attempt
from tests.cluster.servers import answers
from tests.cluster.servers import free_ports
from tests.cluster.servers import PostgreSQL
from tests.conftest import MakeApp


def _track(app: Flask, count: int = 1) -> None:
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    with app.app_context():
        for _ in range(count):
            llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1000)


def _mounted(app: Flask) -> Flask:
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    app.register_blueprint(llm_cost.blueprint(access="public"), url_prefix="/costs")
    return app


def _host(
    tmp_path: Path, uri: str, **config: t.Any
) -> tuple[Flask, SQLAlchemy, LlmCost]:
    app = Flask("host", instance_path=str(tmp_path / "instance"))
    app.config["SQLALCHEMY_DATABASE_URI"] = uri
    app.config.update(config)
    db = SQLAlchemy(app)
    return app, db, LlmCost(app)


def _run(app: Flask, *command: str) -> str:
    result = app.test_cli_runner().invoke(args=["llm-cost", *command])
    assert result.exit_code == 0, result.output
    return result.output


def _finish(app: Flask, db: SQLAlchemy) -> None:
    app.extensions["llm_cost"].close()
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()


def test_calls_are_queued_until_the_hosts_database_has_tables(
    tmp_path: Path, postgresql_uri: str
) -> None:
    app, db, llm_cost = _host(tmp_path, postgresql_uri)
    _mounted(app)
    _track(app, 3)
    with app.app_context(), pytest.raises(SetupRequired, match="llm-cost db upgrade"):
        llm_cost.calls.count()
    page = app.test_client().get("/costs/")
    assert "flask llm-cost db upgrade" in page.text
    assert "3" in page.text
    _run(app, "db", "upgrade")
    _run(app, "drain")
    with app.app_context():
        assert llm_cost.calls.count() == 3
        # In the host's database, but not in its metadata.
        assert "llm_cost_calls" in sa.inspect(db.engine).get_table_names()
        assert not db.metadata.tables
    _finish(app, db)


def test_a_host_that_rolls_back_keeps_the_call(
    tmp_path: Path, postgresql_uri: str
) -> None:
    app, db, llm_cost = _host(tmp_path, postgresql_uri)
    _run(app, "db", "upgrade")
    with app.app_context():
        db.session.execute(sa.text("CREATE TABLE host_rows (id INTEGER)"))
        db.session.commit()
        db.session.execute(sa.text("INSERT INTO host_rows VALUES (1)"))
        _track(app)
        db.session.rollback()
        assert llm_cost.flush(60)
        assert llm_cost.calls.count() == 1
        assert db.session.scalar(sa.text("SELECT count(*) FROM host_rows")) == 0
    _finish(app, db)


def test_a_locked_sqlite_host_delays_no_call(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'host.db'}"
    app, db, llm_cost = _host(tmp_path, uri, LLM_COST_DATABASE_URI=uri)
    _run(app, "db", "upgrade")
    with app.app_context():
        db.session.execute(sa.text("CREATE TABLE host_rows (id INTEGER)"))
        db.session.commit()
        db.session.execute(sa.text("INSERT INTO host_rows VALUES (1)"))
        _track(app, 5)  # would wait for the lock, were it written here
        db.session.commit()
        assert llm_cost.flush(60)
        assert llm_cost.calls.count() == 5
    _finish(app, db)


def test_calls_are_queued_while_the_database_is_unreachable(make_app: MakeApp) -> None:
    uri = "postgresql+psycopg://someone:hush@127.0.0.1:9/nowhere"
    app = _mounted(make_app(LLM_COST_DATABASE_URI=uri))
    _track(app, 2)
    state = app.extensions["llm_cost"]
    assert not state.extension.flush(0.5)
    assert state.ledger.queue.count() == 2
    with app.app_context(), pytest.raises(StorageError) as caught:
        state.extension.calls.count()
    assert "hush" not in str(caught.value)
    page = app.test_client().get("/costs/")
    assert page.status_code == 503
    assert "hush" not in page.text
    result = app.test_cli_runner().invoke(args=["llm-cost", "report"])
    assert result.exit_code == 1
    assert "hush" not in result.output
    assert "Traceback" not in result.output


def test_a_bad_date_is_a_400_that_names_it(app: Flask) -> None:
    page = _mounted(app).test_client().get("/costs/calls?from=2026-13-01")
    assert page.status_code == 400
    assert "from" in page.text


def test_the_dashboard_is_closed_unless_a_rule_is_given(
    app: Flask, llm_cost: LlmCost
) -> None:
    app.register_blueprint(llm_cost.blueprint(), url_prefix="/costs")
    for path in ("/costs/", "/costs/calls", "/costs/calls.csv", "/costs/nothing"):
        assert app.test_client().get(path).status_code == 404


class User(UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name
        self.is_admin = name == "admin"


def test_only_admins_pass_a_login(app: Flask, llm_cost: LlmCost) -> None:
    app.secret_key = "test"
    LoginManager(app).user_loader(User)
    app.add_url_rule(
        "/login/<name>", view_func=lambda name: str(login_user(User(name)))
    )
    blueprint = llm_cost.blueprint(
        access=lambda: current_user.is_authenticated and current_user.is_admin
    )
    app.register_blueprint(blueprint, url_prefix="/costs")
    for name, status in ((None, 403), ("visitor", 403), ("admin", 200)):
        client = app.test_client()
        if name is not None:
            client.get(f"/login/{name}")
        for path in ("/costs/", "/costs/calls", "/costs/calls.csv"):
            assert client.get(path).status_code == status, (name, path)


def test_a_hosts_own_sqlite_memory_is_left_alone(tmp_path: Path) -> None:
    app, db, llm_cost = _host(tmp_path, "sqlite://")
    with app.app_context():
        db.session.execute(sa.text("CREATE TABLE host_rows (id INTEGER)"))
        _track(app)
        assert llm_cost.flush(60)
        assert llm_cost.calls.count() == 1
        assert sa.inspect(db.session.connection()).get_table_names() == ["host_rows"]
    assert not (tmp_path / "instance" / "llm_cost.db").exists()
    _finish(app, db)


def test_a_host_in_a_sqlite_file_gets_a_ledger_of_its_own(tmp_path: Path) -> None:
    app, db, llm_cost = _host(tmp_path, f"sqlite:///{tmp_path / 'host.db'}")
    _mounted(app)
    with app.app_context():
        db.session.execute(sa.text("CREATE TABLE host_rows (id INTEGER)"))
        db.session.commit()
        db.session.execute(sa.text("INSERT INTO host_rows VALUES (1)"))
        _track(app, 5)
        # The host's transaction is open, and nothing waits for it.
        assert llm_cost.flush(20)
        assert llm_cost.calls.count() == 5
        assert app.test_client().get("/costs/").status_code == 200
        db.session.commit()
        assert sa.inspect(db.engine).get_table_names() == ["host_rows"]
    assert (tmp_path / "instance" / "llm_cost.db").exists()
    _finish(app, db)


def test_a_bind_that_is_named_is_used_even_if_it_is_sqlite(tmp_path: Path) -> None:
    binds = {"costs": f"sqlite:///{tmp_path / 'costs.db'}"}
    app, db, llm_cost = _host(
        tmp_path,
        f"sqlite:///{tmp_path / 'host.db'}",
        SQLALCHEMY_BINDS=binds,
        LLM_COST_BIND_KEY="costs",
    )
    _run(app, "db", "upgrade")
    _track(app)
    assert llm_cost.flush(20)
    with app.app_context():
        assert "llm_cost_calls" in sa.inspect(db.engines["costs"]).get_table_names()
    _finish(app, db)


def _encrypt(server: PostgreSQL) -> Path:
    """Make a server accept only encrypted connections; return its certificate."""
    server.make()
    certificate, key = server.data / "server.crt", server.data / "server.key"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", str(key), "-out", str(certificate),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(key, "postgres")
        shutil.chown(certificate, "postgres")
    (server.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
    return certificate


def test_a_hosts_tls_arguments_are_the_ledgers(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with PostgreSQL(port) as server:
        arguments = {"sslmode": "verify-full", "sslrootcert": str(_encrypt(server))}
        options = {"connect_args": arguments}
        server.start("ssl=on")
        assert not answers(f"{server.uri}?sslmode=disable")
        app, db, llm_cost = _host(
            tmp_path, server.uri, SQLALCHEMY_ENGINE_OPTIONS=options
        )
        _run(app, "db", "upgrade")
        _track(app, 2)
        assert llm_cost.flush(60)
        with app.app_context():
            assert llm_cost.calls.count() == 2
        engines = app.extensions["llm_cost"].ledger._engines
        for engine in (engines.writing(), engines.reading()):
            with engine.connect() as connection:
                seen = connection.exec_driver_sql(
                    "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
                )
                assert seen.scalar() is True
                info = connection.connection.dbapi_connection.info  # type: ignore[union-attr]
                assert info.get_parameters()["sslmode"] == "verify-full"
        _finish(app, db)


def test_a_lost_call_raises_at_the_next_send_if_the_app_asks_for_it(
    tmp_path: Path, make_app: MakeApp
) -> None:
    (tmp_path / "file").touch()
    app = make_app(
        LLM_COST_ON_STORAGE_ERROR="raise",
        LLM_COST_SPOOL_DIR=str(tmp_path / "file" / "spool"),
        LLM_COST_DATABASE_URI="postgresql+psycopg://me:hush@127.0.0.1:9/costs",
        LLM_COST_PROVIDER_HOSTS={"127.0.0.1:9": "openai"},
    )
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    url = "http://127.0.0.1:9/v1/chat/completions"
    with requests.Session() as session:
        llm_cost.wrap(session)
        raised = []
        for _ in range(3):
            with pytest.raises((requests.ConnectionError, StorageError)) as error:
                session.post(url, json={"model": "gpt-4o"})
            raised.append(error.type)
        assert "hush" not in str(error.value)
    # The error is that of the lost call; it is raised before the next send.
    assert raised == [
        requests.ConnectionError,
        StorageError,
        requests.ConnectionError,
    ]
    assert app.extensions["llm_cost"].ledger.lost == 2


def test_a_call_queued_in_the_spool_is_not_an_error(
    tmp_path: Path, make_app: MakeApp
) -> None:
    failed: list[t.Any] = []
    app = make_app(
        LLM_COST_ON_STORAGE_ERROR="raise",
        LLM_COST_DATABASE_URI="postgresql+psycopg://me:hush@127.0.0.1:9/costs",
    )
    llm_cost: LlmCost = app.extensions["llm_cost"].extension

    def receiver(sender: Flask, call: t.Any, error: Exception) -> None:
        failed.append(call)

    with signals.storage_failed.connected_to(receiver, app):
        _track(app)
        until = time.monotonic() + 60
        while not failed and time.monotonic() < until:
            assert not llm_cost.flush(0.2)
    assert failed == [None]
    with app.app_context():
        # Raises any pending error.
        assert llm_cost.begin(Attempt("openai", "chat")) is not None
    assert app.extensions["llm_cost"].ledger.queue.count() == 1
