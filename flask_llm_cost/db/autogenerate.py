"""Exclude the ledger's tables from the host's migrations.

They are in the host's database but not in its metadata, so Alembic's autogenerate would
drop them. Flask-Migrate passes the arguments that it was set up with to Alembic; our filter
is added there.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

from flask import appcontext_pushed
from flask import Flask

PREFIX: t.Final = "llm_cost_"

IncludeName: t.TypeAlias = Callable[[str | None, str, t.Any], bool]


class AutogenerateFilter:
    """An ``include_name`` for Alembic that skips the ledger's tables.

    :param inner: The host's own filter, called for everything else.
    """

    def __init__(self, inner: IncludeName | None = None) -> None:
        self._inner = inner

    def __call__(self, name: str | None, kind: str, parents: t.Any) -> bool:
        if kind == "table" and name is not None and name.startswith(PREFIX):
            return False
        return self._inner is None or self._inner(name, kind, parents)


def hide_tables(app: Flask) -> None:
    """Add the filter to this app's Flask-Migrate, whenever that is set up."""
    appcontext_pushed.connect(_hide, app)


def _hide(app: Flask, **rest: t.Any) -> None:
    migrate = app.extensions.get("migrate")
    arguments = getattr(migrate, "configure_args", None)
    if not isinstance(arguments, dict):
        return
    appcontext_pushed.disconnect(_hide, app)
    rule = arguments.get("include_name")
    directory = getattr(migrate, "directory", "")
    if not isinstance(rule, AutogenerateFilter) and not _has_rule(directory):
        arguments["include_name"] = AutogenerateFilter(rule)


def _has_rule(directory: str) -> bool:
    """Whether the host's env.py passes an include_name: a second one is an error."""
    return "include_name" in _read(Path(directory, "env.py"))


def unfiltered(app: Flask) -> Iterator[Path]:
    """Find the host's ``env.py`` files whose filters, if any, include the ledger's tables.

    Nothing is run: what their text names decides.
    """
    migrate = app.extensions.get("migrate")
    own = Path(getattr(migrate, "directory", None) or "migrations")
    root = Path(app.root_path)
    folders = {own, *(up / name for up in (root, root.parent) for name in _FOLDERS)}
    for path in sorted({folder.absolute() / "env.py" for folder in folders}):
        text = _read(path)
        # Named by our filter or one of the host's; or reflected tables are all excluded.
        excluded = "llm_cost" in text or "compare_to" in text
        passed = "configure_args" in text and "include_name" not in text
        # What calls context.configure may be in a package, such as Alchemical.
        runs = "context.configure" in text or "alembic" in text
        if runs and not excluded and not (migrate and passed):
            yield path


_FOLDERS: t.Final = ("migrations", "alembic")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
