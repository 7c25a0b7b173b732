"""OpenAI's costs, and its usage where costs have no quantities yet."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator

from ..document import Document
from .client import Client
from .paged import follow
from .windows import Window

URL: t.Final = "https://api.openai.com"

_DAYS: t.Final = 31
"""The most buckets that it answers with, whatever the limit."""
_KEYS_SINCE: t.Final = dt.date(2025, 12, 6)
"""Grouping by key is refused for earlier days."""
_QUANTITIES_SINCE: t.Final = dt.date(2026, 8, 21)
_USAGE: t.Final = ("completions", "embeddings")


def fetch(client: Client, window: Window) -> Iterator[Document]:
    """Iterate over pages of costs and usage."""
    for part in window.split(_DAYS):
        groups = ["project_id", "line_item"]
        if part.start >= _KEYS_SINCE:
            groups.append("api_key_id")
        path = "/v1/organization/costs"
        yield from follow(client, "costs", path, _query(part, groups), part)
        if part.start >= _QUANTITIES_SINCE:
            continue
        groups = [*groups, "model", "batch", "service_tier"]
        groups.remove("line_item")
        for name in _USAGE:
            some = groups if name == "completions" else groups[:-2]
            query = _query(part, some)
            path = f"/v1/organization/usage/{name}"
            yield from follow(client, f"usage of {name}", path, query, part)


def _query(window: Window, groups: list[str]) -> list[tuple[str, str]]:
    start, end = window.unix()
    return [
        ("start_time", str(start)),
        ("end_time", str(end)),
        ("bucket_width", "1d"),
        ("limit", str(_DAYS)),
        *(("group_by[]", group) for group in groups),
    ]
