"""How questions, writing, pruning and space grow with the number of calls.

``growth.py 100000 1000000 [--database-uri URL]`` fills an empty ledger with each number of
calls, over 60 days that end at the same moment, and prints one row for each. With a URL, the
database is emptied first: name one of your own. Times are medians and 95th percentiles of
ten runs over 30 days, after a first one that is not counted.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import statistics
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.scale import RAW
from benchmarks.scale import ROLLED
from flask_llm_cost.config import Settings
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger.store import Store
from flask_llm_cost.query.filters import CallFilter
from tests.ledger.samples import make_call
from tests.query.many import END
from tests.query.many import fill

DAYS: t.Final = 60
WHERE: t.Final = CallFilter(start=END - dt.timedelta(days=30), end=END)
_TIMES: t.Final = 10
_BATCHES: t.Final = 10


def asked(ledger: Ledger, question: t.Any) -> str:
    """Ask a question some times; return its p50 and p95 in milliseconds."""
    taken = []
    for _ in range(_TIMES + 1):
        start = time.perf_counter()
        with ledger.reading() as connection:
            question(connection, WHERE)
        taken.append((time.perf_counter() - start) * 1000)
    p95 = statistics.quantiles(taken[1:], n=20)[-1]
    return f"{statistics.median(taken[1:]):.0f} / {p95:.0f}"


def written(ledger: Ledger) -> str:
    """Write batches of 500 calls; return the rate."""
    calls = [
        make_call(n, started_at=at, event_id=mint_event_id(at))
        for n in range(500 * _BATCHES)
        for at in [END - dt.timedelta(seconds=n)]
    ]
    store, start = Store(ledger._engines), time.perf_counter()
    for n in range(0, len(calls), 500):
        store.write(calls[n : n + 500])
    return f"{len(calls) / (time.perf_counter() - start):.0f} calls/s"


def pruned(ledger: Ledger) -> str:
    """Prune the first day row by row; return the rate."""
    start = time.perf_counter()
    count = ledger.prune(END - dt.timedelta(days=DAYS - 1))
    return f"{count / (time.perf_counter() - start):.0f} calls/s"


def size(ledger: Ledger) -> int:
    """Return the size of the database in bytes."""
    with ledger._engines.reading().connect() as connection:
        if connection.dialect.name == "postgresql":
            text = "SELECT pg_database_size(current_database())"
        else:
            text = (
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            )
        return int(connection.scalar(sa.text(text)) or 0)


def measured(count: int, url: str | None) -> dict[str, str]:
    """Fill a ledger and measure it."""
    with tempfile.TemporaryDirectory(prefix="llm-cost-growth-") as folder:
        settings = Settings(database_uri=url, rollup_tags=("feature",))
        ledger = Ledger(settings, instance_path=folder)
        if url is not None and ledger.schema.current() is not None:
            ledger.schema.downgrade("base")
        ledger.schema.upgrade()
        empty = size(ledger)
        fill(ledger._engines.writing(), count, days=DAYS)
        calls = size(ledger) - empty
        start = time.perf_counter()
        ledger.rollups.build()
        found = {
            "build": f"{time.perf_counter() - start:.0f} s",
            "bytes of a call": f"{calls / count:.0f}",
            "with all sums": f"{(size(ledger) - empty) / count:.0f}",
        }
        for name, question in (ROLLED | RAW).items():
            found[name] = asked(ledger, question)
        found |= {"write": written(ledger), "prune by row": pruned(ledger)}
        ledger.close()
        return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("counts", type=int, nargs="+")
    parser.add_argument("--database-uri")
    options = parser.parse_args()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    print(
        f"{os.cpu_count()} cores, {memory:.0f} GB, Python {platform.python_version()},"
        f" load {load:.1f}, warm; ms: p50 / p95",
        flush=True,
    )
    columns = []
    for count in options.counts:
        columns.append(measured(count, options.database_uri))
        print(f"{count:,} calls measured", flush=True)
    print(f"{'':32}" + "".join(f"{count:>18,}" for count in options.counts))
    for name in columns[0]:
        print(f"{name:32}" + "".join(f"{each[name]:>18}" for each in columns))


if __name__ == "__main__":
    main()
