"""Captures requests sessions.

A response's raw body becomes an instance of a subclass of its own class that reports what it
hands out to a :class:`.Meter`. Everything else stays as it is: the object, its connection, its
exceptions, and that it is freed as soon as nothing refers to it.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from requests import PreparedRequest
from requests import Response
from requests import Session
from requests.adapters import BaseAdapter
from requests.adapters import HTTPAdapter
from requests.exceptions import RetryError
from requests.utils import stream_decode_response_unicode
from urllib3.response import HTTPResponse

from ..attempt import ClientRecorder
from ..call import TagSource
from ..errors import ConfigError
from ..providers import Provider
from .connection import bytes_of
from .harmless import harmless
from .meter import Meter
from .patch import become
from .patch import bound
from .patch import Patch
from .patch import wrap_transport
from .tap import Hosts
from .tap import Tap
from .urllib3_body import follow_body


class LlmCostAdapter(HTTPAdapter):
    """Records the LLM calls of the :class:`requests.Session` that it is mounted on.

    It takes the options of :class:`requests.adapters.HTTPAdapter` and behaves like one.
    Create it with :meth:`.LlmCost.adapter`. One ``send`` is one record: what urllib3
    retries inside it (``max_retries``) is not visible.

    :param recorder: Asked before an LLM call is sent, and handed the call at its end.
    :param hosts: As ``LLM_COST_PROVIDER_HOSTS``, or a callable evaluated at each attempt.
    :param providers: An app's own, tried before the built-in ones.
    :param tags: Tags of every call: a mapping, or a callable evaluated once per call.
    :param inner: An adapter that does the sending, with its own options.
    :raises ConfigError: If ``tags`` or ``inner`` has the wrong type, or if options are
        given besides ``inner``.
    """

    __attrs__ = [*HTTPAdapter.__attrs__, "_inner", "_tap"]  # what is pickled

    def __init__(
        self,
        recorder: ClientRecorder,
        *,
        hosts: Hosts | None = None,
        providers: Sequence[Provider] = (),
        tags: TagSource | None = None,
        inner: BaseAdapter | None = None,
        **options: t.Any,
    ) -> None:
        if inner is not None and options:
            raise ConfigError(
                f"{', '.join(options)} cannot be combined with inner: pass the options"
                " to the inner adapter."
            )
        if inner is not None and not isinstance(inner, BaseAdapter):
            raise ConfigError(
                "inner must be an adapter, such as requests.adapters.HTTPAdapter(), not"
                f" {type(inner).__name__}."
            )
        self._tap: Tap | None = Tap(
            recorder, hosts=hosts, providers=providers, tags=tags
        )
        self._inner = inner
        super().__init__(**options)

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: t.Any = None,
        verify: bool | str = True,
        cert: t.Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request, and record the call if it is one to an LLM."""
        options = {
            "stream": stream,
            "timeout": timeout,
            "verify": verify,
            "cert": cert,
            "proxies": proxies,
        }
        send = super().send if self._inner is None else self._inner.send
        response = captured(self._tap, send, request, **options)
        if getattr(response, "connection", None) is self._inner is not None:
            # Authentication handlers resend through it, and that is an attempt, too.
            response.connection = self
        return response

    def close(self) -> None:
        """Close the connection pools, including those of the inner adapter."""
        super().close()
        if self._inner is not None:
            self._inner.close()


def captured(
    tap: Tap | None,
    send: Callable[..., Response],
    request: PreparedRequest,
    *args: t.Any,
    **options: t.Any,
) -> Response:
    """Send a request, and record the call if it is one to an LLM.

    :param send: An adapter's ``send``, bound to it.
    """
    meter = None if tap is None else _open(tap, request)
    if meter is None:
        return send(request, *args, **options)
    with meter.sending(request, _asking, _last_status) as sent:
        response = send(sent, *args, **options)
    if sent is not request and getattr(response, "request", None) is sent:
        response.request = request
    _follow(response, meter)
    return response


def _open(tap: Tap, request: PreparedRequest) -> Meter | None:
    url = request.url or ""
    return tap.open(
        request.method or "",
        url.decode("latin-1") if isinstance(url, bytes) else url,
        lambda: bytes_of(request.body),
        headers=request.headers,
    )


@harmless()
def _asking(request: PreparedRequest, body: bytes) -> PreparedRequest:
    """A copy with another body: the app may send its own again."""
    asking = request.copy()
    asking.body = body
    if "Content-Length" in asking.headers:
        asking.headers["Content-Length"] = str(len(body))
    return asking


@harmless()
def _last_status(error: BaseException) -> int | None:
    """The status after which ``max_retries`` gave up: "too many 503 error responses"."""
    if not isinstance(error, RetryError):
        return None
    for word in str(getattr(error.args[0], "reason", "")).split():
        if word.isdigit():
            return int(word)
    return None


@harmless()
def _follow(response: Response, meter: Meter) -> None:
    """Attach the meter to the response body."""
    raw = response.raw
    meter.respond(response.status_code or 0, response.headers)
    content = response.__dict__.get("_content")
    if isinstance(content, bytes):
        # Made by a stub or a cache: nothing is left to be read.
        meter.feed(content, decoded=True)
        meter.end()
        return
    if isinstance(raw, HTTPResponse) and follow_body(raw, meter):
        return
    response.__dict__["_llm_cost"] = meter
    become(response, _TeeResponse)


if t.TYPE_CHECKING:
    _Response = Response
    _Adapter = BaseAdapter
else:
    _Response = _Adapter = object


class _TeeResponse(_Response):
    """A response with a raw body of another library than urllib3, followed from here.

    What the app reads from ``raw`` directly is not captured.
    """

    _llm_cost: Meter

    def iter_content(
        self, chunk_size: int | None = 1, decode_unicode: bool = False
    ) -> Iterator[t.Any]:
        chunks = self._fed(super().iter_content(chunk_size))
        if decode_unicode:
            decode: Callable[..., Iterator[t.Any]] = stream_decode_response_unicode
            return decode(chunks, self)
        return chunks

    def _fed(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        meter = self._llm_cost
        # As in requests: a plain file is not decoded.
        decoded = hasattr(self.raw, "stream")
        try:
            for chunk in chunks:
                meter.feed(chunk, decoded=decoded)
                yield chunk
        except Exception:
            meter.fail()
            raise
        meter.end()

    def close(self) -> None:
        self._llm_cost.close()
        super().close()

    def __del__(self) -> None:
        self._llm_cost.abandon()
        inherited = getattr(super(), "__del__", None)
        if inherited is not None:
            inherited()

    def __reduce_ex__(self, protocol: t.SupportsIndex) -> t.Any:
        return _as_its_own(type(self), super().__reduce_ex__(1))


def _as_its_own(mine: type, reduced: t.Any) -> tuple[t.Any, ...]:
    """Pickle an object of a class that was made here, and that nobody can import.

    :param mine: That class; the object is pickled as one of its original class.
    :param reduced: Its reduction for protocol 1, the only protocol that allows this.
    """
    base = mine.__bases__[1]
    make, arguments, *state = reduced
    own = tuple(base if each is mine else each for each in (make, *arguments))
    return own[0], own[1:], *state


def _around(patch: Patch, original: Callable[..., Response]) -> Callable[..., Response]:
    def send(
        self: HTTPAdapter, request: PreparedRequest, *args: t.Any, **options: t.Any
    ) -> Response:
        return captured(patch.tap, bound(original, self), request, *args, **options)

    return send


def patches(module: str) -> list[Patch]:
    """The patches that capture every session in the process."""
    return [Patch(HTTPAdapter, "send", _around)]


def target_of(library: str, client: object) -> Session | None:
    """The client, if it is a session."""
    return client if isinstance(client, Session) else None


def wrap(tap: Tap, session: Session) -> None:
    """Capture the calls of one session. If it is wrapped again, the new tap applies.

    Its adapters become instances of subclasses of their own classes. What is mounted later
    is not captured.

    :raises ConfigError: If an adapter cannot be captured.
    """
    for adapter in session.adapters.values():
        if isinstance(adapter, LlmCostAdapter):
            adapter._tap = tap
        else:
            wrap_transport(adapter, _TappedAdapter, tap)


class _TappedAdapter(_Adapter):
    """A captured adapter of the app's own."""

    def send(
        self, request: PreparedRequest, *args: t.Any, **options: t.Any
    ) -> Response:
        # An app's own way of copying may have left the tap behind.
        tap: Tap | None = self.__dict__.get("_llm_cost")
        return captured(tap, super().send, request, *args, **options)

    def __reduce_ex__(self, protocol: t.SupportsIndex) -> t.Any:
        make, arguments, *state = _as_its_own(type(self), super().__reduce_ex__(1))
        tap = self.__dict__.get("_llm_cost")
        return _restore_tapped, (tap, make, arguments), *state


def _restore_tapped(
    tap: Tap | None, make: Callable[..., BaseAdapter], arguments: tuple[t.Any, ...]
) -> BaseAdapter:
    """A copy of an adapter; captured, if it is in the same process as the original."""
    adapter = make(*arguments)
    if tap is not None:
        wrap_transport(adapter, _TappedAdapter, tap)
    return adapter
