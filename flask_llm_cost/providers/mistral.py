"""Reads Mistral's OCR and conversations. Its other answers have OpenAI's shape.

Source: https://docs.mistral.ai/api (OCRUsageInfo, ConversationUsageInfo).
"""

from __future__ import annotations

import typing as t
from decimal import Decimal

from ..call import Usage
from .dialect import Dialect
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object

_CONNECTORS: t.Final = {
    "web_search": "web_search",
    "web_search_premium": "web_search_premium",
    "code_interpreter": "code_interpreter",
    "image_generation": "image_generation",
}


def read_ocr(notes: Notes, document: Object) -> None:
    """Take notes of the pages of a document."""
    notes.identify(model=document.get("model"), response_id=document.get("id"))
    notes.merge(document.get("usage_info"))


def ocr_usage(notes: Notes) -> Usage | None:
    """Get the number of pages, which are billed instead of tokens.

    Annotated pages have a rate of their own, and are counted apart:
    https://github.com/BerriAI/litellm/issues/38546.
    """
    counts = {
        "page": notes.amount(notes.usage.get("pages_processed")),
        "annotated_page": notes.amount(notes.usage.get("pages_processed_annotation")),
    }
    units = {unit: count for unit, count in counts.items() if count}
    known = any(count is not None for count in counts.values())
    return Usage(units=units or {"page": Decimal(0)}) if known else None


def read_conversation(notes: Notes, document: Object) -> None:
    """Take notes of a conversation's answer or of one event of its stream."""
    if document.get("type") in (
        "conversation.response.done",
        "conversation.response.error",
    ):
        notes.complete = True
    notes.identify(
        model=document.get("model"), response_id=document.get("conversation_id")
    )
    for output in items(document.get("outputs")):
        if isinstance(output, dict):
            notes.identify(model=output.get("model"), response_id=None)
    notes.merge(document.get("usage"))


def conversation_usage(notes: Notes) -> Usage | None:
    """Get the tokens, with those from connectors as input, and the connectors' calls."""
    seen, count = notes.usage, notes.count
    if "prompt_tokens" not in seen:
        return None
    called = inner(seen, "connectors")
    units = {u: count(called.get(name)) for name, u in _CONNECTORS.items()}
    if any(count(n) for name, n in called.items() if name not in _CONNECTORS):
        notes.flags.add("unread_usage")
    return Usage(
        input_tokens=count(seen.get("prompt_tokens"))
        + count(seen.get("connector_tokens")),
        output_tokens=count(seen.get("completion_tokens")),
        units={unit: Decimal(n) for unit, n in units.items() if n},
    )


OCR: t.Final = Dialect(
    read=read_ocr,
    usage=ocr_usage,
    content=frozenset(("pages",)),
    tail=("usage_info", "model"),
)

CONVERSATION: t.Final = Dialect(
    read=read_conversation,
    usage=conversation_usage,
    needles=needles(rb'"usage"', rb"\[DONE\]", rb'"conversation.response.done"'),
    content=frozenset(("outputs",)),
    parse_whole_if=(b'"outputs"',),
)
