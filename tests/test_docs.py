"""Every setting, signal, error and shown command is documented correctly."""

from __future__ import annotations

import ast
import configparser
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
from blinker import NamedSignal

from flask_llm_cost import config
from flask_llm_cost import errors
from flask_llm_cost import extension
from flask_llm_cost import signals
from flask_llm_cost.budgets.definition import _CHECKS
from flask_llm_cost.cli import make_group
from flask_llm_cost.cli.standalone import make_root
from flask_llm_cost.db.migrations import VERSION_TABLE
from flask_llm_cost.db.tables import metadata
from flask_llm_cost.providers.registry import PROVIDERS
from tests.test_exports import PUBLIC

ROOT = Path(__file__).resolve().parents[1]
KEYS = [config.PREFIX + f.name.upper() for f in fields(config.Settings)]


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.rst").read_text("utf-8")


def entries() -> dict[str, str]:
    """The entries of the settings page by key."""
    _, *parts = re.split(r"^\.\. confval:: ", page("config"), flags=re.MULTILINE)
    return {part.partition("\n")[0]: part for part in parts}


def test_the_settings_page_has_every_setting_and_no_other() -> None:
    assert sorted(entries()) == sorted(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_a_documented_default_is_the_default(key: str) -> None:
    shown = re.search(r"^    :default: ``(.*)``$", entries()[key], re.MULTILINE)
    assert shown is not None
    default = ast.literal_eval(shown[1])
    field = key.removeprefix(config.PREFIX).lower()
    expected = getattr(config.Settings(), field)
    if isinstance(default, dict):
        assert default.keys() == expected.keys()
    else:
        assert getattr(config.Settings.read({key: default}), field) == expected


def shown() -> Iterator[tuple[str, bool, list[str]]]:
    """The commands in literal blocks: page, whether they have an app, and arguments."""
    for path in sorted((ROOT / "docs").rglob("*.rst")):
        if path.stem == "commands":  # generated, with usage lines
            continue
        text = path.read_text("utf-8").replace("\\\n", " ")
        for start, line in re.findall(
            r"^ +(?:\$ |- run: )?(flask llm-cost|python -m flask_llm_cost) (.*)$",
            text,
            re.M,
        ):
            words = shlex.split(line, comments=True)
            ends = [n for n, word in enumerate(words) if word in {"|", ">", "&&"}]
            yield path.stem, start.startswith("flask"), words[: min(ends, default=None)]


@pytest.mark.parametrize(("name", "has_app", "words"), [*shown()])
def test_a_shown_command_is_valid(name: str, has_app: bool, words: list[str]) -> None:
    group = make_group(extension.make_app) if has_app else make_root(extension.make_app)
    parse(group, words)


def parse(command: click.Command, words: list[str]) -> None:
    # Nothing is run, but an unknown option is an error.
    with command.make_context("shown", [*words], resilient_parsing=True) as context:
        # click 8.1 has it under another name, which later versions warn of.
        groups = (
            "_protected_args" if "_protected_args" in dir(context) else "protected_args"
        )
        rest = [*getattr(context, groups), *context.args]
        if isinstance(command, click.Group):
            _, inner, rest = command.resolve_command(context, rest)
            assert inner is not None
            parse(inner, rest)
        else:
            assert rest == []


def test_every_table_is_on_the_ledgers_page() -> None:
    listed = re.findall(
        r"``(llm_cost_[a-z_]+)``", page("ledger").partition("Tables\n")[2]
    )
    assert {*metadata.tables, VERSION_TABLE} <= set(listed)


def test_every_session_is_on_the_contributors_page() -> None:
    sessions = re.findall(
        r"^@nox\.session.*\n(?:@.*\n)*def (\w+)",
        (ROOT / "noxfile.py").read_text(),
        re.M,
    )
    listed = re.findall(r"^``(\w+)``  ", page("contributing"), re.M)
    assert sorted(listed) == sorted(sessions)


def test_the_picture_of_the_rooms_has_the_layers_of_the_contract() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    layers = setup["importlinter:contract:layers"]["layers"].strip().splitlines()
    expected = [set(re.split(r" [|:] ", layer.strip())) for layer in layers[1:]]
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    picture = text.partition("```text\n")[2].partition("```")[0]
    rows = [set(re.split(r"│ *|  +", line)) for line in picture.splitlines()]
    names = set().union(*expected)
    assert [row & names for row in rows if row & names] == expected


def test_the_files_in_the_recipes_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    names = re.findall(r"`([a-z_./]+/[a-z_.]*|[a-z_]+\.(?:py|cfg))`", text)
    assert len(names) > 30
    places = (ROOT, ROOT / "flask_llm_cost")
    assert [n for n in names if not any((p / n).exists() for p in places)] == []


def test_every_key_of_a_budget_is_on_its_page() -> None:
    section = page("budgets").partition("What a budget is\n")[2].partition("\n\n\n")[0]
    assert sorted(
        re.findall(r"^``(\w+)``(?: \(required\))?$", section, re.M)
    ) == sorted(_CHECKS)


def test_every_public_name_is_in_the_reference() -> None:
    text = page("api")
    for name in PUBLIC:
        assert re.search(rf"^\.\. auto\w+:: ([\w.]+\.)?{name}$", text, re.MULTILINE)


def test_every_signal_is_in_the_reference() -> None:
    names = [n for n, v in vars(signals).items() if isinstance(v, NamedSignal)]
    assert names
    for name in names:
        assert f".. autodata:: flask_llm_cost.signals.{name}\n" in page("api")


def test_every_error_is_in_the_reference_and_in_the_tree() -> None:
    names = [n for n, v in vars(errors).items() if isinstance(v, type)]
    for name in names:
        if issubclass(getattr(errors, name), errors.LlmCostError):
            assert f".. autoexception:: {name}\n" in page("api")
            assert name in (errors.__doc__ or "")


def test_the_test_servers_are_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    sources = "".join(path.read_text("utf-8") for path in ROOT.glob("tests/**/*.py"))
    for name in set(re.findall(r"LLM_COST_TEST_[A-Z]+", sources)):
        assert f"`{name}`" in text


def test_the_page_of_providers_names_every_host() -> None:
    rows = re.findall(
        r"^    \* - ``(\S+)``\n      - (.*)\n      - :doc:`(\S+)`$",
        page("providers"),
        re.MULTILINE,
    )
    shown = {name: tuple(re.findall(r"``(\S+?)``", hosts)) for name, hosts, _ in rows}
    assert shown == {provider.name: provider.hosts for provider in PROVIDERS}
    assert all((ROOT / "docs" / f"{family}.rst").exists() for *_, family in rows)


@pytest.mark.parametrize(
    "family", sorted(path.stem for path in (ROOT / "docs" / "providers").iterdir())
)
def test_a_family_of_providers_lists_what_is_billed(family: str) -> None:
    if family != "own":
        text = page(f"providers/{family}")
        assert "\nWhat is billed\n--------------\n" in text
        assert re.search(r"^=+  =+$", text, re.MULTILINE)


@pytest.mark.parametrize(
    "family", sorted(path.stem for path in (ROOT / "docs" / "providers").iterdir())
)
def test_a_family_of_providers_names_its_sources(family: str) -> None:
    assert family == "own" or re.search(
        r"Sources?:.*?https://", page(f"providers/{family}"), re.DOTALL
    )
