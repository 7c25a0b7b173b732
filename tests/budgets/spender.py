"""A process of an app that spends: threads make calls until a budget refuses them."""

from __future__ import annotations

import dataclasses
import json
import random
import sys
import threading
import time
from decimal import Decimal

from flask import Flask

from flask_llm_cost import LlmCost
from flask_llm_cost import wait_limit
from flask_llm_cost.attempt import Attempt
from flask_llm_cost.attempt import Snapshot
from flask_llm_cost.bound import read_bound
from flask_llm_cost.call import Call
from flask_llm_cost.call import Usage
from flask_llm_cost.errors import BudgetExceeded

wait_limit.CALL_SECONDS = 20.0  # on a slow machine, too

BODY = b'{"model": "gpt-4o", "messages": [], "max_tokens": 900}'
"""At most a cent."""


def cut(snapshot: Snapshot, chance: random.Random) -> Call:
    """A stream that was cut, with or without a part of its usage."""
    written = chance.randint(0, 900)
    seen = Usage(input_tokens=10, output_tokens=written // 2)
    return Call(
        snapshot.event_id,
        snapshot.started_at,
        "openai",
        "gpt-4o",
        request_model="gpt-4o",
        usage=chance.choice([None, seen]),
        stream=True,
        outcome="interrupted",
        tags=snapshot.tags,
        flags=frozenset({"cut"}),
        bound=read_bound(BODY, "chat"),
        estimate=Usage(input_tokens=10, output_tokens=written),
    )


def main() -> None:
    options = json.loads(sys.argv[1])
    app = Flask("spender", instance_path=options["folder"])
    app.config.update(options["config"])
    llm_cost = LlmCost(app)

    def work(seed: str) -> None:
        chance = random.Random(seed)
        with app.app_context():
            for _ in range(options["calls"]):
                call(chance)

    def call(chance: random.Random) -> None:
        try:
            snapshot = llm_cost.begin(Attempt("openai", "chat", "gpt-4o", body=BODY))
        except BudgetExceeded:
            return
        assert snapshot is not None
        time.sleep(chance.uniform(0, 0.01))
        if options["cut"] and chance.random() < 0.7:
            llm_cost.record(cut(snapshot, chance), snapshot)
            return
        cost = Decimal(chance.randint(1, 10**10)).scaleb(-12)
        made = Call(
            snapshot.event_id,
            snapshot.started_at,
            "openai",
            "gpt-4o",
            request_model="gpt-4o",
            usage=Usage(input_tokens=1),
            reported_cost=cost,
            tags=snapshot.tags,
        )
        llm_cost.record(dataclasses.replace(made), snapshot)

    threads = [
        threading.Thread(target=work, args=(f"{options['seed']}.{n}",))
        for n in range(options["threads"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with app.app_context():
        llm_cost.flush(30)


if __name__ == "__main__":
    main()
