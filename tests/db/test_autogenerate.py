from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flask_llm_cost.config import Settings
from flask_llm_cost.db.autogenerate import AutogenerateFilter
from flask_llm_cost.ledger import Ledger

ROOT = Path(__file__).parents[2]

HOST = """
import os
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_llm_cost.config import Settings
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.db.autogenerate import hide_tables

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///host.db"
bind = os.environ.get("BIND", "host.db")
if bind:
    app.config["SQLALCHEMY_BINDS"] = {"costs": f"sqlite:///{bind}"}
db = SQLAlchemy()
if not os.environ.get("BARE"):
    hide_tables(app)
db.init_app(app)
Migrate(app, db)

class Note(db.Model):
    id = db.Column(db.Integer, primary_key=True)

@app.cli.command()
def prepare():
    ledger = Ledger(Settings(), instance_path=app.instance_path,
                    host_engine=lambda: db.engines["costs" if bind else None])
    ledger.schema.upgrade()
    ledger.close()
"""


def _generated(folder: Path, *init: str, **env: str) -> str:
    """The migration that the host's `flask db migrate` writes beside the ledger's tables."""
    (folder / "host.py").write_text(HOST)

    def flask(*arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "flask", "--app", "host", *arguments],
            cwd=folder,
            env=os.environ
            | env
            | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
            check=True,
            capture_output=True,
        )

    flask("db", "init", *init)
    flask("prepare")
    flask("db", "migrate")
    (script,) = (folder / "migrations" / "versions").glob("*.py")
    return script.read_text()


LAYOUTS = [
    ([], ""),  # the app's own database
    ([], "host.db"),  # a bind that is the same database
    ([], "costs.db"),
    (["--multidb"], "host.db"),
    (["--multidb"], ""),
    (["--multidb"], "costs.db"),
]


@pytest.mark.parametrize(
    ("init", "bind"),
    [
        layout if n == 3 else pytest.param(*layout, marks=pytest.mark.stress)
        for n, layout in enumerate(LAYOUTS)
    ],
)
def test_host_migrations_exclude_our_tables(
    tmp_path: Path, init: list[str], bind: str
) -> None:
    pytest.importorskip("flask_migrate")
    script = _generated(tmp_path, *init, BIND=bind)
    assert "note" in script
    assert "llm_cost" not in script


ENV = """
import sqlalchemy as sa
from alembic import context
from flask_llm_cost.db.autogenerate import AutogenerateFilter

metadata = sa.MetaData()
sa.Table("note", metadata, sa.Column("id", sa.Integer, primary_key=True))
engine = sa.create_engine("sqlite:///host.db")
with engine.connect() as connection:
    context.configure(
        connection=connection, target_metadata=metadata, include_name=AutogenerateFilter()
    )
    with context.begin_transaction():
        context.run_migrations()
"""


def test_a_host_with_plain_alembic_passes_the_filter_itself(tmp_path: Path) -> None:
    ledger = Ledger(
        Settings(database_uri=f"sqlite:///{tmp_path}/host.db"),
        instance_path=str(tmp_path / "instance"),
    )
    ledger.schema.upgrade()
    ledger.close()

    def alembic(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=tmp_path,
            env=os.environ
            | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    alembic("init", "migrations")
    (tmp_path / "migrations" / "env.py").write_text(ENV)
    alembic("revision", "--autogenerate", "-m", "notes")
    (script,) = (tmp_path / "migrations" / "versions").glob("*.py")
    text = script.read_text()
    assert "create_table('note'" in text
    assert "llm_cost" not in text


@pytest.mark.stress
def test_without_the_filter_they_would_drop_them(tmp_path: Path) -> None:
    pytest.importorskip("flask_migrate")
    assert "drop_table('llm_cost_calls')" in _generated(tmp_path, BARE="1")


def test_the_host_filter_still_applies() -> None:
    rule = AutogenerateFilter(lambda name, kind, parents: name != "secret")
    assert not rule("llm_cost_calls", "table", {})
    assert not rule("secret", "table", {})
    assert rule("note", "table", {})
    assert AutogenerateFilter()("llm_cost_x", "column", {})
