"""Encodings are undone piece by piece, or raise an error."""

from __future__ import annotations

import gzip
import json
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest

from flask_llm_cost.call import Usage
from flask_llm_cost.providers import decoding
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import route
from flask_llm_cost.providers.decoding import Decoding
from flask_llm_cost.providers.decoding import Unreadable

URL = "https://api.openai.com/v1/chat/completions"
BODY = json.dumps({"pad": "é" * 5000, "usage": {"prompt_tokens": 7}}).encode()


def headless(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "identity": ("identity", bytes),
    "gzip": ("gzip", gzip.compress),
    "gzip of two members": (
        "x-gzip",
        lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]),
    ),
    "deflate": ("deflate", zlib.compress),
    "deflate without a header": ("deflate", headless),
    "brotli": ("br", brotli.compress),
    "two of them": ("gzip, br", lambda data: brotli.compress(gzip.compress(data))),
}


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("size", [1, 50, 100_000])
def test_an_encoding_is_undone(name: str, size: int) -> None:
    header, encode = ENCODINGS[name]
    data, decoding = encode(BODY), Decoding(header)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert b"".join(p for piece in pieces for p in decoding.decode(piece)) == BODY


def test_output_that_brotli_still_holds_is_read() -> None:
    # brotli 1.2.1 accepts more data here, although it has not returned all output.
    body = (b'data: {"a":"' + b"x" * 5000 + b'"}\n\n') * 135
    pieces = Decoding("br").decode(brotli.compress(body))
    assert b"".join(pieces) == body


def test_zstd_is_undone_if_there_is_a_decoder() -> None:
    zstandard = pytest.importorskip("zstandard")
    data = zstandard.ZstdCompressor().compress(BODY) * 2
    assert b"".join(Decoding("zstd").decode(data)) == BODY * 2


def test_an_unknown_encoding_leaves_usage_unknown() -> None:
    found = route("POST", URL)
    assert found is not None
    exchange = Exchange(found, request_body=b'{"model":"gpt-4o"}')
    exchange.begin_response(200, {"Content-Encoding": "snappy"})
    exchange.feed(BODY, decoded=False)
    reading = exchange.reading(ended=True)
    assert (reading.usage, reading.model) == (None, "gpt-4o")
    assert reading.flags == {"unreadable_encoding", "no_usage"}


def test_decoded_bytes_are_not_decoded_again() -> None:
    found = route("POST", URL)
    assert found is not None
    exchange = Exchange(found, request_body=None)
    exchange.begin_response(200, {"content-encoding": "gzip"})
    exchange.feed(BODY, decoded=True)
    assert exchange.reading(ended=True).usage == Usage(input_tokens=7)


@pytest.mark.parametrize("name", ["gzip", "deflate", "brotli", "two of them"])
def test_damaged_bytes_raise_an_error(name: str) -> None:
    header, encode = ENCODINGS[name]
    data = bytearray(encode(BODY))
    pick = random.Random(name)
    for at in range(len(data) // 2, len(data) // 2 + 20):
        data[at] ^= pick.randint(1, 255)
    with pytest.raises(Unreadable):
        b"".join(Decoding(header).decode(bytes(data) + bytes(5000)))


def test_a_zip_bomb_is_decoded_in_pieces() -> None:
    bomb = zlib.compress(bytes(20_000_000))
    assert max(map(len, Decoding("deflate").decode(bomb))) <= 256 * 1024


# Bombs: a few bytes that decode to gigabytes. Uncaptured, the app would pass them on.

ZEROS = bytes(1 << 20)


def packed(times: int, *encodings: str) -> bytes:
    """Encode megabytes of zeros."""
    data = _ENCODERS[encodings[0]](times)
    for name in encodings[1:]:
        data = ENCODINGS[name][1](data)
    return data


def gzip_zeros(times: int, wbits: int = 31) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return b"".join(packer.compress(ZEROS) for _ in range(times)) + packer.flush()


def brotli_zeros(times: int) -> bytes:
    packer = brotli.Compressor(quality=5)
    pieces: list[bytes] = [packer.process(ZEROS) for _ in range(times)]
    return b"".join(pieces) + bytes(packer.finish())


def zstd_zeros(times: int) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    packer = zstandard.ZstdCompressor().compressobj()
    pieces: list[bytes] = [packer.compress(ZEROS) for _ in range(times)]
    return b"".join(pieces) + bytes(packer.flush())


_ENCODERS: dict[str, Callable[[int], bytes]] = {
    "gzip": gzip_zeros,
    "deflate": lambda times: gzip_zeros(times, 15),
    "brotli": brotli_zeros,
    "zstd": zstd_zeros,
}
BOMBS = {
    "gzip": ("gzip",),
    "deflate": ("deflate",),
    "br": ("brotli",),
    "zstd": ("zstd",),
    "gzip, br": ("gzip", "brotli"),
    "br, gzip": ("brotli", "gzip"),
    "deflate, gzip": ("deflate", "gzip"),
    "gzip, gzip, gzip": ("gzip", "gzip", "gzip"),
}


@pytest.mark.parametrize("header", BOMBS)
@pytest.mark.parametrize("size", [65536, 100])
def test_a_bomb_is_given_up(header: str, size: int) -> None:
    data = packed(160, *BOMBS[header])
    given_up_on(header, [data[at : at + size] for at in range(0, len(data), size)])


def given_up_on(header: str, pieces: list[bytes]) -> None:
    found = route("POST", URL)
    assert found is not None
    exchange = Exchange(found, request_body=b'{"model":"gpt-4o"}')
    exchange.begin_response(200, {"content-encoding": header})
    begun = time.process_time()
    tracemalloc.start()
    try:
        for piece in pieces:
            exchange.feed(piece, decoded=False)
        reading = exchange.reading(ended=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - begun < 2
    assert peak < 64 << 20
    assert "unreadable_encoding" in reading.flags
    assert reading.model == "gpt-4o"


@pytest.mark.parametrize("package", ["brotli", "zstandard"])
def test_a_bomb_is_given_up_by_decoders_without_limits(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        decoding, "_first_installed", lambda *names: _Unlimited(package)
    )
    header = "br" if package == "brotli" else "zstd"
    given_up_on(header, [packed(160, *BOMBS[header])])
    header, encode = ENCODINGS["brotli"] if package == "brotli" else ("zstd", zstd_once)
    assert b"".join(Decoding(header).decode(encode(BODY))) == BODY


def zstd_once(data: bytes) -> bytes:
    made: bytes = pytest.importorskip("zstandard").ZstdCompressor().compress(data)
    return made


class _Unlimited:
    """A package as before version 1.2."""

    def __init__(self, package: str) -> None:
        self.__name__ = package
        if package == "zstandard":
            self.ZstdDecompressor = pytest.importorskip(package).ZstdDecompressor

    class Decompressor:
        def __init__(self) -> None:
            self.process = brotli.Decompressor().process


def test_a_large_window_is_refused() -> None:
    zstandard = pytest.importorskip("zstandard")
    huge = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    data = zstandard.ZstdCompressor(compression_params=huge).compressobj()
    with pytest.raises(Unreadable):
        list(
            Decoding("zstd").decode(
                data.compress(random.randbytes(1 << 20)) + data.flush()
            )
        )


def test_a_long_stream_of_tokens_is_read() -> None:
    event = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":" %x"}}]}\n\n'
    tokens = random.Random(7).choices(range(10_000), k=700_000)
    data = b"".join(event % token for token in tokens)
    assert len(data) > 48_000_000
    encoded = gzip.compress(data)
    assert sum(map(len, Decoding("gzip").decode(encoded))) == len(data)
