"""The time of database queries of pages and reports, over a year of many calls.

``scale.py COUNT [URL]`` creates a ledger of COUNT calls in an empty database (by default a
temporary SQLite file), builds its rollups like the writer, and runs the queries. Times are
medians: of the database alone, and of the whole function. With ``--csv`` only the export is
measured.
"""

from __future__ import annotations

import csv
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
from flask_llm_cost.db.tables import calls
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.query import export
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.heat import heat
from flask_llm_cost.query.listing import CALLS_WITH_TAGS
from flask_llm_cost.query.listing import top_calls
from flask_llm_cost.query.models import models
from flask_llm_cost.query.overview import overview
from flask_llm_cost.query.quality import quality
from flask_llm_cost.query.report import report
from flask_llm_cost.query.sessions import sessions
from flask_llm_cost.query.tags import tag_keys
from flask_llm_cost.query.tags import tag_page
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
    "list, most expensive": lambda c, w: top_calls(c, w, sort="expensive", limit=50),
    "totals of one tag value": lambda c, w: totals(
        c, w.narrowed(tags=(("user", "u7"),))
    ),
    "tag that is not declared": lambda c, w: tag_page(c, w, "tenant"),
    "tag keys": tag_keys,
    "sessions": lambda c, w: sessions(c, w, "user"),
    "data quality": quality,
}


class Watch:
    """Sums the time of an engine's statements."""

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
    """Milliseconds of the database, and of the whole function."""
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
    """Run every query over 30 days and over a year."""
    watch = Watch(ledger._engines.querying())
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


def csv_of(ledger: Ledger, rows: int, folder: str) -> None:
    """Measure the CSV export against the driver's cursor and :mod:`csv`.

    The cursor reads the same columns in the same order without formatting: times and money
    stay integers, and cells are not made formula-safe. Both write a file.
    """
    with ledger.reading() as connection:
        first = connection.scalar(
            sa.select(calls.c.started_at)
            .order_by(calls.c.started_at.desc())
            .offset(rows - 1)
            .limit(1)
        )
    where = CallFilter(start=first, end=END)
    engine = ledger._engines.querying()
    question = str(
        sa.select(*export._SELECTED)
        .select_from(CALLS_WITH_TAGS)
        .where(*where.clauses())
        .order_by(calls.c.started_at.desc(), calls.c.event_id.desc())
        .compile(engine, compile_kwargs={"literal_binds": True})
    )

    def ours() -> None:
        with open(Path(folder, "ours.csv"), "wb") as file:
            for line in export.csv_lines(ledger.reading, where):
                file.write(line.encode())

    def raw() -> None:
        connection = engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(question)
            with open(Path(folder, "raw.csv"), "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(export.COLUMNS)
                writer.writerows(cursor)  # type: ignore[arg-type]
            cursor.close()
        finally:
            connection.close()

    ratios = []
    for _ in range(5):
        (cpu, wall), (base_cpu, base_wall) = spent(ours), spent(raw)
        ratios.append((cpu / base_cpu, wall / base_wall, cpu / rows * 1e6))
    cpu, wall, each = map(statistics.median, zip(*ratios, strict=True))
    tracemalloc.start()
    ours()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    print(
        f"CSV of {rows:,} rows: {cpu:.2f}x the CPU and {wall:.2f}x the time of a raw"
        f" cursor; {each:.1f} us of CPU a row; {peak:.1f} MB",
        flush=True,
    )


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of this process's CPU time, and of wall time."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def took(what: str, step: Callable[[], object]) -> None:
    """Run a step, and print how long it took."""
    start = time.perf_counter()
    step()
    print(f"{what} in {time.perf_counter() - start:.0f} s", flush=True)


def main(count: int, url: str | None, *, only_csv: bool = False) -> None:
    with tempfile.TemporaryDirectory(prefix="llm-cost-scale-") as folder:
        ledger = Ledger(
            Settings(database_uri=url, rollup_tags=TAGS), instance_path=folder
        )
        ledger.schema.upgrade()
        took(f"{count:,} calls made", lambda: fill(ledger._engines.writing(), count))
        if not only_csv:
            took(f"{count:,} calls aggregated", ledger.rollups.build)
            questions(ledger)
        for rows in (20_000, 200_000):
            csv_of(ledger, min(rows, count), folder)
        ledger.close()


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != "--csv"]
    main(
        int(given[0]),
        given[1] if len(given) > 1 else None,
        only_csv="--csv" in sys.argv,
    )
