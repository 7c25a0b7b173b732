"""Estimates the tokens of a stream without final usage.

Visible text is counted while it passes by, and never stored. It is counted in tokens if
an encoding of tiktoken is loaded: by the app, or by :func:`load_encoding`. Otherwise four
bytes are one token. Nothing is downloaded.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib
import json
import os
import pathlib
import re
import sys
import tempfile
import typing as t
from collections.abc import Iterator

from ..bound import survey
from ..call import Usage
from . import sparse
from .dialect import Object

_BYTES_PER_TOKEN: t.Final = 4
"""Without an encoding."""

_AFTER_CUT: t.Final = 16
"""Tokens that a provider writes before it notices that the connection is closed."""

_IMAGE: t.Final = 1_000
"""Tokens of an image in a request."""

_MAX_REST: t.Final = 64 * 1024
_MAX_UNREAD: t.Final = 64 * 1024
_BACKSLASH: t.Final = ord("\\")
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
    ("messages", "input", "instructions", "prompt", "system", "message")
    + ("contents", "systemInstruction", "system_instruction")
    + ("chat_history", "preamble", "documents", "inputText", "texts")
)

_TOOL_MEMBERS: t.Final = ("tools", "functions", "toolConfig")
"""Members whose names count, too. Providers write them more briefly than JSON does."""

_TEXT: t.Final = re.compile(
    rb'("(text|content|delta|arguments|partial_json|thinking|reasoning(?:_content)?'
    rb"|refusal|response|generation|completion|outputText|generated_text|bytes)"
    rb'"\s*:\s*")((?:[^"\\]|\\.)*+)"'
)
"""Members of events that hold visible text, in any dialect."""

_REPEATS: t.Final = (b'.done"', b"audio.delta", b"stream-end")
"""Events that repeat text, or hold something else."""


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
    """Counts the text of one stream while it passes by."""

    def __init__(self) -> None:
        self._encoding = _loaded()
        self._output = 0
        self._rest = b""
        self._unread: list[bytes] = []
        self._unread_size = 0
        self._found: dict[bytes, None] = {}
        """Members of this stream's events that held text, as bytes up to the text."""

    def feed(self, data: bytes) -> None:
        """Count the text in bytes of the body, which may end anywhere."""
        data = self._rest + data
        end = data.rfind(b"}") + 1
        self._rest = data[end:][:_MAX_REST]
        self.feed_events(data[:end])

    def feed_events(self, data: bytes) -> None:
        """Take whole events. Most streams report their usage, and need no estimate.

        Up to 64 KB wait for that, so that most streams are never counted.
        """
        self._unread.append(data)
        self._unread_size += len(data)
        if self._unread_size > _MAX_UNREAD:
            self._read()

    def _read(self) -> None:
        unread, self._unread, self._unread_size = self._unread, [], 0
        for data in unread:
            self._count_events(data)

    def _count_events(self, data: bytes) -> None:
        # Most events hold their text where earlier ones did. To look only there takes a
        # tenth of the time of the search in any dialect.
        length = 0
        for before in self._found:
            at = data.find(before)
            if at >= 0:
                length += _length_of(data, before, at)
        if length:
            self._output += length
        elif not any(mark in data for mark in _REPEATS):
            self._search(data)

    def _search(self, data: bytes) -> None:
        for found in _TEXT.finditer(data):
            before, name, text = found.groups()
            if name == b"bytes":
                self._search(_from_base64(text))
            elif self._encoding is not None:
                self._output += self._count(_unquoted(text))
            elif text:
                self._output += len(text)
                self._found[before] = None

    def event(self, document: Object) -> None:
        """Count the text of one event that has been decoded elsewhere."""
        self.feed_events(json.dumps(document, default=str, ensure_ascii=False).encode())

    def usage(
        self, request_body: bytes | None, known: Usage | None, *, cut: bool
    ) -> Usage | None:
        """Estimate what was used.

        :param known: What the provider reported before its final usage.
        :param cut: The stream went on when nobody read it any more.
        :return: ``None`` if there was no text.
        """
        self._read()
        if not (self._output or cut):
            return None
        written = -(-self._output // self._unit) + (_AFTER_CUT if cut else 0)
        if known is None:
            return Usage(self._input_of(request_body), output_tokens=written)
        if known.total_input_tokens:
            fresh = known.input_tokens
        else:
            fresh = self._input_of(request_body)
        more = max(known.output_tokens, written)
        return dataclasses.replace(known, input_tokens=fresh, output_tokens=more)

    @property
    def _unit(self) -> int:
        return _BYTES_PER_TOKEN if self._encoding is None else 1

    def _input_of(self, request_body: bytes | None) -> int:
        request = sparse.parse(request_body) if request_body else None
        if not isinstance(request, dict):
            return 0
        counted = 0
        for name in _PROMPT_MEMBERS:
            for text in _strings(request.get(name)):
                counted += self._count(text)
        for name in _TOOL_MEMBERS:
            if request.get(name):
                schema = json.dumps(request[name], separators=(",", ":"))
                counted += self._count(schema) * 2 // 3
        images, _ = survey(request)
        return -(-counted // self._unit) + images * _IMAGE

    def _count(self, text: str) -> int:
        if self._encoding is None:
            return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        return sum(
            len(self._encoding.encode(text[at : at + _SLICE], disallowed_special=()))
            for at in range(0, len(text), _SLICE)
        )


def _length_of(data: bytes, before: bytes, at: int) -> int:
    """Return the length of the strings that follow these bytes, from a place on."""
    length = 0
    while at >= 0:
        at += len(before)
        end = data.find(b'"', at)
        while end > 0 and data[end - 1] == _BACKSLASH:
            end = data.find(b'"', end + 1)
        if end < 0:
            break
        length += end - at
        at = data.find(before, end)
    return length


def _unquoted(text: bytes) -> str:
    return str(sparse.parse(b'"' + text + b'"') or "")


def _from_base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _loaded() -> t.Any:
    registry = sys.modules.get("tiktoken.registry")
    if registry is None:
        return None
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
