"""Keeps errors in capture away from the app's call."""

from __future__ import annotations

import functools
import logging
import typing as t
from collections.abc import Callable

from ..interrupts import pass_on
from ..recurring import report

_P = t.ParamSpec("_P")
_R = t.TypeVar("_R")


def harmless(
    *, passing: tuple[type[Exception], ...] = ()
) -> Callable[[Callable[_P, _R]], Callable[_P, _R | None]]:
    """Log an error of ours and return ``None``, so that it cannot reach the app's call.

    :param passing: Errors that are raised on purpose, to stop a call before it is sent.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R | None]:
        @functools.wraps(function)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
            # All of capture's own work passes through here. Whatever goes wrong in it,
            # the app's call must continue.
            try:
                return function(*args, **kwargs)
            except passing:
                raise
            except Exception as error:
                pass_on(error)
                _report(error)
                return None

        return guarded

    return decorate


def _report(error: Exception) -> None:
    """Log where an error occurred, but not its message: that may quote content."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = "?" if at is None else f"{at.tb_frame.f_code.co_name}:{at.tb_lineno}"
    report(
        "Capture failed with %s in %s. The app's call continues; its record may be"
        " missing or without usage.",
        type(error).__qualname__,
        where,
        level=logging.ERROR,
    )
