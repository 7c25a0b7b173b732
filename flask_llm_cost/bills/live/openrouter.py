"""OpenRouter's activity, which reaches back 30 completed UTC days."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator

from ..document import Document
from ..values import DAY
from .client import Client
from .paged import document
from .windows import Window

URL: t.Final = "https://openrouter.ai"

_DAYS: t.Final = 30


def fetch(client: Client, window: Window) -> Iterator[Document]:
    """Iterate over the activity of each day."""
    today = dt.datetime.now(dt.UTC).date()
    oldest = today - _DAYS * DAY
    if window.start < oldest or window.end > today:
        raise client.error(
            f"activity of {window}",
            f"it has the last {_DAYS} completed days only: {oldest} to {today - DAY}."
            " Export older ones from the activity page as CSV.",
        )
    for day in window.split(1):
        what = f"activity of {day.start}"
        query = [("date", day.start.isoformat())]
        body = client.get(what, "/api/v1/activity", query)
        yield document(client, what, body, day)
