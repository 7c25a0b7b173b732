"""Checks what must hold for any bytes that a provider could send, and fuzzes it.

``nox -s fuzz -- -max_total_time=600`` runs atheris, starting with ``fuzz_corpus``. The
first byte of an input selects the sender, the second one the place of the cut, and the
third one the encoding. The rest is the body.
"""

from __future__ import annotations

import pathlib
import sys
import typing as t
from dataclasses import replace

from flask_llm_cost.call import Reading
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import route

CORPUS = pathlib.Path(__file__).parent / "fuzz_corpus"

_OPENAI = "https://api.openai.com/v1"
_GEMINI = "https://generativelanguage.googleapis.com"
_BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m"

SENDERS: tuple[tuple[str, str], ...] = (
    ("POST", f"{_OPENAI}/chat/completions"),
    ("POST", f"{_OPENAI}/responses"),
    ("POST", f"{_OPENAI}/embeddings"),
    ("POST", f"{_OPENAI}/images/generations"),
    ("POST", f"{_OPENAI}/audio/transcriptions"),
    ("POST", f"{_OPENAI}/threads/runs"),
    ("WS", f"{_OPENAI}/realtime"),
    ("GET", f"{_OPENAI}/files/f/content"),
    ("POST", "https://api.anthropic.com/v1/messages"),
    ("GET", "https://api.anthropic.com/v1/messages/batches/b/results"),
    ("POST", f"{_GEMINI}/v1beta/models/m:streamGenerateContent"),
    ("POST", f"{_GEMINI}/v1beta/interactions"),
    ("POST", f"{_GEMINI}/v1beta/models/imagen-4:predict"),
    ("POST", f"{_GEMINI}/v1beta/openai/chat/completions"),
    ("POST", "https://aiplatform.googleapis.com/v1/models/m:predict"),
    ("POST", f"{_BEDROCK}/converse-stream"),
    ("POST", f"{_BEDROCK}/invoke-with-response-stream"),
    ("POST", "https://api.cohere.com/v2/chat"),
    ("POST", "https://api.mistral.ai/v1/ocr"),
    ("POST", "https://api.mistral.ai/v1/conversations"),
    ("POST", "http://localhost:11434/api/chat"),
    ("POST", "https://us-south.ml.cloud.ibm.com/ml/v1/text/generation_stream"),
    ("POST", "https://openrouter.ai/api/v1/chat/completions"),
    ("POST", "https://api.x.ai/v1/chat/completions"),
    ("POST", "https://api.groq.com/openai/v1/chat/completions"),
    ("GET", f"{_GEMINI}/v1beta/batches/b"),
    ("POST", f"{_OPENAI}/videos"),
    ("GET", f"{_OPENAI}/evals/e/runs/r"),
    ("POST", f"{_OPENAI}/fine_tuning/alpha/graders/run"),
    ("GET", f"{_OPENAI}/fine_tuning/jobs/j"),
    ("GET", f"{_OPENAI}/agents/sessions/s/events"),
    ("GET", "https://api.anthropic.com/v1/sessions/s/events/stream"),
    ("GET", "https://api.anthropic.com/v1/sessions/s"),
    ("GET", "https://api.anthropic.com/v1/dreams/d"),
)
_ENCODINGS: t.Final = ("", "gzip", "deflate", "br", "zstd", "gzip, br", "unheard-of")
_REQUEST: t.Final = b'{"stream":true,"messages":[{"content":"hello"}]}'


def check(data: bytes) -> Reading | None:
    """Read the input in several ways and compare the readings.

    :raises AssertionError: If they differ or are invalid.
    """
    if len(data) < 3:
        return None
    sender, cut, how, body = data[0], data[1], data[2], data[3:]
    method, url = SENDERS[sender % len(SENDERS)]
    whole = _read(method, url, how, [body])
    at = cut * len(body) // 255
    for pieces in ([body[:at], body[at:]], _slices(body, 1 + cut % 7)):
        again = _read(method, url, how, pieces)
        # A decoder may yield any amount of damaged data before it fails.
        assert _exact(again[0]) == _exact(whole[0]) or (
            _unreadable(again[0]) and _unreadable(whole[0])
        )
        assert again[1] == whole[1] or _unreadable(whole[0])
    reading, results = whole
    for each in (reading, *results):
        _sane(each)
    return reading


def _exact(reading: Reading) -> Reading:
    """The reading without its estimate: text that is split between reads is not counted."""
    reading = replace(reading, estimate=None)
    if reading.usage_source not in ("estimated", "unknown"):
        return reading
    flags = reading.flags - {"estimated", "no_usage"}
    return replace(reading, usage=None, usage_source="unknown", flags=flags)


def _unreadable(reading: Reading) -> bool:
    return "unreadable_encoding" in reading.flags


def _slices(body: bytes, size: int) -> list[bytes]:
    small = body[:4096]
    return [small[at : at + size] for at in range(0, len(small), size)] + [body[4096:]]


def _read(
    method: str, url: str, how: int, pieces: list[bytes]
) -> tuple[Reading, list[Reading]]:
    found = route(method, url)
    assert found is not None
    request = _REQUEST if how & 64 else None
    exchange = Exchange(found, request_body=request)
    if how & 64:
        exchange.use_estimate()
    encoding = _ENCODINGS[how % len(_ENCODINGS)] if how & 128 else ""
    exchange.begin_response(200, {"content-encoding": encoding} if encoding else {})
    results = []
    for piece in pieces:
        exchange.feed(piece, decoded=False)
        results += exchange.take_results()
        if how & 32:
            _sane(exchange.reading(ended=False))
    reading = exchange.reading(ended=True)
    results += exchange.take_results()
    assert exchange.reading(ended=True) == reading
    return reading, results


def _sane(reading: Reading) -> None:
    assert "reader_error" not in reading.flags
    usage = reading.usage
    if usage is None:
        assert reading.usage_source == "unknown"
        return
    assert reading.usage_source != "unknown"
    assert usage.total_tokens >= 0
    assert 0 <= usage.reasoning_tokens <= usage.total_output_tokens
    assert reading.reported_cost is None or reading.reported_cost >= 0


def main() -> None:
    """Fuzz until stopped. The arguments are libFuzzer's."""
    import atheris

    atheris.instrument_all()
    atheris.Setup([*sys.argv, str(CORPUS)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
