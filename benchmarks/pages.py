"""How long pages take with a million calls, and the share of database and template.

``pages.py [--calls N] [--database-uri URL | --folder DIR] [--rounds N]``. Without a URL the
ledger is an SQLite file, in a temporary folder by default. A ledger that already has calls is
used unchanged. PostgreSQL copies most of the calls itself, from the first 200,000.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import random
import statistics
import tempfile
import time
import typing as t
from collections.abc import Iterator
from decimal import Decimal

import sqlalchemy as sa
from flask import Flask

from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import mint_event_id
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.db.tables import calls
from flask_llm_cost.extension import make_app

NOW: t.Final = dt.datetime(2026, 11, 18, 12, tzinfo=dt.UTC)
DAYS: t.Final = 180
MODELS: t.Final = [
    (provider, f"{provider}-model-{n}")
    for provider in ("openai", "anthropic", "gemini", "mistral")
    for n in range(6)
]
BATCH: t.Final = 5_000
MILLION: t.Final = 1_000_000
GENERATED: t.Final = 200_000
"""Calls that are generated where the database copies the rest."""

PAGES: t.Final = {
    "overview": ("/", True),
    "overview, 90 days": ("/?from=2026-08-21", True),
    "models": ("/models", True),
    "declared tag": ("/tags/feature", True),
    "prices": ("/prices", True),
    "calls, newest": ("/calls", False),
    "calls, most expensive": ("/calls?sort=expensive", False),
    "calls with a tag": ("/calls?tag=user:u77", False),
    "tags": ("/tags", False),
    "undeclared tag, 500 values": ("/tags/user", False),
    "sessions": ("/sessions", False),
    "data quality": ("/data-quality", False),
}
"""Path, and whether rollups answer it: those should take 300 ms at most."""


def generated(count: int) -> Iterator[Call]:
    """Calls spread over half a year, at any hour, in the order in which an app makes them.

    In another order, the calls of a range would be on many more database pages, and every
    query of calls would take several times as long.
    """
    rng = random.Random(7)
    step = DAYS * 86_400_000 // count
    for n in range(count):
        ago = (count - n) * step - rng.randrange(step)
        at = NOW - dt.timedelta(milliseconds=ago)
        provider, model = rng.choice(MODELS)
        tokens, out = rng.randrange(100, 20_000), rng.randrange(10, 2_000)
        usd = Decimal(tokens * 3 + out * 15).scaleb(-6)
        user = rng.randrange(500)
        yield Call(
            event_id=mint_event_id(at),
            started_at=at.replace(microsecond=at.microsecond // 1000 * 1000),
            provider=provider,
            model=model,
            usage=Usage(input_tokens=tokens, output_tokens=out),
            usage_source="response",
            cost=None
            if rng.random() < 0.01
            else Cost(
                usd, {"input": Part(Decimal(tokens), Decimal(3), usd)}, "bundled"
            ),
            latency_ms=rng.randrange(100, 9_000),
            response_id=f"r{rng.getrandbits(60)}",
            tags={
                "feature": f"f{user % 8}",
                "user": f"u{user}",
                "session": f"s{user}-{rng.randrange(4)}",
            },
        )


def fill(app: Flask, count: int) -> None:
    """Write calls in batches and build the rollups, unless the ledger has calls already."""
    ledger = app.extensions["llm_cost"].ledger
    ledger.schema.upgrade()
    if app.extensions["llm_cost"].extension.calls.rows(limit=1):
        return
    start = time.perf_counter()
    copies = ledger._engines.writing().dialect.name == "postgresql"
    found = generated(min(count, GENERATED) if copies else count)
    while batch := list(itertools.islice(found, BATCH)):
        ledger._store.write(batch)
    print(f"written after {time.perf_counter() - start:.0f} s", flush=True)
    if copies:
        multiply(ledger._engines.writing(), count // GENERATED - 1)
        print(f"copied after {time.perf_counter() - start:.0f} s", flush=True)
    ledger.rollups.rezone()
    while ledger.rollups.build():
        pass
    print(f"rollups after {time.perf_counter() - start:.0f} s", flush=True)


def multiply(engine: sa.Engine, more: int) -> None:
    """Let PostgreSQL copy its calls, each time a millisecond later."""
    own = ("started_at", "event_id", "response_id")
    names = [f'"{c.name}"' for c in calls.c if c.name not in own]
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE made ON COMMIT DROP AS SELECT * FROM {calls.name}"  # noqa: S608
        )
        for turn in range(1, more + 1):
            connection.exec_driver_sql(
                f"INSERT INTO {calls.name} ({', '.join((*own, *names))})"  # noqa: S608
                f" SELECT started_at + {turn},"
                f" (lpad(to_hex(started_at + {turn}), 12, '0') || '7'"
                " || substr(md5(random()::text), 1, 3) || '8'"
                " || substr(md5(random()::text), 1, 15))::uuid,"
                f" response_id || '-{turn}', {', '.join(names)} FROM made"
            )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # The server would do this by itself after a while.
        connection.exec_driver_sql(f"VACUUM (ANALYZE) {calls.name}")


class Clock:
    """Measures the time spent in the database, and counts statements."""

    def __init__(self, engines: t.Iterable[sa.Engine]) -> None:
        self.spent = 0.0
        self.statements = 0
        for engine in engines:
            sa.event.listen(engine, "before_cursor_execute", self._begin)
            sa.event.listen(engine, "after_cursor_execute", self._end)

    def _begin(self, *args: t.Any) -> None:
        self._start = time.perf_counter()

    def _end(self, *args: t.Any) -> None:
        self.spent += time.perf_counter() - self._start
        self.statements += 1


def measure(app: Flask, rounds: int) -> None:
    """Request the pages in turn, so that changes in the machine's speed affect them all."""
    client = app.test_client()
    ledger = app.extensions["llm_cost"].ledger
    clock = Clock([ledger._engines.reading()])
    rendered = [0.0]
    render = app.jinja_env.template_class.render

    def timed(*args: t.Any, **values: t.Any) -> str:
        start = time.perf_counter()
        try:
            return t.cast(str, render(*args, **values))
        finally:
            rendered[0] += time.perf_counter() - start

    app.jinja_env.template_class.render = timed
    found: dict[str, list[tuple[float, float, float, int]]] = {n: [] for n in PAGES}
    for number in range(rounds + 1):
        for name, (path, _) in PAGES.items():
            clock.spent, clock.statements, rendered[0] = 0.0, 0, 0.0
            start = time.perf_counter()
            response = client.get(f"/llm-costs{path}")
            took = time.perf_counter() - start
            assert response.status_code == 200, (name, response.text)
            if number:  # the first round warms up
                found[name].append((took, clock.spent, rendered[0], clock.statements))
    app.jinja_env.template_class.render = render
    print("\n| page | median ms | database | template | rest | statements | rollups |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for name, rows in found.items():
        took, database, templates, count = map(
            statistics.median, zip(*rows, strict=True)
        )
        rest = took - database - templates
        parts = " | ".join(f"{part / took:.0%}" for part in (database, templates, rest))
        rollups = "yes" if PAGES[name][1] else ""
        print(f"| {name} | {took * 1000:.0f} | {parts} | {count:.0f} | {rollups} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=MILLION)
    parser.add_argument("--database-uri")
    parser.add_argument("--folder", help="the folder of an SQLite file to keep")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config: dict[str, t.Any] = {"LLM_COST_ROLLUP_TAGS": ("feature",)}
        if options.database_uri:
            config["LLM_COST_DATABASE_URI"] = options.database_uri
        app = make_app(config, options.folder or folder)
        state = app.extensions["llm_cost"]
        state.clock = lambda: NOW
        app.register_blueprint(
            state.extension.blueprint(access="public"), url_prefix="/llm-costs"
        )
        try:
            fill(app, options.calls)
            measure(app, options.rounds)
        finally:
            state.close()


if __name__ == "__main__":
    main()
