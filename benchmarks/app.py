"""What the extension adds to a Flask app: CPU per call, and time to start.

Views of an app with Flask-SQLAlchemy send the calls, once through a bare session and once
through the adapter, with a tag provider. All of its threads are counted.
"""

from __future__ import annotations

import pathlib
import statistics
import subprocess
import sys
import tempfile
import typing as t

import requests
from flask import Flask
from flask import request
from flask_sqlalchemy import SQLAlchemy
from interleave import run
from provider import provider

from flask_llm_cost import LlmCost

STARTS: t.Final = 15

APP: t.Final = """
import resource, sys, time
began = time.perf_counter()
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
import requests
app = Flask("bench", instance_path=sys.argv[1])
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
db = SQLAlchemy(app)
def added():
    from flask_llm_cost import LlmCost
    llm_cost = LlmCost(app)
    app.register_blueprint(llm_cost.blueprint(access="public"), url_prefix="/costs")
if sys.argv[2] == "with":
    added()
usage = resource.getrusage(resource.RUSAGE_SELF)
print(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


def main() -> None:
    with provider(10) as host, tempfile.TemporaryDirectory() as folder:
        _measure_calls(host, folder)
        _measure_starts(folder)


def _measure_calls(host: str, folder: str) -> None:
    app = Flask("bench", instance_path=folder)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{folder}/host.db"
    app.config["LLM_COST_PROVIDER_HOSTS"] = {host: "openai"}
    SQLAlchemy(app)
    llm_cost = LlmCost(app)
    llm_cost.tag_provider(lambda: {"endpoint": request.endpoint, "user_id": "ann"})
    bare, ours = requests.Session(), requests.Session()
    ours.mount("http://", llm_cost.adapter())
    url = f"http://{host}/v1/chat/completions"

    def view(session: requests.Session) -> t.Callable[[], str]:
        return lambda: session.post(url, json={"model": "gpt-4o-mini"}).text

    app.add_url_rule("/bare", "bare", view(bare))
    app.add_url_rule("/ours", "ours", view(ours))
    client = app.test_client()
    run(
        "A view that makes one call",
        {"bare": lambda: client.get("/bare"), "adapter": lambda: client.get("/ours")},
        calls=100,
    )
    assert llm_cost.flush(60)
    with app.app_context():
        print(f"\n{llm_cost.calls.count()} calls in the ledger")
    app.extensions["llm_cost"].close()
    bare.close()
    ours.close()


def _measure_starts(folder: str) -> None:
    found: dict[str, list[tuple[float, ...]]] = {"without": [], "with": []}
    script = pathlib.Path(folder, "start.py")
    script.write_text(APP)
    for number in range(2 * (STARTS + 1)):
        name = "with" if number % 2 else "without"
        command = [sys.executable, str(script), folder, name]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        if number > 1:  # the first of each compiles modules
            found[name].append(tuple(map(float, done.stdout.split())))
    print(f"\nStart of an app (medians of {STARTS}, in turn)\n")
    print("| app | wall ms | CPU ms | memory MB |\n|---|---:|---:|---:|")
    for name, runs in found.items():
        wall, cpu, memory = (
            statistics.median(each) for each in zip(*runs, strict=True)
        )
        print(
            f"| {name} the extension | {wall * 1e3:.0f} | {cpu * 1e3:.0f}"
            f" | {memory / 1024:.0f} |"
        )


if __name__ == "__main__":
    main()
