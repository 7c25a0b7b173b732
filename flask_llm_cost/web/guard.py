"""Who may see the pages: nobody, until the app gives a rule."""

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

Access: t.TypeAlias = Callable[[], t.Any] | t.Literal["public"] | None
"""A rule: a callable asked once per request, ``"public"``, or ``None`` for nobody."""

CLOSED: t.Final = (
    "The LLM cost pages are closed, because the app gave no access rule. Pass one:"
    " llm_cost.blueprint(access=lambda: current_user.is_authenticated and"
    " current_user.is_admin); only True opens the pages. access='public' shows them"
    " to everyone who can reach the app."
)

_logger = logging.getLogger("flask_llm_cost.web")


class Guard:
    """Asks the app's rule before each request to the pages.

    :param access: See :data:`Access`.
    :raises ConfigError: If it is anything else.
    """

    def __init__(self, access: Access) -> None:
        if access is not None and access != "public" and not callable(access):
            raise ConfigError(
                "blueprint(access=) must be a callable that returns True for those who"
                f" may see the costs, or 'public', not {access!r}."
            )
        self._access = access
        self._warned = False

    @property
    def closed(self) -> bool:
        """No rule was given: nothing here is shown to anyone."""
        return self._access is None

    def check(self) -> Response | None:
        """Let the request pass (``None``), or say what answers it instead.

        :raises HTTPException: 403 if the rule says no, 404 if there is no rule, 500
            if it failed. An exception of the rule's own that is an answer (``abort(401)``)
            is passed on.
        """
        if self._access is None:
            self._refuse()
        if self._access == "public" or _harmless():
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
            # The app's code, not ours: whatever it raises, the pages stay closed.
            _logger.exception("The access rule of the LLM cost pages failed.")
            raise InternalServerError(
                "The access rule of these pages failed. The app's log says how."
            ) from error
        if verdict is not False and verdict is not None:
            _logger.error(
                "The access rule of the LLM cost pages returned a %s. Only True opens"
                " them: wrap it in bool().",
                type(verdict).__name__,
            )
        raise Forbidden("You are not allowed to see the costs of this app.")

    def _refuse(self) -> t.NoReturn:
        if not self._warned:
            self._warned = True
            _logger.warning(CLOSED)
        if current_app.debug:
            raise Forbidden(CLOSED)
        raise NotFound


def _harmless() -> bool:
    # A stylesheet holds nothing of anyone's, the page that refuses needs it too, and
    # shared caches may keep it: it is the same file in every copy of this package.
    return request.endpoint == f"{request.blueprint}.asset" and assets.exists(
        (request.view_args or {}).get("name", "")
    )
