"""Why a host's ``flask db migrate`` does not want to drop the ledger's tables.

They are in the host's database and not in its metadata, so Alembic's autogenerate takes
them for leftovers. Flask-Migrate hands the arguments that it was set up with to Alembic;
there we say which tables are not the host's.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from pathlib import Path

from flask import appcontext_pushed
from flask import Flask

PREFIX: t.Final = "llm_cost_"

IncludeName: t.TypeAlias = Callable[[str | None, str, t.Any], bool]


class NotOurs:
    """An ``include_name`` of Alembic that passes over the ledger's tables.

    :param inner: The host's own rule, asked for everything else.
    """

    def __init__(self, inner: IncludeName | None = None) -> None:
        self._inner = inner

    def __call__(self, name: str | None, kind: str, parents: t.Any) -> bool:
        if kind == "table" and name is not None and name.startswith(PREFIX):
            return False
        return self._inner is None or self._inner(name, kind, parents)


def hide_tables(app: Flask) -> None:
    """Hide the ledger's tables from this app's Flask-Migrate, whenever that is set up."""
    appcontext_pushed.connect(_hide, app)


def _hide(app: Flask, **rest: t.Any) -> None:
    migrate = app.extensions.get("migrate")
    arguments = getattr(migrate, "configure_args", None)
    if not isinstance(arguments, dict):
        return
    appcontext_pushed.disconnect(_hide, app)
    rule = arguments.get("include_name")
    if not isinstance(rule, NotOurs) and not _has_rule(
        getattr(migrate, "directory", "")
    ):
        arguments["include_name"] = NotOurs(rule)


def _has_rule(directory: str) -> bool:
    """Whether the host's own env.py passes an include_name: a second one breaks it."""
    try:
        return "include_name" in Path(directory, "env.py").read_text()
    except OSError:
        return False
