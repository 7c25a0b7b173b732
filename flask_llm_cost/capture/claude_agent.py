"""Records what the Claude Agent SDK reports, whose calls are made by another process.

At the end of each turn, that process reports what it has counted since it began, by model,
over all attempts. The difference to what it reported before is one call for each model. Its
usage is an estimate, and its cost, which the process has calculated by prices of its own, is
left out. A budget cannot stop these calls.
"""

from __future__ import annotations

import importlib
import typing as t
from collections.abc import AsyncIterator
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from decimal import Decimal

from ..attempt import Attempt
from ..call import Usage
from ..errors import LlmCostError
from .harmless import harmless
from .manual import ManualCall
from .patch import bound
from .patch import Patch
from .tap import Tap

_SEARCHES: t.Final = "webSearchRequests"
_COUNTS: t.Final = (
    "inputTokens",
    "cacheReadInputTokens",
    "cacheCreationInputTokens",
    "outputTokens",
    _SEARCHES,
)

_Counts: t.TypeAlias = dict[str, dict[str, int]]
"""What a process has reported last, by model."""

_COUNTED: t.Final = "_llm_cost"
"""Where the connection with a process has these."""


@harmless()
def _record(tap: Tap, before: _Counts, result: Mapping[str, t.Any]) -> None:
    """Record a result: one call for each model that was used since the last one."""
    models = result.get("modelUsage")
    for model, counted in models.items() if isinstance(models, dict) else ():
        used = _since(before, model, counted)
        if any(used.values()):
            _record_model(tap, model, used, result)


def _since(
    before: _Counts, model: str, counted: Mapping[str, t.Any]
) -> Mapping[str, int]:
    """What was used since the last result of a process."""
    now = {name: _count(counted.get(name)) for name in _COUNTS}
    last, before[model] = before.get(model, {}), now
    if any(now[name] < last.get(name, 0) for name in _COUNTS):
        # It has begun to count anew.
        return now
    return {name: now[name] - last.get(name, 0) for name in _COUNTS}


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 1 << 48 else 0


def _record_model(
    tap: Tap, model: str, used: Mapping[str, int], result: Mapping[str, t.Any]
) -> None:
    attempt = Attempt("anthropic", "agents", model, tags=tap.tags, poll=True)
    try:
        snapshot = tap.recorder.begin(attempt)
    except LlmCostError:
        # The app is reading, and must not be stopped there.
        return
    if snapshot is None:
        return
    searches = used[_SEARCHES]
    latency = _count(result.get("duration_api_ms"))
    call = ManualCall(
        provider="anthropic",
        model=model,
        operation="agents",
        usage=Usage(
            input_tokens=used["inputTokens"],
            cache_read_tokens=used["cacheReadInputTokens"],
            cache_write_tokens=used["cacheCreationInputTokens"],
            output_tokens=used["outputTokens"],
            units={"web_search": Decimal(searches)} if searches else {},
        ),
        reported_cost=None,
        latency_ms=latency or None,
        stream=False,
        usage_source="estimated",
        outcome="ok",
        response_id=None,
        service_tier=None,
        at=None,
        event_id=None,
    ).call(snapshot)
    flags = call.flags | {"client_estimate", "estimated"}
    tap.recorder.record(replace(call, flags=flags), snapshot)


def _around(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    async def receive_messages(self: t.Any) -> AsyncIterator[t.Any]:
        before: _Counts = vars(self).setdefault(_COUNTED, {})
        async with aclosing(bound(original, self)()) as messages:
            async for message in messages:
                tap = patch.tap
                if tap is not None and message.get("type") == "result":
                    _record(tap, before, message)
                yield message

    return receive_messages


def patches(module: str) -> list[Patch]:
    """The patches that record every session in the process.

    :raises ImportError: If this version has other connections.
    """
    # Not public: each is the connection with one process, of either of its clients.
    library: t.Any = importlib.import_module(f"{module}._internal.query")
    if "receive_messages" not in vars(library.Query):
        raise ImportError("its connections have an unknown layout")
    return [Patch(library.Query, "receive_messages", _around)]
