"""xAI's usage of a team, in dollars per day."""

from __future__ import annotations

import json
import typing as t
import urllib.parse
from collections.abc import Iterator

from ..document import Document
from ..values import DAY
from .client import Client
from .paged import document
from .windows import Window

URL: t.Final = "https://management-api.x.ai"

_DAYS: t.Final = 31


def fetch(client: Client, window: Window) -> Iterator[Document]:
    """Iterate over the usage of each month. An answer that was cut is asked for in halves."""
    for part in window.split(_DAYS):
        yield from _fetch(client, part)


def _fetch(client: Client, window: Window) -> Iterator[Document]:
    what = f"usage of {window}"
    team = urllib.parse.quote(str(client.team), safe="")
    path = f"/v1/billing/teams/{team}/usage"
    body = client.post(what, path, {"analyticsRequest": _question(window)})
    days = (window.end - window.start).days
    if days > 1 and _is_cut(body):
        for half in window.split((days + 1) // 2):
            yield from _fetch(client, half)
        return
    yield document(client, what, body, window)


def _question(window: Window) -> dict[str, t.Any]:
    last = window.end - DAY
    return {
        "timeRange": {
            "startTime": f"{window.start} 00:00:00",
            "endTime": f"{last} 23:59:59",
            "timezone": "Etc/GMT",
        },
        "timeUnit": "TIME_UNIT_DAY",
        "values": [{"name": "usd", "aggregation": "AGGREGATION_SUM"}],
        "groupBy": ["description"],
        "filters": [],
    }


def _is_cut(body: bytes) -> bool:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.get("limitReached") is True
