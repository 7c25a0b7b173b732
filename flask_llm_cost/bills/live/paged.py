"""Follow the pages of a report, a whole window at a time."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Sequence

from ..document import Document
from .client import Client
from .client import Gone
from .windows import Window

_RESTARTS: t.Final = 3
_MOST_PAGES: t.Final = 10_000


def follow(
    client: Client,
    report: str,
    path: str,
    query: Sequence[tuple[str, str]],
    window: Window,
) -> list[Document]:
    """Return all pages of a report for a window.

    A cursor that expired, because the data was refreshed meanwhile, starts the window over:
    pages from before and after do not belong together.

    :raises BillError: If the pages cannot be completed.
    """
    what = f"{report} of {window}"
    for _ in range(_RESTARTS):
        try:
            return _pages(client, what, path, query, window)
        except Gone:
            continue
    raise client.error(what, "its data was refreshed repeatedly. Try again later.")


def _pages(
    client: Client,
    what: str,
    path: str,
    query: Sequence[tuple[str, str]],
    window: Window,
) -> list[Document]:
    pages: list[Document] = []
    seen: set[str] = set()
    cursor: str | None = None
    while cursor is not None or not pages:
        number = len(pages) + 1
        more = [] if cursor is None else [("page", cursor)]
        body = client.get(f"{what}, page {number}", path, [*query, *more])
        pages.append(document(client, what, body, window, number))
        cursor = _next(client, what, body)
        if cursor is not None and (cursor in seen or number >= _MOST_PAGES):
            raise client.error(what, "it names the same next page twice. Try again.")
        seen.add(str(cursor))
    return pages


def document(
    client: Client, what: str, body: bytes, window: Window, number: int = 1
) -> Document:
    """Return the document of an answer, which covers the window."""
    name = f"{client.source}'s {what}, page {number}"
    return Document.of_bytes(name, body, days=(window.start, window.end))


def _next(client: Client, what: str, body: bytes) -> str | None:
    """Return the next cursor. What else is wrong with a page, its reader finds."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise client.error(what, "the answer is not JSON. Try again.") from None
    if not isinstance(fields, dict) or not fields.get("has_more"):
        return None
    cursor = fields.get("next_page")
    return cursor if isinstance(cursor, str) and cursor else None
