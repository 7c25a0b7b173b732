"""A call as one line of a log."""

from __future__ import annotations

import typing as t

from ..money import own_context

if t.TYPE_CHECKING:
    from ..call import Call


@own_context
def log_line(call: Call) -> str:
    """Format a call as ``LLM_COST_STORAGE="log"`` writes it."""
    parts = [f"{call.provider}/{call.model}"]
    if call.usage is not None:
        parts.append(f"tokens={call.usage.total_tokens}")
    cost = "unknown" if call.cost is None else f"${call.cost.total_usd:.6f}"
    parts.append(f"cost={cost}")
    if call.latency_ms is not None:
        parts.append(f"latency={call.latency_ms}ms")
    parts.append(f"stream={str(call.stream).lower()}")
    parts.append(f"source={call.usage_source}")
    if call.outcome != "ok":
        parts.append(f"outcome={call.outcome}")
    if call.tags:
        parts.append(f"tags={dict(call.tags)}")
    return " ".join(parts)
