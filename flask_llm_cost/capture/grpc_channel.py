"""Captures gRPC, sync and asyncio: ``xai-sdk``, and Google's clients that do not use HTTP.

Each call of a method is an attempt, begun before its message leaves. The interceptors of a
channel end there, too. Only the fields of messages that show what is billed are read.
"""

from __future__ import annotations

import importlib
import typing as t
from collections.abc import AsyncIterator
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Mapping

from .form import form
from .harmless import harmless
from .meter import Meter
from .patch import become
from .patch import bound
from .patch import Patch
from .tap import Tap

# They have no types.
grpc: t.Any = importlib.import_module("grpc")
channels: t.Any = importlib.import_module("grpc._channel")
aio_channels: t.Any = importlib.import_module("grpc.aio._channel")

_KEPT: t.Final = frozenset(
    (
        "created",
        "id",
        "model",
        "model_version",
        "response_id",
        "service_tier",
        "usage",
        "usage_metadata",
    )
)
"""The fields of a response that are read. The others are content."""

_STATUSES: t.Final[Mapping[t.Any, int]] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
}
"""The HTTP status of an error that the provider answered with, as Google maps them:
https://cloud.google.com/apis/design/errors#handling_errors. Others are not an answer."""


def _open(tap: Tap | None, callable_: t.Any, request: t.Any) -> Meter | None:
    return None if tap is None else tap.open("GRPC", *_request(callable_, request))


def _request(callable_: t.Any, request: t.Any) -> tuple[str, None, Callable[[], bytes]]:
    """The URL of a call; no body, because it is not JSON; and what is read of it."""
    return _url(callable_) or "", None, lambda: form([("model", _model(request))])


@harmless()
def _url(callable_: t.Any) -> str:
    # Not public. A channel of asyncio has its target, others leave it to the callable.
    target = getattr(callable_, "_target", None) or callable_._channel.target
    host, method = _text(target), _text(callable_._method)
    return f"https://{host.rpartition('/')[2]}{method}"


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _model(request: t.Any) -> str:
    return str(getattr(request, "model", "")).rpartition("/")[2]


# Responses


@harmless()
def _take(meter: Meter, message: t.Any) -> None:
    meter.event(_document(message))


def _document(message: t.Any) -> dict[str, t.Any]:
    """What is read of a message of protobuf, or of proto-plus."""
    unwrap = getattr(type(message), "pb", None)
    raw = message if unwrap is None else unwrap(message)
    return {
        field.name: _plain(field, value)
        for field, value in raw.ListFields()
        if field.name in _KEPT
    }


def _plain(field: t.Any, value: t.Any) -> t.Any:
    if hasattr(value, "ListFields"):
        return {each.name: _plain(each, part) for each, part in value.ListFields()}
    if not isinstance(value, (str, bytes, int, float)):
        return [_plain(field, part) for part in value]
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value


@harmless()
def _refused(meter: Meter, error: BaseException) -> None:
    """A call ended with an error."""
    code = getattr(error, "code", None)
    status = _STATUSES.get(code()) if callable(code) else None
    if status is None:
        meter.no_response()
    else:
        meter.respond(status, {})
        meter.end()


# Calls


def _calling(follow: Callable[[Meter, t.Any], None]) -> Callable[..., t.Any]:
    """Of a method that makes a call.

    :param follow: What to do with what the method returns.
    """

    def around(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
        def call(self: t.Any, request: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
            send = bound(original, self)
            meter = _open(patch.tap, self, request)
            if meter is None:
                return send(request, *args, **options)
            try:
                answer = send(request, *args, **options)
            except BaseException as error:
                _refused(meter, error)
                meter.no_response()
                raise
            meter.sent()
            follow(meter, answer)
            return answer

        return call

    return around


def _answered(meter: Meter, answer: t.Any) -> None:
    """The method returned the response, or the response and its call."""
    _take(meter, answer[0] if isinstance(answer, tuple) else answer)
    meter.end()


@harmless()
def _promised(meter: Meter, future: t.Any) -> None:
    future.add_done_callback(lambda done: _finish(meter, done))


@harmless()
def _finish(meter: Meter, done: t.Any) -> None:
    if done.cancelled():
        meter.close()
        return
    error = done.exception()
    if error is None:
        _take(meter, done.result())
        meter.end()
    else:
        _refused(meter, error)


def _streaming(kind: type) -> Callable[[Meter, t.Any], None]:
    """Of a method that returns a call to follow, which becomes a ``kind``."""

    @harmless()
    def follow(meter: Meter, call: t.Any) -> None:
        vars(call)["_llm_cost"] = meter
        become(call, kind)

    return follow


class _Tee:
    """A call that is followed."""

    _llm_cost: Meter

    def cancel(self) -> bool:
        self._llm_cost.close()
        return bool(super().cancel())  # type: ignore[misc]

    def __del__(self) -> None:
        self._llm_cost.abandon()
        inherited = getattr(super(), "__del__", None)
        if inherited is not None:
            inherited()

    def _broke(self, error: BaseException) -> None:
        """Reading raised an error."""
        meter = self._llm_cost
        if isinstance(error, StopIteration):
            meter.end()
        elif not isinstance(error, grpc.RpcError):
            meter.close()
        elif self.__dict__.get("_llm_cost_read"):
            meter.fail()
        else:
            _refused(meter, error)
        if t.cast(object, error) is self:
            # The call is its own exception, and has its own type again.
            self.__class__ = type(self).__bases__[1]

    def _handed(self, message: t.Any) -> None:
        self.__dict__["_llm_cost_read"] = True
        _take(self._llm_cost, message)


class _TeeStream(_Tee):
    """The stream of a sync call."""

    def __next__(self) -> t.Any:
        try:
            message = super().__next__()  # type: ignore[misc]
        except BaseException as error:
            self._broke(error)
            raise
        self._handed(message)
        return message

    def next(self) -> t.Any:
        return self.__next__()


class _TeeAnswer(_Tee):
    """A call of asyncio with one response."""

    def __await__(self) -> Generator[t.Any, None, t.Any]:
        try:
            message = yield from super().__await__()  # type: ignore[misc]
        except BaseException as error:
            self._broke(error)
            raise
        self._handed(message)
        self._llm_cost.end()
        return message


class _TeeAsyncStream(_Tee):
    """The stream of a call of asyncio."""

    def __aiter__(self) -> AsyncIterator[t.Any]:
        own = self.__dict__
        if "_llm_cost_iterator" not in own:
            messages = super().__aiter__()  # type: ignore[misc]
            own["_llm_cost_iterator"] = self._handing(messages)
        return t.cast(AsyncIterator[t.Any], own["_llm_cost_iterator"])

    async def _handing(self, messages: AsyncIterator[t.Any]) -> AsyncIterator[t.Any]:
        try:
            async for message in messages:
                self._handed(message)
                yield message
        except BaseException as error:
            self._broke(error)
            raise
        self._llm_cost.end()

    async def read(self) -> t.Any:
        try:
            message = await super().read()  # type: ignore[misc]
        except BaseException as error:
            self._broke(error)
            raise
        if message is grpc.aio.EOF:
            self._llm_cost.end()
        else:
            self._handed(message)
        return message


def patches(module: str) -> list[Patch]:
    """The patches that capture every channel in the process.

    :raises ImportError: If this version has other channels.
    """
    try:
        unary: t.Any = channels._UnaryUnaryMultiCallable
        streams = (
            channels._UnaryStreamMultiCallable,
            channels._SingleThreadedUnaryStreamMultiCallable,
        )
        aio_unary: t.Any = aio_channels.UnaryUnaryMultiCallable
        aio_stream: t.Any = aio_channels.UnaryStreamMultiCallable
    except AttributeError as error:
        raise ImportError(str(error)) from None
    return [
        Patch(unary, "__call__", _calling(_answered)),
        Patch(unary, "with_call", _calling(_answered)),
        Patch(unary, "future", _calling(_promised)),
        *(
            Patch(each, "__call__", _calling(_streaming(_TeeStream)))
            for each in streams
        ),
        Patch(aio_unary, "__call__", _calling(_streaming(_TeeAnswer))),
        Patch(aio_stream, "__call__", _calling(_streaming(_TeeAsyncStream))),
    ]
