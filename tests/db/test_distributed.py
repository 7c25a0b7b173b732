"""What a distributed PostgreSQL needs of each statement, checked on a plain one.

Citus 13.2 rejects ``FOR UPDATE`` of many rows, correlated subqueries of distributed calls
and their joins with local tables, and commits on its nodes one after the other. Its catalog
is a table here.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
import typing as t
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from flask_llm_cost.calendar import utc_ms
from flask_llm_cost.call import Call
from flask_llm_cost.db import writers
from flask_llm_cost.db.insert import insert_calls
from flask_llm_cost.db.rows import values_of
from flask_llm_cost.db.tables import calls
from flask_llm_cost.db.tables import dirty_marks
from flask_llm_cost.db.tables import metadata
from flask_llm_cost.db.tables import revisions
from flask_llm_cost.db.tables import tag_sets
from flask_llm_cost.db.tables import tag_values
from flask_llm_cost.errors import StorageError
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger.store import Store
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.rollups.dirty_marks import mark_dirty_ms
from tests.conftest import MakeLedger
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON

pytestmark = pytest.mark.parametrize("empty_database", ["POSTGRESQL"], indirect=True)

HOUR = dt.timedelta(hours=1)
PLACED = (calls.name, revisions.name, tag_sets.name, tag_values.name)
LOCAL = sorted({table.name for table in metadata.sorted_tables}.difference(PLACED))


def engine_of(ledger: Ledger) -> sa.Engine:
    return ledger._engines.writing()


def store(ledger: Ledger, count: int, **changes: t.Any) -> list[Call]:
    made = [make_call(n, **changes) for n in range(count)]
    assert Store(ledger._engines).write(made).new == count
    return made


def stored_calls(ledger: Ledger) -> int:
    with ledger.reading() as connection:
        return totals(connection, CallFilter()).calls


def check(statements: list[str]) -> None:
    """Check that a distributed table of calls allows each of them."""
    for text in statements:
        if calls.name in text:
            assert "FOR UPDATE" not in text
            assert "EXISTS" not in re.sub(r"IF( NOT)? EXISTS", "", text)
            assert not re.search(rf"\b({'|'.join(LOCAL)})\b", text), text


def end_of_first_part(ledger: Ledger) -> dt.datetime:
    end = ledger.partitions.existing()[0].end
    assert end is not None
    return end


@pytest.fixture
def statements(ledger: Ledger) -> Iterator[list[str]]:
    found: list[str] = []

    def note(connection: t.Any, cursor: t.Any, statement: str, *rest: object) -> None:
        found.append(statement)

    event.listen(sa.Engine, "before_cursor_execute", note)
    yield found
    event.remove(sa.Engine, "before_cursor_execute", note)


def test_sums_wait_for_a_slow_commit(ledger: Ledger) -> None:
    """The marks of calls are committed, and the calls are not, as on a slower node."""
    ledger.rollups.check()
    engine = engine_of(ledger)
    rows = [(*values_of(make_call(n)), None) for n in range(7)]
    building = threading.Thread(target=ledger.rollups.build)
    with engine.connect() as slow:
        insert_calls(engine.dialect).run(slow, rows)
        with engine.begin() as connection:
            mark_dirty_ms(
                connection, [utc_ms(make_call(n).started_at) for n in range(7)]
            )
        building.start()
        building.join(0.5)
        assert building.is_alive()
        slow.commit()
    building.join(30)
    assert stored_calls(ledger) == 7
    assert ledger.rollups.verify() == []


def test_sums_stay_dirty_if_a_commit_is_lost(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        writers.wait_for_writers, "__defaults__", (0.2,)
    )  # it waits 10 seconds otherwise
    store(ledger, 3)
    engine = engine_of(ledger)
    with engine.connect() as lost:
        rows = [(*values_of(make_call(9)), None)]
        insert_calls(engine.dialect).run(lost, rows)
        with pytest.raises(StorageError, match="has not ended for some time"):
            ledger.rollups.build()
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(dirty_marks))
    assert stored_calls(ledger) == 3
    assert ledger.rollups.build() == 1


def test_every_change_is_possible_on_nodes(
    make_ledger: MakeLedger, ledger: Ledger, database: str, statements: list[str]
) -> None:
    ledger = make_ledger(database, rollup_tags=("feature",))
    first = store(ledger, 20)[0]
    ledger.rollups.build()
    costs = {first.event_id: 2 * first.cost.total_usd}  # type: ignore[union-attr]
    run = ledger.repricing.settle(costs, now=NOON)
    assert ledger.repricing.undo(run.run, now=NOON).changed == run.changed == 1
    ledger.erase_tag("user", "3")
    assert ledger.prune(NOON + HOUR) == 20
    store(ledger, 5, started_at=NOON + 2 * HOUR)
    ledger.clear("all")
    assert len(statements) > 50
    check(statements)


def test_a_month_is_dropped_after_its_slow_commits(
    ledger: Ledger, statements: list[str]
) -> None:
    """A call that is on its way to a slower node when the month is to be dropped."""
    store(ledger, 3)
    ledger.rollups.build()
    ledger.partitions.apply(ahead=0)
    statements.clear()
    engine = engine_of(ledger)
    dropped: list[int] = []
    later = end_of_first_part(ledger)
    dropping = threading.Thread(
        target=lambda: dropped.append(ledger.prune(later, months_only=True))
    )
    with engine.connect() as slow:
        insert_calls(engine.dialect).run(slow, [(*values_of(make_call(9)), None)])
        with engine.begin() as connection:
            mark_dirty_ms(connection, [utc_ms(make_call(9).started_at)])
        dropping.start()
        dropping.join(0.3)
        assert dropping.is_alive()
        slow.commit()
    dropping.join(30)
    assert dropped == [4]
    check(statements)
    assert stored_calls(ledger) == 4  # their totals stay


def test_new_tag_sets_are_stored_at_once(ledger: Ledger, statements: list[str]) -> None:
    """Each statement on a copied table takes a commit on every node."""
    store(ledger, 2)
    counts = []
    for first, count in ((10, 2), (100, 200)):
        statements.clear()
        made = [
            make_call(n, tags={"trip": str(n)}) for n in range(first, first + count)
        ]
        assert Store(ledger._engines).write(made).new == count
        counts.append(sum(tag_sets.name in text for text in statements))
    assert counts[0] == counts[1]


def test_pages_of_sums_need_no_calls(ledger: Ledger) -> None:
    """A node that does not answer: here, a lock on the table that has parts of it."""
    store(ledger, 4)
    ledger.rollups.build()
    day = CallFilter(
        start=NOON.replace(hour=0), end=NOON.replace(hour=0) + dt.timedelta(days=1)
    )
    with engine_of(ledger).begin() as away:
        away.exec_driver_sql(f"LOCK TABLE {calls.name} IN ACCESS EXCLUSIVE MODE")
        with ledger.reading() as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
            assert totals(connection, day).calls == 4


def test_a_copied_batch_may_fail_with_any_error(ledger: Ledger) -> None:
    """Citus reports a duplicate in a copied batch as an internal error."""
    store(ledger, 3)
    with engine_of(ledger).begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF current_query() LIKE 'COPY%%' THEN RAISE 'no' USING ERRCODE = 'XX000';"
            " END IF; RETURN NULL; END $$"
        )
        connection.exec_driver_sql(
            f"CREATE TRIGGER refuse BEFORE INSERT ON {calls.name}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
        )
    done = Store(ledger._engines).write(make_call(n) for n in range(5))
    assert (done.new + done.duplicate, done.rejected) == (5, [])


def test_distributed_calls_are_not_partitioned(ledger: Ledger) -> None:
    with engine_of(ledger).begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE pg_dist_partition AS SELECT"
            f" '{calls.name}'::regclass AS logicalrelid"
        )
    with pytest.raises(StorageError, match="can no longer be partitioned"):
        ledger.partitions.apply()
    with pytest.raises(StorageError, match="undistribute_table"):
        ledger.distribution.plan()
    assert f"not distributed: {revisions.name}" in ledger.schema.check()


def test_distributing_partitions_first(ledger: Ledger) -> None:
    titles = [step.title for step in ledger.distribution.plan(ahead=1)]
    first = titles.index(f"Distributing {calls.name}")
    assert titles[0].startswith("Making llm_cost_calls the first partition")
    assert sum(title.startswith("Adding llm_cost_calls_2") for title in titles) == 2
    assert all("Adding" not in title for title in titles[first:])


def test_without_the_extension_nothing_is_changed(ledger: Ledger) -> None:
    with pytest.raises(StorageError, match="has no extension citus"):
        ledger.distribution.apply()
    assert ledger.partitions.existing() == []
