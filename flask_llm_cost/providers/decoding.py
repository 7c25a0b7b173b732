"""Undoes a Content-Encoding piece by piece, in bounded memory."""

from __future__ import annotations

import importlib
import typing as t
import zlib
from collections.abc import Callable
from collections.abc import Iterator

_PIECE: t.Final = 256 * 1024
"""About the most that a decoder yields at a time."""

_STEP: t.Final = 16
"""The most that a decoder without such a limit takes at a time."""

_WINDOW_LOG: t.Final = 23
"""The largest window of zstd in HTTP: 8 MB (RFC 9659)."""

_MAX_DEPTH: t.Final = 2

_ALLOWANCE: t.Final = 32 * 1024 * 1024
_MAX_RATIO: t.Final = 100
"""The decoders may yield the allowance, and so many bytes for each that arrives. JSON
becomes ten times smaller, a stream of tokens forty times, a bomb a thousand times."""


class Unreadable(Exception):
    """The encoding is not supported, the bytes are not valid in it, or they are a bomb."""


class _Decoder(t.Protocol):
    def decode(self, data: bytes) -> Iterator[bytes]: ...


class _Zlib:
    """gzip with any number of members, and deflate with or without a zlib header."""

    def __init__(self, *, gzip: bool) -> None:
        self._wbits = 31 if gzip else 15
        self._inner = zlib.decompressobj(self._wbits)
        self._raw_left = not gzip
        self._begun = b""

    def decode(self, data: bytes) -> Iterator[bytes]:
        if self._raw_left:
            # Some servers send deflate without the zlib header (RFC 9110 8.4.1.2).
            self._begun += data
            if len(self._begun) < 2:
                return
            data, self._begun, self._raw_left = self._begun, b"", False
            if not _zlib_header(data):
                self._wbits = -15
                self._inner = zlib.decompressobj(self._wbits)
        more = bool(data)
        while more:
            try:
                piece = self._inner.decompress(data, _PIECE)
            except zlib.error as error:
                raise Unreadable("zlib") from error
            yield piece
            if self._inner.eof:
                data = self._inner.unused_data
                if self._wbits != 31 or not data.startswith(b"\x1f"):
                    return
                self._inner = zlib.decompressobj(self._wbits)
            else:
                data = self._inner.unconsumed_tail
            # After a full piece, the decoder may still hold output.
            more = bool(data) or len(piece) == _PIECE


def _zlib_header(data: bytes) -> bool:
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0


def _first_installed(*names: str) -> t.Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise Unreadable(names[0])


class _Brotli:
    """br, by the package ``brotli`` or ``brotlicffi``."""

    def __init__(self) -> None:
        inner = _first_installed("brotli", "brotlicffi").Decompressor()
        self._step = getattr(inner, "decompress", None) or inner.process
        # Before 1.2, neither package could limit its output.
        self._limits = hasattr(inner, "can_accept_more_data")

    def decode(self, data: bytes) -> Iterator[bytes]:
        try:
            if not self._limits:
                yield from map(self._step, _small_steps(data))
                return
            # It may accept more data although it still holds output.
            while piece := self._step(data, output_buffer_limit=_PIECE):
                yield piece
                data = b""
        except Exception as error:
            # Third-party code: the two packages raise different exceptions.
            raise Unreadable("br") from error


class _Zstd:
    """zstd: any number of frames, each with its own decoder."""

    def __init__(self) -> None:
        module = _first_installed("compression.zstd", "backports.zstd", "zstandard")
        make = module.ZstdDecompressor
        self._limits = module.__name__ != "zstandard"
        if self._limits:
            options = {module.DecompressionParameter.window_log_max: _WINDOW_LOG}
            self._make: t.Any = lambda: make(options=options)
        else:
            self._make = lambda: make(max_window_size=1 << _WINDOW_LOG).decompressobj()
        self._inner: t.Any = self._make()

    def decode(self, data: bytes) -> Iterator[bytes]:
        for step in (data,) if self._limits else _small_steps(data):
            try:
                yield from self._frames(step)
            except Exception as error:
                raise Unreadable("zstd") from error

    def _frames(self, data: bytes) -> Iterator[bytes]:
        while data:
            if not self._limits:
                yield self._inner.decompress(data)
            else:
                yield self._inner.decompress(data, _PIECE)
                while not self._inner.eof and not self._inner.needs_input:
                    yield self._inner.decompress(b"", _PIECE)
            data = b""
            if self._inner.eof:
                data = self._inner.unused_data
                self._inner = self._make()


def _small_steps(data: bytes) -> Iterator[bytes]:
    """Cut the input of a decoder that cannot limit its output."""
    for at in range(0, len(data), _STEP):
        yield data[at : at + _STEP]


_DECODERS: t.Final[dict[str, Callable[[], _Decoder]]] = {
    "gzip": lambda: _Zlib(gzip=True),
    "x-gzip": lambda: _Zlib(gzip=True),
    "deflate": lambda: _Zlib(gzip=False),
    "br": _Brotli,
    "zstd": _Zstd,
}


class Decoding:
    """The decoders of a Content-Encoding header, in reverse order.

    A few bytes can decode to gigabytes. What the decoders yield together is limited, and so
    is their number.

    :raises Unreadable: If the header names an unsupported encoding, or too many.
    """

    def __init__(self, header: str) -> None:
        names = [name.strip().lower() for name in header.split(",")]
        names = [name for name in names if name and name != "identity"]
        unknown = [name for name in names if name not in _DECODERS]
        if unknown:
            raise Unreadable(unknown[0])
        if len(names) > _MAX_DEPTH:
            raise Unreadable(header)
        self._chain = [_DECODERS[name]() for name in reversed(names)]
        self._left = _ALLOWANCE

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Decode the next bytes.

        :raises Unreadable: If they are not valid in this encoding, or decode to too many.
        """
        self._left += _MAX_RATIO * len(data)
        return self._through(0, data)

    def _through(self, depth: int, data: bytes) -> Iterator[bytes]:
        if depth == len(self._chain):
            if data:
                yield data
            return
        for piece in self._chain[depth].decode(data):
            self._left -= len(piece)
            if self._left < 0:
                raise Unreadable("too long")
            yield from self._through(depth + 1, piece)
