"""Generates the command reference from the ``--help`` texts."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

import click

from flask_llm_cost.cli import make_group
from flask_llm_cost.extension import make_app

NAME: t.Final = "flask llm-cost"

HEAD: t.Final = """\
Command reference
=================

The ``--help`` text of each command. See :doc:`cli` for more about what they do.

"""


def leaves(group: click.Group, path: str = NAME) -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, sorted."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def help_of(name: str, command: click.Command) -> str:
    """The help text in a terminal of 80 columns."""
    with click.Context(
        command, info_name=name, max_content_width=80, terminal_width=80
    ) as ctx:
        return command.get_help(ctx)


def reference() -> str:
    """The page, as reStructuredText."""
    parts = [HEAD]
    for name, command in leaves(make_group(make_app)):
        short = name.removeprefix(f"{NAME} ")
        lines = help_of(name, command).splitlines()
        shown = "\n".join(f"    {line}".rstrip() for line in lines)
        title = f"{short}\n{'-' * len(short)}"
        parts.append(f"\n{title}\n\n.. code-block:: text\n\n{shown}\n\n")
    return "".join(parts)
