"""Encodings are undone piece by piece, or raise an error."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable

import brotli
import pytest

from flask_llm_cost.call import Usage
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
    bomb = zlib.compress(bytes(50_000_000))
    assert max(map(len, Decoding("deflate").decode(bomb))) <= 256 * 1024
