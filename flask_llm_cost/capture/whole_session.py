"""Follows a websocket session that is one call: live speech, and what is not read.

It begins with the app's first message, before that is sent, and ends when the connection
does. Deepgram, ElevenLabs, AssemblyAI and Soniox bill its seconds or characters.
"""

from __future__ import annotations

import json
import typing as t
from urllib.parse import parse_qs
from urllib.parse import urlsplit

from ..errors import LlmCostError
from ..providers import Dialect
from .harmless import harmless
from .meter import Meter
from .tap import Tap
from .turns import Handshake
from .turns import message_bytes
from .turns import parsed

_MODELS: t.Final = ("model", "model_id", "speech_model")
"""The parameters of a URL that name the model."""

_EARLY: t.Final = 8
"""The number of events to keep that come before the app has sent anything."""


class WholeSession:
    """The call that one connection is.

    :param handshake: Its URL has the query, which may name the model.
    :param dialect: Reads its messages.
    """

    def __init__(self, handshake: Handshake, dialect: Dialect) -> None:
        self._handshake = handshake
        self._dialect = dialect
        self._meter: Meter | None = None
        self._tap: Tap | None = None
        self._early: list[t.Mapping[str, t.Any]] = []
        self._over = False

    @property
    def turns(self) -> list[Meter]:
        """The call, if it has begun and has not ended."""
        return [] if self._meter is None or self._over else [self._meter]

    def sending(self, tap: Tap, message: object) -> Meter | None:
        """Look at a message before it is sent.

        :return: The call, if this is its first message.
        :raises LlmCostError: If the recorder rejects it, as an exceeded budget does.
        """
        if self._over:
            return None
        document = self._document(message)
        first = self._meter is None
        if first:
            self._open(tap, document)
        if self._meter is None:
            # Not captured, as while captures are suppressed.
            self._over = True
        elif document is not None and self._dialect.sent is not None:
            self._meter.sends(document)
        return self._meter if first else None

    def _document(self, message: object) -> t.Mapping[str, t.Any] | None:
        """A message that may matter. Sound is sent as bytes, mostly."""
        data = message_bytes(message) if isinstance(message, str) else None
        return None if data is None else parsed(data)

    def _open(
        self, tap: Tap, document: t.Mapping[str, t.Any] | None, *, begun: bool = False
    ) -> None:
        url, headers = self._handshake
        query = parse_qs(urlsplit(url).query)
        named = [query[name][0] for name in _MODELS if name in query]
        if (
            not named
            and document is not None
            and isinstance(document.get("model"), str)
        ):
            named = [document["model"]]
        body = json.dumps({"model": named[0]}).encode() if named else b""
        self._meter = tap.open("WS", url, body, headers=headers, begun=begun)
        if self._meter is not None:
            self._meter.sent()
            for event in self._early:
                self._meter.event(event)

    @harmless()
    def received(self, tap: Tap | None, message: object) -> None:
        """Look at a message that the app was handed."""
        if self._over or not isinstance(message, str):
            return
        data = message.encode("utf-8", "replace")
        if not any(needle.search(data) for needle in self._dialect.needles):
            return
        event = parsed(data)
        if event is None:
            return
        if self._meter is not None:
            self._meter.event(event)
        elif len(self._early) < _EARLY:
            self._tap = tap or self._tap
            self._early.append(event)

    def unsent(self, meter: Meter) -> None:
        """The first message could not be sent."""
        self._over = True
        meter.no_response()

    @harmless()
    def closed(self) -> None:
        """The app closed the connection."""
        meter = self._ended()
        if meter is not None:
            meter.close()

    @harmless()
    def lost(self) -> None:
        """The connection ended, though the app wanted to read on."""
        meter = self._ended()
        if meter is not None:
            meter.fail()

    def _ended(self) -> Meter | None:
        """End the call, and return it if its end was not announced."""
        if self._over:
            return None
        if self._meter is None and self._early and self._tap is not None:
            # The provider has begun by itself: it bills the time that it is connected.
            try:
                self._open(self._tap, None, begun=True)
            except LlmCostError:
                # It is over, and there is nothing left to stop.
                self._meter = None
        self._over, meter = True, self._meter
        if meter is not None and (meter.complete or not self._dialect.needles):
            meter.end()
            return None
        return meter
