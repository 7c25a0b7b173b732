"""A ledger on a PostgreSQL with Citus. ``LLM_COST_TEST_CITUS`` names an empty database."""

from __future__ import annotations

import datetime as dt
import os

import pytest
import sqlalchemy as sa

from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger.store import Store
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.quality import quality
from flask_llm_cost.query.sessions import sessions
from flask_llm_cost.query.tags import tag_keys
from flask_llm_cost.query.tags import tag_page
from tests.conftest import MakeLedger
from tests.ledger.samples import make_call

pytestmark = pytest.mark.cluster

URI = os.environ.get("LLM_COST_TEST_CITUS")
DAY = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


@pytest.fixture
def nodes(make_ledger: MakeLedger) -> Ledger:
    if URI is None:
        pytest.skip("set LLM_COST_TEST_CITUS to a database URL")
    ledger = make_ledger(URI, rollup_tags=("feature",))
    if ledger.schema.current() is not None:
        ledger.schema.downgrade("base")
    ledger.schema.upgrade()
    assert ledger.schema.undistributed()
    ledger.distribution.apply()
    assert ledger.schema.check() == []
    return ledger


def count(ledger: Ledger) -> int:
    ledger.rollups.build()
    assert ledger.rollups.verify() == []
    with ledger.reading() as connection:
        return totals(connection, CallFilter()).calls


def test_everything_works_on_nodes(nodes: Ledger) -> None:
    made = [
        make_call(n, started_at=at, event_id=mint_event_id(at))
        for n in range(600)
        for at in [NOW - n % 3 * 30 * DAY - dt.timedelta(seconds=n)]
    ]
    store = Store(nodes._engines)
    assert store.write(made[:400]).new == 400
    again = store.write(made)
    assert (again.new, again.duplicate, again.rejected) == (200, 400, [])
    assert count(nodes) == 600
    with nodes.reading() as connection:
        everything = CallFilter()
        assert quality(connection, everything).totals.calls == 600
        assert tag_keys(connection, everything).calls == 600
        assert len(tag_page(connection, everything, "user").values) == 7
        assert (
            sum(s.totals.calls for s in sessions(connection, everything, "user")) == 600
        )

    costs = {call.event_id: 2 * made[0].cost.total_usd for call in made[:50]}  # type: ignore[union-attr]
    run = nodes.repricing.settle(costs, now=NOW)
    assert run.changed == 50
    assert nodes.repricing.undo(run.run, now=NOW).changed == 50
    assert nodes.erase_tag("user", "3").sets == 1
    assert count(nodes) == 600

    nodes.partitions.apply(ahead=5)
    assert nodes.prune(NOW - 45 * DAY) == 200
    assert count(nodes) == 600
    assert nodes.prune(NOW - DAY, months_only=True) <= 200
    assert count(nodes) == 600
    with nodes._engines.writing().connect() as connection:
        placed = connection.scalar(sa.text("SELECT count(*) FROM pg_dist_partition"))
    assert placed is not None
    assert placed > 8
    nodes.clear("all")
    assert count(nodes) == 0
