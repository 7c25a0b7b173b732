"""What every page has: a line in the navigation, filters, and a template."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace

from flask import request

from ...query.filters import CallFilter
from ...query.listing import CallRow
from ...query.listing import top_calls
from ...storage import replica_lag
from ..current import host
from ..current import queued
from ..current import today
from ..forms import FilterForm
from ..rendering import render
from ..selection import Selection

if t.TYPE_CHECKING:
    import sqlalchemy as sa

F = t.TypeVar("F", bound=FilterForm)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the dashboard."""

    rule: str
    endpoint: str
    view: Callable[..., t.Any]
    label: str | None = None
    """The page's name in the navigation; ``None`` if it is not listed there."""
    section: str | None = None
    """The endpoint of the listed page that an unlisted one belongs to."""


def select(form: type[F], endpoint: str, **path: str) -> Selection[F]:
    """Return the calls that the query string selects.

    :raises BadQuery: Naming every invalid parameter.
    """
    day = today()
    found = form.read(request.args, host().settings.timezone, day)
    return Selection(found, endpoint, day, **path)


def show(name: str, **values: t.Any) -> str:
    """Render a template with the state of the ledger."""
    settings = host().settings
    return render(
        name,
        queued=queued(),
        behind=replica_lag(host().ledger),
        stored=settings.enabled and settings.storage in ("database", "jsonl"),
        **values,
    )


def newest(connection: sa.Connection) -> CallRow | None:
    """Return the latest call in the ledger, which empty pages link to."""
    return next(iter(top_calls(connection, CallFilter(), sort="recent", limit=1)), None)


def with_previous(where: CallFilter) -> CallFilter:
    """Return a range together with the previous one."""
    return replace(where, start=where.previous().start)
