"""Google's SDK: over httpx2, and for async calls over aiohttp if that is installed."""

from __future__ import annotations

import importlib.util
import json
import typing as t

from google import genai

from tests.capture.sdks.driver import Sdk
from tests.capture.server import GEMINI_JSON
from tests.capture.server import sse

MODEL: t.Final = "gemini-2.5-flash"

_FIRST: t.Final = {
    "candidates": [{"content": {"parts": [{"text": "hel"}], "role": "model"}}],
    "modelVersion": MODEL,
    "responseId": "gem_1",
}


def _make(url: str, timeout: float) -> genai.Client:
    options = genai.types.HttpOptions(
        base_url=url,
        timeout=round(timeout * 1000),
        retry_options=genai.types.HttpRetryOptions(
            attempts=2, initial_delay=0.001, max_delay=0.001, jitter=0
        ),
    )
    return genai.Client(api_key="k", http_options=options)


def _ask(client: genai.Client) -> t.Any:
    return client.models.generate_content(model=MODEL, contents="hello")


def _ask_async(client: genai.Client) -> t.Any:
    return client.aio.models.generate_content(model=MODEL, contents="hello")


def _stream(client: genai.Client) -> t.Any:
    return client.models.generate_content_stream(model=MODEL, contents="hello")


def _stream_async(client: genai.Client) -> t.Any:
    return client.aio.models.generate_content_stream(model=MODEL, contents="hello")


def _shown(answer: t.Any) -> t.Any:
    shown = answer.model_dump(exclude={"sdk_http_response"})
    headers = getattr(answer.sdk_http_response, "headers", None)
    return shown, dict(headers or {})


def _sdk(name: str, *patches: tuple[str, t.Any], asynchronous: bool) -> Sdk:
    return Sdk(
        name=name,
        provider="gemini",
        make=_make,
        ask=_ask_async if asynchronous else _ask,
        stream=_stream_async if asynchronous else _stream,
        answer=GEMINI_JSON,
        events=(sse(_FIRST), sse(_FIRST), sse(json.loads(GEMINI_JSON))),
        error=b'{"error": {"code": 429, "message": "no", "status": "NO"}}',
        asynchronous=asynchronous,
        closing=lambda client: client.aio if asynchronous else client,
        shown=_shown,
        patches=patches,
    )


SDKS: tuple[Sdk, ...] = (_sdk("google-genai", asynchronous=False),)
if importlib.util.find_spec("aiohttp") is None:
    SDKS += (_sdk("google-genai async, no aiohttp", asynchronous=True),)
else:
    SDKS += (
        _sdk("google-genai async", asynchronous=True),
        _sdk(
            "google-genai async over httpx2",
            ("google.genai._api_client.has_aiohttp", False),
            asynchronous=True,
        ),
    )
