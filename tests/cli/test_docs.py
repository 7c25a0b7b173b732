"""docs/cli.rst describes every command and option, and no other."""

from __future__ import annotations

import importlib.util
import pathlib
import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from flask_llm_cost.cli import make_group
from flask_llm_cost.extension import make_app

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "cli.rst"


def leaves(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        full = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from leaves(command, full)
        else:
            yield full, command


COMMANDS = dict(leaves(make_group(make_app)))


def sections() -> dict[str, str]:
    """The text of each command's section."""
    text = DOCS.read_text()
    heads = list(re.finditer(r"^``([a-z -]+)``\n-+\n", text, re.MULTILINE))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {
        head[1]: text[head.end() : end] for head, end in zip(heads, ends, strict=True)
    }


def test_every_command_has_a_section_and_no_other() -> None:
    assert set(sections()) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    text = sections()[name]
    options = {o for p in COMMANDS[name].params for o in p.opts if o.startswith("--")}
    assert set(re.findall(r"--[a-z-]+", text)) >= options
    explained = "\n".join(re.findall(r"^``.*``$", text, re.MULTILINE))
    assert set(re.findall(r"--[a-z-]+", explained)) == options


def groups(group: click.Group) -> Iterator[click.Group]:
    yield group
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from groups(command)


def test_lists_of_commands_show_whole_sentences() -> None:
    for group in groups(make_group(make_app)):
        width = 78 - 6 - max(map(len, group.commands))
        for command in group.commands.values():
            shown = command.get_short_help_str(width)
            assert not shown.endswith("..."), (command.name, shown)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_a_help_text(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for param in command.params:
        if isinstance(param, click.Option) and param.name != "form":
            assert param.help, f"{name} {param.opts}"


def reference() -> dict[str, str]:
    """The sections of the generated page."""
    path = DOCS.with_name("cli_reference.py")
    spec = importlib.util.spec_from_file_location("cli_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text: str = module.reference()
    parts = re.split(r"^([a-z -]+)\n-+\n\n\.\. code-block:: text\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_reference_matches_help_and_fits_80_columns() -> None:
    pages = reference()
    assert set(pages) == set(COMMANDS)
    group = make_group(make_app)
    for name, page in pages.items():
        shown = CliRunner().invoke(
            group,
            [*name.split(), "--help"],
            prog_name="flask llm-cost",
            terminal_width=80,
        )
        assert page.split() == shown.output.split(), name
        assert all(len(line) <= 84 for line in page.splitlines()), name
