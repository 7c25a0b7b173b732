"""Captures urllib3 that is used directly, or by a library that is not captured itself.

A connection's ``request`` and ``getresponse`` are one attempt, so each of urllib3's own
retries and redirects is one.
"""

from __future__ import annotations

import errno
import typing as t
from collections.abc import Callable

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from .connection import bytes_of
from .connection import url_of
from .harmless import harmless
from .meter import Meter
from .patch import bound
from .patch import Patch
from .tap import Tap
from .urllib3_body import follow_body
from .urllib3_body import report_body

_SENT: t.Final = "_llm_cost_sent"
"""Where a connection has what it sent last: the meter, and how the body is read."""

_ANSWERED: t.Final = (errno.EPIPE, errno.ECONNRESET, errno.EPROTOTYPE)
"""Errors of a send after which urllib3 still looks for a response."""


class _Sent(t.NamedTuple):
    meter: Meter
    preloads: bool
    decodes: bool


def _send(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    def request(
        self: HTTPConnection,
        method: str,
        url: str,
        body: t.Any = None,
        *args: t.Any,
        **options: t.Any,
    ) -> t.Any:
        send = bound(original, self)
        tap = patch.tap
        headers = args[0] if args else options.get("headers")
        meter = None if tap is None else _open(tap, self, method, url, body, headers)
        if meter is None:
            return send(method, url, body, *args, **options)
        preloads = options.get("preload_content", True)
        decodes = options.get("decode_content", True)
        vars(self)[_SENT] = _Sent(meter, preloads, decodes)
        try:
            return send(method, url, body, *args, **options)
        except BaseException as error:
            if getattr(error, "errno", None) not in _ANSWERED:
                meter.no_response()
            raise
        finally:
            meter.sent()

    return request


def _open(
    tap: Tap,
    connection: HTTPConnection,
    method: str,
    url: str,
    body: t.Any,
    headers: t.Any,
) -> Meter | None:
    return tap.open(
        method,
        url_of(connection, url),
        lambda: bytes_of(body),
        headers=headers or (),
    )


def _receive(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    def getresponse(self: HTTPConnection) -> HTTPResponse:
        sent: _Sent | None = vars(self).pop(_SENT, None)
        receive = bound(original, self)
        if sent is None:
            return t.cast(HTTPResponse, receive())
        try:
            response: HTTPResponse = receive()
        except HTTPError:
            # Of the response's body, which this reads if the caller did not ask for it.
            sent.meter.fail()
            raise
        except BaseException:
            sent.meter.no_response()
            raise
        _follow(response, sent)
        return response

    return getresponse


@harmless()
def _follow(response: HTTPResponse, sent: _Sent) -> None:
    """Attach the meter to the response body, or report it if it was read already."""
    sent.meter.respond(response.status, response.headers)
    if sent.preloads:
        report_body(response, sent.meter, decode=sent.decodes)
    else:
        follow_body(response, sent.meter)


def patches(module: str) -> list[Patch]:
    """The patches that capture every connection in the process.

    :raises ImportError: If this is urllib3 1, or urllib3-future in its place, which niquests
        installs. Its connections have several requests at a time.
    """
    own = vars(HTTPConnection)
    version = t.cast(t.Any, urllib3).__version__
    future = version.rpartition(".")[2] >= "900"
    if future or "request" not in own or "getresponse" not in own:
        raise ImportError(
            f"urllib3 {version} is captured below requests and botocore, but not where it is"
            " used directly: that takes urllib3 2, and not urllib3-future."
        )
    return [
        Patch(HTTPConnection, "request", _send),
        Patch(HTTPConnection, "getresponse", _receive),
    ]
