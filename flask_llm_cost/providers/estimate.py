"""How many tokens may a stream have used whose provider does not say?

Visible text is counted while it passes by and is never kept. An encoding of tiktoken counts
it where tiktoken is installed and has the encoding's file on this machine, or the app has
loaded one; else four characters are a token. Nothing is fetched.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import pathlib
import sys
import tempfile
import typing as t
from collections.abc import Iterator

from ..call import Usage
from . import sparse
from .dialect import inner
from .dialect import items
from .dialect import Object

_CHARACTERS: t.Final = 4
_SLICE: t.Final = 10_000
"""So many characters are encoded at a time: a long run of one takes square time."""
_FILES: t.Final[dict[str, tuple[str, str]]] = {
    "o200k_base": (
        "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
"""Where tiktoken has its encodings from, and their SHA-256."""
_ENCODINGS: t.Final = ("o200k_base", "o200k_harmony", "cl100k_base")
_ASKED: t.Final = ("messages", "input", "instructions", "prompt", "tools", "functions")


def load_encoding() -> str | None:
    """Load an encoding, if tiktoken is installed and need not fetch it; its name.

    To be called while an app is set up: it takes up to a second.
    """
    try:
        tiktoken = importlib.import_module("tiktoken")
    except ImportError:
        return None
    for name, (address, digest) in _FILES.items():
        if _is_here(address, digest):
            tiktoken.get_encoding(name)
            return name
    return None


def _is_here(address: str, digest: str) -> bool:
    """Whether a file is where tiktoken keeps it, and whole: else it would fetch it."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder is None:
        folder = os.path.join(tempfile.gettempdir(), "data-gym-cache")
    if not folder:
        return False  # it is told to keep none
    # The name of a file, and no secret.
    name = hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()
    try:
        data = pathlib.Path(folder, name).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(data).hexdigest() == digest


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
        return sum(
            len(self._encoding.encode(text[at : at + _SLICE], disallowed_special=()))
            for at in range(0, len(text), _SLICE)
        )


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
