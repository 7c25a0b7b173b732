"""The cost of storing a call: for the waiting app and for the writer thread, per database.

Uses SQLite, and PostgreSQL and MariaDB if ``LLM_COST_TEST_POSTGRESQL`` and
``LLM_COST_TEST_MARIADB`` are set, in a schema or database of the benchmark's own.
"""

from __future__ import annotations

import datetime as dt
import gc
import os
import statistics
import tempfile
import time
import typing as t
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import sqlalchemy as sa

from flask_llm_cost.calendar import whole_ms
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.config import Settings
from flask_llm_cost.db.rows import row_of
from flask_llm_cost.db.rows import tag_set_of
from flask_llm_cost.db.tables import calls as table
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.jsonl import encode
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger.store import Store

BATCH: t.Final = 500
BATCHES: t.Final = 8
ROUNDS: t.Final = 9


def make_call(number: int) -> Call:
    """A typical chat: three meters, three tags, fifty users."""
    now = whole_ms(dt.datetime.now(dt.UTC))
    rates = {"input": ("900", "0.15"), "cache_read": ("100", "0.075")}
    parts = {
        meter: Part(
            Decimal(quantity), Decimal(rate), Decimal(quantity) * Decimal(rate) / 10**6
        )
        for meter, (quantity, rate) in (rates | {"output": ("300", "0.6")}).items()
    }
    return Call(
        event_id=mint_event_id(now),
        started_at=now,
        provider="openai",
        model="gpt-4o-mini-2024-07-18",
        request_model="gpt-4o-mini",
        usage=Usage(input_tokens=900, cache_read_tokens=100, output_tokens=300),
        usage_source="response",
        cost=Cost(
            sum((part.amount_usd for part in parts.values()), Decimal()),
            parts,
            "bundled",
            price_key="openai/gpt-4o-mini",
            valid_from=dt.datetime(2024, 7, 18, tzinfo=dt.UTC),
        ),
        latency_ms=800 + number % 100,
        first_byte_ms=400,
        http_status=200,
        response_id=f"chatcmpl-{uuid.uuid4().hex}",
        service_tier="default",
        tags={"feature": "chat", "user_id": str(number % 50), "endpoint": "chat.ask"},
    )


def make_calls(count: int) -> list[Call]:
    return [make_call(number) for number in range(count)]


def raw_rows(dialect: sa.Dialect, calls: list[Call]) -> list[tuple[t.Any, ...]]:
    """Rows ready for the driver, converted by SQLAlchemy's types outside the timing."""
    processors = [
        column.type.dialect_impl(dialect).bind_processor(dialect)
        for column in table.columns
    ]
    rows = []
    for call in calls:
        tags = tag_set_of(call.tags)
        row = row_of(call) | {"tag_set_id": tags and tags.id}
        values = [row[column.name] for column in table.columns]
        rows.append(
            tuple(
                value if process is None or value is None else process(value)
                for value, process in zip(values, processors, strict=True)
            )
        )
    return rows


class Spent(t.NamedTuple):
    cpu_us: float
    wall_us: float


def timed(work: Callable[[], object], rows: int) -> Spent:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Spent(cpu / rows * 1e6, wall / rows * 1e6)


def batches(store: Store, engine: sa.Engine) -> None:
    """Measure the ledger's batches and the driver's own, in turn."""
    names = [column.name for column in table.columns]
    marker = "?" if engine.dialect.name == "sqlite" else "%s"
    insert = (
        f"INSERT INTO {table.name} ({', '.join(names)})"  # noqa: S608
        f" VALUES ({', '.join([marker] * len(names))})"
    )
    connection = engine.raw_connection()
    cursor = connection.cursor()

    def raw() -> None:
        for rows in prepared:
            cursor.executemany(insert, rows)
            connection.commit()

    def ours() -> None:
        for calls in made:
            store.write(calls)

    spent: dict[str, list[Spent]] = {"executemany": [], "Store.write": []}
    for number in range(ROUNDS + 1):
        made = [make_calls(BATCH) for _ in range(BATCHES)]
        prepared = [raw_rows(engine.dialect, make_calls(BATCH)) for _ in range(BATCHES)]
        gc.collect()
        gc.freeze()  # exclude what was created above
        order = [("executemany", raw), ("Store.write", ours)]
        for name, work in order if number % 2 else reversed(order):
            took = timed(work, BATCH * BATCHES)
            if number:
                spent[name].append(took)
        gc.unfreeze()
    connection.close()
    print("\n| batches of 500 | CPU us/row | wall us/row | x CPU | x wall |")
    print("|---|---:|---:|---:|---:|")
    base = spent["executemany"]
    for name, times in spent.items():
        pairs = list(zip(times, base, strict=True))
        print(
            f"| {name} | {statistics.median(s.cpu_us for s in times):.1f}"
            f" | {statistics.median(s.wall_us for s in times):.1f}"
            f" | {statistics.median(a.cpu_us / b.cpu_us for a, b in pairs):.2f}"
            f" | {statistics.median(a.wall_us / b.wall_us for a, b in pairs):.2f} |"
        )


def drains(ledger: Ledger) -> None:
    """Measure how fast a large spool is drained."""
    rates = []
    count = BATCH * BATCHES
    for _ in range(ROUNDS):
        lines = list(map(encode, make_calls(count)))
        for line in lines:
            ledger.queue.spool.append(line)
        rates.append(1e6 / timed(ledger.queue.drain, count).wall_us)
    low, middle, high = statistics.quantiles(rates, n=4)
    print(f"\ndrained: {middle:.0f} rows/s of wall time (IQR {low:.0f}..{high:.0f})")


def appends(ledger: Ledger) -> None:
    """Measure the latency at a call's end on the default path, while the writer runs."""
    calls = make_calls(2000)
    took = []
    for call in calls:
        start = time.perf_counter()
        ledger.append(call)
        took.append((time.perf_counter() - start) * 1e6)
        time.sleep(0.001)
    cuts = statistics.quantiles(took, n=100)
    print(
        f"\nadded to a call by the ledger: p50 {cuts[49]:.0f} us, p95 {cuts[94]:.0f} us,"
        f" p99 {cuts[98]:.0f} us of wall time"
    )
    assert ledger.flush(60)


@contextmanager
def database(kind: str) -> Iterator[str | None]:
    """A schema or database of the benchmark's own; ``None`` is an SQLite file."""
    uri = os.environ.get(f"LLM_COST_TEST_{kind}")
    if uri is None:
        yield None
        return
    url = sa.make_url(uri)
    name = f"llm_cost_bench_{uuid.uuid4().hex[:12]}"
    word = "SCHEMA" if kind == "POSTGRESQL" else "DATABASE"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE {word} {name}")
    if kind == "POSTGRESQL":
        own = url.update_query_dict({"options": f"-csearch_path={name}"})
    else:
        own = url.set(database=name)
    yield own.render_as_string(hide_password=False)
    with engine.connect() as connection:
        cascade = " CASCADE" if kind == "POSTGRESQL" else ""
        connection.exec_driver_sql(f"DROP {word} {name}{cascade}")
    engine.dispose()


def main() -> None:
    for kind in ("SQLITE", "POSTGRESQL", "MARIADB"):
        if kind != "SQLITE" and f"LLM_COST_TEST_{kind}" not in os.environ:
            print(f"\n## {kind}: no URL in LLM_COST_TEST_{kind}")
            continue
        print(f"\n## {kind}")
        with database(kind) as uri, tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(Settings(database_uri=uri), instance_path=folder)
            ledger.schema.upgrade()
            batches(ledger._store, ledger._engines.writing())
            drains(ledger)
            appends(ledger)
            ledger.close()


if __name__ == "__main__":
    main()
