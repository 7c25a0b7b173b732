"""The sessions."""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence

from flask import Response

from ...calendar import iso
from ...query.export import totals_csv
from ...query.sessions import every_session
from ...query.sessions import Names
from ...query.sessions import Session
from ...query.sessions import UNKNOWN as NO_SESSION
from ...query.sessions import with_models
from ...query.sources import pruned_before
from ...query.totals import sum_up
from .. import export
from .. import table
from ..current import host
from ..current import reading
from ..forms import TABLE_SORTS
from ..forms import TableForm
from .page import newest
from .page import Page
from .page import select
from .page import show

_logger = logging.getLogger("flask_llm_cost.web")


def sessions() -> str:
    """The cost of each session."""
    selection = select(TableForm, ".sessions")
    where, key = selection.where, host().settings.session_tag
    with reading(where) as connection:
        found, known = every_session(connection, where, key, names=_names())
        page = table.page_of(selection.form, found, _name)
        return show(
            "sessions",
            selection=selection,
            sessions=with_models(connection, where, key, page.rows, known),
            page=page,
            only_unknown=[each.session_id for each in found] == [NO_SESSION],
            totals=sum_up(each.totals for each in found),
            others=table.others(page, found),
            sorts=TABLE_SORTS,
            key=key,
            unknown=NO_SESSION,
            newest=None if found else newest(connection),
            pruned=pruned_before(connection, where, ["tag"]),
        )


def sessions_csv() -> Response:
    """The same as CSV, all pages of it."""
    selection = select(TableForm, ".sessions")
    where, key = selection.where, host().settings.session_tag
    with reading(where) as connection:
        found, _ = every_session(connection, where, key, names=_names())
    rows = table.page_of(selection.form, found, _name).matching
    lines = (
        (
            (each.session_id, each.name, iso(each.first_at), iso(each.last_at)),
            each.totals,
        )
        for each in rows
    )
    columns = ("session_id", "session_name", "first_at", "last_at")
    return export.csv_file("sessions", totals_csv(columns, lines))


def _names() -> Names | None:
    return _session_names if host().settings.session_names is not None else None


def _name(session: Session) -> str:
    return f"{session.name or ''} {session.session_id}".strip()


def _session_names(ids: Sequence[str]) -> Mapping[str, str]:
    names = host().settings.session_names
    try:
        return dict(names(ids)) if names is not None else {}
    except Exception:
        # The app's code: if it fails, the page shows session ids instead of names.
        _logger.exception("LLM_COST_SESSION_NAMES failed.")
        return {id_: id_ for id_ in ids}


PAGES: t.Final = (
    Page("/sessions", "sessions", sessions, "Sessions"),
    Page("/sessions.csv", "sessions_csv", sessions_csv),
)
