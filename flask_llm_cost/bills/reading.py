"""Read the files of bills: recognize their sources, and read those of one together."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import BillError
from .document import Document
from .scale import refuse_wrong_scale
from .sources import recognize
from .sources import Source
from .sources import SOURCES
from .statement import Statement


def read(
    documents: Iterable[Document], source: str | None = None
) -> tuple[Statement, ...]:
    """Return a statement for each source that the files are of.

    :param source: The source's name, if it should not be recognized.
    :raises BillError: If a file cannot be read, or a set of files is incomplete. Nothing
        is returned of the others then.
    """
    groups: dict[str, list[Document]] = {}
    digests: dict[str, str] = {}
    for document in documents:
        # Two answers of an API may well be alike, such as those without data.
        if document.days is None and document.digest in digests:
            same = digests[document.digest]
            raise document.place.error(
                f"it is the same as {same}. Name each file once."
            )
        digests[document.digest] = document.name
        found = recognize(document) if source is None else _named(source, document)
        groups.setdefault(found.name, []).append(document)
    return tuple(_read(SOURCES[name], each) for name, each in groups.items())


def _read(source: Source, documents: list[Document]) -> Statement:
    statement = source.read(documents)
    refuse_wrong_scale(documents[0], statement)
    return statement


def _named(name: str, document: Document) -> Source:
    if name not in SOURCES:
        raise BillError(
            document.name,
            None,
            f"{name!r} is not a source of bills. Sources: {', '.join(SOURCES)}.",
        )
    if not SOURCES[name].recognizes(document):
        others = [each.name for each in SOURCES.values() if each.recognizes(document)]
        if others:
            raise document.place.error(
                f"it is a bill of {' or '.join(others)}, not of {name}. Omit --source."
            )
    return SOURCES[name]
