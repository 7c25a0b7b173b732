"""Reconcile a month of many calls with a large bill: time, and memory above idle.

``reconcile.py [MEGABYTES]`` writes sums of a month of ten million calls and a CUR file of 200
MB (or as many), compares them in a process of its own, and prints both. With ``--write``, a
writer stores 1,000 calls per second meanwhile, and its longest wait is printed.
"""

from __future__ import annotations

import datetime as dt
import resource
import sys
import tempfile
import threading
import time
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from flask_llm_cost import bills
from flask_llm_cost.call import Call
from flask_llm_cost.call import Usage
from flask_llm_cost.config import Settings
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.rollups import meter_sums
from flask_llm_cost.rollups.lock import lock
from flask_llm_cost.rollups.meters import CALLS
from flask_llm_cost.rollups.meters import MeterKey
from flask_llm_cost.rollups.meters import MeterSum

START = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
HOURS = 30 * 24
CALLS_PER_HOUR = 10_000_000 // HOURS
MODELS = ("Claude4.6Sonnet", "Claude4.5Haiku", "Nova2.0Lite", "Llama3.3-70B")
SIDES = {"input": ("input-tokens", 3), "output": ("output-tokens", 15)}
TOKENS = 1000
HEADER = (
    "line_item_usage_start_date,line_item_usage_end_date,line_item_usage_account_id,"
    "line_item_line_item_type,line_item_product_code,line_item_usage_type,"
    "line_item_usage_amount,pricing_unit,line_item_currency_code,"
    "line_item_unblended_cost,line_item_iam_principal,tags\n"
)


def model_name(folder: str, model: str) -> str:
    """Return a model's name as calls have it."""
    path = Path(folder, f"{model}.csv")
    path.write_text(HEADER + _line(0, model, "input", 1, 0))
    [statement] = bills.read([bills.Document.of_path(path)], "aws")
    return str(statement.lines[0].model)


def fill(folder: str, ledger: Ledger) -> None:
    """Store what the sums of the calls would be."""
    ledger.rollups.build()
    names = {model: model_name(folder, model) for model in MODELS}
    with ledger._engines.writing().begin() as connection:
        lock(connection)
        for hour in range(HOURS):
            sums: dict[MeterKey, MeterSum] = {}
            for model in MODELS:
                key = MeterKey(
                    "",
                    "bedrock",
                    names[model],
                    CALLS,
                    "",
                    "",
                    "",
                    "",
                    "bundled",
                    "complete",
                )
                n = CALLS_PER_HOUR // len(MODELS)
                sums[key] = MeterSum(Decimal(0), n, 0, 0, 0, 0)
                for meter, (_, rate) in SIDES.items():
                    cost = n * TOKENS * rate * 10**6
                    sums[key._replace(meter=meter, rate=str(rate))] = MeterSum(
                        Decimal(n * TOKENS), n, cost, cost, 0, 0
                    )
            at = START + hour * dt.timedelta(hours=1)
            meter_sums.replace(connection, meter_sums.PRUNED, at, sums)


def _line(hour: int, model: str, meter: str, rows: int, row: int) -> str:
    at = START + hour * dt.timedelta(hours=1)
    side, rate = SIDES[meter]
    tokens = CALLS_PER_HOUR // len(MODELS) * TOKENS
    share = tokens // rows + (tokens % rows if row == 0 else 0)
    cost = Decimal(share * rate) / 10**6
    return (
        f"{at:%Y-%m-%dT%H:00:00Z},{at:%Y-%m-%dT%H:59:59Z},1,Usage,AmazonBedrock,"
        f"USE1-{model}-{side},{Decimal(share) / 1000},1K tokens,USD,{cost},"
        f"arn:aws:sts::1:assumed-role/App/i-{row:06d},\n"
    )


def write_bill(path: Path, megabytes: int) -> int:
    """Write a bill; return how many rows it has."""
    each = len(_line(0, MODELS[0], "input", 1, 0))
    rows = max(1, megabytes * 10**6 // (HOURS * len(MODELS) * len(SIDES) * each))
    with path.open("w") as file:
        file.write(HEADER)
        for hour in range(HOURS):
            for model in MODELS:
                for meter in SIDES:
                    for row in range(rows):
                        file.write(_line(hour, model, meter, rows, row))
    return HOURS * len(MODELS) * len(SIDES) * rows


def memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def writer(ledger: Ledger, stop: threading.Event, waits: list[float]) -> None:
    number = 0
    while not stop.is_set():
        began = time.perf_counter()
        for _ in range(100):
            at = dt.datetime.now(dt.UTC)
            number += 1
            usage = Usage(input_tokens=number)
            before = time.perf_counter()
            ledger.append(Call(mint_event_id(at), at, "openai", "gpt-5", usage=usage))
            waits.append(time.perf_counter() - before)
        stop.wait(max(0, 0.1 - (time.perf_counter() - began)))


def main() -> None:
    numbers = [word for word in sys.argv[1:] if word.isdigit()]
    megabytes = int(numbers[0]) if numbers else 200
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "cur.csv")
        rows = write_bill(path, megabytes)
        ledger = Ledger(Settings(), instance_path=folder)
        fill(folder, ledger)
        stop, waits = threading.Event(), list[float]()
        thread = threading.Thread(target=writer, args=(ledger, stop, waits))
        if "--write" in sys.argv:
            thread.start()
        idle, began = memory(), time.perf_counter()
        cpu = time.thread_time()
        [statement] = bills.read([bills.Document.of_path(path)])
        read, reading = time.perf_counter() - began, time.thread_time() - cpu
        [report] = bills.compare(ledger, statement)
        took = time.perf_counter() - began
        print(f"bill: {path.stat().st_size / 1e6:.0f} MB, {len(statement.lines)} lines")
        print(f"read {read:.1f} s, compared {took - read:.1f} s, in all {took:.1f} s")
        print(f"read {rows} rows, {rows / reading:,.0f} per second of CPU")
        print(f"CPU of this thread {time.thread_time() - cpu:.1f} s")
        print(f"memory above idle {memory() - idle} MB")
        print(
            f"{report.verdict}, ${report.billed_usd}, unexplained {report.unexplained_usd}"
        )
        stop.set()
        if waits:
            thread.join()
            print(f"{len(waits)} calls stored, longest wait {max(waits) * 1000:.1f} ms")
        ledger.close()


if __name__ == "__main__":
    main()
