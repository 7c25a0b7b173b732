"""A process that crosses a budget's thresholds: on command, from many threads."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from flask import Flask

from flask_llm_cost import LlmCost
from flask_llm_cost import signals
from flask_llm_cost import wait_limit
from flask_llm_cost.budgets import Alert

wait_limit.CALL_SECONDS = 20.0  # on a slow machine, too


def main() -> None:
    options = json.loads(sys.argv[1])
    lock, notified = threading.Lock(), Path(options["notified"])

    def note(line: str) -> None:
        with lock, notified.open("a") as file:
            file.write(f"{line}\n")

    def callback(alert: Alert) -> None:
        note(f"called {alert.threshold}")

    def received(sender: Flask, alert: Alert) -> None:
        note(f"signal {alert.threshold}")

    app = Flask("crosser", instance_path=options["folder"])
    app.config.update(options["config"], LLM_COST_ON_BUDGET_EXCEEDED=callback)
    llm_cost = LlmCost(app)
    signals.budget_threshold.connect(received, app)
    signals.budget_exceeded.connect(received, app)

    def work() -> None:
        start.wait()
        with app.app_context():
            llm_cost.track(provider="openai", model="gpt-4o", reported_cost="0.5")

    start = threading.Barrier(options["threads"] + 1)
    threads = [threading.Thread(target=work) for _ in range(options["threads"])]
    for thread in threads:
        thread.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    start.wait()
    for thread in threads:
        thread.join()
    with app.app_context():
        assert llm_cost.flush(60)


if __name__ == "__main__":
    main()
