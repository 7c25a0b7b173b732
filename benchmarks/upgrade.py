"""What waits while a ledger of many calls on PostgreSQL is upgraded, revision by revision.

``upgrade.py URL [COUNT]``: in an empty database. Beside each upgrade one connection stores
a call all the time, one reads a call and a sum, and one looks at the locks. Printed are how
long the revision took, the longest that each of them waited, and the locks.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from alembic.script import ScriptDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from flask_llm_cost.db import migrate

FILL = """
INSERT INTO llm_cost_calls (started_at, event_id, provider, model, operation, stream,
    usage_source, outcome, flags, cost_total, input_tokens, output_tokens, details)
SELECT ms, (lpad(to_hex(ms), 12, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid,
    'openai', 'gpt-' || n % 9, 'chat', false,
    CASE WHEN n % 50 = 0 THEN 'estimated' ELSE 'response' END, 'ok', '', n, n % 4000, 200,
    '{"parts": {"input": ["1000", "0.0000025", "0.0025"]}}'
FROM (SELECT n, 1750000000000 + n::bigint * 31536 AS ms
    FROM generate_series(1, :count) AS n) AS numbered
"""
STORE = """
INSERT INTO llm_cost_calls (started_at, event_id, provider, model, operation, stream,
    usage_source, outcome, flags)
VALUES (1, gen_random_uuid(), 'openai', 'gpt', 'chat', false, 'response', 'ok', '')
"""
LOCKS = """
SELECT relname, mode FROM pg_locks JOIN pg_class ON pg_class.oid = relation
WHERE locktype = 'relation' AND relkind IN ('r', 'p') AND granted
    AND relname LIKE 'llm\\_cost\\_%' AND mode NOT IN
        ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock')
"""


class Polling:
    """Does something again and again, and knows the longest that it took."""

    def __init__(self, engine: sa.Engine, act: Callable[[sa.Connection], None]) -> None:
        self.longest = 0.0
        self.times = 0
        self._engine = engine
        self._act = act
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Polling:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with self._engine.connect() as connection:
            while not self._over.is_set():
                start = time.perf_counter()
                self._act(connection)
                connection.rollback()
                self.longest = max(self.longest, time.perf_counter() - start)
                self.times += 1
                time.sleep(0.002)


def main(url: str, count: int) -> None:
    engine = sa.create_engine(url)
    first, *revisions = [
        script.revision
        for script in reversed(
            list(ScriptDirectory.from_config(migrate._config()).walk_revisions())
        )
    ]
    migrate.upgrade(engine, first)
    with engine.begin() as connection:
        connection.execute(sa.text(FILL), {"count": count})
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("ANALYZE llm_cost_calls")
    print(f"{count:,} calls")
    for revision in revisions:
        _measure(engine, revision, partial(migrate.upgrade, engine, revision))
        if revision == "0002":
            _fill_rollups(engine)
    for revision in reversed([first, *revisions[:-1]]):
        _measure(engine, f"-> {revision}", partial(migrate.downgrade, engine, revision))
    migrate.downgrade(engine, "base")


def _fill_rollups(engine: sa.Engine) -> None:
    """A year of hours with 9 models each."""
    table = sa.Table("llm_cost_rollups", sa.MetaData(), autoload_with=engine)
    sums = [column.name for column in table.columns][4:]
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO llm_cost_rollups (kind, start, provider, model, {', '.join(sums)})"  # noqa: S608
            " SELECT 'hour', 1749999600000 + hour * 3600000::bigint, 'openai',"
            f" 'gpt-' || model {', 7' * len(sums)}"
            " FROM generate_series(0, 8759) AS hour, generate_series(0, 8) AS model"
        )


def _measure(engine: sa.Engine, name: str, change: Callable[[], None]) -> None:
    locks: set[str] = set()
    known = set(sa.inspect(engine).get_table_names())
    gone = {"llm_cost_rollups"} if name == "-> 0001" else set()

    def store(connection: sa.Connection) -> None:
        connection.exec_driver_sql(STORE)

    def read(connection: sa.Connection) -> None:
        for table in sorted(known & {"llm_cost_calls", "llm_cost_rollups"} - gone):
            connection.exec_driver_sql(f"SELECT * FROM {table} LIMIT 1").all()  # noqa: S608

    def look(connection: sa.Connection) -> None:
        for row in connection.execute(sa.text(LOCKS)):
            if row.relname in known:
                locks.add(f"{row.mode} of {row.relname}")

    with (
        Polling(engine, store) as stored,
        Polling(engine, read) as was_read,
        Polling(engine, look),
    ):
        time.sleep(0.3)
        stored.longest = was_read.longest = 0.0
        start = time.perf_counter()
        change()
        took = time.perf_counter() - start
        time.sleep(0.1)
    print(
        f"{name}: {took * 1000:,.0f} ms; a call waited {stored.longest * 1000:,.0f} ms to be"
        f" stored, {was_read.longest * 1000:,.0f} ms to be read;"
        f" {', '.join(sorted(locks)) or 'no lock of a table that was there'}"
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
