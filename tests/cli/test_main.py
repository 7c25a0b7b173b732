"""``python -m flask_llm_cost``: the commands without an app."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest
from click.testing import CliRunner
from click.testing import Result
from flask import Flask

from flask_llm_cost.cli import make_group
from flask_llm_cost.cli.standalone import make_root
from flask_llm_cost.extension import make_app as bare_app
from tests.conftest import MakeApp


def run(*args: str) -> Result:
    return CliRunner().invoke(make_root(bare_app), args)


@pytest.fixture
def folder(make_app: MakeApp) -> pathlib.Path:
    """An instance folder with a ledger of one call."""
    app = make_app()
    state = app.extensions["llm_cost"]
    with app.app_context():
        state.extension.track(provider="openai", model="gpt-4o", input_tokens=1000)
    assert state.extension.flush(20)
    return pathlib.Path(app.instance_path)


@pytest.mark.parametrize("place", ["before", "after"])
def test_options_are_accepted_before_or_after_the_command(
    folder: pathlib.Path, place: str
) -> None:
    uri = f"sqlite:///{folder / 'llm_cost.db'}"
    args = ["report", "--by", "model"]
    source = ["--database-uri", uri]
    done = run(*(source + args if place == "before" else args + source))
    assert done.exit_code == 0, done.stderr
    assert "openai/gpt-4o" in done.stdout


def test_an_instance_folder_is_enough(folder: pathlib.Path) -> None:
    done = run("--instance-path", str(folder), "daily", "--days", "1")
    assert done.exit_code == 0, done.stderr
    assert "1,000" in done.stdout


def test_an_sqlite_path_is_relative_to_the_current_folder(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = run("db", "current", "--database-uri", "sqlite:///llm_cost.db")
    assert done.exit_code == 0, done.stderr
    assert str(folder / "llm_cost.db") in done.stdout


def test_an_app_can_be_named(tmp_path: pathlib.Path) -> None:
    code = "from flask import Flask\nfrom flask_llm_cost import LlmCost\n"
    code += "app = Flask(__name__)\nLlmCost(app)\nplain = Flask(__name__)\n"
    (tmp_path / "shop.py").write_text(code)
    command = [sys.executable, "-m", "flask_llm_cost", "report", "--app"]

    def asked(app: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, app], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )

    done = asked("shop")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "instance" / "llm_cost.db").exists()
    other = asked("shop:plain")
    assert other.returncode == 2
    assert "LlmCost is not set up on shop:plain." in other.stderr


def test_without_a_ledger_the_error_names_the_options(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("report")
    assert done.exit_code == 2
    assert "--database-uri" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_invalid_uri_is_reported_in_one_line() -> None:
    done = run("report", "--database-uri", "nonsense")
    assert done.exit_code == 1
    assert "must be an SQLAlchemy URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_no_ledger_and_no_sqlalchemy() -> None:
    code = (
        "import sys, flask_llm_cost.__main__\n"
        "from flask_llm_cost.cli import make_group\n"
        "assert not any(m.startswith('flask_llm_cost.cli.') for m in sys.modules)\n"
        "assert make_group(None).commands['report'].help\n"
        "heavy = {'sqlalchemy', 'alembic', 'requests', 'wtforms'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    done = run("report", "--help")
    assert done.exit_code == 0
    assert "--database-uri" in done.stdout


def test_two_apps_have_groups_of_their_own(make_app: MakeApp) -> None:
    one, two = make_app(), make_app()
    assert one.cli.commands["llm-cost"] is not two.cli.commands["llm-cost"]
    assert isinstance(one, Flask)


def test_the_commands_of_an_app_do_not_have_the_options() -> None:
    group = make_group(bare_app)
    names = {p.name for p in group.commands["report"].params}
    assert "database_uri" not in names


@pytest.mark.parametrize(
    "args",
    [
        ("prices", "reprice", "--from", "2026-01-01"),
        ("prices", "explain", "--call", "01890000-0000-7000-8000-000000000000"),
    ],
)
def test_a_price_command_about_calls_needs_a_ledger(args: tuple[str, ...]) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert "No ledger given" in done.stderr


def test_a_price_is_explained_without_a_ledger() -> None:
    assert run("prices", "explain", "openai", "gpt-4o").exit_code == 0
