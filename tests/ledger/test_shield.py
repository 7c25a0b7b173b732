from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flask_llm_cost.ledger.shield import NotOurs

ROOT = Path(__file__).parents[2]

HOST = """
import os
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_llm_cost.config import Settings
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger.shield import hide_tables

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///host.db"
app.config["SQLALCHEMY_BINDS"] = {"costs": "sqlite:///host.db"}
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
                    host_engine=lambda: db.engines["costs"])
    ledger.upgrade()
    ledger.close()
"""


def _generated(folder: Path, *init: str, **env: str) -> str:
    """What the host's `flask db migrate` writes, once the ledger has its tables."""
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


@pytest.mark.parametrize(
    "init", [[], pytest.param(["--multidb"], marks=pytest.mark.stress)]
)
def test_a_hosts_migrations_know_nothing_of_our_tables(
    tmp_path: Path, init: list[str]
) -> None:
    pytest.importorskip("flask_migrate")
    script = _generated(tmp_path, *init)
    assert "note" in script
    assert "llm_cost" not in script


@pytest.mark.stress
def test_without_the_shield_they_would_drop_them(tmp_path: Path) -> None:
    pytest.importorskip("flask_migrate")
    assert "drop_table('llm_cost_calls')" in _generated(tmp_path, BARE="1")


def test_a_hosts_own_rule_is_kept() -> None:
    rule = NotOurs(lambda name, kind, parents: name != "secret")
    assert not rule("llm_cost_calls", "table", {})
    assert not rule("secret", "table", {})
    assert rule("note", "table", {})
    assert NotOurs()("llm_cost_x", "column", {})
