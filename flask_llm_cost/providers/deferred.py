"""Reads answers that are ordered, and fetched once they are ready.

Sources: https://docs.perplexity.ai/api-reference/async-chat-completions-post (the answer is
in ``response``), https://docs.x.ai/docs/guides/deferred-chat-completions (``request_id``),
https://docs.z.ai/api-reference/llm/retrieve-async-result, and the type
``ContentGenerationTask`` of Volcengine's SDK.
"""

from __future__ import annotations

import dataclasses

from .dialect import Dialect
from .dialect import inner
from .dialect import Notes
from .dialect import Object


def deferred(answers: Dialect) -> Dialect:
    """Create the dialect of orders whose answers are read by another one."""

    def read(notes: Notes, document: Object) -> None:
        ordered = document.get("id", document.get("request_id"))
        notes.identify(model=document.get("model"), response_id=ordered)
        answers.read(notes, inner(document, "response") or document)
        notes.background = True

    return dataclasses.replace(answers, read=read, parse_whole_if=(b"",))


def perhaps_deferred(answers: Dialect) -> Dialect:
    """Create a dialect that reads an answer, or the order that came in its place."""
    orders = deferred(answers)

    def read(notes: Notes, document: Object) -> None:
        ordered = "request_id" in document and "choices" not in document
        (orders if ordered else answers).read(notes, document)

    return dataclasses.replace(answers, read=read)
