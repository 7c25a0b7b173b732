from __future__ import annotations

from hypothesis import given

from flask_llm_cost.call import Call
from flask_llm_cost.db.rows import tag_set_of
from flask_llm_cost.db.rows import values_of
from flask_llm_cost.jsonl import decode
from flask_llm_cost.jsonl import encode
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger.recent import RecentCalls

from .samples import calls
from .samples import make_call
from .test_ledger import stored


def test_a_call_is_found_once_by_its_whole_line() -> None:
    recent, call = RecentCalls(), make_call()
    line = encode(call)[:-1]
    recent.add(line, call)
    assert recent.take(line[:-1]) is None
    assert recent.take(line) is call
    assert recent.take(line) is None


def test_the_memory_is_bounded() -> None:
    recent, call = RecentCalls(), make_call()
    for number in range(2500):
        recent.add(b"%d" % number, call)
    recent.add(b"x" * 10_000, call)
    kept = sum(recent.take(b"%d" % number) is not None for number in range(2500))
    assert 0 < kept <= 1000
    assert recent.take(b"x" * 10_000) is None


def test_the_line_on_disk_counts(ledger: Ledger) -> None:
    queue = ledger.queue
    for call in map(make_call, range(3)):
        queue.spool.append(encode(call))
        queue._recent.add(encode(call)[:-1], call)
    path = next(queue.spool.directory.iterdir())
    path.write_bytes(path.read_bytes().replace(b"gpt-4o", b"gpt-4p"))
    assert queue.drain().new == 3
    assert {call.model for call in stored(ledger)} == {"gpt-4p"}


@given(calls())
def test_what_is_remembered_is_stored_as_what_is_decoded(call: Call) -> None:
    decoded = decode(encode(call))
    assert values_of(call) == values_of(decoded)
    assert tag_set_of(call.tags) == tag_set_of(decoded.tags)
