"""How much may a request come to? An upper bound, from what it says itself."""

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
"""Tokens of an answer, where the request names no most."""

_WITHOUT_OUTPUT: t.Final = ("embeddings", "rerank", "moderations")
_MOST: t.Final = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens_to_sample",
)
_MOST_INSIDE: t.Final = (
    ("generationConfig", "maxOutputTokens"),
    ("generation_config", "max_output_tokens"),
    ("inferenceConfig", "maxTokens"),
    ("options", "num_predict"),
)
_TIMES: t.Final = ("n", "best_of")
_BIGGEST: t.Final = 10**8

Price: t.TypeAlias = Callable[[Usage, str | None], Decimal | None]
"""What so much usage costs, in the service tier that was asked for."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How many tokens a request can come to."""

    input_tokens: int
    """As many as its body has bytes: every token of text has one at least."""
    output_tokens: int
    tier: str | None = None
    certain: bool = True
    """False if the request names no most, so that one was assumed."""

    def cost(self, price: Price) -> Decimal | None:
        """The most that this costs, cached or not; ``None`` if no price is known."""
        sent, made = self.input_tokens, self.output_tokens
        ways = (
            Usage(input_tokens=sent, output_tokens=made),
            Usage(cache_write_tokens=sent, output_tokens=made),
            Usage(cache_write_1h_tokens=sent, output_tokens=made),
        )
        amounts = [price(usage, self.tier) for usage in ways]
        return max((a for a in amounts if a is not None), default=None)


def bound(body: bytes | None, operation: str) -> Bound:
    """The bound of one request.

    What is not in its body, such as an image that it only points to, is not in it.
    """
    request = _parsed(body)
    times = max([1, *(_count(request.get(name)) or 1 for name in _TIMES)])
    if operation in _WITHOUT_OUTPUT:
        most, certain = 0, body is not None
    else:
        named = max(_named(request), default=None)
        most, certain = (ASSUMED_OUTPUT, False) if named is None else (named, True)
    tier = request.get("service_tier")
    return Bound(
        input_tokens=len(body or b""),
        output_tokens=min(most * times, _BIGGEST),
        tier=tier if isinstance(tier, str) else None,
        certain=certain and body is not None,
    )


def _named(request: Mapping[str, t.Any]) -> Iterator[int]:
    for name in _MOST:
        count = _count(request.get(name))
        if count is not None:
            yield count
    for outer, name in _MOST_INSIDE:
        inside = request.get(outer)
        count = _count(inside.get(name)) if isinstance(inside, dict) else None
        if count is not None:
            yield count


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 < value <= _BIGGEST else None


def _parsed(body: bytes | None) -> Mapping[str, t.Any]:
    try:
        document = json.loads(body) if body else None
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
