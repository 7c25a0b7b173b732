"""The overhead of the adapter per call and per streamed chunk, against a bare session.

The provider runs in a process of its own, so that only the client's CPU time is counted.
The measured process includes the thread that writes the ledger.
"""

from __future__ import annotations

import tempfile
import typing as t

import requests
from flask import Flask
from interleave import run
from provider import provider

from flask_llm_cost import LlmCost

CHUNKS = 1000


def main() -> None:
    with provider(CHUNKS) as host, tempfile.TemporaryDirectory() as folder:
        _measure(host, folder)


def _measure(host: str, folder: str) -> None:
    app = Flask("bench", instance_path=folder)
    app.config["LLM_COST_PROVIDER_HOSTS"] = {host: "openai"}
    llm_cost = LlmCost(app)
    bare, ours = requests.Session(), requests.Session()
    ours.mount("http://", llm_cost.adapter())
    url = f"http://{host}/v1/chat/completions"

    def plain(session: requests.Session) -> t.Callable[[], object]:
        return lambda: session.post(url, json={"model": "gpt-4o-mini"}).json()

    def stream(session: requests.Session) -> t.Callable[[], object]:
        def read() -> None:
            body = {"model": "gpt-4o-mini", "stream": True}
            with session.post(url, json=body, stream=True) as response:
                for _ in response.iter_lines():
                    pass

        return read

    run("One 2 KB answer", {"bare": plain(bare), "adapter": plain(ours)}, calls=50)
    run(
        f"A stream of {CHUNKS} chunks",
        {"bare": stream(bare), "adapter": stream(ours)},
        calls=3,
        per=CHUNKS,
        unit="chunk",
    )
    assert llm_cost.flush(60)
    print(f"\n{llm_cost.calls.count()} calls in the ledger")
    app.extensions["llm_cost"].close()
    bare.close()
    ours.close()


if __name__ == "__main__":
    main()
