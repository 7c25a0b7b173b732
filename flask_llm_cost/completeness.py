"""What makes a cost incomplete: the one list of flags that contradict "complete".

A cost is complete if everything that the provider bills for the call, as far as the
exchange shows, was read and priced. Each of these flags says that it was not.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from collections.abc import Mapping

INCOMPLETE: t.Final[Mapping[str, str]] = {
    # From pricing: another rate replaces an unknown one.
    "modality_fallback": "audio, images or video were priced at the text rate",
    "cache_fallback": "cache reads have no rate, so the input rate was applied, which"
    " is the most that they can cost",
    "cache_write_fallback": "cache writes have no rate, so the input rate was applied",
    "borrowed_price": "the price is from the same model at another provider",
    "mode_fallback": "the mode has no rate for a meter, so the standard rate was applied",
    "unknown_tier": "the service tier is unknown, so standard rates were applied",
    "model_fallback": "the model that answered has no price, so the requested one's was"
    " applied",
    "condition_fallback": "the price may depend on the size, quality, resolution, sound,"
    " search context, thinking, cache or region, and has no rate for this one",
    # From reading: something is billed that the exchange does not show, or not in full.
    "fallback_credit": "a credit for a fallback was redeemed, and its amount is not"
    " reported",
    "unconfirmed_tier": "a service tier was requested, but the response does not"
    " confirm it, so standard rates were applied",
    "unstated_cache": "the response does not state how much of its input came from a"
    " cache, so the input rate was applied to all of it, which is"
    " the most that it can cost",
    "unread_usage": "the response reports usage that could not be read",
    "session_fee": "a fee over time, such as for storage or a session, may be billed"
    " in addition",
    "cut": "the response was cut before its final usage",
    "no_usage": "the response ended without reporting its usage",
    "estimated": "the usage was estimated, because the response reported none",
    "client_estimate": "the usage was counted by the client, over all of its attempts",
    "usage_conflict": "the token counts contradict each other",
    "unknown_provider": "the provider is unknown, and its events have no known format",
    "broken_frames": "parts of the stream could not be parsed",
    "unreadable_encoding": "the content encoding could not be decoded",
    "unreadable_event": "a stream event could not be parsed",
    "reader_error": "the response could not be parsed",
}
"""Flags that make a cost incomplete, and why."""

NO_RATE: t.Final = "part of the usage has no price"
"""Why a cost without any of these flags is incomplete."""

_FLAGS: t.Final = frozenset(INCOMPLETE)

PRICE_FLAGS: t.Final = frozenset(
    ("unpriced", "price_error", "prepaid", "unknown_tier", "borrowed_price", "derived")
    + ("mode_fallback", "modality_fallback", "several_models")
    + ("model_fallback", "condition_fallback")
    + ("cache_fallback", "cache_write_fallback")
)
"""Flags that come from the price. They say nothing of another price."""

FLAG_OF_SOURCE: t.Final[Mapping[str, frozenset[str]]] = {
    "estimated": frozenset(("estimated",)),
    "stream_partial": frozenset(("cut",)),
}
"""The flag of a call whose usage is not final, by its ``usage_source``."""

_AT_MOST: t.Final = frozenset(("cache_fallback", "unstated_cache"))
"""Flags of rates that are known not to be lower than the true ones."""

_OF_REPORTED: t.Final = frozenset(("cut",))
"""A cost that the provider reports is its own sum, however the usage was read. Only of a
stream that was cut may it be less than all."""

THINKING: t.Final = "thinking.on"
"""The answer was thought about, at a provider where the whole output costs more then."""

EXPLICIT_CACHE: t.Final = "cache.explicit"
IMPLICIT_CACHE: t.Final = "cache.implicit"
"""Alibaba's two caches, whose rates are different shares of the input rate."""

_CONDITIONS: t.Final = (
    "thinking.",
    EXPLICIT_CACHE,
    "size.",
    "quality.",
    "resolution.",
    "audio.",
    "search_context.",
) + ("region.cn",)
"""Conditions that always change the price. A region does so only at some providers, but
hosts in China have a price list of their own, in yuan."""


def incomplete(flags: frozenset[str], *, reported: bool = False) -> frozenset[str]:
    """Return those flags that make a cost incomplete.

    :param reported: The cost is the one that the provider reports.
    """
    return flags & (_OF_REPORTED if reported else _FLAGS)


def is_limit(flags: frozenset[str]) -> bool:
    """Whether a cost with these flags is the most that the call can have cost."""
    return incomplete(flags) <= _AT_MOST


def unpriced_conditions(
    conditions: Iterable[str], known: Iterable[str]
) -> frozenset[str]:
    """Return ``condition_fallback`` if a price does not provide for a condition.

    :param known: The conditions that the price provides for.
    """
    needed = {each for each in conditions if each.startswith(_CONDITIONS)}
    lacking = needed.difference(known) if needed else needed
    return frozenset(("condition_fallback",)) if lacking else frozenset()
