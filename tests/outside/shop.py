"""An app that uses only public names, with an LLM that has its own response format.

``python shop.py LLM_URL FOLDER`` sends some questions to that LLM, and prints its ledger.
"""

from __future__ import annotations

import json
import sys
import typing as t

import requests
from flask import Flask

from flask_llm_cost import LlmCost
from flask_llm_cost import Provider
from flask_llm_cost import Usage
from flask_llm_cost.providers import Dialect
from flask_llm_cost.providers import needles
from flask_llm_cost.providers import Notes
from flask_llm_cost.providers import Path


def read(notes: Notes, document: t.Mapping[str, t.Any]) -> None:
    notes.identify(model=document.get("engine"), response_id=document.get("ref"))
    notes.merge(document.get("spent"))
    if document.get("last"):
        notes.complete = True


def usage(notes: Notes) -> Usage | None:
    if not notes.usage:
        return None
    parts = notes.split_off(
        notes.count(notes.usage.get("in")), cached=notes.count(notes.usage.get("hit"))
    )
    return Usage(
        input_tokens=parts["rest"],
        cache_read_tokens=parts["cached"],
        output_tokens=notes.count(notes.usage.get("out")),
    )


SPEECH = Dialect(read, usage, tail=("spent", "ref"), needles=needles(b'"spent"'))


def ours(host: str) -> Provider:
    return Provider(
        name="ours",
        hosts=(host,),
        paths=(
            Path(r"/ask/(?P<model>[^/]+)", SPEECH, "chat"),
            Path(r"/ask/(?P<model>[^/]+)/slowly", SPEECH, "chat", stream=True),
        ),
    )


def main(url: str, folder: str) -> None:
    app = Flask("shop", instance_path=folder)
    app.config["LLM_COST_PRICE_OVERRIDES"] = {
        "ours/parrot": {"input": "1", "cache_read": "0.1", "output": "2"}
    }
    llm_cost = LlmCost(app, providers=[ours(url.removeprefix("http://"))])
    with requests.Session() as session, app.app_context():
        session.mount("http://", llm_cost.adapter(tags={"feature": "talk"}))
        for path in ("/ask/parrot", "/ask/parrot/slowly", "/ask/wrong", "/health"):
            with session.post(url + path, json={"q": "hello"}, stream=True) as answer:
                for _ in answer.iter_content(7):
                    pass
        assert llm_cost.flush(60)
        rows = [
            [row.provider, row.model, row.response_id, row.usage_source]
            + [row.total_input_tokens, row.total_output_tokens]
            + [None if row.cost_usd is None else str(row.cost_usd.normalize())]
            + [row.flags]
            for row in llm_cost.calls.rows(limit=10)
        ]
    json.dump(rows, sys.stdout, default=sorted)


if __name__ == "__main__":
    main(*sys.argv[1:])
