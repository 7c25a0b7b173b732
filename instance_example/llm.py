"""Calls the LLM, in a session that records its calls in the ledger."""

from __future__ import annotations

import contextlib
import functools
import json
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator

import requests
from flask import current_app

from flask_llm_cost.testing import fake_provider

from . import llm_cost

session = requests.Session()
# LLM calls are recognized by their host names and by LLM_COST_PROVIDER_HOSTS. Everything
# else passes through unchanged.
session.mount("https://", llm_cost.adapter())
session.mount("http://", llm_cost.adapter())


def answer(text: str) -> str:
    """The whole answer.

    :raises requests.RequestException: If there is no answer.
    """
    with llm_cost.tags(feature="ask"):
        response = _post(text)
    return _text(response)


def stream(text: str) -> Iterator[str]:
    """The answer in pieces. The request is sent at once, inside the block with its tags.

    :raises requests.RequestException: If there is no answer.
    """
    with llm_cost.tags(feature="ask-streamed"):
        # Without include_usage, the stream does not report its usage.
        response = _post(text, stream=True, stream_options={"include_usage": True})
    return _pieces(response)


def summary(questions: Iterable[str]) -> str:
    """What the questions are about.

    :raises requests.RequestException: If there is no answer.
    """
    with llm_cost.tags(feature="digest"):
        response = _post("Summarize:\n" + "\n".join(questions))
    return _text(response)


def _text(response: requests.Response) -> str:
    choice: str = response.json()["choices"][0]["message"]["content"]
    return choice


def _pieces(response: requests.Response) -> Iterator[str]:
    with response:
        for line in response.iter_lines():
            if not line.startswith(b"data: ") or line == b"data: [DONE]":
                continue
            for choice in json.loads(line[6:])["choices"]:
                yield choice["delta"].get("content") or ""


def _post(text: str, **options: t.Any) -> requests.Response:
    body = {
        "model": current_app.config["LLM_MODEL"],
        "messages": [{"role": "user", "content": text}],
    }
    response = session.post(
        f"{_url()}/v1/chat/completions",
        json=body | options,
        headers={"Authorization": f"Bearer {current_app.config['LLM_KEY']}"},
        stream="stream" in options,
        timeout=60,
    )
    response.raise_for_status()
    return response


def _url() -> str:
    """The provider's URL. The fake provider is started on first use."""
    url: str | None = current_app.config["LLM_URL"]
    return url or _fake_provider(current_app.config["LOOPBACK_PORT"])


@functools.cache
def _fake_provider(port: int) -> str:
    # If the port is in use, another process of this app serves it.
    with contextlib.suppress(OSError):
        return fake_provider(port)
    return f"http://127.0.0.1:{port}"
