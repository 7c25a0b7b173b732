"""How is a Content-Encoding undone piece by piece, in bounded memory?"""

from __future__ import annotations

import importlib
import typing as t
import zlib
from collections.abc import Callable
from collections.abc import Iterator

_PIECE: t.Final = 256 * 1024
"""A decoder gives out at most about this much at a time: a small bomb stays small."""


class Unreadable(Exception):
    """The encoding is unknown here, or the bytes are not in it."""


class _Decoder(t.Protocol):
    def decode(self, data: bytes) -> Iterator[bytes]: ...


class _Zlib:
    """gzip with any number of members, and deflate with or without its header."""

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
            # A full piece may leave output inside after the last byte of input.
            more = bool(data) or len(piece) == _PIECE


def _zlib_header(data: bytes) -> bool:
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0


class _Plain:
    """A decoder from elsewhere, with one method that takes bytes and gives bytes."""

    def __init__(self, step: Callable[[bytes], bytes]) -> None:
        self._step = step

    def decode(self, data: bytes) -> Iterator[bytes]:
        # These have no limit for output; small steps of input bound it well enough.
        for at in range(0, len(data), 4096):
            try:
                yield self._step(data[at : at + 4096])
            except Exception as error:
                # Not our code, and its exceptions differ from package to package.
                raise Unreadable("decoder") from error


def _brotli() -> _Decoder:
    for name in ("brotli", "brotlicffi"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        inner = module.Decompressor()
        return _Plain(getattr(inner, "decompress", None) or inner.process)
    raise Unreadable("br")


def _zstd() -> _Decoder:
    for name, make in (
        ("compression.zstd", "ZstdDecompressor"),
        ("backports.zstd", "ZstdDecompressor"),
    ):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return _Frames(getattr(module, make))
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        raise Unreadable("zstd") from None
    return _Frames(lambda: zstandard.ZstdDecompressor().decompressobj())


class _Frames:
    """zstd: any number of frames, each with a decoder of its own."""

    def __init__(self, make: Callable[[], t.Any]) -> None:
        self._make = make
        self._inner = make()

    def decode(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), 4096):
            piece = data[at : at + 4096]
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
    "br": _brotli,
    "zstd": _zstd,
}


class Decoding:
    """The decoders of one Content-Encoding header, last applied first undone.

    :raises Unreadable: If it names an encoding that cannot be undone here.
    """

    def __init__(self, header: str) -> None:
        names = [name.strip().lower() for name in header.split(",")]
        names = [name for name in names if name and name != "identity"]
        unknown = [name for name in names if name not in _DECODERS]
        if unknown:
            raise Unreadable(unknown[0])
        self._chain = [_DECODERS[name]() for name in reversed(names)]

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Everything that these bytes bring to light.

        :raises Unreadable: If they are not in that encoding.
        """
        return self._through(0, data)

    def _through(self, depth: int, data: bytes) -> Iterator[bytes]:
        if depth == len(self._chain):
            if data:
                yield data
            return
        for piece in self._chain[depth].decode(data):
            yield from self._through(depth + 1, piece)
