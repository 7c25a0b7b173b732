"""Estimates the tokens of a stream whose provider reports no usage.

Visible text is counted while it passes by, and never kept. It is counted in tokens if the
app has loaded an encoding of tiktoken, or tiktoken is installed and has cached one on this
machine. Otherwise four characters are one token. Nothing is downloaded.
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
"""Characters to encode at a time: a long run of one character takes quadratic time."""
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
"""The URLs of tiktoken's encodings, and their SHA-256."""
_ENCODINGS: t.Final = ("o200k_base", "o200k_harmony", "cl100k_base")
_PROMPT_MEMBERS: t.Final = (
    "messages",
    "input",
    "instructions",
    "prompt",
    "tools",
    "functions",
)


def load_encoding() -> str | None:
    """Load an encoding, if tiktoken is installed and need not download it.

    Call this while an app is set up: it takes up to a second.

    :return: The encoding's name.
    """
    try:
        tiktoken = importlib.import_module("tiktoken")
    except ImportError:
        return None
    for name, (url, digest) in _FILES.items():
        if _is_cached(url, digest):
            tiktoken.get_encoding(name)
            return name
    return None


def _is_cached(url: str, digest: str) -> bool:
    """Whether tiktoken's cache has the intact file, so that it is not downloaded."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder is None:
        folder = os.path.join(tempfile.gettempdir(), "data-gym-cache")
    if not folder:
        return False  # an empty variable turns the cache off
    # The name of the file in the cache: this is not for security.
    name = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    try:
        data = pathlib.Path(folder, name).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(data).hexdigest() == digest


class Estimate:
    """Counts the text of one call while it passes by."""

    def __init__(self, request_body: bytes | None) -> None:
        self._encoding = _loaded()
        self._input = 0
        self._output = 0
        request = sparse.parse(request_body) if request_body else None
        if isinstance(request, dict):
            for name in _PROMPT_MEMBERS:
                for text in _strings(request.get(name)):
                    self._input += self._count(text)

    def event(self, document: Object) -> None:
        """Count the visible text of one event."""
        for text in _visible(document):
            self._output += self._count(text)

    def usage(self) -> Usage | None:
        """Get the estimate, or ``None`` if there was no visible output."""
        if not self._output:
            return None
        unit = 1 if self._encoding is not None else _CHARACTERS
        return Usage(
            input_tokens=-(-self._input // unit), output_tokens=-(-self._output // unit)
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
    """Yield every string of a prompt, except images and files in base64."""
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
