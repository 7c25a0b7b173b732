"""Export a month with 2 days and one with 31: ``python -m tests.query.focus_memory``.

Each day has many charges of its own. Prints the rows of the longer month, and by how many
kilobytes the process then grew beyond what the shorter one took. With ``closed``, the
months are closed before.
"""

from __future__ import annotations

import datetime as dt
import resource
import sys
import tempfile
from decimal import Decimal

import sqlalchemy as sa

from flask_llm_cost.config import Settings
from flask_llm_cost.db import tables
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.query import focus
from flask_llm_cost.rollups.meters import MeterKey
from flask_llm_cost.rollups.meters import MeterSum

DAYS = {dt.date(2026, 5, 1): 2, dt.date(2026, 7, 1): 31}
CHARGES = 200


def fill(ledger: Ledger, month: dt.date, days: int) -> None:
    sums = MeterSum(Decimal(7), 1, 7_000_000, 7_000_000, 0, 0)
    with ledger._engines.writing().begin() as connection:
        for day in range(days):
            hour = dt.datetime(month.year, month.month, 1 + day, 9, tzinfo=dt.UTC)
            rows = [
                {"kind": "stored", "hour": hour, "number": n, "quantity": "7"}
                | MeterKey(
                    *("", "openai", f"model-{day}-{n}", "input", "standard", ""),
                    *("1", "openai/m", "bundled", "complete"),
                )._asdict()
                | {name: getattr(sums, name) for name in MeterSum._fields[1:]}
                for n in range(CHARGES)
            ]
            connection.execute(sa.insert(tables.meter_sums), rows)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(closed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Settings(), instance_path=folder)
        ledger.rollups.build()
        for month, days in DAYS.items():
            fill(ledger, month, days)
            if closed:
                ledger.rollups.close(month, dt.datetime(2026, 8, 9, tzinfo=dt.UTC))
        peaks, count = [], 0
        for month in DAYS:
            with ledger.reading() as connection:
                count = sum(1 for _ in focus.rows(connection, focus.Month(month)))
            peaks.append(peak())
        ledger.close()
    sys.stdout.write(f"{count} {peaks[1] - peaks[0]}\n")


if __name__ == "__main__":
    main(sys.argv[1:] == ["closed"])
