"""Anthropic's cost and usage reports.

They have every dimension of a price. Their successors in analytics group by five at most.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from collections.abc import Mapping

from ..document import Document
from .client import Client
from .paged import follow
from .windows import Window

URL: t.Final = "https://api.anthropic.com"

_DAYS: t.Final = 31
_COSTS: t.Final = ("workspace_id", "description")
_USAGE: t.Final = (
    "workspace_id",
    "model",
    "service_tier",
    "context_window",
    "inference_geo",
)


def headers(key: str) -> Mapping[str, str]:
    """Return the headers of a request."""
    return {"x-api-key": key, "anthropic-version": "2023-06-01"}


def fetch(client: Client, window: Window) -> Iterator[Document]:
    """Iterate over pages of costs and usage."""
    for part in window.split(_DAYS):
        path = "/v1/organizations/cost_report"
        yield from follow(client, "costs", path, _query(part, _COSTS), part)
        path = "/v1/organizations/usage_report/messages"
        yield from follow(client, "usage", path, _query(part, _USAGE), part)


def _query(window: Window, groups: t.Iterable[str]) -> list[tuple[str, str]]:
    start, end = window.iso()
    return [
        ("starting_at", start),
        ("ending_at", end),
        ("bucket_width", "1d"),
        ("limit", str(_DAYS)),
        *(("group_by[]", group) for group in groups),
    ]
