"""How the docs are built: ``nox -s docs``."""

from __future__ import annotations

import pathlib
import sys
import typing as t

from docutils import nodes
from pallets_sphinx_themes import get_version

if t.TYPE_CHECKING:
    from docutils.parsers.rst.states import Inliner
    from sphinx.application import Sphinx

project = "Flask-LLM-Cost"
copyright = "The Flask-LLM-Cost developers"
author = "The Flask-LLM-Cost developers"
release, version = get_version("Flask-LLM-Cost")

default_role = "code"
extensions = ["sphinx.ext.autodoc", "pallets_sphinx_themes"]
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"Tags": "Tags", "TagSource": "TagSource"}

html_theme = "flask"
html_title = f"Flask-LLM-Cost {version}"
html_show_sourcelink = False
html_sidebars = {
    "index": ["searchbox.html"],
    "**": ["localtoc.html", "relations.html", "searchbox.html"],
}


def issue(
    name: str,
    rawtext: str,
    text: str,
    lineno: int,
    inliner: Inliner,
    options: t.Mapping[str, t.Any] | None = None,
    content: t.Sequence[str] = (),
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """An issue's number in the changelog, without a link because the tracker may move."""
    return [nodes.inline(rawtext, f"#{text}", classes=["issue"])], []


def write_reference(app: Sphinx) -> None:
    """Generate the command reference, so that it is always current."""
    sys.path.insert(0, str(app.srcdir))
    from cli_reference import reference

    page, text = pathlib.Path(app.srcdir, "commands.rst"), reference()
    # Sphinx does not read an unchanged page again.
    if not page.exists() or page.read_text("utf-8") != text:
        page.write_text(text, "utf-8")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_role("issue", issue)
    app.connect("builder-inited", write_reference)
