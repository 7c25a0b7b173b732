"""Counters for monitoring: exact, and never lower than before."""

from __future__ import annotations

import datetime as dt
import functools
import json
import threading
import time
import typing as t
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from sqlalchemy.pool import StaticPool

from flask_llm_cost.call import Call
from flask_llm_cost.call import Usage
from flask_llm_cost.db.rows import values_of
from flask_llm_cost.db.tables import metric_values
from flask_llm_cost.db.tables import metrics as table
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger.reprice import Scope
from flask_llm_cost.money import MAX_PICO
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.totals import Totals
from flask_llm_cost.rollups import metrics
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.ledger import samples
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON
from tests.ledger.test_crash import run_and_kill
from tests.ledger.test_ledger import spool
from tests.ledger.test_reprice import quote
from tests.query.samples import Store

DAY = dt.timedelta(days=1)
PAUSE = 0.1  # between calls of a thread: each is repriced many times


def counted(ledger: Ledger) -> Counter[str]:
    with ledger.reading(fresh=True) as connection:
        return _sum(metrics.read(connection).values())


def _sum(parts: t.Iterable[t.Mapping[str, int]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for part in parts:
        found.update(part)
    return +found


def expected(found: Totals) -> Counter[str]:
    cached = found.cache_read_tokens + found.cache_write_tokens
    return +Counter(
        calls=found.calls,
        failed=found.failed,
        unpriced=found.unpriced,
        incomplete=found.incomplete,
        estimated=found.estimated,
        input_tokens=found.input_tokens - cached,
        cache_read_tokens=found.cache_read_tokens,
        cache_write_tokens=found.cache_write_tokens,
        output_tokens=found.output_tokens,
        with_latency=found.with_latency,
        latency_sum_ms=found.latency_sum_ms,
        cost_total=found.spend_pico,
        cost_estimated=found.estimated_pico,
    )


def of_ledger(ledger: Ledger) -> Counter[str]:
    with ledger.reading(fresh=True) as connection:
        return expected(totals(connection, CallFilter()))


def store(ledger: Ledger, made: t.Sequence[Call]) -> None:
    spool(ledger, made)
    ledger.queue.drain()


@functools.cache
def _memory() -> Store:
    return Store(sa.create_engine("sqlite://", poolclass=StaticPool))


@settings(max_examples=20, deadline=None)
@given(st.lists(samples.calls(), max_size=12, unique_by=lambda call: call.event_id))
def test_every_kind_of_call_counts_as_in_totals(made: list[Call]) -> None:
    memory = _memory()
    memory.fill(*made)
    with memory.reading() as connection:
        wanted = expected(totals(connection, CallFilter()))
    found = metrics.counts((values_of(call), "{}") for call in made)
    assert _sum(found.values()) == wanted


@every_database
def test_counters_equal_the_ledger_and_outlive_its_calls(ledger: Ledger) -> None:
    store(ledger, [make_call(n, started_at=NOON - n * DAY) for n in range(30)])
    store(ledger, [make_call(3, started_at=NOON - 3 * DAY)] * 2)
    before = counted(ledger)
    assert before == of_ledger(ledger)
    assert before["calls"] == 31
    ledger.repricing.reprice(
        Scope(NOON - 40 * DAY, NOON + DAY, priced=True), quote, now=NOON
    )
    assert of_ledger(ledger)["cost_total"] != before["cost_total"]
    ledger.rollups.build()
    ledger.prune(NOON - 10 * DAY)
    ledger.erase_tag("user", "1")
    assert counted(ledger) == before
    ledger.clear("all")
    assert counted(ledger) == before


@every_database
def test_a_call_that_is_stored_twice_counts_once(ledger: Ledger) -> None:
    made = [make_call(n) for n in range(5)]
    store(ledger, made)
    store(ledger, [*made, make_call(9)])
    assert counted(ledger)["calls"] == 6


def test_a_restored_call_does_not_count_again(ledger: Ledger) -> None:
    made = [make_call(n) for n in range(3)]
    store(ledger, made)
    ledger.prune(NOON + DAY)
    ledger.restore(made)
    assert counted(ledger)["calls"] == 3


@every_database
def test_rows_of_the_same_labels_are_merged(ledger: Ledger) -> None:
    for n in range(4):
        store(ledger, [make_call(n), make_call(n + 100, model="other")])
    before = counted(ledger)
    ledger.rollups.build()
    with ledger.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 2
    assert counted(ledger) == before


@every_database
def test_sums_may_be_larger_than_a_column(ledger: Ledger) -> None:
    labels = metrics.Labels("openai", "gpt-4o", "{}")
    one = dict.fromkeys(metrics.METRICS, 0) | {"calls": 1, "cost_total": MAX_PICO}
    ledger.rollups.build()
    for _ in range(3):
        with ledger._engines.writing().begin() as connection:
            metrics.append(connection, {labels: one})
        metrics.merge(ledger._engines.writing())
        metrics.merge(ledger._engines.writing())
    assert counted(ledger) == Counter(calls=3, cost_total=3 * MAX_PICO)


def by_tag(ledger: Ledger, key: str) -> dict[str | None, int]:
    with ledger.reading() as connection:
        found: Counter[str | None] = Counter()
        for labels, sums in metrics.read(connection).items():
            found[json.loads(labels.tags).get(key)] += sums["calls"]
        return dict(found)


@every_database
def test_the_first_values_of_a_tag_have_counters_of_their_own(
    database: str | None, make_ledger: MakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MAX_VALUES", 3)
    one, two = (make_ledger(database, metrics_tags=("user",)) for _ in range(2))
    store(one, [make_call(n, tags={"user": f"u{n}"}) for n in range(2)])
    store(two, [make_call(n, tags={"user": f"u{n}"}) for n in range(10, 15)])
    store(one, [make_call(n, tags={"user": f"u{n - 20}"}) for n in range(20, 30)])
    store(one, [make_call(40, tags={}), make_call(41, tags={"feature": "chat"})])
    assert by_tag(one, "user") == {
        "u0": 2,
        "u1": 2,
        "u10": 1,
        metrics.OTHER: 12,
        None: 2,
    }


@every_database
def test_an_erased_value_moves_to_the_others(
    database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(database, metrics_tags=("user", "feature"))
    store(ledger, [make_call(n) for n in range(14)])
    ledger.erase_tag("user", "3")
    found = by_tag(ledger, "user")
    assert found.pop(metrics.OTHER) == 2
    assert "3" not in found
    assert sum(found.values()) == 12
    with ledger.reading() as connection:
        assert "3" not in connection.scalars(
            sa.select(metric_values.c.value).where(metric_values.c.key == "user")
        )


@every_database
def test_writers_beside_each_other_count_everything(
    database: str | None, make_ledger: MakeLedger
) -> None:
    ledgers = [make_ledger(database, metrics_tags=("user",)) for _ in range(4)]

    def write(number: int) -> None:
        for n in range(6):
            usage = Usage(input_tokens=n)
            call = make_call(number * 100 + n, usage=usage, model=f"m{n % 2}")
            assert ledgers[number]._store.write([call]).new == 1

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(write, number) for number in range(4)]
        ledgers[0].rollups.build()
        for each in done:
            each.result()
    assert counted(ledgers[0]) == of_ledger(ledgers[0])
    assert counted(ledgers[0])["calls"] == 24


def crash(ledger: Ledger, uri: str | None, folder: Path, workers: int) -> None:
    """Kill workers while calls are repriced, and watch the counters meanwhile."""
    seen: list[Counter[str]] = []

    def watch() -> None:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            seen.append(counted(ledger))
            now = dt.datetime.now(dt.UTC)
            scope = Scope(now - DAY, now + DAY, priced=True)
            ledger.repricing.reprice(scope, quote, now=now)
            ledger.rollups.build(now + DAY)

    threads = [
        threading.Thread(
            target=run_and_kill,
            args=(uri, folder, functools.partial(time.sleep, 0.8)),
            kwargs={"pause": PAUSE},
        )
        for _ in range(workers - 1)
    ]
    for thread in threads:
        thread.start()
    run_and_kill(uri, folder, watch, pause=PAUSE)
    for thread in threads:
        thread.join()
    ledger.queue.drain()
    seen.append(counted(ledger))
    names = ("calls", "input_tokens", "output_tokens", "failed", "unpriced")
    assert {n: seen[-1][n] for n in names} == {n: of_ledger(ledger)[n] for n in names}
    for before, after in zip(seen, seen[1:], strict=False):
        assert all(after[name] >= count for name, count in before.items())
    # Each costs as much when it is stored as its number in the file says.
    assert seen[-1]["cost_total"] >= 25 * 10**8 * seen[-1]["calls"]


@every_database
def test_counters_survive_kill_9_and_a_reprice(
    database: str | None, tmp_path: Path, make_ledger: MakeLedger
) -> None:
    crash(make_ledger(database), database, tmp_path / "instance", 1)


@pytest.mark.stress
@every_database
def test_counters_survive_kill_9_of_eight_workers(
    database: str | None, tmp_path: Path, make_ledger: MakeLedger
) -> None:
    crash(make_ledger(database), database, tmp_path / "instance", 8)
