"""Reads the answers of Ollama's own API.

The last line has the counts. ``prompt_eval_count`` is absent if the whole prompt was
cached. Source: https://docs.ollama.com/api/usage.
"""

from __future__ import annotations

import typing as t

from ..call import Usage
from .dialect import Dialect
from .dialect import needles
from .dialect import Notes
from .dialect import Object


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one line of a stream."""
    notes.identify(model=document.get("model"), response_id=None)
    for name in "prompt_eval_count", "eval_count":
        if document.get(name) is not None:
            notes.usage[name] = document[name]
    if document.get("done") is True:
        notes.complete = True


def usage(notes: Notes) -> Usage | None:
    """Get the input and output tokens."""
    if not notes.usage:
        return None
    return Usage(
        input_tokens=notes.count(notes.usage.get("prompt_eval_count")),
        output_tokens=notes.count(notes.usage.get("eval_count")),
    )


OLLAMA: t.Final = Dialect(
    read=read,
    usage=usage,
    needles=needles(rb'"eval_count"', rb'"done":true', rb'"done": true'),
    content=frozenset(("message", "response", "embeddings", "embedding")),
    tail=("eval_count", "prompt_eval_count", "model"),
)
