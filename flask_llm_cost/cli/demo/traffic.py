"""What the users of an imaginary app do in ninety days.

Its features call three providers, mostly in office hours. Some calls fail, some streams
are cut or abandoned, some usage is estimated, one model has no price, and on one day an
import runs wild. The plan is always the same, except for the days it covers.
"""

from __future__ import annotations

import datetime as dt
import random
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass

from ...call import Usage

Json: t.TypeAlias = dict[str, t.Any]

DAYS: t.Final = 90

HOURS: t.Final = (
    (2, 1, 1, 1, 1, 2, 5, 14, 34, 52, 60, 54)
    + (38, 50, 58, 54, 44, 32, 20, 14, 11, 8, 5, 3)  # fmt: skip
)
"""The load of each hour of a working day."""

WEEKDAYS: t.Final = (1.0, 1.1, 1.15, 1.05, 0.85, 0.3, 0.25)

BUSY_DAY: t.Final = 9
"""This number of days ago, a tenant's import ran again and again."""

TENANTS: t.Final = {"acme": 9, "globex": 6, "initech": 3, "hooli": 2}


@dataclass(frozen=True, slots=True)
class Planned:
    """One call to send."""

    at: dt.datetime
    provider: str
    """``openai``, ``anthropic`` or ``gemini``."""
    path: str
    body: Json
    orders: str
    """For the ``X-Loopback`` header."""
    tags: Mapping[str, str]
    leaves: bool = False
    """Whether the caller stops reading the stream before its end."""
    estimate: Mapping[str, t.Any] | None = None
    """What to track instead of sending a request."""

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream")) or ":stream" in self.path


Asked: t.TypeAlias = tuple[str, str, Json, Json]
"""Provider, path, body and orders."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A part of the imaginary app: how often it is used, and what it sends."""

    name: str
    endpoint: str
    weight: int
    ask: Callable[[random.Random, str], Asked]


def plan(count: int, now: dt.datetime) -> list[Planned]:
    """The calls, oldest first.

    :param now: The end of the ninety days; no call is later.
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
    # Microseconds too: calls in the same millisecond would be rare, not impossible.
    times = [at + hour * rng.random() for at in rng.choices(starts, weights, k=count)]
    return sorted(min(at, now) for at in times)


def _busy(at: dt.datetime, now: dt.datetime) -> float:
    age = (now.date() - at.date()).days
    growth = 1.3 - 0.6 * age / DAYS
    if age == BUSY_DAY:
        return HOURS[at.hour] * 3.5
    # Today is only half over, but should show some calls.
    extra = 1.8 if age == 0 else 1.0
    return HOURS[at.hour] * WEEKDAYS[at.weekday()] * growth * extra


def _call(
    rng: random.Random, number: int, at: dt.datetime, now: dt.datetime
) -> Planned:
    burst = (now.date() - at.date()).days == BUSY_DAY and rng.random() < 0.65
    feature = (
        IMPORT if burst else rng.choices(FEATURES, [f.weight for f in FEATURES])[0]
    )
    provider, path, body, orders = feature.ask(rng, f"Request {number} of the demo.")
    tags = _tags(rng, feature, at, burst)
    stream = bool(body.get("stream")) or ":stream" in path
    if feature is AGENT and rng.random() < 0.08:
        used = Usage(input_tokens=orders["input"], output_tokens=orders["output"])
        told = {"provider": provider, "model": body["model"], "usage": used}
        return Planned(at, provider, path, {}, "", tags, estimate=told)
    orders["slow"] = _latency(rng, orders.get("output", 0))
    orders |= _trouble(rng, stream)
    return Planned(
        at=at,
        provider=provider,
        path=path,
        body=body,
        orders=" ".join(f"{k}={v}" for k, v in orders.items()),
        tags=tags,
        leaves=stream and rng.random() < 0.03,
    )


def _tags(
    rng: random.Random, feature: Feature, at: dt.datetime, burst: bool
) -> Mapping[str, str]:
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
    if feature.name in ("chat", "agent"):
        tags["session"] = f"{user}-{at:%m%d}{'am' if at.hour < 13 else 'pm'}"
    # Some jobs have no tags.
    return {} if rng.random() < 0.04 else tags


def _latency(rng: random.Random, output: int) -> int:
    # A fraction of what providers take, so that the demo is done in seconds.
    return min(200, int(10 * rng.lognormvariate(0, 0.5) + output * 0.008))


def _trouble(rng: random.Random, stream: bool) -> Json:
    dice = rng.random()
    for most, order in (
        (0.018, {"status": 429}),
        (0.026, {"status": 500}),
        (0.031, {"status": 400}),
        (0.036, {"drop": 1}),
        (0.050 if stream else 0, {"cut": 1}),
    ):
        if dice < most:
            return order
    return {}


def _size(rng: random.Random, middle: int, spread: float = 0.6) -> int:
    return max(5, int(middle * rng.lognormvariate(0, spread)))


def _messages(model: str, text: str, **options: t.Any) -> Json:
    return {"model": model, "messages": [{"role": "user", "content": text}], **options}


def _chat(rng: random.Random, text: str) -> Asked:
    """Long conversations, of which most was sent before."""
    prompt = _size(rng, 38_000)
    if rng.random() < 0.55:
        body = _messages("gpt-4o", text)
        if rng.random() < 0.75:
            body["stream"] = True
            if rng.random() < 0.9:
                body["stream_options"] = {"include_usage": True}
        cached = prompt * 6 // 10 // 128 * 128 if prompt > 1500 else 0
        orders = {"input": prompt - cached, "cached": cached, "output": _size(rng, 900)}
        return "openai", "/v1/chat/completions", body, orders
    orders = {"input": prompt // 4, "output": _size(rng, 700)}
    orders[rng.choices(("cached", "write", "write_1h"), (8, 2, 1))[0]] = prompt
    body = _messages("claude-sonnet-4-5", text, max_tokens=2048, stream=True)
    return "anthropic", "/v1/messages", body, orders


def _agent(rng: random.Random, text: str) -> Asked:
    """Steps of an agent that works on a repository, whose context it reads each time."""
    orders = {"input": _size(rng, 4000), "output": _size(rng, 11_000)}
    orders["cached" if rng.random() < 0.66 else "write"] = min(
        _size(rng, 130_000), 190_000
    )
    model = "claude-opus-4-1" if rng.random() < 0.85 else "claude-sonnet-4-5"
    body = _messages(model, text, max_tokens=16_384, stream=True)
    return "anthropic", "/v1/messages", body, orders


def _support(rng: random.Random, text: str) -> Asked:
    """Short answers to mails, with a handbook in the cached system prompt."""
    orders = {"input": _size(rng, 1400), "output": _size(rng, 420)}
    orders["write" if rng.random() < 0.12 else "cached"] = 24_576
    body = _messages("claude-haiku-4-5", text, max_tokens=800)
    return "anthropic", "/v1/messages", body, orders


def _summary(rng: random.Random, text: str) -> Asked:
    """Long documents in, a page out."""
    pro = rng.random() < 0.5
    model = "gemini-2.5-pro" if pro else "gemini-2.5-flash"
    stream = rng.random() < 0.4
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    output = _size(rng, 1800)
    orders = {"input": _size(rng, 150_000, 0.4), "output": output}
    orders["reasoning"] = int(output * rng.uniform(0.2, 0.6))
    if rng.random() < 0.25:
        orders["cached"] = 32_768
    body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    return "gemini", f"/v1beta/models/{model}:{verb}", body, orders


def _import(rng: random.Random, text: str) -> Asked:
    """A whole archive, read by the more expensive model."""
    output = _size(rng, 4000)
    orders = {"input": _size(rng, 420_000, 0.3), "output": output}
    orders["reasoning"] = output // 2
    body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    return "gemini", "/v1beta/models/gemini-2.5-pro:generateContent", body, orders


def _search(rng: random.Random, text: str) -> Asked:
    body = {"model": "text-embedding-3-small", "input": text, "dimensions": 256}
    return "openai", "/v1/embeddings", body, {"input": _size(rng, 600)}


def _review(rng: random.Random, text: str) -> Asked:
    """A reasoning model, half of the time in the cheaper tier."""
    output = _size(rng, 16_000)
    orders = {"input": min(_size(rng, 140_000), 270_000), "output": output}
    orders["reasoning"] = output * 6 // 10
    model = "gpt-5" if rng.random() < 0.7 else "gpt-5-mini"
    body: Json = {"model": model, "input": text}
    if rng.random() < 0.5:
        body["service_tier"] = "flex"
    elif rng.random() < 0.5:
        body["stream"] = True
    return "openai", "/v1/responses", body, orders


def _plain(model: str, prompt: int, answer: int) -> Callable[..., Asked]:
    def ask(rng: random.Random, text: str) -> Asked:
        orders = {"input": _size(rng, prompt), "output": _size(rng, answer)}
        return "openai", "/v1/chat/completions", _messages(model, text), orders

    return ask


AGENT: t.Final = Feature("agent", "agent.step", 52, _agent)

FEATURES: t.Final = (
    Feature("chat", "chat.ask", 26, _chat),
    AGENT,
    Feature("support", "mail.reply", 18, _support),
    Feature("summarize", "docs.summary", 14, _summary),
    Feature("search", "search.index", 12, _search),
    Feature("extract", "invoices.read", 10, _plain("gpt-4o-mini", 6000, 400)),
    Feature("review", "code.review", 14, _review),
    # A model of the app's own, which is in no price list.
    Feature("lab", "lab.try", 2, _plain("acme-7b-preview", 900, 240)),
)

IMPORT: t.Final = Feature("import", "docs.import", 0, _import)
"""What ran again and again on the busy day."""
