"""Follows the body of a urllib3 response.

It becomes an instance of a subclass of its own class that reports what it hands out to a
:class:`.Meter`. Everything else stays as it is: the object, its connection, its exceptions,
and that it is freed as soon as nothing refers to it.
"""

from __future__ import annotations

import typing as t
from http.client import HTTPException
from threading import get_ident

from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from .meter import Meter
from .patch import become

_BROKEN: t.Final = (HTTPError, HTTPException, OSError)
"""Raised by a read when the body fails; anything else is the caller's mistake."""


def follow_body(raw: HTTPResponse, meter: Meter) -> bool:
    """Attach the meter to a body.

    :return: False if an object of this type cannot be followed.
    """
    vars(raw)["_llm_cost"] = _Tee(meter, raw)
    try:
        become(raw, _TeeRaw)
    except TypeError:
        # Its class has another layout.
        del vars(raw)["_llm_cost"]
        return False
    return True


def report_body(raw: HTTPResponse, meter: Meter, *, decode: bool) -> None:
    """Report a body that urllib3 has read before it handed out its response."""
    body = vars(raw).get("_body")
    if body:
        meter.feed(body, decoded=decode and _Tee(meter, raw).decodes)
    if getattr(raw, "length_remaining", None):
        meter.fail()
    else:
        meter.end()


class _Tee:
    """The state of a followed body. It must not refer back to the body."""

    __slots__ = ("decodes", "encoded", "meter", "reader")

    def __init__(self, meter: Meter, raw: HTTPResponse) -> None:
        encoding = raw.headers.get("content-encoding", "").lower()
        names = [encoding, *(name.strip() for name in encoding.split(","))]
        self.meter = meter
        self.encoded = bool(encoding)
        self.decodes = not encoding or any(n in raw.CONTENT_DECODERS for n in names)
        """urllib3 can decode the body; it hands out what it cannot decode unchanged."""
        self.reader = 0
        """The thread that is inside a read, else 0."""

    def failed(self, error: BaseException) -> None:
        """A read raised an exception."""
        if isinstance(error, _BROKEN):
            self.meter.fail()
        elif not isinstance(error, Exception):
            # Ctrl-C, a killed greenlet: urllib3 closes the connection, too.
            self.meter.close()


if t.TYPE_CHECKING:
    _Raw = HTTPResponse
else:
    _Raw = object


class _TeeRaw(_Raw):
    """The public methods through which a body leaves a urllib3 response.

    Its ``data``, ``readinto``, ``json`` and iteration use these. Arguments are passed
    through unchanged, because their defaults differ between urllib3's versions.
    """

    __slots__ = ()
    _llm_cost: _Tee

    def read(self, *args: t.Any, **kwargs: t.Any) -> bytes:
        tee = self._llm_cost
        tee.reader = get_ident()
        try:
            data = super().read(*args, **kwargs)
        except BaseException as error:
            tee.failed(error)
            raise
        finally:
            tee.reader = 0
        amount = args[0] if args else kwargs.get("amt")
        self._report(data, args, kwargs, last=amount is None or amount < 0)
        return data

    def read1(self, *args: t.Any, **kwargs: t.Any) -> bytes:
        tee = self._llm_cost
        tee.reader = get_ident()
        try:
            data = super().read1(*args, **kwargs)
        except BaseException as error:
            tee.failed(error)
            raise
        finally:
            tee.reader = 0
        self._report(data, args, kwargs, last=False)
        return data

    def _report(
        self,
        data: bytes,
        args: tuple[t.Any, ...],
        kwargs: dict[str, t.Any],
        *,
        last: bool,
    ) -> None:
        tee = self._llm_cost
        decode = _decode_asked(args, kwargs)
        if decode is None:
            decode = self.decode_content
        if data:
            tee.meter.feed(data, decoded=decode and tee.decodes)
            # A body of known length ends without an empty read. But a decoder may still
            # have output after the last byte came over the wire.
            if self.length_remaining == 0 and not (decode and tee.encoded):
                last = True
        elif not last:
            amount = args[0] if args else kwargs.get("amt")
            # urllib3 1.26 also returns nothing while its decoder waits for more.
            last = amount != 0 and _spent(self, unknown=True)
        if last:
            self._ended()

    def _ended(self) -> None:
        if self.length_remaining:
            self._llm_cost.meter.fail()
        else:
            self._llm_cost.meter.end()

    def read_chunked(self, *args: t.Any, **kwargs: t.Any) -> t.Generator[bytes]:
        tee = self._llm_cost
        decoded = bool(_decode_asked(args, kwargs)) and tee.decodes
        chunks = super().read_chunked(*args, **kwargs)
        try:
            tee.reader = get_ident()
            for chunk in chunks:
                tee.reader = 0
                tee.meter.feed(chunk, decoded=decoded)
                yield chunk
                tee.reader = get_ident()
        except GeneratorExit:
            # urllib3 then closes the connection, which is not the end of the body. The
            # garbage collector may do this, as in __del__.
            tee.meter.abandon()
            raise
        except BaseException as error:
            tee.failed(error)
            raise
        finally:
            tee.reader = 0
            chunks.close()
        if _spent(self):
            self._ended()

    def stream(self, *args: t.Any, **kwargs: t.Any) -> t.Generator[bytes]:
        yield from super().stream(*args, **kwargs)
        if _spent(self):
            self._ended()

    def close(self) -> None:
        tee = self._llm_cost
        # urllib3 closes itself inside a failing read; the exception says more.
        if tee.reader != get_ident():
            tee.meter.close()
        super().close()

    def __del__(self) -> None:
        self._llm_cost.meter.abandon()
        super().__del__()


if not hasattr(HTTPResponse, "read1"):
    # Before 2.2, urllib3 had none, and others ask for it: io.TextIOWrapper does.
    del _TeeRaw.read1


def _decode_asked(args: tuple[t.Any, ...], kwargs: dict[str, t.Any]) -> t.Any:
    return args[1] if len(args) > 1 else kwargs.get("decode_content")


def _spent(raw: t.Any, *, unknown: bool = False) -> bool:
    """Whether everything has come over the wire.

    :param unknown: The answer if it was not made from a connection.
    """
    try:
        return bool(raw.isclosed())
    except (AttributeError, ValueError):
        return unknown
