"""Error pages: each says what to do."""

from __future__ import annotations

import logging
import typing as t
from functools import partial

from flask import Blueprint
from flask import request
from flask import url_for
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.exceptions import NotFound

from ..errors import FilterError
from ..errors import SetupRequired
from ..errors import StorageError
from .current import queued
from .forms import BadQuery
from .forms import PARAMETERS
from .prefix import without_prefix
from .rendering import render_error

METHODS: t.Final = ("GET", "HEAD")
OTHER_METHODS: t.Final = ("POST", "PUT", "PATCH", "DELETE")

_logger = logging.getLogger("flask_llm_cost.web")

Answer: t.TypeAlias = tuple[str, int] | tuple[str, int, dict[str, str]] | HTTPException


def register(blueprint: Blueprint) -> None:
    """Register the error pages for the dashboard's URLs."""
    for handled in (400, 403, 404, 405, 500):
        blueprint.register_error_handler(handled, error_page)
    blueprint.register_error_handler(FilterError, bad_parameter)
    blueprint.register_error_handler(StorageError, ledger_unavailable)


def catch_unknown(state: BlueprintSetupState) -> None:
    """Send all other URLs below the mount through the guard, too."""
    view = without_prefix(unknown)
    state.add_url_rule("/", "other", view, methods=OTHER_METHODS, strict_slashes=False)
    if state.url_prefix:
        # At the root of an app, this would replace the app's own 404s.
        state.add_url_rule(
            "/<path:path>", "unknown", view, methods=(*METHODS, *OTHER_METHODS)
        )


def unknown(path: str = "") -> t.NoReturn:
    """Answer a URL without a page."""
    if request.method not in METHODS:
        raise MethodNotAllowed(METHODS, "These pages are read-only.")
    raise NotFound("There is no page at this URL.")


def error_page(error: HTTPException) -> Answer:
    """Render an HTTP error."""
    if error.response is not None:
        return error
    status = error.code or 500
    problems = error.problems if isinstance(error, BadQuery) else ()
    page = render_error(
        "problem",
        "Invalid filter" if problems else _TITLES.get(status, error.name),
        None if problems or status == 500 else error.description,
        status=status,
        problems=problems,
        fixed=partial(_without, problems),
    )
    headers = {"Allow": ", ".join(METHODS)} if status == 405 else {}
    return page, status, headers


def bad_parameter(error: FilterError) -> Answer:
    """Render a parameter that the query rejected, such as a cursor."""
    return error_page(BadQuery([(error.parameter, error.message)]))


def ledger_unavailable(error: StorageError) -> Answer:
    """Render a missing or outdated schema, or an unavailable database."""
    setup = isinstance(error, SetupRequired)
    if not setup:
        # The database's address and user belong in the log only.
        _logger.error("The LLM cost pages cannot read the ledger: %s", error)
    page = render_error(
        "setup" if setup else "down",
        "Setup required" if setup else "Ledger unavailable",
        "Run `flask llm-cost doctor`.",
        queued=_queued(),
    )
    return page, 503, {"Retry-After": "30"}


def _queued() -> int | None:
    # A second failure must not replace the page that explains the first.
    try:
        return queued()
    except Exception as error:
        _logger.warning("Queued calls cannot be counted (%s).", type(error).__name__)
        return None


def _without(problems: t.Sequence[tuple[str, str]]) -> str | None:
    """The requested URL without its invalid parameters."""
    if request.endpoint is None or request.view_args is None:
        return None
    bad = {name for name, _ in problems}
    kept = {
        name: values
        for name, values in request.args.lists()
        if name in PARAMETERS and name not in bad and sum(map(len, values)) < 500
    }
    return url_for(request.endpoint, **{**kept, **request.view_args})


_TITLES: t.Final = {
    400: "Request rejected",
    403: "Access denied",
    404: "Page not found",
    405: "Method not allowed",
    500: "Internal error",
}
