"""Captures botocore and boto3 clients, each retry as its own attempt.

Below its events and retries, a client sends through its own HTTP session over urllib3.
That is where single attempts can be captured.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable

from botocore.httpsession import URLLib3Session
from urllib3.response import HTTPResponse

from .connection import bytes_of
from .harmless import harmless
from .meter import Meter
from .patch import bound
from .patch import Patch
from .patch import wrap_transport
from .tap import Tap
from .urllib3_body import follow_body


def captured(tap: Tap | None, send: Callable[[t.Any], t.Any], request: t.Any) -> t.Any:
    """Send a request, and record the call if it is one to an LLM.

    :param send: An HTTP session's ``send``, bound to it.
    """
    meter = None if tap is None else _open(tap, request)
    if meter is None:
        return send(request)
    # Unless it streams, send reads the body itself, and also raises if the connection is lost.
    with meter.sending(request):
        response = send(request)
    _follow(response, meter, streams=bool(request.stream_output))
    return response


def _open(tap: Tap, request: t.Any) -> Meter | None:
    return tap.open(
        request.method,
        request.url,
        lambda: bytes_of(request.body),
        headers=lambda: request.headers.items(),
    )


@harmless()
def _follow(response: t.Any, meter: Meter, *, streams: bool) -> None:
    """Attach the meter to the response body."""
    meter.respond(response.status_code, response.headers)
    raw = response.raw
    if not streams:
        meter.feed(response.content, decoded=False)
        # botocore accepts a body that is shorter than announced.
        if getattr(raw, "length_remaining", None):
            meter.fail()
        meter.end()
    elif isinstance(raw, HTTPResponse):
        follow_body(raw, meter)


def patches(module: str) -> list[Patch]:
    """The patches that capture every client in the process."""

    def around(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
        def send(self: URLLib3Session, request: t.Any) -> t.Any:
            return captured(patch.tap, bound(original, self), request)

        return send

    return [Patch(URLLib3Session, "send", around)]


def target_of(library: str, client: object) -> t.Any:
    """The HTTP session of a client; ``None`` if it is not a botocore client."""
    endpoint = getattr(client, "_endpoint", None)
    session = getattr(endpoint, "http_session", None)
    return session if isinstance(session, URLLib3Session) else None


def wrap(tap: Tap, session: URLLib3Session) -> None:
    """Capture what one client sends through its HTTP session.

    If it is wrapped again, the new tap applies.
    """
    wrap_transport(session, _TappedSession, tap)


class _TappedSession:
    """A captured HTTP session."""

    def send(self, request: t.Any) -> t.Any:
        inner = super().send  # type: ignore[misc]
        return captured(self.__dict__["_llm_cost"], inner, request)
