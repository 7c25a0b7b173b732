"""Calls the LLM, in a session that records its calls in the ledger."""

from __future__ import annotations

import contextlib
import json
import threading
import typing as t
from collections.abc import Iterator

import requests
from flask import current_app

from flask_llm_cost.cli.demo.provider import serve

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
    choice: str = response.json()["choices"][0]["message"]["content"]
    return choice


def stream(text: str) -> Iterator[str]:
    """The answer in pieces. The request is sent at once, inside the block with its tags.

    :raises requests.RequestException: If there is no answer.
    """
    with llm_cost.tags(feature="ask-streamed"):
        # Without include_usage, the stream does not report its usage.
        response = _post(text, stream=True, stream_options={"include_usage": True})
    return _pieces(response)


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


def close() -> None:
    """Close connections and stop the fake provider."""
    session.close()
    with _lock:
        _loopback.close()
        _ports.clear()


_lock = threading.Lock()
_loopback = contextlib.ExitStack()
_ports: set[int] = set()


def _url() -> str:
    """The provider's URL. The fake provider is started on first use."""
    url: str | None = current_app.config["LLM_URL"]
    if url is not None:
        return url
    port: int = current_app.config["LOOPBACK_PORT"]
    with _lock:
        if port not in _ports:
            # If the port is in use, another worker of this app serves it.
            with contextlib.suppress(OSError):
                _loopback.enter_context(serve(port, pause=0.05))
            _ports.add(port)
    return f"http://127.0.0.1:{port}"
