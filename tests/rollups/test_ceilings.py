"""What incomplete calls can have cost at most, in every sum of the ledger."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings

from flask_llm_cost.calendar import END
from flask_llm_cost.calendar import FIRST
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.config import Settings
from flask_llm_cost.db.tables import calls as calls_table
from flask_llm_cost.db.tables import rollups
from flask_llm_cost.db.tables import tag_rollups
from flask_llm_cost.files.monthly import JsonlLedger
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger.reprice import Scope
from flask_llm_cost.query.aggregate import breakdown
from flask_llm_cost.query.aggregate import tag_breakdown
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.totals import sum_up
from flask_llm_cost.query.totals import Totals
from flask_llm_cost.storage import Storage
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.ledger.test_ledger import spool
from tests.query.samples import cost_of
from tests.query.samples import ledgers
from tests.query.samples import make_call
from tests.query.test_totals import counted

NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
BETWEEN = dt.datetime(2026, 11, 2, 12, tzinfo=dt.UTC)
"""Some of the samples are before, some after."""

KEYS = ("feature", "user")


def asked(ledger: Storage) -> Totals:
    """The totals, after checking that every breakdown sums to them."""
    with ledger.reading() as connection:
        whole = totals(connection, CallFilter())
        ways = [
            *(breakdown(connection, CallFilter(), by) for by in ("provider", "model")),
            *(tag_breakdown(connection, CallFilter(), key) for key in KEYS),
        ]
    for way in ways:
        assert sum_up(group.totals for group in way) == whole
    if whole.ceiling_usd is not None:
        assert whole.spend_usd <= whole.ceiling_usd
    return whole


def halved(call: Call) -> tuple[Cost | None, frozenset[str]]:
    """A new price, at which at most half as much more is possible."""
    cost = call.cost
    if cost is None or cost.complete or cost.ceiling_usd is None:
        return cost, frozenset()
    half = (cost.ceiling_usd - cost.total_usd).scaleb(12) // 2
    return replace(cost, ceiling_usd=cost.total_usd + half.scaleb(-12)), frozenset()


@every_database
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(found=ledgers)
def test_pruning_erasing_and_repricing_keep_the_ceilings(
    database: str | None, make_ledger: MakeLedger, found: list[Call]
) -> None:
    ledger = make_ledger(database, rollup_tags=KEYS)
    ledger.clear("all")
    for call in found:
        ledger.append(call)
    assert ledger.flush(60)
    whole = counted(found)
    assert asked(ledger) == whole
    ledger.rollups.build()
    assert asked(ledger) == whole
    ledger.prune(BETWEEN)
    assert asked(ledger) == whole
    ledger.rollups.build()
    assert asked(ledger) == whole
    ledger.erase_tag("feature", "chat")
    assert asked(ledger) == whole
    ledger.repricing.reprice(Scope(FIRST, END, priced=True), halved, now=NOW)
    after = asked(ledger)
    assert (after.spend_pico, after.unbounded) == (whole.spend_pico, whole.unbounded)
    assert after.open_pico <= whole.open_pico
    ledger.rollups.build()
    assert asked(ledger) == after
    assert ledger.rollups.verify() == []
    ledger.close()


@settings(max_examples=20, deadline=None)
@given(found=ledgers)
def test_files_sum_to_the_same(
    tmp_path_factory: pytest.TempPathFactory, found: list[Call]
) -> None:
    folder: Path = tmp_path_factory.mktemp("files")
    files = JsonlLedger(Settings(), instance_path=str(folder))
    for call in found:
        files.append(call)
    assert asked(files) == counted(found)
    files.close()


@every_database
@pytest.mark.parametrize("name", ["cost_open", "unbounded"])
@pytest.mark.parametrize("table", [rollups, tag_rollups])
def test_a_changed_rollup_is_found(
    database: str | None, make_ledger: MakeLedger, table: sa.Table, name: str
) -> None:
    ledger = make_ledger(database, rollup_tags=("feature",))
    # Without a writer, whose build could undo the change.
    spool(ledger, [make_call(cost=cost_of("1", complete=False, more="2"))])
    ledger.queue.drain()
    ledger.rollups.build()
    assert ledger.rollups.verify() == []
    with ledger._engines.writing().begin() as connection:
        connection.execute(sa.update(table).values({name: 7}))
    [line] = ledger.rollups.verify()
    assert line.endswith("is not the sum of its calls")


@every_database
def test_a_changed_ceiling_is_found(ledger: Ledger) -> None:
    # Without a writer, whose build could undo the change.
    spool(ledger, [make_call(cost=cost_of("1", complete=False, more="2"))])
    ledger.queue.drain()
    ledger.rollups.build()
    with ledger._engines.writing().begin() as connection:
        connection.execute(sa.update(calls_table).values(cost_ceiling=2 * 10**12))
    lines = list(ledger.rollups.verify())
    exact = [line for line in lines if "is not the sum of its calls" in line]
    assert len(exact) == 2  # of the rollups, and of the sums by meter
    days = [line for line in lines if line.endswith("days differ from the calls")]
    assert len(days) == 2  # of the data quality, and of tag values
    assert len(lines) == 4


def test_the_ceiling_is_exact_beyond_what_a_sum_of_a_database_holds(
    ledger: Ledger,
) -> None:
    for n in range(3):
        at = BETWEEN + n * dt.timedelta(hours=1)
        cost = cost_of("1", complete=False, more="9000000.000000000001")
        ledger.append(make_call(at, cost=cost))
    assert ledger.flush(60)
    assert asked(ledger).ceiling_usd == Decimal("27000003.000000000003")
