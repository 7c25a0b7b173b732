"""Captures connections of the standard library's ``http.client``.

``urllib.request`` sends through them, and so does everything that has no HTTP library. An
attempt begins when the headers are complete, before any byte leaves. The response becomes
an instance of a subclass of its own class that reports what it hands out to a
:class:`.Meter`.
"""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from http.client import HTTPConnection
from http.client import HTTPException
from http.client import HTTPResponse
from http.client import ResponseNotReady
from threading import get_ident

from ..errors import LlmCostError
from .connection import bytes_of
from .connection import url_of
from .harmless import harmless
from .meter import Meter
from .patch import become
from .patch import bound
from .patch import Patch
from .tap import Tap

_TARGET: t.Final = "_llm_cost_target"
"""Where a connection has the method and URL of the request that is being made."""

_METER: t.Final = "_llm_cost_meter"
"""Where a connection has the meter of the request whose response is awaited."""

_BROKEN: t.Final = (HTTPException, OSError)


def _note_target(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    def putrequest(
        self: HTTPConnection, method: str, url: str, *args: t.Any, **options: t.Any
    ) -> t.Any:
        if patch.tap is not None:
            vars(self)[_TARGET] = method, url
        return bound(original, self)(method, url, *args, **options)

    return putrequest


def _begin(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    def endheaders(
        self: HTTPConnection, message_body: t.Any = None, **options: t.Any
    ) -> t.Any:
        send = bound(original, self)
        meter = None
        tap, target = patch.tap, vars(self).pop(_TARGET, None)
        if tap is not None and target is not None and not _is_urllib3(self):
            try:
                meter = _open(tap, self, target, message_body)
            except LlmCostError:
                _reset(self)
                raise
        if meter is None:
            return send(message_body, **options)
        vars(self)[_METER] = meter
        try:
            return send(message_body, **options)
        except BrokenPipeError:
            # The provider may have answered already, so the caller may ask for that.
            raise
        except BaseException:
            del vars(self)[_METER]
            meter.no_response()
            raise
        finally:
            meter.sent()

    return endheaders


def _open(
    tap: Tap, connection: HTTPConnection, target: tuple[str, str], body: t.Any
) -> Meter | None:
    method, url = target
    return tap.open(
        method,
        url_of(connection, url),
        lambda: bytes_of(body),
        headers=lambda: _headers(connection),
    )


def _headers(connection: HTTPConnection) -> Iterator[tuple[bytes, bytes]]:
    # Not public: the lines to send, of which the first is the request's.
    for line in vars(connection)["_buffer"][1:]:
        name, _, value = line.partition(b":")
        yield name, value


def _reset(connection: HTTPConnection) -> None:
    """Drop a request that must not be sent, so that others may follow on its connection.

    Neither is public, but otherwise its headers would be sent with the next request.
    """
    own = vars(connection)
    own["_buffer"] = []
    own["_HTTPConnection__state"] = "Idle"


def _is_urllib3(connection: HTTPConnection) -> bool:
    """Whether urllib3 sends through a connection: it reads chunked bodies past ours."""
    module: t.Any = sys.modules.get("urllib3.connection")
    return module is not None and isinstance(connection, module.HTTPConnection)


def _respond(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    def getresponse(self: HTTPConnection) -> HTTPResponse:
        meter: Meter | None = vars(self).pop(_METER, None)
        receive = bound(original, self)
        if meter is None:
            return t.cast(HTTPResponse, receive())
        try:
            response: HTTPResponse = receive()
        except ResponseNotReady:
            # The previous response is not read to its end: the caller may ask again.
            vars(self)[_METER] = meter
            raise
        except BaseException:
            meter.no_response()
            raise
        _follow(response, meter)
        return response

    return getresponse


@harmless()
def _follow(response: HTTPResponse, meter: Meter) -> None:
    """Attach the meter to the response body."""
    meter.respond(response.status, dict(response.getheaders()))
    vars(response)["_llm_cost"] = _Tee(meter)
    become(response, _TeeResponse)


class _Tee:
    """The state of a followed body. It must not refer back to the body."""

    __slots__ = ("meter", "reader")

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.reader = 0
        """The thread that is inside a read, else 0: the methods call each other."""


if t.TYPE_CHECKING:
    _Response = HTTPResponse
else:
    _Response = object


class _TeeResponse(_Response):
    """The methods through which a body leaves a response. Iteration uses these."""

    __slots__ = ()
    _llm_cost: _Tee

    def read(self, *args: t.Any) -> bytes:
        return t.cast(bytes, self._reporting(super().read, bytes, args))

    def read1(self, *args: t.Any) -> bytes:
        return t.cast(bytes, self._reporting(super().read1, bytes, args))

    def readline(self, *args: t.Any) -> bytes:
        return t.cast(bytes, self._reporting(super().readline, bytes, args))

    def readinto(self, buffer: t.Any) -> int:
        def handed(count: int) -> bytes:
            return bytes(memoryview(buffer).cast("B")[:count])

        return t.cast(int, self._reporting(super().readinto, handed, (buffer,)))

    def _reporting(
        self,
        read: Callable[..., t.Any],
        handed: Callable[[t.Any], bytes],
        args: tuple[t.Any, ...],
    ) -> t.Any:
        tee, mine = self._llm_cost, get_ident()
        if tee.reader == mine:
            return read(*args)
        tee.reader = mine
        try:
            result = read(*args)
        except _BROKEN:
            tee.meter.fail()
            raise
        except Exception:
            # The caller's own mistake.
            raise
        except BaseException:
            tee.meter.close()
            raise
        finally:
            tee.reader = 0
        self._report(handed, result)
        return result

    @harmless()
    def _report(self, handed: Callable[[t.Any], bytes], result: t.Any) -> None:
        meter = self._llm_cost.meter
        data = handed(result)
        if data:
            meter.feed(data, decoded=False)
        if self.length == 0:
            # Some reads leave it open then.
            meter.end()
        elif self.isclosed():
            # Shorter than announced, which not every read makes an error of.
            if self.length:
                meter.fail()
            else:
                meter.end()

    def close(self) -> None:
        self._llm_cost.meter.close()
        super().close()

    def __del__(self) -> None:
        self._llm_cost.meter.abandon()
        super().__del__()


def patches(module: str) -> list[Patch]:
    """The patches that capture every connection in the process."""
    return [
        Patch(HTTPConnection, "putrequest", _note_target),
        Patch(HTTPConnection, "endheaders", _begin),
        Patch(HTTPConnection, "getresponse", _respond),
    ]
