"""The app that serves the current request, and its ledger."""

from __future__ import annotations

import datetime as dt
import logging
import typing as t
from collections.abc import Callable
from contextlib import AbstractContextManager

from flask import current_app

from ..errors import StorageError
from ..query.filters import CallFilter
from ..query.host import Host
from ..storage import queued_calls
from ..storage import rejected_lines

if t.TYPE_CHECKING:
    import sqlalchemy as sa

_logger = logging.getLogger("flask_llm_cost.web")


def host() -> Host:
    """The state of the current app."""
    return t.cast(Host, current_app.extensions["llm_cost"])


def now() -> dt.datetime:
    """The current time (aware UTC)."""
    return host().clock()


def today() -> dt.date:
    """The current day in the time zone of the reports."""
    return now().astimezone(host().settings.timezone).date()


def reading(where: CallFilter) -> AbstractContextManager[sa.Connection]:
    """Open the ledger to read the calls in a range of time, and the latest call."""
    return host().ledger.reading(since=where.start, until=where.end)


def queued() -> int | None:
    """The number of calls not yet in the ledger; ``None`` if it cannot be read."""
    return _count(lambda: queued_calls(host().ledger))


def rejected() -> int | None:
    """The number of files with records that cannot be stored."""
    return _count(lambda: rejected_lines(host().ledger))


def _count(count: Callable[[], int]) -> int | None:
    try:
        return count()
    except (OSError, StorageError) as error:
        # An unreadable spool must not hide the figures that can be read.
        _logger.warning("The spool of the LLM cost ledger cannot be read: %s", error)
        return None
