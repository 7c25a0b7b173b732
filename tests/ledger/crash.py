"""Append calls from threads and forked children until killed.

Each acknowledged call's event id and cost are written to standard output, in one write.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import sys
import threading
import time

from flask_llm_cost.config import Settings
from flask_llm_cost.ledger import Ledger

from .samples import make_call


def write(ledger: Ledger, seconds: float, pause: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        now = dt.datetime.now(dt.UTC)
        started_at = now.replace(microsecond=now.microsecond // 1000 * 1000)
        call = make_call(random.randrange(1000), started_at=started_at)
        ledger.append(call)
        assert call.cost is not None
        os.write(1, f"{call.event_id} {call.cost.total_usd}\n".encode())
        time.sleep(random.random() * pause)


def main(
    database_uri: str, instance_path: str, threads: int, children: int, pause: float
) -> None:
    settings = Settings(database_uri=database_uri or None)
    ledger = Ledger(settings, instance_path=instance_path)
    workers = [
        threading.Thread(target=write, args=(ledger, 60, pause), daemon=True)
        for _ in range(threads)
    ]
    for worker in workers:
        worker.start()
    for _ in range(children):
        time.sleep(0.05)
        if os.fork() == 0:
            write(ledger, 60, pause)
            os._exit(0)
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main(
        *(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])),
        float(sys.argv[5]),
    )
