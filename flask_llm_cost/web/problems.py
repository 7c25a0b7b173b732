"""Pages for when there is nothing to show: each says what to do about it."""

from __future__ import annotations

import logging
import typing as t

from flask import Blueprint
from flask import render_template
from flask import request
from flask import url_for
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.exceptions import NotFound

from ..errors import FilterError
from ..errors import SetupRequired
from ..errors import StorageError
from .forms import BadQuery
from .forms import PARAMETERS
from .views import waiting

METHODS: t.Final = ("GET", "HEAD")
OTHER_METHODS: t.Final = ("POST", "PUT", "PATCH", "DELETE")

_logger = logging.getLogger("flask_llm_cost.web")

Answer: t.TypeAlias = tuple[str, int] | tuple[str, int, dict[str, str]] | HTTPException


def register(blueprint: Blueprint) -> None:
    """Answer what goes wrong in our own pages with pages of our own."""
    for handled in (400, 403, 404, 405, 500):
        blueprint.register_error_handler(handled, refused)
    blueprint.register_error_handler(FilterError, bad_parameter)
    blueprint.register_error_handler(StorageError, no_ledger)


def catch_unknown(state: BlueprintSetupState) -> None:
    """Send what else is asked for under the mount through the guard, too."""
    state.add_url_rule(
        "/", "other", unknown, methods=OTHER_METHODS, strict_slashes=False
    )
    if state.url_prefix:
        # Mounted at the root of an app, it would swallow the app's own 404s.
        state.add_url_rule(
            "/<path:path>", "unknown", unknown, methods=(*METHODS, *OTHER_METHODS)
        )


def unknown(path: str = "") -> t.NoReturn:
    """No page has this address."""
    if request.method not in METHODS:
        raise MethodNotAllowed(
            METHODS, "These pages only read; there is nothing to send."
        )
    raise NotFound("There is no such page here.")


def refused(error: HTTPException) -> Answer:
    """Show an HTTP error as a page."""
    if error.response is not None:
        return error
    status = error.code or 500
    problems = error.problems if isinstance(error, BadQuery) else ()
    page = render_template(
        "llm_cost/problem.html",
        status=status,
        title=_TITLES.get(status, error.name),
        description=None if problems or status == 500 else error.description,
        problems=problems,
        way_out=_without(problems),
    )
    headers = {"Allow": ", ".join(METHODS)} if status == 405 else {}
    return page, status, headers


def bad_parameter(error: FilterError) -> Answer:
    """A question refused a parameter that its form let pass, such as a cursor."""
    return refused(BadQuery([(error.parameter, error.message)]))


def no_ledger(error: StorageError) -> Answer:
    """The ledger cannot be read: its tables are missing, or its database is."""
    setup = isinstance(error, SetupRequired)
    if not setup:
        # Where a database is, and as whom it is asked, is for the log alone.
        _logger.error("The LLM cost pages cannot read the ledger: %s", error)
    page = render_template(
        "llm_cost/setup.html" if setup else "llm_cost/down.html",
        waiting=_waiting(),
    )
    return page, 503, {"Retry-After": "30"}


def _waiting() -> int | None:
    # This page says what is wrong; what is wrong besides must not take its place.
    try:
        return waiting()
    except Exception as error:
        _logger.warning(
            "Calls that wait for the ledger cannot be counted (%s).",
            type(error).__name__,
        )
        return None


def _without(problems: t.Sequence[tuple[str, str]]) -> str | None:
    """The address asked for, without the parameters that mean nothing."""
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
    400: "This address asks for something that has no meaning",
    403: "You may not see this",
    404: "There is nothing here",
    405: "These pages only read",
    500: "Something went wrong",
}
