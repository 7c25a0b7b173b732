"""What the users of an imaginary app do in thirty days.

Six features ask three providers in the rhythm of office hours. Some calls fail, some
streams are cut or left, one model has no price. The same plan is drawn every time, but
for the days it falls on.
"""

from __future__ import annotations

import datetime as dt
import random
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass

Json: t.TypeAlias = dict[str, t.Any]

DAYS: t.Final = 30

HOURS: t.Final = (
    (2, 1, 1, 1, 1, 2, 5, 14, 34, 52, 60, 54)
    + (38, 50, 58, 54, 44, 32, 20, 14, 11, 8, 5, 3)  # fmt: skip
)
"""How busy each hour of a working day is."""

WEEKDAYS: t.Final = (1.0, 1.1, 1.15, 1.05, 0.85, 0.3, 0.25)

BUSY_DAY: t.Final = 3
"""So many days ago someone let an import run twice."""

TENANTS: t.Final = {"acme": 9, "globex": 6, "initech": 3, "hooli": 2}


@dataclass(frozen=True, slots=True)
class Planned:
    """One call that will be made."""

    at: dt.datetime
    dialect: str
    """``openai``, ``anthropic`` or ``gemini``: which of the loopback servers."""
    path: str
    body: Json
    orders: str
    """For the ``X-Loopback`` header."""
    tags: Mapping[str, str]
    leaves: bool = False
    """The caller stops reading the stream before its end."""

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream")) or ":stream" in self.path


@dataclass(frozen=True, slots=True)
class Feature:
    """A part of the imaginary app: how often it is used, and how it asks."""

    name: str
    endpoint: str
    weight: int
    ask: Callable[[random.Random, str], tuple[str, str, Json, Json]]
    """Gives dialect, path, body and orders."""


def plan(count: int, now: dt.datetime) -> list[Planned]:
    """The calls, the oldest first.

    :param now: The last of the thirty days; no call is later.
    """
    rng = random.Random(20_260)
    return [
        _call(rng, number, at, now) for number, at in enumerate(_times(rng, count, now))
    ]


def _times(rng: random.Random, count: int, now: dt.datetime) -> list[dt.datetime]:
    hour = dt.timedelta(hours=1)
    first = now - dt.timedelta(days=DAYS - 1)
    start = first.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [start + hour * n for n in range(int((now - start) / hour))] or [start]
    weights = [_busy(at, now) for at in starts]
    drawn = rng.choices(starts, weights, k=count)
    # Microseconds too: calls of one millisecond would be rare, not impossible.
    times = [at + hour * rng.random() for at in drawn]
    return sorted(min(at, now) for at in times)


def _busy(at: dt.datetime, now: dt.datetime) -> float:
    age = (now.date() - at.date()).days
    growth = 1.3 - 0.6 * age / DAYS
    # Today is half over, and should show something.
    extra = {BUSY_DAY: 1.5, 0: 1.8}.get(age, 1.0)
    return HOURS[at.hour] * WEEKDAYS[at.weekday()] * growth * extra


def _call(
    rng: random.Random, number: int, at: dt.datetime, now: dt.datetime
) -> Planned:
    burst = (now.date() - at.date()).days == BUSY_DAY and rng.random() < 0.4
    feature = (
        IMPORT if burst else rng.choices(FEATURES, [f.weight for f in FEATURES])[0]
    )
    dialect, path, body, orders = feature.ask(rng, f"Request {number} of the demo.")
    tenant = rng.choices(list(TENANTS), list(TENANTS.values()))[0]
    if burst:
        tenant = "globex"
    user = f"{tenant}-{min(int(rng.expovariate(0.45)), 9) + 1}"
    tags = {
        "feature": feature.name,
        "tenant": tenant,
        "user_id": user,
        "endpoint": feature.endpoint,
    }
    if feature.name == "chat":
        tags["session"] = f"{user}-{at:%m%d}{'am' if at.hour < 13 else 'pm'}"
    if rng.random() < 0.04:  # a job that nobody thought of tagging
        tags = {}
    stream = bool(body.get("stream")) or ":stream" in path
    orders["slow"] = _latency(rng, orders.get("output", 0))
    orders |= _trouble(rng, stream)
    return Planned(
        at=at,
        dialect=dialect,
        path=path,
        body=body,
        orders=" ".join(f"{k}={v}" for k, v in orders.items()),
        tags=tags,
        leaves=stream and rng.random() < 0.03,
    )


def _latency(rng: random.Random, output: int) -> int:
    # A tenth of what providers take: nobody wants to wait half an hour for a demo.
    return min(900, int(40 * rng.lognormvariate(0, 0.5) + output * 0.4))


def _trouble(rng: random.Random, stream: bool) -> Json:
    dice = rng.random()
    if dice < 0.018:
        return {"status": 429}
    if dice < 0.026:
        return {"status": 500}
    if dice < 0.031:
        return {"status": 400}
    if dice < 0.036:
        return {"drop": 1}
    if stream and dice < 0.050:
        return {"cut": 1}
    return {}


def _size(rng: random.Random, middle: int, spread: float = 0.6) -> int:
    return max(5, int(middle * rng.lognormvariate(0, spread)))


def _messages(text: str) -> list[Json]:
    return [{"role": "user", "content": text}]


def _chat(rng: random.Random, text: str) -> tuple[str, str, Json, Json]:
    """Long conversations: most of the prompt was sent before."""
    prompt = _size(rng, 2600)
    if rng.random() < 0.55:
        body: Json = {"model": "gpt-4o", "messages": _messages(text)}
        if rng.random() < 0.75:
            body["stream"] = True
            if rng.random() < 0.9:
                body["stream_options"] = {"include_usage": True}
        cached = prompt * 6 // 10 // 128 * 128 if prompt > 1500 else 0
        orders = {"input": prompt - cached, "cached": cached, "output": _size(rng, 380)}
        return "openai", "/v1/chat/completions", body, orders
    body = {"model": "claude-sonnet-4-5", "max_tokens": 2048, "stream": True}
    orders = {"input": prompt // 4, "output": _size(rng, 420)}
    kind = rng.choices(("cached", "write", "write_1h"), (8, 2, 1))[0]
    orders[kind] = prompt
    return "anthropic", "/v1/messages", body | {"messages": _messages(text)}, orders


def _support(rng: random.Random, text: str) -> tuple[str, str, Json, Json]:
    """A short answer to a mail, with a handbook in the cached system prompt."""
    orders = {"input": _size(rng, 340), "output": _size(rng, 210)}
    orders["write" if rng.random() < 0.12 else "cached"] = 6144
    body = {"model": "claude-haiku-4-5", "max_tokens": 800, "messages": _messages(text)}
    return "anthropic", "/v1/messages", body, orders


def _summary(rng: random.Random, text: str) -> tuple[str, str, Json, Json]:
    """Long documents in, a page out."""
    pro = rng.random() < 0.18
    model = "gemini-2.5-pro" if pro else "gemini-2.5-flash"
    verb = "generateContent"
    if rng.random() < 0.4:
        verb = "streamGenerateContent?alt=sse"
    output = _size(rng, 520)
    orders = {"input": _size(rng, 9000), "output": output}
    orders["reasoning"] = int(output * rng.uniform(0.2, 0.6))
    if rng.random() < 0.25:
        orders["cached"] = 4096
    body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    return "gemini", f"/v1beta/models/{model}:{verb}", body, orders


def _search(rng: random.Random, text: str) -> tuple[str, str, Json, Json]:
    body = {"model": "text-embedding-3-small", "input": text, "dimensions": 256}
    return "openai", "/v1/embeddings", body, {"input": _size(rng, 600)}


def _review(rng: random.Random, text: str) -> tuple[str, str, Json, Json]:
    """A reasoning model at night, in the cheaper tier."""
    output = _size(rng, 1900)
    orders = {"input": _size(rng, 5200), "output": output}
    orders["reasoning"] = output * 6 // 10
    model = "gpt-5" if rng.random() < 0.7 else "gpt-5-mini"
    body: Json = {"model": model, "input": text}
    if rng.random() < 0.5:
        body["service_tier"] = "flex"
    elif rng.random() < 0.5:
        body["stream"] = True
    return "openai", "/v1/responses", body, orders


def _extract(rng: random.Random, text: str) -> tuple[str, str, Json, Json]:
    body: Json = {"model": "gpt-4o-mini", "messages": _messages(text)}
    return (
        "openai",
        "/v1/chat/completions",
        body,
        {"input": _size(rng, 1400), "output": _size(rng, 160)},
    )


def _lab(rng: random.Random, text: str) -> tuple[str, str, Json, Json]:
    """A model of the app's own, which no price list knows."""
    body: Json = {"model": "acme-7b-preview", "messages": _messages(text)}
    return (
        "openai",
        "/v1/chat/completions",
        body,
        {"input": _size(rng, 900), "output": _size(rng, 240)},
    )


FEATURES: t.Final = (
    Feature("chat", "chat.ask", 30, _chat),
    Feature("support", "mail.reply", 22, _support),
    Feature("summarize", "docs.summary", 16, _summary),
    Feature("search", "search.index", 14, _search),
    Feature("extract", "invoices.read", 12, _extract),
    Feature("review", "code.review", 8, _review),
    Feature("lab", "lab.try", 2, _lab),
)

IMPORT: t.Final = Feature("summarize", "docs.summary", 0, _summary)
"""What ran twice on the busy day."""
