"""Documents are found in bytes that arrive in any pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.providers.buffer import BoundedBuffer
from flask_llm_cost.providers.buffer import HEAD_SIZE
from flask_llm_cost.providers.buffer import MAX_WHOLE
from flask_llm_cost.providers.buffer import TAIL_SIZE
from flask_llm_cost.providers.framing import detect_framing
from tests.providers.frames import event_frame


def documents(body: bytes, cuts: list[int] | None = None) -> list[bytes]:
    """The documents in a body that arrives in these pieces."""
    pieces, at = [], 0
    for cut in sorted(cut % (len(body) + 1) for cut in cuts or []):
        pieces.append(body[at:cut])
        at = cut
    pieces.append(body[at:])
    start, framing, found = b"", None, []
    for piece in pieces:
        if framing is None:
            start += piece
            framing = detect_framing(start)
            piece, start = start, (b"" if framing else start)
        if framing is not None:
            found += framing.feed(piece, lambda _: True)
    if framing is not None:
        found += framing.remainder()
    return [bytes(window.head) for window in found]


BODIES: dict[str, tuple[bytes, list[bytes]]] = {
    "LF": (b'data: {"a":1}\n\ndata: {"b":2}\n\n', [b'{"a":1}', b'{"b":2}']),
    "CRLF": (b'data: {"a":1}\r\n\r\ndata: {"b":2}\r\n\r\n', [b'{"a":1}', b'{"b":2}']),
    "CR": (b'data: {"a":1}\r\rdata: {"b":2}\r\r', [b'{"a":1}', b'{"b":2}']),
    "mixed ends": (b"data: 1\n\r\ndata: 2\r\n\ndata: 3\r\n\r\n", [b"1", b"2", b"3"]),
    "a byte order mark": (b"\xef\xbb\xbfdata: 1\n\n", [b"1"]),
    "no final blank line": (b"data: 1\n\ndata: 2", [b"1", b"2"]),
    "no space": (b"data:1\n\ndata:  x\n\n", [b"1", b" x"]),
    "comments and other fields": (
        b": ping\n\nevent: x\nid: 4\nretry: 10\ndata: 1\n\n: end\n",
        [b"1"],
    ),
    "data in several lines": (b'data: {"a":\ndata: 1}\n\n', [b'{"a":\n1}']),
    "data with an empty line": (b"data\ndata: x\n\n", [b"\nx"]),
    "other words": (b"database: 1\ndata: 2\n\n", [b"2"]),
    "lines of JSON": (
        b'{"a":1}\n{"b":2}\n{"c":3}',
        [b'{"a":1}', b'{"b":2}', b'{"c":3}'],
    ),
    "lines after a blank one": (b'\n{"a":1}\n\n{"b":2}', [b'{"a":1}', b'{"b":2}']),
    "one line of JSON": (b'{"a":1}\n', [b'{"a":1}\n']),
    "an indented document": (b'{\n  "a": {\n}\n}\n', [b'{\n  "a": {\n}\n}\n']),
    "an array": (b' \n[{"a":"]}"},\r\n{"b":[{}]}]', [b'{"a":"]}"}', b'{"b":[{}]}']),
    "an array that is cut off": (b'[{"a":"\\"}"},{"b":', [b'{"a":"\\"}"}', b'{"b":']),
    "frames": (
        event_frame("metadata", b'{"usage":{}}') + event_frame("x", b'{"a":"\0"}'),
        [
            b'{"event":"metadata","data":{"usage":{}}}',
            b'{"event":"x","data":{"a":"\0"}}',
        ],
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_documents(name: str) -> None:
    body, found = BODIES[name]
    assert documents(body) == found


@pytest.mark.parametrize("name", BODIES)
@given(cuts=st.lists(st.integers(0, 200), max_size=6))
def test_pieces_of_any_size_give_the_same_documents(name: str, cuts: list[int]) -> None:
    body, found = BODIES[name]
    assert documents(body, cuts) == found


@pytest.mark.parametrize("name", BODIES)
def test_byte_by_byte(name: str) -> None:
    body, found = BODIES[name]
    assert documents(body, list(range(len(body)))) == found


@given(
    texts=st.lists(st.text(max_size=20), min_size=1, max_size=5),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_any_events_in_any_pieces(texts: list[str], end: str, cuts: list[int]) -> None:
    events = [json.dumps({"text": text}, ensure_ascii=False).encode() for text in texts]
    ends = end.encode()
    body = b"".join(b"data: " + event + ends + ends for event in events)
    assert documents(body, cuts) == events


def test_lines_of_megabytes_are_lines() -> None:
    lines = [json.dumps({"pad": "x" * 1000, "n": n}).encode() for n in range(3000)]
    assert documents(b"\n".join(lines)) == lines


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_garbage_in_any_pieces_raises_no_error(data: bytes, cuts: list[int]) -> None:
    documents(data, cuts)


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_corrupts_a_frame(at: int, bit: int) -> None:
    good = event_frame("metadata", b'{"usage":{"inputTokens":1}}')
    bad = bytearray(good)
    bad[at % len(good)] ^= 1 << bit
    assert not any(b'"inputTokens"' in d for d in documents(bytes(bad)))


def test_frames_after_a_corrupt_one_are_not_read() -> None:
    good = event_frame("metadata", b'{"a":1}')
    bad = good[:-1] + bytes([good[-1] ^ 1])
    assert documents(good + bad + good) == [b'{"event":"metadata","data":{"a":1}}']


@given(sizes=st.lists(st.integers(1, 400_000), max_size=8))
def test_a_buffer_keeps_head_and_tail(sizes: list[int]) -> None:
    window, everything = BoundedBuffer(), b""
    for number, size in enumerate(sizes):
        piece = bytes([number + 1]) * size
        window.add(piece)
        everything += piece
    assert window.length == len(everything)
    assert window.whole is (len(everything) <= MAX_WHOLE)
    assert everything.startswith(bytes(window.head))
    assert everything.endswith(bytes(window.tail))
    if not window.whole:
        assert (len(window.head), len(window.tail)) == (HEAD_SIZE, TAIL_SIZE)
