"""The cost of reading a response, whole by size and streamed by chunk."""

from __future__ import annotations

import importlib
import json
import typing as t
from collections.abc import Callable

from interleave import run

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import route
from flask_llm_cost.providers import sparse

_ROUTE = route("POST", "https://api.openai.com/v1/chat/completions")
assert _ROUTE is not None
_DIALECT = _ROUTE.dialect
_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 8, "audio_tokens": 0},
}
_EXPECTED = Usage(
    input_tokens=36, cache_read_tokens=64, output_tokens=20, reasoning_tokens=8
)
_CHUNKS = 2000


def answer(size: int) -> bytes:
    # Escaped, the text has 33 bytes; the rest has about 560.
    text = 'A "quoted" word,\nand a line. ' * ((size - 560) // 33)
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1764500140,
            "model": "gpt-4o-2024-11-20",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}}
            ],
            "usage": _USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_b547601dbd",
        }
    ).encode()


def whole(body: bytes) -> Reading:
    """A whole exchange: request, headers, body and reading."""
    assert _ROUTE is not None
    exchange = Exchange(_ROUTE, request_body=None)
    exchange.begin_response(200, {"content-type": "application/json"})
    exchange.feed(body, decoded=True)
    return exchange.reading(ended=True)


def usage(body: bytes) -> object:
    """Find only the usage."""
    return (sparse.tail(body, "usage") or {})["usage"]


def members(body: bytes) -> object:
    """Everything that is read of such a response: model, id, tier and usage."""
    return sparse.find_members(body, body, _DIALECT.content, _DIALECT.tail)


def typed() -> dict[str, Callable[[bytes], object]]:
    """msgspec's typed decoders of the same, if msgspec is installed."""
    try:
        msgspec = importlib.import_module("msgspec")
    except ImportError:
        return {}
    details = msgspec.defstruct("Details", [("cached_tokens", int, 0)])
    usage = msgspec.defstruct(
        "Usage",
        [
            ("prompt_tokens", int),
            ("completion_tokens", int),
            ("prompt_tokens_details", t.Optional[details], None),  # noqa: UP045
        ],
    )
    only_usage = msgspec.defstruct("Answer", [("usage", usage)])
    named = [(name, t.Any, None) for name in ("id", "model", "created", "service_tier")]
    answer = msgspec.defstruct("Whole", [("usage", usage), *named])
    return {
        "msgspec typed: usage": msgspec.json.Decoder(only_usage).decode,
        "msgspec typed: all members": msgspec.json.Decoder(answer).decode,
    }


def chunk(number: int, usage: str) -> bytes:
    return (
        'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1764500140,'
        '"model":"gpt-4o-2024-11-20","service_tier":"default","system_fingerprint":"fp_1",'
        f'"choices":[{{"index":0,"delta":{{"content":" word{number}"}},"logprobs":null,'
        f'"finish_reason":null}}]{usage}}}\n\n'
    ).encode()


def stream(chunks: list[bytes]) -> Reading:
    assert _ROUTE is not None
    exchange = Exchange(_ROUTE, request_body=None)
    exchange.begin_response(200, {})
    for each in chunks:
        exchange.feed(each, decoded=True)
    return exchange.reading(ended=True)


def parse_every(chunks: list[bytes]) -> None:
    for each in chunks:
        json.loads(each[6:].partition(b"\n")[0])


def bodies() -> None:
    peers = typed()
    for size, calls in ((2_000, 500), (50_000, 100), (1_000_000, 5)):
        body = answer(size)
        assert whole(body).usage == _EXPECTED
        candidates: dict[str, Callable[[], object]] = {
            "json.loads": lambda body=body: json.loads(body),
            "usage": lambda body=body: usage(body),
            "all members": lambda body=body: members(body),
            "a whole exchange": lambda body=body: whole(body),
        }
        for name, decode in peers.items():
            candidates[name] = lambda body=body, decode=decode: decode(body)
        run(f"Read {len(body):,} bytes", candidates, calls=calls)


def streams() -> None:
    last = f'data: {{"choices":[],"usage":{json.dumps(_USAGE)}}}\n\ndata: [DONE]\n\n'
    for title, usage in (("", ""), (', "usage":null in each', ',"usage":null')):
        chunks = [chunk(number, usage) for number in range(_CHUNKS)]
        chunks.append(last.encode())
        assert stream(chunks).usage == _EXPECTED
        run(
            f"Follow {_CHUNKS} chunks of {len(chunks[0])} bytes{title}",
            {
                "json.loads of each": lambda chunks=chunks: parse_every(chunks),
                "feed": lambda chunks=chunks: stream(chunks),
            },
            calls=1,
            per=_CHUNKS,
            unit="chunk",
        )


if __name__ == "__main__":
    bodies()
    streams()
