"""A short run of the fuzzer in ``fuzz.py``."""

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from .fuzz import check
from .fuzz import CORPUS
from .fuzz import SENDERS

SEEDS = {path.name: path.read_bytes() for path in sorted(CORPUS.iterdir())}

# Where something is put into an answer, or in place of something.
WORDS = st.sampled_from(
    [b'"usage"', b"null", b"{", b"}", b"[", b"]", b'"', b"\\", b":", b",", b"\n", b"\r"]
    + [b"-1", b"1e999", b"NaN", b"true", b"99999999999999999999", b"0.5", b"data: "]
    + [b"\n\n", b"\0\0\0", b"\xef\xbb\xbf", b"\xff", b"[DONE]", b'{"usage":{']
) | st.binary(max_size=12)
EDITS = st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 40), WORDS))


@pytest.mark.parametrize("name", SEEDS)
def test_the_kept_inputs_hold(name: str) -> None:
    check(SEEDS[name])


def test_every_sender_has_an_input() -> None:
    covered = {data[0] % len(SENDERS) for data in SEEDS.values()}
    assert covered == set(range(len(SENDERS)))


def _edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    changed = bytearray(data)
    for at, gone, word in edits:
        at %= len(changed) + 1
        changed[at : at + gone] = word
    return bytes(changed)


@given(name=st.sampled_from(sorted(SEEDS)), edits=EDITS)
@settings(max_examples=600)
def test_edited_inputs_hold(name: str, edits: list[tuple[int, int, bytes]]) -> None:
    check(_edited(SEEDS[name], edits))


ODD: t.Final = st.sampled_from(
    [
        None,
        1,
        -1,
        0.5,
        1e300,
        10**30,
        True,
        "",
        "x",
        "7",
        [],
        {},
        [1],
        [None],
        {"id": 3},
    ]
)
LINES = st.sampled_from(
    [
        (seed[:3], number, seed[3:].splitlines())
        for seed in SEEDS.values()
        for number, line in enumerate(seed[3:].splitlines())
        if line.removeprefix(b"data: ").startswith(b"{")
    ]
)


def _nodes(value: t.Any, path: tuple[t.Any, ...] = ()) -> t.Iterator[tuple[t.Any, ...]]:
    yield path
    keys = range(len(value)) if isinstance(value, list) else value
    for key in keys if isinstance(value, (dict, list)) else ():
        yield from _nodes(value[key], (*path, key))


@given(line=LINES, at=st.integers(0, 1 << 12), odd=ODD)
@settings(max_examples=400)
def test_odd_values_hold(
    line: tuple[bytes, int, list[bytes]], at: int, odd: t.Any
) -> None:
    start, number, lines = line
    try:
        document = json.loads(lines[number].removeprefix(b"data: "))
    except ValueError:
        return
    paths = [*_nodes(document)]
    *where, last = paths[at % len(paths)] or (next(iter(document), ""),)
    place = document
    for key in where:
        place = place[key]
    place[last] = odd
    body = b"data: " + json.dumps(document).encode()
    check(start + b"\n".join([*lines[:number], body, b"", *lines[number + 1 :]]))


@given(
    one=st.sampled_from(sorted(SEEDS)),
    other=st.sampled_from(sorted(SEEDS)),
    cut=st.integers(0, 1 << 12),
)
@settings(max_examples=200)
def test_joined_inputs_hold(one: str, other: str, cut: int) -> None:
    check(SEEDS[one][: 3 + cut % len(SEEDS[one])] + SEEDS[other][3:])


@pytest.mark.stress
@given(name=st.sampled_from(sorted(SEEDS)), edits=EDITS)
@settings(max_examples=30_000)
def test_many_edited_inputs_hold(
    name: str, edits: list[tuple[int, int, bytes]]
) -> None:
    check(_edited(SEEDS[name], edits))


def test_the_corpus_stays_small() -> None:
    assert sum(map(len, SEEDS.values())) < 64_000
