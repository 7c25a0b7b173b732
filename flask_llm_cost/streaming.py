"""The request whose response is being streamed, after Flask has popped its context.

A server iterates over a response when its view has returned. Unless the app uses
``stream_with_context``, a generator then runs outside of any context. Its request is
remembered until the response is closed.
"""

from __future__ import annotations

import contextvars
import threading
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import ExitStack

from flask import current_app
from flask import Flask
from flask import g
from flask import has_app_context
from flask import has_request_context
from flask import request
from flask import Response
from flask.globals import request_ctx

from .interrupts import pass_on
from .recurring import report

_T = t.TypeVar("_T")

_RELOADED: t.Final = frozenset(("_login_user",))
"""Names in ``g`` that are not copied. Flask-Login's user is detached from its database
session by now, and is loaded again."""


class StreamedRequest:
    """A request whose response is not closed yet. Made while its context is pushed."""

    __slots__ = ("_app", "_context", "_found", "_lock", "_object", "names")

    def __init__(self) -> None:
        self._app = weakref.ref(_object(current_app))
        self._context: t.Any = _object(request_ctx)
        self._object: t.Any = _object(request)
        self._found: t.Any = None
        self._lock = threading.RLock()
        self.names: dict[str, t.Any] = vars(_object(g))
        """What is in its ``g``."""

    @property
    def app(self) -> Flask | None:
        """Its app, unless that has been garbage-collected."""
        return self._app()

    def once(self, function: Callable[[], _T]) -> _T | None:
        """What a function returns in a copy of the request's context; called only once.

        :return: ``None`` if the response was closed before.
        """
        with self._lock:
            if self._found is None and self._context is not None:
                self._found = contextvars.copy_context().run(self._in_copy, function)
            return t.cast("_T | None", self._found)

    def _in_copy(self, function: Callable[[], _T]) -> _T | None:
        found = None
        # Leaving the context runs the app's teardown functions, which release what the
        # function used. An exception in one must not reach the stream.
        try:
            with ExitStack() as contexts:
                if has_app_context():  # with a `g` that is not this request's
                    contexts.enter_context(self._context.app.app_context())
                contexts.enter_context(self._context.copy())
                for name, value in self.names.items():
                    if name not in _RELOADED:
                        setattr(g, name, value)
                found = function()
        except Exception as error:
            pass_on(error)
            report(
                "Closing the copied context of a streamed request raised %s.",
                type(error).__name__,
            )
        return found

    def end(self) -> None:
        """Forget the context: the response was closed."""
        self._context = self._object = None
        self.names = {}


class _Streaming(t.NamedTuple):
    """A request, and the contexts in which its response is iterated over."""

    request: StreamedRequest
    outer_request: t.Any
    outer_g: t.Any


_streaming: contextvars.ContextVar[_Streaming | None] = contextvars.ContextVar(
    "flask_llm_cost.streaming", default=None
)


def current() -> StreamedRequest | None:
    """The request whose response is being sent here, if its own context is gone.

    ``None`` if the app has pushed another context meanwhile.
    """
    found = _streaming.get()
    if found is None:
        return None
    now = _current_request()
    if now is not found.outer_request or now is found.request._object:
        return None
    if has_app_context() and _object(g) is not found.outer_g:
        return found.request if found.request.app is _object(current_app) else None
    return found.request


def follow(response: Response) -> Response:
    """Remember the request of a streamed response, until it is closed."""
    # What is passed through directly, such as a file, runs no code of the app.
    if response.is_streamed and not response.direct_passthrough:
        response.response = t.cast("t.Any", _Body(response.response, StreamedRequest()))
    return response


class _Body:
    """The body of a response; each step runs with its request as the current one."""

    __slots__ = ("_body", "_request")

    def __init__(self, body: Iterable[t.Any], request: StreamedRequest) -> None:
        self._body = body
        self._request = request

    def _run(self, function: Callable[..., _T], *args: t.Any) -> _T:
        outer_g = _object(g) if has_app_context() else None
        token = _streaming.set(_Streaming(self._request, _current_request(), outer_g))
        try:
            return function(*args)
        finally:
            _streaming.reset(token)

    def __iter__(self) -> Iterator[t.Any]:
        return _Body(self._run(iter, self._body), self._request)

    def __next__(self) -> t.Any:
        return self._run(next, self._body)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                self._run(close)
        finally:
            self._request.end()

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._body, name)


def _current_request() -> t.Any:
    return _object(request) if has_request_context() else None


def _object(proxy: t.Any) -> t.Any:
    return proxy._get_current_object()
