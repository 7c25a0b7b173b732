"""Follows the turns of a websocket session: each is a separate attempt.

A turn begins with the message that requests it, before that is sent, or with its first
event if the provider began it, as when it detects speech. Sources: the ``openai`` SDK's
types ``RealtimeServerEvent`` and ``ResponsesServerEvent``, ``google-genai``'s
``LiveServerMessage``.
"""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Mapping
from urllib.parse import parse_qs
from urllib.parse import urlsplit

from ..errors import LlmCostError
from ..money import parse_int
from ..providers import Headers
from .harmless import harmless
from .meter import Meter
from .tap import Tap

_Object: t.TypeAlias = Mapping[str, t.Any]

_ASKS: t.Final = re.compile(
    rb'"type"\s*:\s*"(?:response\.create|session\.update)"'
    rb'|"(?:setup|client_?content|clientContent|tool_?response|toolResponse)"'
)
"""What a message of the app has that matters here. Others are sound, mostly."""

_MATTERS: t.Final = re.compile(
    rb'"type"\s*:\s*"(?:error|session\.(?:created|updated)|response\.(?:created|done'
    rb"|completed|failed|incomplete)|conversation\.item\.input_audio_transcription\."
    rb'(?:completed|failed))"'
    rb'|"(?:turnComplete|usageMetadata|toolCall|groundingMetadata)"'
)
_TEXT: t.Final = re.compile(rb'"type"\s*:\s*"response\.[a-z_]+\.delta"')
"""Of a response over a websocket, what was generated so far. It counts if it is cut."""

_SPEAKS: t.Final = re.compile(rb'"modelTurn"')

_ENDS: t.Final = frozenset(
    ("response.done", "response.completed", "response.failed", "response.incomplete")
)
_TRANSCRIBED: t.Final = "conversation.item.input_audio_transcription.completed"

_ONLY: t.Final = ""
"""The key of the turn of a session that has one at a time."""


class Handshake(t.NamedTuple):
    """What a connection was opened with."""

    url: str
    headers: Headers


class Session:
    """The turns of one connection.

    :param handshake: Its URL has the query, which may name the model.
    """

    def __init__(self, handshake: Handshake) -> None:
        url, self._headers = handshake
        self._url = url
        self._model = parse_qs(urlsplit(url).query).get("model", [None])[0]
        self._is_text = urlsplit(url).path.endswith("/responses")
        self._set_up: _Object | None = None
        """What the last event about the session says of its models."""
        self._asked: list[tuple[str, Meter]] = []
        """Turns whose response has not begun, with the stream that was named, if any."""
        self._begun: dict[str, Meter] = {}
        """Turns by the id of their response."""
        self._reported: set[Meter] = set()
        """Turns of Gemini's whose usage has come."""
        self._complete: set[Meter] = set()
        """Turns of Gemini's that are complete, though their usage may not have come."""
        self._refusal: LlmCostError | None = None

    @property
    def turns(self) -> list[Meter]:
        """The turns that have not ended."""
        return [*(meter for _, meter in self._asked), *self._begun.values()]

    # What the app sends

    def sending(self, tap: Tap, message: object) -> Meter | None:
        """Look at a message before it is sent.

        :return: The turn that it starts.
        :raises LlmCostError: If the recorder rejects the turn, as an exceeded budget does.
        """
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal
        data = message_bytes(message)
        if data is None or _ASKS.search(data) is None:
            return None
        document = parsed(data)
        if document is None or not self._asks(document):
            return None
        key = str(document.get("stream_id") or _ONLY)
        names_model = "model" in document or not self._model
        body = data if names_model else json.dumps({"model": self._model}).encode()
        meter = self._open(tap, body)
        if meter is not None:
            for complete in tuple(self._complete):
                self._end(complete)
            self._asked.append((key, meter))
        return meter

    def _asks(self, document: _Object) -> bool:
        """Note the model that a message names. Return whether it asks for a turn."""
        kind = document.get("type")
        if kind == "response.create":
            return True
        setup = document.get("setup")
        named = _inner(document, "session") if kind == "session.update" else setup
        if isinstance(named, dict) and isinstance(named.get("model"), str):
            self._model = named["model"].rpartition("/")[2]
        if _first(document, "tool_response", "toolResponse") is not None:
            # It goes on with the turn that called the tool, unless that has ended.
            return not self.turns
        content = _first(document, "client_content", "clientContent")
        if not isinstance(content, dict):
            return False
        return _first(content, "turn_complete", "turnComplete") is True

    def _open(self, tap: Tap, body: bytes | None = None) -> Meter | None:
        """Open a turn.

        :param body: The message that starts it; the provider began it if there is none.
        """
        named = json.dumps({"model": self._model}).encode() if self._model else b""
        meter = tap.open(
            "WS",
            self._url,
            body or named,
            headers=self._headers,
            begun=body is None,
        )
        if meter is not None:
            meter.sent()
            if self._set_up is not None:
                meter.event(self._set_up)
        return meter

    # What the provider sends

    @harmless()
    def received(self, tap: Tap | None, message: object) -> None:
        """Look at a message that the app was handed.

        :param tap: ``None`` if only turns that have begun are followed to their end.
        """
        data = message_bytes(message)
        if data is None:
            return
        if _MATTERS.search(data) is None:
            self._take_piece(tap, data)
            return
        document = parsed(data)
        if document is None:
            return
        if isinstance(document.get("type"), str):
            self._take_event(tap, document)
        else:
            self._take_message(tap, document)

    def _take_piece(self, tap: Tap | None, data: bytes) -> None:
        """Take a part of an answer, which may be the first sign of one."""
        turns = self.turns
        if not turns and _SPEAKS.search(data) is not None:
            self._began(tap, _ONLY)
        elif self._is_text and len(turns) == 1 and _TEXT.search(data) is not None:
            document = parsed(data)
            if document is not None:
                turns[0].event(document)

    def _take_event(self, tap: Tap | None, event: _Object) -> None:
        """Take an event of OpenAI's or xAI's."""
        kind = event["type"]
        if kind.startswith("session."):
            self._note_session(event)
        elif kind == _TRANSCRIBED:
            self._transcribed(tap, event)
        elif kind == "error":
            self._failed(event)
        elif kind == "response.created":
            meter = self._began(tap, _id(event), str(event.get("stream_id") or _ONLY))
            if meter is not None:
                meter.event(event)
        elif kind in _ENDS:
            meter = self._begun.pop(_id(event), None) or self._began(tap, _id(event))
            self._begun.pop(_id(event), None)
            if meter is not None:
                meter.event(event)
                meter.end()

    def _take_message(self, tap: Tap | None, message: _Object) -> None:
        """Take a message of Gemini's: the usage comes before, with or after the last."""
        used, content = "usageMetadata" in message, _inner(message, "serverContent")
        meter = next(iter(self.turns), None)
        if meter is None and (used or "modelTurn" in content or "toolCall" in message):
            meter = self._began(tap, _ONLY)
        if meter is None:
            return
        meter.event(message)
        if used:
            self._reported.add(meter)
        if content.get("turnComplete") is True:
            self._complete.add(meter)
        if meter in self._reported and meter in self._complete:
            self._end(meter)

    def _note_session(self, event: _Object) -> None:
        """Keep which models a session uses, and nothing else of it."""
        session = _inner(event, "session")
        listens = _inner(_inner(session, "audio"), "input")
        by = _inner(listens, "transcription") or _inner(
            session, "input_audio_transcription"
        )
        kept = {"id": session.get("id"), "model": session.get("model")}
        transcription = {"model": by.get("model")}
        kept["audio"] = {"input": {"transcription": transcription}}
        self._set_up = {"type": event["type"], "session": kept}
        for meter in self.turns:
            meter.event(self._set_up)
        if isinstance(session.get("model"), str):
            self._model = session["model"]

    def _began(self, tap: Tap | None, key: str, stream: str = _ONLY) -> Meter | None:
        """Find the turn that has begun: one that was asked for, or a new one."""
        meter = self._asked_in(stream)
        if meter is None:
            meter = self._unasked(tap)
        else:
            self._asked.remove((stream, meter))
        if meter is not None:
            self._begun[key] = meter
        return meter

    def _asked_in(self, stream: str) -> Meter | None:
        return next((meter for name, meter in self._asked if name == stream), None)

    def _unasked(self, tap: Tap | None) -> Meter | None:
        """Open a turn that the provider has begun by itself, and that costs already."""
        if tap is None:
            return None
        try:
            return self._open(tap)
        except LlmCostError as error:
            # The app is reading, and must not be stopped there.
            self._refusal = error
            return None

    def _transcribed(self, tap: Tap | None, event: _Object) -> None:
        """Take a transcript of what was said, by a model of its own."""
        meter = self._unasked(tap)
        if meter is not None:
            meter.event(event)
            meter.end()

    def _failed(self, event: _Object) -> None:
        """Take an error: with a status, it answers what was asked for."""
        status = event.get("status")
        key = str(event.get("stream_id") or _ONLY)
        meter = self._asked_in(key) or self._begun.get(_id(event))
        if meter is not None and isinstance(status, int):
            meter.respond(status, {})
            self._end(meter)

    # The end

    def _end(self, meter: Meter) -> None:
        self._forget(meter)
        meter.end()

    def _forget(self, meter: Meter) -> None:
        self._reported.discard(meter)
        self._complete.discard(meter)
        self._asked = [asked for asked in self._asked if asked[1] is not meter]
        for key in [key for key, each in self._begun.items() if each is meter]:
            del self._begun[key]

    def unsent(self, meter: Meter) -> None:
        """The message that starts a turn could not be sent."""
        self._forget(meter)
        meter.no_response()

    @harmless()
    def closed(self) -> None:
        """The app closed the connection."""
        for meter in self.turns:
            self._forget(meter)
            meter.close()

    @harmless()
    def lost(self) -> None:
        """The connection ended, though the app wanted to read on."""
        for meter in self.turns:
            self._forget(meter)
            meter.fail()


def message_bytes(message: object) -> bytes | None:
    """The bytes of a message of any type."""
    if isinstance(message, str):
        return message.encode("utf-8", "replace")
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message)
    return None


def parsed(data: bytes) -> _Object | None:
    """The object that a message of JSON is; ``None`` for others."""
    try:
        document = json.loads(data, parse_int=parse_int)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _inner(document: _Object, name: str) -> _Object:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _first(document: _Object, *names: str) -> object:
    return next((document[name] for name in names if name in document), None)


def _id(event: _Object) -> str:
    return str(_inner(event, "response").get("id") or event.get("response_id") or _ONLY)
