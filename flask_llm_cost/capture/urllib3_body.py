"""How is the body of a urllib3 response followed, without it noticing?

It becomes an instance of a subclass of its own class that tells a :class:`.Meter` what it
hands out. Everything else stays as it is: the object, its connection, its exceptions, and
that it is freed as soon as no one refers to it.
"""

from __future__ import annotations

import typing as t
from http.client import HTTPException
from threading import get_ident

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from .meter import Meter
from .patch import become

_BROKEN: t.Final = (HTTPError, HTTPException, OSError)
"""What a read raises when the body fails; anything else is the caller's mistake."""


def bytes_of(body: object) -> bytes | None:
    """A request's body, where looking at it does not consume it: no files, no generators."""
    if isinstance(body, str):
        return body.encode("utf-8", "replace")
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    return None


def follow_body(raw: BaseHTTPResponse, meter: Meter) -> bool:
    """Have the meter told what is read of a body.

    :return: False if an object of this kind cannot be followed.
    """
    vars(raw)["_llm_cost"] = _Watch(meter, raw)
    try:
        become(raw, _TeeRaw)
    except TypeError:
        # An object of another layout.
        del vars(raw)["_llm_cost"]
        return False
    return True


class _Watch:
    """What a teed body remembers; it holds no reference back to it."""

    __slots__ = ("decodes", "encoded", "meter", "reader")

    def __init__(self, meter: Meter, raw: BaseHTTPResponse) -> None:
        encoding = raw.headers.get("content-encoding", "").lower()
        names = [encoding, *(name.strip() for name in encoding.split(","))]
        self.meter = meter
        self.encoded = bool(encoding)
        self.decodes = not encoding or any(n in raw.CONTENT_DECODERS for n in names)
        """Bytes are decoded where that is asked for; urllib3 hands out as it came what
        it has no decoder for."""
        self.reader = 0
        """The thread that is inside a read, else 0."""

    def broke(self, error: BaseException) -> None:
        """A read raised."""
        if isinstance(error, _BROKEN):
            self.meter.fail()
        elif not isinstance(error, Exception):
            # Ctrl-C, a killed greenlet: urllib3 closes the connection, too.
            self.meter.close()


if t.TYPE_CHECKING:
    from urllib3.response import HTTPResponse as _Raw
else:
    _Raw = object


class _TeeRaw(_Raw):
    """The public methods through which a body leaves a urllib3 response.

    Its ``data``, ``readinto``, ``json`` and iteration go through these. Arguments are
    passed on as they came, since their defaults differ between urllib3's versions.
    """

    __slots__ = ()
    _llm_cost: _Watch

    def read(self, *args: t.Any, **kwargs: t.Any) -> bytes:
        watch = self._llm_cost
        watch.reader = get_ident()
        try:
            data = super().read(*args, **kwargs)
        except BaseException as error:
            watch.broke(error)
            raise
        finally:
            watch.reader = 0
        amount = args[0] if args else kwargs.get("amt")
        self._took(data, args, kwargs, last=amount is None or amount < 0)
        return data

    def read1(self, *args: t.Any, **kwargs: t.Any) -> bytes:
        watch = self._llm_cost
        watch.reader = get_ident()
        try:
            data = super().read1(*args, **kwargs)
        except BaseException as error:
            watch.broke(error)
            raise
        finally:
            watch.reader = 0
        self._took(data, args, kwargs, last=False)
        return data

    def _took(
        self,
        data: bytes,
        args: tuple[t.Any, ...],
        kwargs: dict[str, t.Any],
        *,
        last: bool,
    ) -> None:
        watch = self._llm_cost
        decode = _decode_asked(args, kwargs)
        if decode is None:
            decode = self.decode_content
        if data:
            watch.meter.feed(data, decoded=decode and watch.decodes)
            # A body of known length ends without an empty read. But one that is decoded
            # may have more to give than came over the wire.
            if self.length_remaining == 0 and not (decode and watch.encoded):
                last = True
        elif not last:
            amount = args[0] if args else kwargs.get("amt")
            last = amount != 0
        if last:
            self._ended()

    def _ended(self) -> None:
        if self.length_remaining:
            self._llm_cost.meter.fail()
        else:
            self._llm_cost.meter.end()

    def read_chunked(self, *args: t.Any, **kwargs: t.Any) -> t.Generator[bytes]:
        watch = self._llm_cost
        decoded = bool(_decode_asked(args, kwargs)) and watch.decodes
        chunks = super().read_chunked(*args, **kwargs)
        try:
            watch.reader = get_ident()
            for chunk in chunks:
                watch.reader = 0
                watch.meter.feed(chunk, decoded=decoded)
                yield chunk
                watch.reader = get_ident()
        except GeneratorExit:
            # urllib3 closes the connection then; what comes later is no end. This may
            # be the garbage collector's doing, as in __del__.
            watch.meter.abandon()
            raise
        except BaseException as error:
            watch.broke(error)
            raise
        finally:
            watch.reader = 0
            chunks.close()
        if _spent(self):
            self._ended()

    def stream(self, *args: t.Any, **kwargs: t.Any) -> t.Generator[bytes]:
        yield from super().stream(*args, **kwargs)
        if _spent(self):
            self._ended()

    def close(self) -> None:
        watch = self._llm_cost
        # urllib3 closes itself inside a read that fails: the exception tells more.
        if watch.reader != get_ident():
            watch.meter.close()
        super().close()

    def __del__(self) -> None:
        self._llm_cost.meter.abandon()
        super().__del__()


def _decode_asked(args: tuple[t.Any, ...], kwargs: dict[str, t.Any]) -> t.Any:
    return args[1] if len(args) > 1 else kwargs.get("decode_content")


def _spent(raw: t.Any) -> bool:
    """Whether nothing more will come over the wire."""
    try:
        return bool(raw.isclosed())
    except (AttributeError, ValueError):
        # Not made from a connection: an empty read will tell.
        return False
