"""Pages read from a PostgreSQL standby, and calls are written to its primary."""

from __future__ import annotations

import datetime as dt
import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from flask_llm_cost import LlmCost
from flask_llm_cost.config import Settings
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from tests.ledger.samples import make_call

from .servers import free_ports
from .servers import PostgreSQL
from .servers import scalar
from .servers import wait_until

pytestmark = pytest.mark.cluster

NOW: t.Final = dt.datetime.now(dt.UTC)
"""The reference time of all calls here, however long the test takes."""


class Pair(t.NamedTuple):
    primary: PostgreSQL
    standby: PostgreSQL

    def caught_up(self) -> bool:
        query = "SELECT pg_current_wal_lsn()::text"
        here = scalar(self.primary.uri, query)
        query = f"SELECT pg_last_wal_replay_lsn() >= '{here}'::pg_lsn"
        return bool(scalar(self.standby.uri, query))


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary and its standby, with the ledger's tables."""
    ports = free_ports(2)
    with PostgreSQL(ports[0]) as primary, PostgreSQL(ports[1]) as standby:
        primary.make()
        primary.start()
        standby.copy(primary)
        standby.start()
        yield Pair(primary, standby)


@pytest.fixture
def shop(pair: Pair, tmp_path: Path) -> Iterator[Flask]:
    """An app with pages, two calls in its ledger, and the standby caught up."""
    app = Flask("shop", instance_path=str(tmp_path / "instance"))
    app.config.update(
        LLM_COST_DATABASE_URI=pair.primary.uri,
        LLM_COST_READ_DATABASE_URI=pair.standby.uri,
        LLM_COST_ON_UNKNOWN_PRICE="ignore",
    )
    llm_cost = LlmCost(app)
    app.register_blueprint(llm_cost.blueprint(access="public"), url_prefix="/costs")
    app.extensions["llm_cost"].ledger.schema.upgrade()
    track(app, 2)
    assert llm_cost.flush(30)
    wait_until(pair.caught_up, "the standby does not follow")
    yield app
    app.extensions["llm_cost"].close()


def track(app: Flask, count: int, *, minutes: int = 5) -> None:
    at = NOW - dt.timedelta(minutes=minutes)
    with app.app_context():
        for _ in range(count):
            app.extensions["llm_cost"].extension.track(
                provider="openai", model="gpt-4o", input_tokens=1000, at=at
            )


def shown(app: Flask) -> tuple[int, str]:
    """The number of calls in the list, and its text."""
    answer = app.test_client().get("/costs/calls")
    assert answer.status_code == 200, answer.text
    return answer.text.count("/costs/calls/0"), answer.text


def test_pages_read_from_the_standby_and_show_its_lag(shop: Flask, pair: Pair) -> None:
    assert shown(shop)[0] == 2
    assert "read replica" not in shown(shop)[1]
    scalar(pair.standby.uri, "SELECT pg_wal_replay_pause()")
    track(shop, 3, minutes=1)
    ledger = shop.extensions["llm_cost"].ledger
    assert ledger.flush(30)
    assert scalar(pair.primary.uri, "SELECT count(*) FROM llm_cost_calls") == 5
    count, text = shown(shop)
    assert count == 2
    assert "a read replica that is 240 seconds behind" in text
    assert ledger.replica.lag() == dt.timedelta(seconds=240)
    report = shop.test_cli_runner().invoke(args=["llm-cost", "report"])
    assert "The replica is missing the last" in report.stderr
    # What decides about writing is read from the primary.
    assert ledger.prunable(dt.datetime.now(dt.UTC)) == 5
    scalar(pair.standby.uri, "SELECT pg_wal_replay_resume()")
    wait_until(pair.caught_up, "the standby does not follow")
    count, text = shown(shop)
    assert (count, "read replica" in text) == (5, False)


def test_nothing_is_ever_written_to_the_standby(shop: Flask, pair: Pair) -> None:
    # It would reject that, and log it.
    ledger = shop.extensions["llm_cost"].ledger
    track(shop, 1, minutes=100)
    ledger.queue.drain()
    ledger.rollups.build()
    ledger.partitions.apply()
    wait_until(pair.caught_up, "the standby does not follow")
    assert shown(shop)[0] == 3
    for page in ("", "models", "tags", "sessions", "prices", "data-quality"):
        assert shop.test_client().get(f"/costs/{page}").status_code == 200
    ledger.prune(dt.datetime.now(dt.UTC) - dt.timedelta(minutes=50))
    wait_until(pair.caught_up, "the standby does not follow")
    assert shown(shop)[0] == 2
    log = (pair.standby.data / "server.log").read_text()
    assert "read-only transaction" not in log


def test_pages_work_without_the_primary(shop: Flask, pair: Pair) -> None:
    pair.primary.stop()
    track(shop, 1)
    count, text = shown(shop)
    assert count == 2
    assert "1 call queued" in text
    pair.primary.start()
    assert shop.extensions["llm_cost"].ledger.flush(60)
    wait_until(pair.caught_up, "the standby does not follow")
    assert shown(shop)[0] == 3


def test_a_failover_loses_nothing_where_commits_wait_for_the_standby(
    pair: Pair, tmp_path: Path
) -> None:
    pair.primary.stop("fast")
    pair.primary.start("synchronous_standby_names=*", "synchronous_commit=remote_apply")
    hosts = "&".join(f"host=127.0.0.1:{server.port}" for server in pair)
    uri = f"postgresql+psycopg://postgres@/postgres?{hosts}&target_session_attrs=read-write"
    ledger = Ledger(Settings(database_uri=uri), instance_path=str(tmp_path))
    ledger.schema.upgrade()
    made = [make_call(n) for n in range(1500)]
    started = threading.Event()

    def write() -> None:
        for n, call in enumerate(made):
            ledger.append(call)
            if n == 300:
                started.set()
            if n % 10 == 0:
                threading.Event().wait(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    started.wait(60)
    pair.primary.stop()
    pair.standby.promote()
    writer.join()
    wait_until(lambda: ledger.flush(5), "the ledger does not find the new primary")
    with ledger.reading() as connection:
        found = totals(connection, CallFilter())
    assert found.calls == len(made)
    assert found.cost_usd == sum(c.cost.total_usd for c in made if c.cost is not None)
    ledger.rollups.build()
    assert ledger.rollups.verify() == []
    ledger.close()
