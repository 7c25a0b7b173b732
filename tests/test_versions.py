"""Supported versions: what is declared is documented, installed and moves nothing."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = [
    *PROJECT["dependencies"],
    *(each for extra in PROJECT["optional-dependencies"].values() for each in extra),
]
FLOORS: dict[str, str] = dict(
    re.fullmatch(r"([a-z0-9-]+)(?:\[\w+\])?>=([0-9.]+)", each).groups()  # type: ignore[union-attr]
    for each in REQUIRED
)


def test_the_docs_and_the_readme_show_the_oldest_versions() -> None:
    docs = (ROOT / "docs/dependencies.rst").read_text()
    rows = re.findall(r"^    \* - ([a-z0-9-]+)\n      - ([0-9.]+)$", docs, re.M)
    assert dict(rows) == FLOORS
    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"^\| ([\w-]+) \| ([0-9.]+) \|$", readme, re.M)
    expected = {"python": PROJECT["requires-python"].removeprefix(">=")} | FLOORS
    assert {name.lower(): version for name, version in shown} == expected


@pytest.mark.floors
def test_the_oldest_versions_are_installed() -> None:
    found = {name: importlib.metadata.version(name) for name in FLOORS}
    assert found == FLOORS


HOSTS = {
    # github.com/miguelgrinberg/microblog and microblog-api, as of the end of 2023.
    "microblog": """
        alembic==1.12.1 blinker==1.7.0 click==8.1.7 flask==3.0.0
        flask-login==0.6.3 flask-migrate==4.0.5 flask-sqlalchemy==3.1.1
        flask-wtf==1.2.1 itsdangerous==2.1.2 jinja2==3.1.2 mako==1.3.0
        markupsafe==2.1.3 requests==2.31.0 sqlalchemy==2.0.23 urllib3==2.1.0
        werkzeug==3.0.1 wtforms==3.1.1
    """,
    "microblog-api": """
        alchemical==1.0.0 alembic==1.12.1 apifairy==1.3.0 blinker==1.6.3 click==8.1.7
        flask==3.0.0 flask-migrate==4.0.5 flask-sqlalchemy==3.1.1 itsdangerous==2.1.2
        jinja2==3.1.2 mako==1.2.4 markupsafe==2.1.3 marshmallow==3.20.1
        requests==2.31.0 sqlalchemy==2.0.22 urllib3==2.0.7 werkzeug==3.0.1
    """,
    "Flask 2.3 with an old urllib3": """
        alembic==1.11.1 blinker==1.6.2 click==8.1.3 flask==2.3.2
        flask-sqlalchemy==3.0.5 requests==2.28.2 sqlalchemy==2.0.18 urllib3==1.26.16
        werkzeug==2.3.6 wtforms==3.0.1
    """,
}
"""Versions that apps pin."""


def uv(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "uv", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.floors
@pytest.mark.parametrize("host", HOSTS)
def test_an_installation_changes_nothing_that_an_app_has(
    host: str, tmp_path: Path
) -> None:
    uv("venv", "--python", sys.executable, str(tmp_path / "venv"))
    into = ("--python", str(tmp_path / "venv"))

    def installed() -> set[tuple[str, str]]:
        listed = json.loads(uv("pip", "list", "--format", "json", *into))
        return {(each["name"].lower(), each["version"]) for each in listed}

    uv("pip", "install", *into, *HOSTS[host].split())
    before = installed()
    uv("pip", "install", *into, str(ROOT))
    assert before - installed() == set()
    added = {name for name, _ in installed() - before}
    assert "flask-llm-cost" in added
    assert added - {"flask-llm-cost"} <= {
        *FLOORS,
        "certifi",
        "charset-normalizer",
        "idna",
    }


PAGE = """
from flask import Flask
from flask_llm_cost import LlmCost
app = Flask(__name__)
llm_cost = LlmCost(app)
app.register_blueprint(llm_cost.blueprint(access="public"), url_prefix="/costs")
if __name__ == "__main__":
    print(app.test_client().get("/costs/").status)
"""


@pytest.mark.floors
def test_the_wheel_alone_runs_its_commands_and_pages(tmp_path: Path) -> None:
    uv("build", "--wheel", "-o", str(tmp_path), str(ROOT))
    [wheel] = tmp_path.glob("*.whl")
    uv("venv", "--python", sys.executable, str(tmp_path / "venv"))
    uv("pip", "install", "--python", str(tmp_path / "venv"), str(wheel))
    (tmp_path / "shop.py").write_text(PAGE)

    def run(*command: str) -> str:
        done = subprocess.run(
            [str(tmp_path / "venv/bin" / command[0]), *command[1:]],
            cwd=tmp_path,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "calls have no price" in run("flask-llm-cost", "demo", "--once")
    assert "schema: version" in run("flask", "--app", "shop", "llm-cost", "doctor")
    assert run("python", "shop.py") == "200 OK\n"
