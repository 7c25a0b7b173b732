"""How many tokens may a stream have used whose provider does not say?

Visible text is counted while it passes by and is never kept. Where the app itself has
loaded an encoding of tiktoken, that counts; else four characters are a token. Loading one
here could mean a download, and nothing is fetched that the app did not ask for.
"""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Iterator

from ..call import Usage
from . import sparse
from .dialect import inner
from .dialect import items
from .dialect import Object

_CHARACTERS: t.Final = 4
_ENCODINGS: t.Final = ("o200k_base", "o200k_harmony", "cl100k_base")
_ASKED: t.Final = ("messages", "input", "instructions", "prompt", "tools", "functions")


class Estimate:
    """Counts the text of one call as it passes by."""

    def __init__(self, request_body: bytes | None) -> None:
        self._encoding = _loaded()
        self._asked = 0
        self._made = 0
        request = sparse.parse(request_body) if request_body else None
        if isinstance(request, dict):
            for name in _ASKED:
                for text in _strings(request.get(name)):
                    self._asked += self._count(text)

    def event(self, document: Object) -> None:
        """Count what one event shows."""
        for text in _visible(document):
            self._made += self._count(text)

    def usage(self) -> Usage | None:
        """The estimate, or ``None`` if nothing was seen."""
        if not self._made:
            return None
        unit = 1 if self._encoding is not None else _CHARACTERS
        return Usage(
            input_tokens=-(-self._asked // unit), output_tokens=-(-self._made // unit)
        )

    def _count(self, text: str) -> int:
        if self._encoding is None:
            return len(text)
        return len(self._encoding.encode(text, disallowed_special=()))


def _loaded() -> t.Any:
    registry = sys.modules.get("tiktoken.registry")
    encodings = getattr(registry, "ENCODINGS", {})
    for name in _ENCODINGS:
        if name in encodings:
            return encodings[name]
    return None


def _strings(value: object) -> Iterator[str]:
    """Every text in what was asked, but for images and files in base64."""
    if isinstance(value, str):
        if not value.startswith("data:"):
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in ("data", "file_data", "type", "role"):
                yield from _strings(item)


def _visible(document: Object) -> Iterator[str]:
    for choice in items(document.get("choices")):
        if isinstance(choice, dict):
            yield from _strings(choice.get("text"))
            delta = inner(choice, "delta")
            for name in "content", "reasoning_content", "reasoning", "refusal":
                yield from _strings(delta.get(name))
            for call in items(delta.get("tool_calls")):
                function = inner(call, "function")
                yield from _strings([function.get("name"), function.get("arguments")])
    if str(document.get("type")).endswith(".delta"):
        yield from _strings(document.get("delta"))
