"""Counts of calls to unlisted hosts: small, bounded, and in the ledger."""

from __future__ import annotations

import datetime as dt
import typing as t

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost.db.tables import unlisted_hosts
from flask_llm_cost.ledger.unlisted import MOST_HOSTS
from flask_llm_cost.ledger.unlisted import UnlistedHosts
from flask_llm_cost.query.unlisted import Unlisted
from flask_llm_cost.query.unlisted import unlisted
from tests.conftest import every_database
from tests.conftest import MakeApp
from tests.conftest import MakeLedger


def counted(app: Flask) -> dict[str, int]:
    return {each.host: each.calls for each in asked(app).hosts}


def asked(app: Flask, days: int = 0) -> Unlisted:
    state = app.extensions["llm_cost"]
    now = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    with state.ledger.reading() as connection:
        return unlisted(connection, state.settings, now)


def count(app: Flask, *hosts: str) -> None:
    state = app.extensions["llm_cost"]
    for host in hosts:
        state.ledger.unlisted.add(host)
    assert state.ledger.flush(60)


@every_database
def test_counts_of_all_processes_add_up(
    database: str | None, make_ledger: MakeLedger
) -> None:
    for ledger in make_ledger(database), make_ledger(database):
        for host in "a.internal", "b.internal:8000", "a.internal":
            ledger.unlisted.add(host)
        assert ledger.flush(60)
    with ledger.reading() as connection:
        rows = connection.execute(
            sa.select(unlisted_hosts.c.host, unlisted_hosts.c.calls)
        ).all()
    assert dict(map(tuple, rows)) == {"a.internal": 4, "b.internal:8000": 2}


def test_a_hundred_thousand_hosts_take_little_room(app: Flask) -> None:
    ledger = app.extensions["llm_cost"].ledger
    for block in range(10):
        for n in range(10_000):
            ledger.unlisted.add(f"h{block * 10_000 + n}.example.com")
        assert ledger.flush(60)
    with ledger.reading() as connection:
        rows = connection.execute(sa.select(unlisted_hosts)).all()
    assert len(rows) == MOST_HOSTS + 1
    assert sum(row.calls for row in rows) == 100_000
    assert asked(app).setting.count("example.com") == 2 * 20


def test_a_host_that_was_listed_since_is_left_out(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_PROVIDER_HOSTS={"*.internal": "ours"})
    count(app, "a.internal:8000", "b.example.com", "api.openai.com")
    assert counted(app) == {"b.example.com": 1}


def test_the_setting_can_be_pasted(app: Flask, make_app: MakeApp) -> None:
    count(app, "a.internal:8000", "llm.example.com", "[::1]:9000")
    found = asked(app)
    setting = found.setting.partition(" = ")[2]
    hosts = {
        "[::1]:9000": "::1",
        "a.internal:8000": "a.internal",
        "llm.example.com": "llm.example.com",
    }
    assert eval(setting) == hosts
    make_app(LLM_COST_PROVIDER_HOSTS=hosts)


def test_old_counts_are_not_shown(app: Flask) -> None:
    count(app, "a.internal")
    assert not asked(app, days=31).hosts


@pytest.mark.parametrize("mode", ["record", "ignore"])
def test_counts_are_shown_only_while_hosts_are_counted(
    mode: str, make_app: MakeApp
) -> None:
    app = make_app(LLM_COST_UNLISTED_HOSTS=mode)
    count(app, "a.internal")
    assert not asked(app).hosts


def test_a_database_that_is_away_costs_no_count(app: Flask) -> None:
    ledger = app.extensions["llm_cost"].ledger
    broken = True

    def engines() -> t.Any:
        if broken:
            raise RuntimeError("the database is away")
        return ledger._engines

    hosts = UnlistedHosts(engines)
    hosts.add("a.internal")
    hosts.store(now=True)
    broken = False
    hosts._store_at = 0.0
    hosts.add("a.internal")
    hosts.store()
    assert counted(app) == {"a.internal": 2}
