"""Fetch a bill from a provider's admin API, for ``flask llm-cost reconcile --live`` only.

It yields the same pages that the files have. Keys come from the environment; they are
never stored, logged or in an error.
"""

from __future__ import annotations

import datetime as dt
import os
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import BillError
from ..document import Document
from . import anthropic
from . import openai
from . import openrouter
from . import xai
from .client import Client
from .client import Progress
from .windows import Window


@dataclass(frozen=True, slots=True)
class Api:
    """A provider's API for bills."""

    key: str
    """The environment variable with its key."""
    url: str
    fetch: Callable[[Client, Window], Iterator[Document]]
    headers: Callable[[str], Mapping[str, str]]
    """Returns the headers that carry a key."""
    needs_team: bool = False


def _bearer(key: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {key}"}


APIS: t.Final[Mapping[str, Api]] = {
    "openai": Api("OPENAI_ADMIN_KEY", openai.URL, openai.fetch, _bearer),
    "anthropic": Api(
        "ANTHROPIC_ADMIN_KEY", anthropic.URL, anthropic.fetch, anthropic.headers
    ),
    "openrouter": Api(
        "OPENROUTER_MANAGEMENT_KEY", openrouter.URL, openrouter.fetch, _bearer
    ),
    "xai": Api("XAI_MANAGEMENT_KEY", xai.URL, xai.fetch, _bearer, needs_team=True),
}
"""By the name of the source that reads what it answers."""


def fetch(
    source: str,
    start: dt.date,
    end: dt.date,
    *,
    team: str | None = None,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
    url: str | None = None,
) -> tuple[Document, ...]:
    """Return what a provider answers for some UTC days.

    :param end: The day after the last one.
    :param team: xAI's id of the team.
    :param progress: Called with a sentence before each request.
    :param url: Another base URL than the provider's: https, or http on loopback.
    :raises BillError: If the source has no API, a key is missing, or a request fails.
    """
    api = APIS.get(source)
    if api is None:
        raise BillError(
            source,
            None,
            f"it has no API for bills. Use one of {', '.join(APIS)}, or"
            " name the files of the bill.",
        )
    key = (os.environ if environ is None else environ).get(api.key, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise BillError(source, None, f"set {api.key} to an administrator's key.")
    if api.needs_team and not team:
        raise BillError(source, None, "pass the id of the team as --team.")
    if end <= start:
        raise BillError(source, None, f"{start} to {end} has no days; swap them.")
    with Client(
        source, url or api.url, api.headers(key), team=team, progress=progress
    ) as client:
        return tuple(api.fetch(client, Window(start, end)))
