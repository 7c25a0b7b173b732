"""A short run of the fuzzer in ``fuzz.py``."""

from __future__ import annotations

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
