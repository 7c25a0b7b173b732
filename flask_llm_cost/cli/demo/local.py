"""The fake provider without a server: requests' calls are answered in this process."""

from __future__ import annotations

import http.client
import io
import json
import time
import typing as t

import requests
from requests.adapters import BaseAdapter
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from .answers import answer
from .answers import Ask
from .answers import orders_of


class LocalProvider(BaseAdapter):
    """Answers as OpenAI, Anthropic and Gemini do; nothing leaves the process."""

    def __init__(self) -> None:
        super().__init__()
        self._responses = HTTPAdapter()

    def send(
        self, request: requests.PreparedRequest, *args: t.Any, **options: t.Any
    ) -> requests.Response:
        """Answer a request, after the ordered time."""
        orders = orders_of(request.headers.get("X-Loopback", ""))
        ask = Ask(request.path_url, json.loads(request.body or b"{}"), orders)
        time.sleep(float(orders.get("slow", 0)) / 1000)
        if ask.failure == "drop":
            raise requests.ConnectionError("Connection aborted.", request=request)
        answered = answer(ask)
        headers = dict(answered.headers) | {"Content-Type": answered.content_type}
        raw = HTTPResponse(
            _Body(answered.pieces, cut=ask.failure == "cut"),
            headers,
            answered.status,
            reason=http.client.responses.get(answered.status),
            preload_content=False,
        )
        return self._responses.build_response(request, raw)

    def close(self) -> None:
        """Do nothing: it has no connections."""


class _Body(io.RawIOBase):
    """A body, which fails midway if it is to be cut."""

    def __init__(self, pieces: tuple[bytes, ...], *, cut: bool) -> None:
        whole = b"".join(pieces[: len(pieces) // 2 if cut else None])
        self._bytes = io.BytesIO(whole)
        self._cut = cut

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        size = self._bytes.readinto(buffer)
        if not size and self._cut:
            raise http.client.IncompleteRead(b"")
        return size
