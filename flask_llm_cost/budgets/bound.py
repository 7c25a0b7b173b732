"""An upper bound of what a request may cost, from the request itself. Pure."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from ..call import Usage

ASSUMED_OUTPUT: t.Final = 16_384
"""Output tokens of a request that sets no maximum."""

_WITHOUT_OUTPUT: t.Final = ("embeddings", "rerank", "moderations")
_OUTPUT_LIMITS: t.Final = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens_to_sample",
)
_NESTED_LIMITS: t.Final = (
    ("generationConfig", "maxOutputTokens"),
    ("generation_config", "max_output_tokens"),
    ("inferenceConfig", "maxTokens"),
    ("options", "num_predict"),
)
_MULTIPLIERS: t.Final = ("n", "best_of")
_MAX_TOKENS: t.Final = 10**8

Price: t.TypeAlias = Callable[[Usage, str | None], Decimal | None]
"""Returns the cost of usage in the requested service tier."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How many tokens a request may use."""

    input_tokens: int
    """The number of bytes of its body: each token of text has at least one."""
    output_tokens: int
    tier: str | None = None
    certain: bool = True
    """False if the request sets no maximum, so that one was assumed."""

    def cost(self, price: Price) -> Decimal | None:
        """Return the highest cost, cached or not; ``None`` if no price is known."""
        tokens, output = self.input_tokens, self.output_tokens
        usages = (
            Usage(input_tokens=tokens, output_tokens=output),
            Usage(cache_write_tokens=tokens, output_tokens=output),
            Usage(cache_write_1h_tokens=tokens, output_tokens=output),
        )
        amounts = [price(usage, self.tier) for usage in usages]
        return max((a for a in amounts if a is not None), default=None)


def bound(body: bytes | None, operation: str) -> Bound:
    """Return the bound of one request.

    It does not include what is not in the body, such as an image that it only links to.
    """
    request = _parsed(body)
    multiplier = max([1, *(_count(request.get(name)) or 1 for name in _MULTIPLIERS)])
    if operation in _WITHOUT_OUTPUT:
        most, certain = 0, body is not None
    else:
        limit = max(_limits(request), default=None)
        most, certain = (ASSUMED_OUTPUT, False) if limit is None else (limit, True)
    tier = request.get("service_tier")
    return Bound(
        input_tokens=len(body or b""),
        output_tokens=min(most * multiplier, _MAX_TOKENS),
        tier=tier if isinstance(tier, str) else None,
        certain=certain and body is not None,
    )


def _limits(request: Mapping[str, t.Any]) -> Iterator[int]:
    for name in _OUTPUT_LIMITS:
        count = _count(request.get(name))
        if count is not None:
            yield count
    for outer, name in _NESTED_LIMITS:
        inside = request.get(outer)
        count = _count(inside.get(name)) if isinstance(inside, dict) else None
        if count is not None:
            yield count


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 < value <= _MAX_TOKENS else None


def _parsed(body: bytes | None) -> Mapping[str, t.Any]:
    try:
        document = json.loads(body) if body else None
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
