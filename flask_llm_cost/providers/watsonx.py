"""Reads text generation of IBM watsonx.ai. Its chat has OpenAI's shape.

Source:
https://cloud.ibm.com/apidocs/watsonx-ai#text-generation.
"""

from __future__ import annotations

import typing as t

from ..call import Usage
from .dialect import Dialect
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event of a stream."""
    notes.identify(model=document.get("model_id"), response_id=document.get("id"))
    for part in (document, *items(document.get("results"))):
        if isinstance(part, dict):
            for name in "input_token_count", "generated_token_count":
                # Streams are cumulative, except that the input is 0 in later events.
                if name in part:
                    count = notes.count(part[name])
                    notes.usage[name] = max(count, notes.usage.get(name, 0))


def usage(notes: Notes) -> Usage | None:
    """Get the input and output tokens."""
    if not notes.usage:
        return None
    return Usage(
        input_tokens=notes.usage.get("input_token_count", 0),
        output_tokens=notes.usage.get("generated_token_count", 0),
    )


WATSONX: t.Final = Dialect(
    read=read,
    usage=usage,
    needles=needles(b"_token_count"),
    parse_whole_if=(b"_token_count",),
    tail=("input_token_count",),
)
