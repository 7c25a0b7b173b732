"""How far the replica that pages read from is behind."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from tests.conftest import MakeLedger

from .samples import make_call
from .samples import NOON
from .test_ledger import spool


def test_the_lag_of_a_replica_is_measured(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    here, copy = (f"sqlite:///{tmp_path}/{name}.db" for name in ("here", "copy"))
    ledger = make_ledger(here, read_database_uri=copy)
    ledger.schema.upgrade()
    spool(ledger, [make_call(1)])
    ledger.queue.drain()
    shutil.copy(tmp_path / "here.db", tmp_path / "copy.db")
    assert ledger.replica.lag() == dt.timedelta(0)
    spool(ledger, [make_call(2, started_at=NOON + dt.timedelta(seconds=42))])
    ledger.queue.drain()
    assert ledger.replica.lag() == dt.timedelta(seconds=41, milliseconds=999)
    with ledger.reading() as replica, ledger.reading(fresh=True) as own:
        assert totals(replica, CallFilter()).calls == 1
        assert totals(own, CallFilter()).calls == 2
    assert ledger.prunable(NOON + dt.timedelta(hours=1)) == 2


def test_the_lag_is_unknown_where_nothing_can_be_compared(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    assert make_ledger().replica is None
    away = f"sqlite:///{tmp_path}/no/such/folder/x.db"
    ledger = make_ledger(read_database_uri=away)
    ledger.schema.upgrade()
    assert ledger.replica.lag() is None
    assert ledger.replica.lag() is None  # the second time, it is not even queried
