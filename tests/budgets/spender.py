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
from flask_llm_cost.attempt import Attempt
from flask_llm_cost.call import Call
from flask_llm_cost.call import Usage
from flask_llm_cost.errors import BudgetExceeded


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
            snapshot = llm_cost.begin(Attempt("openai", "chat", "gpt-4o"))
        except BudgetExceeded:
            return
        assert snapshot is not None
        time.sleep(chance.uniform(0, 0.01))
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
