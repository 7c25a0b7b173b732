"""Access control: nobody sees the pages until the app provides an access rule."""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Callable

from flask import current_app
from flask import make_response
from flask import request
from werkzeug.exceptions import Forbidden
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import InternalServerError
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from ..errors import ConfigError
from . import assets
from .headers import leave_alone
from .metrics import is_authorized

Access: t.TypeAlias = Callable[[], t.Any] | t.Literal["public"] | None
"""A callable evaluated once per request, ``"public"``, or ``None`` for nobody."""

CLOSED: t.Final = (
    "The LLM cost pages are closed because the app has no access rule. Pass one:"
    " llm_cost.blueprint(access=lambda: current_user.is_authenticated and"
    " current_user.is_admin). Only True grants access. access='public' opens the pages"
    " to everyone who can reach the app."
)

_logger = logging.getLogger("flask_llm_cost.web")


class Guard:
    """Evaluates the app's access rule before each request to the pages.

    :param access: See :data:`Access`.
    :raises ConfigError: If it is anything else.
    """

    def __init__(self, access: Access) -> None:
        if access is not None and access != "public" and not callable(access):
            raise ConfigError(
                "blueprint(access=...) must be a callable that returns True to grant"
                f" access, or 'public', not {access!r}."
            )
        self._access = access
        self._warned = False

    @property
    def closed(self) -> bool:
        """Whether there is no rule, so that nobody has access."""
        return self._access is None

    def check(self) -> Response | None:
        """Grant access (``None``), or return the rule's own response.

        :raises HTTPException: 403 if the rule denies access, 404 without a rule, 500 if
            the rule failed. An ``abort()`` in the rule is passed on.
        """
        if _is_metrics() and is_authorized():
            return None
        if self._access is None:
            self._refuse()
        if self._access == "public" or _is_asset():
            return None
        try:
            verdict = current_app.ensure_sync(t.cast(t.Any, self._access))()
            if verdict is True:
                return None
            if isinstance(verdict, (str, bytes, tuple, Response, HTTPException)):
                leave_alone()
                return make_response(verdict)
        except HTTPException:
            raise
        except Exception as error:
            # This is the app's code: whatever it raises, the pages stay closed.
            _logger.exception("The access rule of the LLM cost pages failed.")
            raise InternalServerError(
                "The access rule raised an exception. See the app's log."
            ) from error
        if verdict is not False and verdict is not None:
            _logger.error(
                "The access rule of the LLM cost pages returned a %s. Only True grants"
                " access; wrap the value in bool().",
                type(verdict).__name__,
            )
        raise Forbidden("You do not have permission to view the LLM costs of this app.")

    def _refuse(self) -> t.NoReturn:
        if not self._warned:
            self._warned = True
            _logger.warning(CLOSED)
        if current_app.debug:
            raise Forbidden(CLOSED)
        raise NotFound


def _is_metrics() -> bool:
    return request.endpoint == f"{request.blueprint}.metrics"


def _is_asset() -> bool:
    # Assets are public: they are the same in every copy of this package, the 403 page
    # needs them, and shared caches may keep them.
    name = (request.view_args or {}).get("name")
    return request.endpoint == f"{request.blueprint}.asset" and name in assets.files()
