"""Each extension that holds a database is recognized, or refused at set-up."""

from __future__ import annotations

import threading
import typing as t
from pathlib import Path

import alchemical.aio
import flask_sqlalchemy
import flask_sqlalchemy_lite as lite
import pytest
import quart
import sqlalchemy as sa
from alchemical.flask import Alchemical
from flask import current_app
from flask import Flask
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import create_async_engine

from flask_llm_cost import ConfigError
from flask_llm_cost import LlmCost

BIND = {"LLM_COST_BIND_KEY": "costs"}


def _uris(tmp_path: Path) -> tuple[str, str]:
    return f"sqlite:///{tmp_path}/host.db", f"sqlite:///{tmp_path}/costs.db"


def _flask_sqlalchemy(app: Flask, host: str, costs: str) -> t.Any:
    app.config.update(SQLALCHEMY_DATABASE_URI=host, SQLALCHEMY_BINDS={"costs": costs})
    flask_sqlalchemy.SQLAlchemy(app)


def _lite(app: Flask, host: str, costs: str) -> t.Any:
    app.config["SQLALCHEMY_ENGINES"] = {"default": host, "costs": costs}
    lite.SQLAlchemy(app)


def _alchemical(app: Flask, host: str, costs: str) -> t.Any:
    app.config.update(ALCHEMICAL_DATABASE_URL=host, ALCHEMICAL_BINDS={"costs": costs})
    return Alchemical(app)


EXTENSIONS = [_flask_sqlalchemy, _lite, _alchemical]


def _app(tmp_path: Path, **config: t.Any) -> Flask:
    app = Flask("host", instance_path=str(tmp_path / "instance"))
    app.config.update(config)
    return app


def _tables(path: Path) -> list[str]:
    engine = sa.create_engine(f"sqlite:///{path}")
    try:
        return sa.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _store_one(app: Flask) -> None:
    result = app.test_cli_runner().invoke(args=["llm-cost", "db", "upgrade"])
    assert result.exit_code == 0, result.output
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
    assert llm_cost.flush(60)
    assert llm_cost.calls.count() == 1
    app.extensions["llm_cost"].close()


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_bind_of_each_extension_can_be_the_ledger(
    extension: t.Any, tmp_path: Path
) -> None:
    app = _app(tmp_path, **BIND)
    LlmCost(app, db=extension(app, *_uris(tmp_path)))
    _store_one(app)
    assert "llm_cost_calls" in _tables(tmp_path / "costs.db")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_host_in_a_sqlite_file_gets_a_ledger_of_its_own(
    extension: t.Any, tmp_path: Path
) -> None:
    app = _app(tmp_path)
    LlmCost(app, db=extension(app, *_uris(tmp_path)))
    _store_one(app)
    assert "llm_cost_calls" in _tables(tmp_path / "instance" / "llm_cost.db")
    assert not _tables(tmp_path / "host.db")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_the_default_database_is_the_hosts(
    extension: t.Any, tmp_path: Path, postgresql_uri: str
) -> None:
    app = _app(tmp_path)
    LlmCost(app, db=extension(app, postgresql_uri, _uris(tmp_path)[1]))
    _store_one(app)
    assert not (tmp_path / "instance" / "llm_cost.db").exists()


def test_an_engine_of_plain_sqlalchemy(tmp_path: Path, postgresql_uri: str) -> None:
    engine = sa.create_engine(postgresql_uri)
    app = _app(tmp_path)
    LlmCost(app, db=engine)
    _store_one(app)
    assert sa.inspect(engine).has_table("llm_cost_calls")
    engine.dispose()


@pytest.mark.parametrize(
    "extension",
    # Alchemical is passed, and may be initialized later: its first use reports it.
    [_flask_sqlalchemy, _lite],
)
def test_an_unknown_bind_is_an_error_at_set_up(
    extension: t.Any, tmp_path: Path
) -> None:
    app = _app(tmp_path, LLM_COST_BIND_KEY="cots")
    extension(app, *_uris(tmp_path))
    with pytest.raises(ConfigError, match="'cots', which is not a bind.*'costs'"):
        LlmCost(app)


def test_asynchronous_engines_are_an_error_at_set_up(tmp_path: Path) -> None:
    app = _app(
        tmp_path,
        SQLALCHEMY_ASYNC_ENGINES={"default": "postgresql+psycopg://x@127.0.0.1:9/none"},
    )
    lite.SQLAlchemy(app)
    with pytest.raises(ConfigError, match="asynchronous engines only.*DATABASE_URI"):
        LlmCost(app)
    with pytest.raises(ConfigError, match="asynchronous engines only"):
        LlmCost(_app(tmp_path), db=alchemical.aio.Alchemical())


@pytest.mark.parametrize(
    "db",
    [
        orm.scoped_session(orm.sessionmaker()),
        orm.sessionmaker(),
        "sqlite://",
        create_async_engine("postgresql+psycopg://x@127.0.0.1:9/none"),
    ],
)
def test_anything_else_is_refused_with_the_way_out(db: object, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^db is a .*SQLAlchemy Engine.*DATABASE_URI"
    ):
        LlmCost(_app(tmp_path), db=db)
    app = _app(tmp_path, LLM_COST_DATABASE_URI="sqlite:///x.db")
    LlmCost(app, db=db)


def test_an_app_of_another_framework_is_refused() -> None:
    app: t.Any = quart.Quart("host")
    with pytest.raises(ConfigError, match=r"Flask app, not this quart\.app\.Quart\..*"):
        LlmCost(app)


def test_a_proxy_of_the_app_is_the_app(tmp_path: Path) -> None:
    app = _app(tmp_path)
    with app.app_context():
        LlmCost(current_app)  # type: ignore[arg-type]
    assert app.extensions["llm_cost"].app is app


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("in_request", [True, False])
def test_the_hosts_teardown_functions_run_only_when_its_own_contexts_end(
    in_request: bool, extension: t.Any, tmp_path: Path, postgresql_uri: str
) -> None:
    app = _app(tmp_path)
    ended: list[str] = []
    app.teardown_appcontext(lambda error: ended.append(threading.current_thread().name))
    LlmCost(app, db=extension(app, postgresql_uri, _uris(tmp_path)[1]))
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    app.extensions["llm_cost"].ledger.schema.upgrade()

    @app.get("/")
    def view() -> str:
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
        assert not ended  # not amid the request either
        return ""

    if in_request:
        app.test_client().get("/")
        assert ended.pop() == threading.current_thread().name
    else:
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
    assert llm_cost.flush(60)
    assert not ended
    app.extensions["llm_cost"].close()
