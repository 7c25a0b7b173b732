"""Every question of a page goes to the sums, or to the calls by an index."""

from __future__ import annotations

import datetime as dt
import html
import re
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost.db.migrations import HEAD
from flask_llm_cost.db.migrations import VERSION_TABLE
from flask_llm_cost.db.tables import dirty_marks
from flask_llm_cost.db.tables import meta
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.choices import choices
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.heat import heat
from flask_llm_cost.query.keyset import SORTS
from flask_llm_cost.query.listing import call_page
from flask_llm_cost.query.listing import top_calls
from flask_llm_cost.query.models import models
from flask_llm_cost.query.models import SORTS as MODEL_SORTS
from flask_llm_cost.query.overview import overview
from flask_llm_cost.query.quality import quality
from flask_llm_cost.query.report import report
from flask_llm_cost.query.sessions import sessions
from flask_llm_cost.query.tags import tag_keys
from flask_llm_cost.query.tags import tag_page
from flask_llm_cost.web.views import PAGES

from .many import END
from .many import fill
from .samples import Store
from .test_sources import builder
from .test_sources import LATER
from .test_sources import UTC

DAY = dt.timedelta(days=1)
CALLS = "llm_cost_calls"

FROM_SUMS: dict[str, t.Any] = {
    "totals": totals,
    # The causes of unusual rises are looked for in calls.
    "overview": lambda c, w: overview(c, w, now=END),
    "models": models,
    "heat": heat,
    "tag": lambda c, w: tag_page(c, w, "feature"),
    "choices": lambda c, w: choices(c, w, ("feature",), most=100),
    "another tag": lambda c, w: tag_page(c, w, "tenant"),
    "tag keys": tag_keys,
    "sessions": lambda c, w: sessions(c, w, "user"),
    "quality": quality,
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
    "another tag": lambda c, w: tag_page(c, w.narrowed(stream=True), "tenant"),
    "tag keys": lambda c, w: tag_keys(c, w.narrowed(stream=True)),
    "sessions": lambda c, w: sessions(c, w.narrowed(stream=True), "user"),
    "quality": lambda c, w: quality(c, w.narrowed(stream=True)),
    "choices of a person": lambda c, w: choices(
        c, w.narrowed(tags=(("user", "u7"),)), ("feature",), most=100
    ),
    "choices of streams": lambda c, w: choices(
        c, w.narrowed(stream=True), ("feature",), most=100
    ),
}


@pytest.fixture(scope="module")
def full(store: Store) -> Iterator[Store]:
    """A ledger of 200,000 calls in ten days, nothing left to add up."""
    store.fill()
    with store.engine.begin() as connection:
        connection.execute(meta.insert().values(name="rollup_lock", value=""))
    builder(store, UTC).rezone()
    fill(store.engine, 200_000, days=10)
    with store.engine.begin() as connection:
        # Plans do not depend on what the sums say, and a fifth of them a fifth of the time.
        connection.execute(
            sa.delete(dirty_marks).where(dirty_marks.c.hour < END - 2 * DAY)
        )
    builder(store, UTC).build(LATER)
    with store.engine.connect() as connection:
        if connection.dialect.name != "mysql":
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("ANALYZE")
    with versioned(store.engine):
        yield store


@contextmanager
def versioned(engine: sa.Engine) -> Iterator[None]:
    """Tables that an app takes for those of its version."""
    version = sa.Table(
        VERSION_TABLE, sa.MetaData(), sa.Column("version_num", sa.String(32))
    )
    with engine.begin() as connection:
        version.create(connection)
        connection.execute(version.insert().values(version_num=HEAD))
    yield
    with engine.begin() as connection:
        version.drop(connection)


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
    found = asked(full, FROM_SUMS[name], where)
    # When the ledger begins is the first entry of an index.
    first = "SELECT min(llm_cost_calls.started_at)"
    assert [ask for ask in found if not ask[0].startswith(first)] == []


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


@pytest.fixture
def site(full: Store, make_app: t.Callable[..., Flask]) -> Flask:
    """An app that shows the full ledger on its last day."""
    app = make_app(
        LLM_COST_DATABASE_URI=full.engine.url.render_as_string(hide_password=False),
        LLM_COST_ROLLUP_TAGS=("feature", "user"),
        LLM_COST_SESSION_TAG="user",
        LLM_COST_BUDGETS=[
            {"name": "f", "limit_usd": 5, "period": "day", "tags": {"feature": "*"}}
        ],
        LLM_COST_MONTHLY_BUDGET=100,
    )
    state = app.extensions["llm_cost"]
    state.clock = lambda: END - dt.timedelta(hours=1)
    app.register_blueprint(state.extension.blueprint(access="public"))
    return app


RANGE = "from=2025-12-31&to=2025-12-31"
MORE: dict[str, t.Sequence[str]] = {
    "/": ["provider=mistral", "tag=user:u7"],
    "/models": [f"sort={sort}" for sort in MODEL_SORTS],
    "/calls": [
        *(f"sort={sort}" for sort in SORTS),
        "provider=mistral",
        "model=gpt-4o",
        "outcome=ok",
        "tag=user:u7",
    ],
    "/calls.csv": ["tag=tenant:t7", "sort=unknown_pricing"],
    "/tags/feature": ["stream=yes"],
    "/tags/tenant": [],
}
"""Other questions that a page is asked."""
WAY = re.compile('rel="(?:next|prev)" href="([^"]+)"')


def addresses(store: Store, rule: str) -> Iterator[str]:
    """A page's address and others of it."""
    with store.reading() as connection:
        [latest] = top_calls(connection, CallFilter(), sort="recent", limit=1)
    if rule == "/tags/<key>":
        paths = [path for path in MORE if path.startswith("/tags/")]
    else:
        rule = rule.replace("<event_id>", latest.event_id)
        paths = [rule.replace("<key>", "feature")]
    needed = {
        "/models/page": f"&provider={latest.provider}&model={latest.model}",
        "/statements.csv": "&key=feature",
    }.get(rule, "")
    for path in paths:
        if needed:
            yield f"{path}?{RANGE}{needed}"
            return
        yield f"{path}?{RANGE}"
        yield from (f"{path}?{RANGE}&{query}" for query in MORE.get(path, ()))


@pytest.mark.parametrize("rule", [page.rule for page in PAGES])
def test_every_page_reads_by_an_index(full: Store, site: Flask, rule: str) -> None:
    state = site.extensions["llm_cost"]
    visitor = site.test_client()
    wanted = [(address, 2) for address in addresses(full, rule)]
    for address, depth in wanted:
        with told(state.ledger._engines.querying()) as found:
            response = visitor.get(address)
            assert response.status_code == 200, address
            text = response.text
        asked = [ask for ask in found if CALLS in ask[0] and "LOCK TABLE" not in ask[0]]
        steps = [step for ask in asked for step in scans(full, *ask)]
        assert steps == [], address
        if depth:
            wanted += [(html.unescape(link), depth - 1) for link in WAY.findall(text)]


def test_a_plan_that_reads_everything_would_be_seen(full: Store) -> None:
    sequential = f"SELECT sum(latency_ms) FROM {CALLS}"
    assert scans(full, sequential, ())
