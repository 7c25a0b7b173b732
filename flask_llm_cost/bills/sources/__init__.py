"""The known sources, one file each: from files to a statement. Pure."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from ..document import Document
from ..pages import refuse_error
from ..statement import Statement
from ..values import shown
from . import anthropic
from . import aws
from . import azure
from . import focus
from . import google
from . import openai
from . import openrouter
from . import xai


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of bill that can be read."""

    name: str
    recognizes: Callable[[Document], bool]
    read: Callable[[Sequence[Document]], Statement]
    """Reads all files of one bill together."""
    tried: bool
    """Whether it was tried on a real bill, and not on samples only."""


def _source(module: ModuleType) -> Source:
    return Source(module.NAME, module.recognizes, module.read, module.TRIED)


_MODULES: t.Final = (
    openai,
    anthropic,
    openrouter,
    xai,
    aws,
    azure,
    google,
    focus,
)
SOURCES: t.Final[Mapping[str, Source]] = {
    module.NAME: _source(module) for module in _MODULES
}


def recognize(document: Document) -> Source:
    """Return the source of a file.

    :raises BillError: If it is of no known source, or an error response.
    """
    found = [each for each in SOURCES.values() if each.recognizes(document)]
    if len(found) == 1:
        return found[0]
    if document.is_json and isinstance(document.json, dict):
        refuse_error(document.place, document.json)
    names = ", ".join(each.name for each in found) or "none"
    raise document.place.error(
        f"its source cannot be recognized (candidates: {names})."
        f" {_begins(document)} If it is a bill of {', '.join(SOURCES)}, pass its name as"
        " --source."
    )


def _begins(document: Document) -> str:
    if document.is_json:
        return "It should be an unchanged answer of a provider's API, or rows of an export."
    first = ", ".join(document.columns)
    return f"Its first row should be the names of the columns, and is {shown(first)}."
