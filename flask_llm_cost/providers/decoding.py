"""Undoes a Content-Encoding piece by piece, in bounded memory."""

from __future__ import annotations

import importlib
import typing as t
import zlib
from collections.abc import Callable
from collections.abc import Iterator

_PIECE: t.Final = 256 * 1024
"""About the most that a decoder yields at a time, so that a zip bomb stays small."""

_STEP: t.Final = 4096


class Unreadable(Exception):
    """The encoding is not supported, or the bytes are not valid in it."""


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

    def decode(self, data: bytes) -> Iterator[bytes]:
        # The output cannot be limited, but small steps of input bound it well enough.
        for at in range(0, len(data), _STEP):
            try:
                yield self._step(data[at : at + _STEP])
            except Exception as error:
                # Third-party code: the two packages raise different exceptions.
                raise Unreadable("br") from error


class _Zstd:
    """zstd: any number of frames, each with its own decoder."""

    def __init__(self) -> None:
        module = _first_installed("compression.zstd", "backports.zstd", "zstandard")
        self._make = module.ZstdDecompressor
        if module.__name__ == "zstandard":
            self._make = lambda: module.ZstdDecompressor().decompressobj()
        self._inner = self._make()

    def decode(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), _STEP):
            piece = data[at : at + _STEP]
            while piece:
                try:
                    yield self._inner.decompress(piece)
                except Exception as error:
                    raise Unreadable("zstd") from error
                piece = b""
                if self._inner.eof:
                    piece = self._inner.unused_data
                    self._inner = self._make()


_DECODERS: t.Final[dict[str, Callable[[], _Decoder]]] = {
    "gzip": lambda: _Zlib(gzip=True),
    "x-gzip": lambda: _Zlib(gzip=True),
    "deflate": lambda: _Zlib(gzip=False),
    "br": _Brotli,
    "zstd": _Zstd,
}


class Decoding:
    """The decoders of a Content-Encoding header, in reverse order.

    :raises Unreadable: If the header names an unsupported encoding.
    """

    def __init__(self, header: str) -> None:
        names = [name.strip().lower() for name in header.split(",")]
        names = [name for name in names if name and name != "identity"]
        unknown = [name for name in names if name not in _DECODERS]
        if unknown:
            raise Unreadable(unknown[0])
        self._chain = [_DECODERS[name]() for name in reversed(names)]

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Decode the next bytes.

        :raises Unreadable: If they are not valid in this encoding.
        """
        return self._through(0, data)

    def _through(self, depth: int, data: bytes) -> Iterator[bytes]:
        if depth == len(self._chain):
            if data:
                yield data
            return
        for piece in self._chain[depth].decode(data):
            yield from self._through(depth + 1, piece)
