"""The work of views, threads and tasks: a module that a worker of RQ can import."""

from __future__ import annotations

import typing as t

BODY: t.Final = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hi"}],
}


def ask(url: str) -> str:
    """One call."""
    import requests

    answer = requests.post(f"{url}/v1/chat/completions", json=BODY, timeout=30)
    answer.raise_for_status()
    return "asked"
