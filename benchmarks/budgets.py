"""The overhead of budgets per call: reservations and settlement, against no budget.

    python benchmarks/budgets.py                    # SQLite
    LLM_COST_TEST_POSTGRESQL=... LLM_COST_TEST_MARIADB=... python benchmarks/budgets.py

Each round sends calls through the recorder (begin, record) while the writer thread stores and
settles them, and measures the time that a call takes in the sender. Rounds of the different
kinds alternate, so that other load on the machine affects all of them.

The second table shows settlement alone: the time per call of a transaction that inserts ten
calls, with and without reservations to settle. It is measured without sending, from 1 thread
and from 16 threads with a connection each. The ledger's tables are dropped at the end.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
import typing as t
from decimal import Decimal

from flask import Flask

from flask_llm_cost import LlmCost
from flask_llm_cost.attempt import Attempt
from flask_llm_cost.attempt import Snapshot
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.errors import StorageError

CALLS: t.Final = 160
ROUNDS: t.Final = 5
WRITERS: t.Final = (1, 16)
BATCH: t.Final = 10
ATTEMPT: t.Final = Attempt("openai", "chat", "gpt-4o")

_ALL: t.Final = {"name": "all", "limit_usd": "1000000", "period": "day"}
KINDS: t.Final[dict[str, list[dict[str, t.Any]]]] = {
    "no budget": [],
    "notify": [_ALL],
    "block, no reservations": [_ALL | {"behavior": "block", "hard": False}],
    "block, reservations": [_ALL | {"behavior": "block", "estimate": "0.01"}],
}


def make(uri: str | None, budgets: list[dict[str, t.Any]]) -> tuple[Flask, LlmCost]:
    """An app on a database."""
    app = Flask("benchmark", instance_path=tempfile.mkdtemp())
    app.config.update(LLM_COST_DATABASE_URI=uri, LLM_COST_BUDGETS=budgets)
    llm_cost = LlmCost(app)
    app.extensions["llm_cost"].ledger.schema.upgrade()
    return app, llm_cost


def send(app: Flask, llm_cost: LlmCost, calls: int, begun: list[float]) -> None:
    """Make calls, and record how long each took to begin."""
    with app.app_context():
        for _ in range(calls):
            start = time.perf_counter()
            snapshot = llm_cost.begin(ATTEMPT)
            begun.append(time.perf_counter() - start)
            assert snapshot is not None
            llm_cost.record(made(snapshot), snapshot)


def made(snapshot: Snapshot) -> Call:
    """The call of a snapshot."""
    cost = Decimal("0.001")
    return Call(
        snapshot.event_id,
        snapshot.started_at,
        "openai",
        "gpt-4o",
        usage=Usage(input_tokens=100, output_tokens=100),
        reported_cost=cost,
        cost=Cost(cost, {"reported": Part(Decimal(1), cost, cost)}, "provider"),
        tags=snapshot.tags,
    )


def settle(app: Flask, llm_cost: LlmCost, writers: int) -> tuple[float, int]:
    """Milliseconds per call of the transactions that insert calls and settle reservations.

    :return: These, and the number of transactions that had to be retried.
    """
    ledger = app.extensions["llm_cost"].ledger
    batches = []
    with app.app_context():
        for _ in range(CALLS // BATCH):
            snapshots = [llm_cost.begin(ATTEMPT) for _ in range(BATCH)]
            batches.append(
                [made(snapshot) for snapshot in snapshots if snapshot is not None]
            )
    again: list[StorageError] = []
    start = threading.Barrier(writers + 1)

    def write(mine: list[list[Call]]) -> None:
        start.wait()
        for batch in mine:
            while True:
                try:
                    stored = ledger._store.write(batch, now=True)
                except StorageError as error:
                    again.append(error)
                else:
                    assert stored.new == BATCH, stored.rejected[0][1]
                    break

    threads = [
        threading.Thread(target=write, args=(batches[n::writers],))
        for n in range(writers)
    ]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - began) / CALLS * 1000, len(again)


def run(app: Flask, llm_cost: LlmCost, writers: int) -> tuple[float, float]:
    """Milliseconds that a call takes to begin (median), and that it takes its sender."""
    begun: list[float] = []
    start = time.perf_counter()
    threads = [
        threading.Thread(target=send, args=(app, llm_cost, CALLS // writers, begun))
        for _ in range(writers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = time.perf_counter() - start
    with app.app_context():
        assert llm_cost.flush(60)
    return statistics.median(begun) * 1000, sent / CALLS * 1000


Apps: t.TypeAlias = dict[str, tuple[Flask, LlmCost]]


def show_sending(name: str, apps: Apps, writers: int) -> None:
    """The time that calls take their senders, by kind of budget."""
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind, (app, llm_cost) in apps.items():
            found[kind].append(run(app, llm_cost, writers))
    base = statistics.median(each[1] for each in found["no budget"])
    for kind, each in found.items():
        begin = statistics.median(one[0] for one in each)
        whole = statistics.median(one[1] for one in each)
        sys.stdout.write(
            f"{name:<11} {writers:>2} writers  {kind:<22} begin {begin:7.3f} ms"
            f"   call {whole:7.3f} ms   {whole / base:5.2f}x\n"
        )
    sys.stdout.flush()


def show_settlement(name: str, apps: Apps, writers: int) -> None:
    """The time of the transactions that insert calls, by kind of budget."""
    found: dict[str, list[tuple[float, int]]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind, (app, llm_cost) in apps.items():
            found[kind].append(settle(app, llm_cost, writers))
    base = statistics.median(each[0] for each in found["no budget"])
    for kind, each in found.items():
        whole, again = (statistics.median(one[n] for one in each) for n in (0, 1))
        sys.stdout.write(
            f"{name:<11} {writers:>2} writers  {kind:<22} insert, settle {whole:7.3f} ms"
            f"   {whole / base:5.2f}x   again {again:.0f}\n"
        )
    sys.stdout.flush()


def main() -> None:
    """Print a table for each database."""
    uris: dict[str, str | None] = {"SQLite": None}
    for name in ("PostgreSQL", "MariaDB"):
        uri = os.environ.get(f"LLM_COST_TEST_{name.upper()}")
        if uri:
            uris[name] = uri
    for name, uri in uris.items():
        apps = {kind: make(uri, budgets) for kind, budgets in KINDS.items()}
        for writers in WRITERS:
            show_sending(name, apps, writers)
        for writers in WRITERS:
            show_settlement(name, apps, writers)
        for app, _ in apps.values():
            app.extensions["llm_cost"].close()
        app, _ = make(uri, [])
        app.extensions["llm_cost"].ledger.schema.downgrade("base")
        app.extensions["llm_cost"].close()


if __name__ == "__main__":
    main()
