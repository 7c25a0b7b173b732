"""Every question of a page goes to the sums, or to the calls by an index."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from flask_llm_cost.ledger.tables import facts
from flask_llm_cost.query.choices import choices
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.heat import heat
from flask_llm_cost.query.listing import call_page
from flask_llm_cost.query.models import models
from flask_llm_cost.query.overview import overview
from flask_llm_cost.query.quality import quality
from flask_llm_cost.query.report import report
from flask_llm_cost.query.sessions import sessions
from flask_llm_cost.query.tags import tag_keys
from flask_llm_cost.query.tags import tag_page
from flask_llm_cost.query.totals import totals

from .many import END
from .many import fill
from .samples import Store
from .test_sources import LATER
from .test_sources import roller
from .test_sources import UTC

DAY = dt.timedelta(days=1)
CALLS = "llm_cost_calls"

FROM_SUMS: dict[str, t.Any] = {
    "totals": totals,
    "overview": lambda c, w: overview(c, w, tags=("feature",), now=END),
    "models": models,
    "heat": heat,
    "tag": lambda c, w: tag_page(c, w, "feature"),
    "choices": lambda c, w: choices(c, w, ("feature",), most=100),
}
FROM_CALLS: dict[str, t.Any] = {
    "report": lambda c, w: report(c, w, tags=("feature",)),
    "latest": call_page,
    "next page": lambda c, w: call_page(c, w, after=call_page(c, w).next),
    "dearest": lambda c, w: call_page(c, w, sort="expensive"),
    "slowest": lambda c, w: call_page(c, w, sort="slow"),
    "unpriced": lambda c, w: call_page(c, w, sort="unknown_pricing"),
    "a model's": lambda c, w: call_page(c, w.narrowed(model="gpt-4o")),
    "a person's": lambda c, w: call_page(c, w.narrowed(tags=(("user", "u7"),))),
    "streams": lambda c, w: totals(c, w.narrowed(stream=True)),
    "another tag": lambda c, w: tag_page(c, w, "tenant"),
    "tag keys": tag_keys,
    "sessions": lambda c, w: sessions(c, w, "user"),
    "quality": quality,
    "choices of a person": lambda c, w: choices(
        c, w.narrowed(tags=(("user", "u7"),)), ("feature",), most=100
    ),
    "choices of streams": lambda c, w: choices(
        c, w.narrowed(stream=True), ("feature",), most=100
    ),
}


@pytest.fixture(scope="module")
def full(store: Store) -> Store:
    """A ledger of 50,000 calls in ten days, all added up."""
    store.fill()
    with store.engine.begin() as connection:
        connection.execute(facts.insert().values(name="roller", value=""))
    fill(store.engine, 50_000, days=10)
    roller(store, UTC).roll(LATER)
    with store.engine.connect() as connection:
        if connection.dialect.name != "mysql":
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("ANALYZE")
    return store


@contextmanager
def told(engine: sa.Engine) -> Iterator[list[tuple[str, t.Any]]]:
    """The statements that are run meanwhile."""
    found: list[tuple[str, t.Any]] = []

    def note(*args: t.Any) -> None:
        found.append((args[2], args[3]))

    sa.event.listen(engine, "before_cursor_execute", note)
    yield found
    sa.event.remove(engine, "before_cursor_execute", note)


def asked(store: Store, question: t.Any, where: CallFilter) -> list[tuple[str, t.Any]]:
    with told(store.engine) as found, store.reading() as connection:
        question(connection, where)
    return [(text, values) for text, values in found if CALLS in text]


def scans(store: Store, statement: str, values: t.Any) -> list[str]:
    """The steps of its plan that read all calls there are."""
    name = store.engine.dialect.name
    explain = "EXPLAIN QUERY PLAN " if name == "sqlite" else "EXPLAIN "
    with store.engine.connect() as connection:
        rows = connection.exec_driver_sql(explain + statement, values).all()
    if name == "sqlite":
        return [
            row[3] for row in rows if row[3] in (f"SCAN {CALLS}", f"SCAN TABLE {CALLS}")
        ]
    if name == "postgresql":
        return [row[0] for row in rows if f"Seq Scan on {CALLS}" in row[0]]
    return [repr(row) for row in rows if row.table == CALLS and row.type == "ALL"]


@pytest.mark.parametrize("name", FROM_SUMS)
def test_days_are_asked_of_the_sums_alone(full: Store, name: str) -> None:
    where = CallFilter(start=END - 5 * DAY, end=END, zone=UTC)
    assert asked(full, FROM_SUMS[name], where) == []


def test_calls_of_nobody_are_looked_for_once(full: Store) -> None:
    def question(connection: sa.Connection, where: CallFilter) -> None:
        assert call_page(connection, where).total == 0
        assert choices(connection, where, ("feature",), most=100).models == ()

    where = CallFilter(start=END - 5 * DAY, end=END, zone=UTC, provider="nobody")
    assert len(asked(full, question, where)) == 1


@pytest.mark.parametrize("name", FROM_CALLS)
def test_calls_are_found_by_an_index(full: Store, name: str) -> None:
    where = CallFilter(start=END - DAY, end=END, zone=UTC)
    found = asked(full, FROM_CALLS[name], where)
    assert found
    assert [step for text, values in found for step in scans(full, text, values)] == []


def test_a_plan_that_reads_everything_would_be_seen(full: Store) -> None:
    sequential = f"SELECT sum(latency_ms) FROM {CALLS}"
    assert scans(full, sequential, ())
