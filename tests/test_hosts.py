"""Whole hosts: what they do wrong, or what fails under them, gives a clear answer."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_login import current_user
from flask_login import login_user
from flask_login import LoginManager
from flask_login import UserMixin
from flask_sqlalchemy import SQLAlchemy

from flask_llm_cost import LlmCost
from flask_llm_cost import SetupRequired
from flask_llm_cost import StorageError
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


def test_calls_wait_until_the_hosts_database_has_tables(
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
        # In the host's database, and unknown to its metadata.
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
        assert llm_cost.flush()
        assert llm_cost.calls.count() == 1
        assert db.session.scalar(sa.text("SELECT count(*) FROM host_rows")) == 0
    _finish(app, db)


def test_a_locked_sqlite_host_delays_no_call(tmp_path: Path) -> None:
    app, db, llm_cost = _host(tmp_path, f"sqlite:///{tmp_path / 'host.db'}")
    _run(app, "db", "upgrade")
    with app.app_context():
        db.session.execute(sa.text("CREATE TABLE host_rows (id INTEGER)"))
        db.session.commit()
        db.session.execute(sa.text("INSERT INTO host_rows VALUES (1)"))
        _track(app, 5)  # would wait for the lock, were it written here
        db.session.commit()
        assert llm_cost.flush()
        assert llm_cost.calls.count() == 5
    _finish(app, db)


def test_an_unreachable_database_keeps_the_calls_and_says_so(make_app: MakeApp) -> None:
    uri = "postgresql+psycopg://someone:hush@127.0.0.1:9/nowhere"
    app = _mounted(make_app(LLM_COST_DATABASE_URI=uri))
    _track(app, 2)
    state = app.extensions["llm_cost"]
    assert not state.extension.flush(0.5)
    assert state.ledger.waiting() == 2
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
        assert llm_cost.flush()
        assert llm_cost.calls.count() == 1
        assert sa.inspect(db.session.connection()).get_table_names() == ["host_rows"]
    assert (tmp_path / "instance" / "llm_cost.db").exists()
    _finish(app, db)
