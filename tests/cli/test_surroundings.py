"""What ``doctor`` notices around the ledger: files, migrations, code and packages."""

from __future__ import annotations

import json
import re
import sys
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_llm_cost import LlmCost
from flask_llm_cost.capture import clients
from flask_llm_cost.cli import uncaptured as uncaptured_packages
from flask_llm_cost.cli.uncaptured import UNCAPTURED
from flask_llm_cost.cli.uncaptured import Uncaptured
from flask_llm_cost.cli.uncaptured import uncaptured
from flask_llm_cost.storage import Storage

ROOT = Path(__file__).parents[2]

Examine = Callable[..., dict[str, tuple[str, str]]]


@pytest.fixture
def examine(tmp_path: Path) -> t.Iterator[Examine]:
    """Run ``doctor`` on an app in ``tmp_path/shop``: the findings by name."""
    made: list[Storage] = []

    def examine(
        instance: Path = tmp_path / "instance", **config: t.Any
    ) -> dict[str, tuple[str, str]]:
        root = tmp_path / "shop"
        root.mkdir(exist_ok=True)
        app = Flask("shop", root_path=str(root), instance_path=str(instance))
        app.config.update(config)
        if "SQLALCHEMY_DATABASE_URI" in config:
            SQLAlchemy(app)
        LlmCost(app)
        made.append(app.extensions["llm_cost"].ledger)
        args = ["llm-cost", "doctor", "--format", "json"]
        found = json.loads(app.test_cli_runner().invoke(args=args).stdout)
        return {each["name"]: (each["status"], each["message"]) for each in found}

    yield examine
    for ledger in made:
        ledger.close()


def test_files_inside_the_virtual_environment_are_noticed(
    examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    inside = tmp_path / "venv" / "var" / "shop-instance"
    inside.mkdir(parents=True)
    status, message = examine(inside)["files"]
    assert status == "warn"
    assert f"{inside}/llm_cost_spool" in message
    assert f"{inside}/llm_cost.db are inside the virtual environment" in message
    assert "instance_path" in message
    assert "files" not in examine()
    elsewhere = {
        "LLM_COST_DATABASE_URI": f"sqlite:///{tmp_path}/llm_cost.db",
        "LLM_COST_SPOOL_DIR": str(tmp_path / "spool"),
    }
    assert "files" not in examine(inside, **elsewhere)


CONFIGURE = "    context.configure(connection=c, target_metadata=m{more})\n"
ALCHEMICAL = (
    "from alchemical.alembic.env import run_migrations\n"
    "run_migrations(db, {{{more}}})\n"
)
FLASK_MIGRATE = (
    "conf_args = current_app.extensions['migrate'].configure_args\n"
    "context.configure(connection=c, **conf_args{more})\n"
)


@pytest.mark.parametrize(
    ("env", "found"),
    [
        (CONFIGURE.format(more=""), True),
        (CONFIGURE.format(more=", include_name=mine"), True),
        (ALCHEMICAL.format(more=""), True),
        (ALCHEMICAL.format(more="'include_name': flask_llm_cost.filter"), False),
        (CONFIGURE.format(more=", include_name=AutogenerateFilter()"), True),
        ("import flask_llm_cost\n" + CONFIGURE.format(more=""), False),
        (CONFIGURE.format(more=", include_object=lambda *a: compare_to"), False),
        ("", False),
    ],
)
@pytest.mark.parametrize("place", ["shop/migrations", "migrations", "alembic"])
def test_migrations_that_would_drop_the_tables_are_noticed(
    env: str, found: bool, place: str, examine: Examine, tmp_path: Path
) -> None:
    path = tmp_path / place / "env.py"
    path.parent.mkdir(parents=True)
    path.write_text(env)
    uri = f"sqlite:///{tmp_path}/host.db"
    answer = examine(LLM_COST_DATABASE_URI=uri)
    assert ("migrations" in answer) is found
    if found:
        status, message = answer["migrations"]
        assert status == "warn"
        assert message.startswith(f"{path} does not exclude the ledger's tables")
        assert "include_name=AutogenerateFilter()" in message
    # Nothing is in our own file but the ledger.
    assert "migrations" not in examine()


@pytest.mark.parametrize(
    ("more", "found"), [("", False), (", include_name=mine", True)]
)
def test_flask_migrate_passes_our_filter_unless_the_host_has_its_own(
    more: str, found: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    migrate = pytest.importorskip("flask_migrate").Migrate
    env = tmp_path / "migrations" / "env.py"
    env.parent.mkdir()
    env.write_text(FLASK_MIGRATE.format(more=more))
    app = Flask("shop", root_path=str(tmp_path), instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/host.db"
    app.config["LLM_COST_DATABASE_URI"] = f"sqlite:///{tmp_path}/host.db"
    migrate(app, SQLAlchemy(app), directory=str(tmp_path / "migrations"))
    LlmCost(app)
    result = app.test_cli_runner().invoke(args=["llm-cost", "db", "upgrade"])
    app.extensions["llm_cost"].close()
    assert result.exit_code == 0
    assert ("Warning:" in result.stderr) is found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import urllib.request\n", True),
        ("def f():\n    from urllib.request import urlopen\n", True),
        ("from http import client\n", True),
        ("import http.client as h\n", True),
        ("from urllib.parse import urlsplit\n", False),
        ("import requests\n", False),
    ],
)
def test_code_that_sends_with_pythons_own_client_is_noticed(
    source: str, found: bool, examine: Examine, tmp_path: Path
) -> None:
    (tmp_path / "shop" / "llm").mkdir(parents=True)
    (tmp_path / "shop" / "llm" / "client.py").write_text(source)
    for name in ("tests", "venv", "site-packages"):
        (tmp_path / "shop" / name).mkdir()
        (tmp_path / "shop" / name / "x.py").write_text("import urllib.request\n")
    (tmp_path / "shop" / "venv" / "pyvenv.cfg").touch()
    answer = examine()
    assert ("http.client" in answer) is found
    if found:
        status, message = answer["http.client"]
        assert status == "warn"
        assert message.startswith("1 file of the app uses urllib.request")
        assert "client.py" in message
        try:
            captured = examine(LLM_COST_INSTRUMENT=["http.client"])
        finally:
            clients.uninstrument()
        assert "http.client" not in captured


def test_packages_that_are_not_captured_are_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = (
        Uncaptured("acme-sdk", "smoke", "Use the post.", "acme"),
        Uncaptured("signals", "flags", "Use the post.", general=True),
    )
    monkeypatch.setattr(uncaptured_packages, "UNCAPTURED", table)

    def found(*seen: str) -> dict[str, tuple[str, str]]:
        findings = uncaptured(lambda name: "1.0", seen)
        return {each.name: (each.status, each.message) for each in findings}

    assert found()["SDK acme-sdk"] == (
        "error",
        "1.0 sends through smoke, which is not captured. Use the post.",
    )
    assert found("acme")["SDK acme-sdk"][0] == "warn"
    status, message = found()["SDK signals"]
    assert status == "warn"
    assert message.endswith("This only matters if the app calls an LLM with it.")
    assert not list(uncaptured(lambda name: None, ()))


def test_the_docs_have_the_same_table() -> None:
    text = (ROOT / "docs" / "clients" / "index.rst").read_text()
    rows = re.findall(
        r"^    \* - ``(.+)``\n      - (.+)\n      - (.+(?:\n        .+)*)", text, re.M
    )
    shown = {
        name: (transport, re.sub(r"``|\s+", " ", advice).replace("  ", " ").strip())
        for name, transport, advice in rows
    }
    assert shown == {
        package.name: (
            package.transport,
            re.sub(r"\s+", " ", package.instead),
        )
        for package in UNCAPTURED
    }
