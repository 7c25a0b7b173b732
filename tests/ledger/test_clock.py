"""When a machine's clock jumps, no call is lost, duplicated or dated otherwise."""

from __future__ import annotations

import datetime as dt

import pytest

from flask_llm_cost.ledger import Ledger

from .samples import make_call
from .samples import NOON
from .test_ledger import stored


@pytest.mark.parametrize(
    "jump", [dt.timedelta(hours=-1), dt.timedelta(days=-400), dt.timedelta(days=400)]
)
def test_calls_keep_their_time_after_the_clock_jumps(
    ledger: Ledger, jump: dt.timedelta
) -> None:
    made = [make_call(number) for number in range(3)]
    for call in made:
        ledger.append(call)
    assert ledger.flush(60)
    later = [make_call(n, started_at=NOON + jump) for n in range(3)]
    for call in later:
        ledger.append(call)
    assert ledger.flush(60)
    assert ledger.queue.rejected() == []
    found = stored(ledger)
    assert sorted(call.event_id for call in found) == sorted(
        call.event_id for call in [*made, *later]
    )
    assert {call.started_at for call in found} == {
        call.started_at for call in [*made, *later]
    }
    ledger.rollups.build()
    assert ledger.rollups.verify() == []
