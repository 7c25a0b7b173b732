"""How long pages and reports ask the database for, over a year of many calls.

``scale.py COUNT [URL]`` makes a ledger of so many calls in an empty database (a temporary
SQLite file without a URL), adds it up as the writer does, and asks. Times are the
median of some: of the database, until it has answered, and of the whole question.
"""

from __future__ import annotations

import datetime as dt
import statistics
import sys
import tempfile
import time
import tracemalloc
import typing as t
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))

from flask_llm_cost.config import Settings
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger.tables import calls
from flask_llm_cost.query.export import csv_lines
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.heat import heat
from flask_llm_cost.query.listing import stream_rows
from flask_llm_cost.query.listing import top_calls
from flask_llm_cost.query.models import models
from flask_llm_cost.query.overview import overview
from flask_llm_cost.query.quality import quality
from flask_llm_cost.query.report import report
from flask_llm_cost.query.sessions import sessions
from flask_llm_cost.query.tags import tag_keys
from flask_llm_cost.query.tags import tag_page
from flask_llm_cost.query.totals import totals
from tests.query.many import END
from tests.query.many import fill

TAGS = ("feature", "user")

ROLLED: dict[str, t.Any] = {
    "totals": totals,
    "overview": lambda c, w: overview(c, w, tags=("feature",), now=END),
    "models": models,
    "heat map": heat,
    "tag, 5 values": lambda c, w: tag_page(c, w, "feature"),
    "tag, 997 values": lambda c, w: tag_page(c, w, "user"),
}
RAW: dict[str, t.Any] = {
    "report": lambda c, w: report(c, w, tags=("feature",)),
    "list, latest": lambda c, w: top_calls(c, w, sort="recent", limit=50),
    "list, dearest": lambda c, w: top_calls(c, w, sort="expensive", limit=50),
    "totals of one tag value": lambda c, w: totals(
        c, w.narrowed(tags=(("user", "u7"),))
    ),
    "tag that is not declared": lambda c, w: tag_page(c, w, "tenant"),
    "tag keys": tag_keys,
    "sessions": lambda c, w: sessions(c, w, "user"),
    "data quality": quality,
}


class Watch:
    """Adds up how long an engine's statements take."""

    def __init__(self, engine: sa.Engine) -> None:
        self.seconds = 0.0
        self._start = 0.0
        sa.event.listen(engine, "before_cursor_execute", self._begin)
        sa.event.listen(engine, "after_cursor_execute", self._end)

    def _begin(self, *_: object) -> None:
        self._start = time.perf_counter()

    def _end(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start


def timed(
    ask: Callable[[], object], watch: Watch | None = None, times: int = 5
) -> tuple[float, float]:
    """Milliseconds of the database, and of the whole question."""
    inside, whole = [], []
    for _ in range(times):
        before = 0.0 if watch is None else watch.seconds
        start = time.perf_counter()
        ask()
        whole.append((time.perf_counter() - start) * 1000)
        inside.append(0.0 if watch is None else (watch.seconds - before) * 1000)
        if sum(whole) > 10_000:
            break
    return statistics.median(inside), statistics.median(whole)


def questions(ledger: Ledger) -> None:
    """Ask everything over 30 days and over a year."""
    watch = Watch(ledger._engines.asking())
    print(f"{'ms: database, whole':34}{'30 days':>18}{'a year':>20}")
    for title, group in (("from sums", ROLLED), ("from calls", RAW)):
        print(title)
        for name, question in group.items():
            cells = []
            for days in (30, 365):
                where = CallFilter(start=END - dt.timedelta(days=days), end=END)

                def ask(question: t.Any = question, where: CallFilter = where) -> None:
                    with ledger.reading() as connection:
                        question(connection, where)

                inside, whole = timed(ask, watch)
                cells.append(f"{inside:9.0f} {whole:8.0f}")
            print(f"  {name:32}{cells[0]:>18}  {cells[1]:>18}", flush=True)


def csv(ledger: Ledger, rows: int) -> None:
    """The CSV of so many calls against a cursor that only reads their columns."""
    with ledger.reading() as connection:
        first = connection.scalar(
            sa.select(calls.c.started_at)
            .order_by(calls.c.started_at.desc())
            .offset(rows - 1)
            .limit(1)
        )
    where = CallFilter(start=first, end=END)

    def export() -> None:
        for _ in csv_lines(stream_rows(ledger.reading, where)):
            pass

    def cursor() -> None:
        with ledger.reading() as connection:
            found = connection.execution_options(yield_per=1000).execute(
                sa.select(calls).where(*where.clauses()).order_by(calls.c.started_at)
            )
            for _ in found:
                pass

    ratios = [timed(export, times=1)[1] / timed(cursor, times=1)[1] for _ in range(3)]
    tracemalloc.start()
    export()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    print(
        f"CSV of {rows:,} rows: {statistics.median(ratios):.2f}x a cursor; {peak:.1f} MB"
    )


def main(count: int, url: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="llm-cost-scale-") as folder:
        ledger = Ledger(
            Settings(database_uri=url, rollup_tags=TAGS), instance_path=folder
        )
        ledger.upgrade()
        for name, step in (
            ("made", lambda: fill(ledger._engines.writing(), count)),
            ("added up", ledger.roll),
        ):
            start = time.perf_counter()
            step()
            print(
                f"{count:,} calls {name} in {time.perf_counter() - start:.0f} s",
                flush=True,
            )
        questions(ledger)
        for rows in (20_000, 100_000):
            csv(ledger, min(rows, count))
        ledger.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
