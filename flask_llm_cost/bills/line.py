"""One line of a bill: what a provider charged for, in our meters and units."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

LineCause: t.TypeAlias = t.Literal[
    "tool_fee",
    "session_fee",
    "storage",
    "commitment",
    "credit",
    "tax",
    "adjustment",
    "rounding",
]
Kind: t.TypeAlias = LineCause | t.Literal["usage", "ignored"]

LINE_CAUSES: t.Final[tuple[LineCause, ...]] = t.get_args(LineCause)
"""Kinds of lines that no call of the ledger can account for by itself."""
KINDS: t.Final[tuple[Kind, ...]] = ("usage", *LINE_CAUSES, "ignored")
"""``usage`` is billed per call. ``ignored`` is a line of a cloud's bill that is not an
LLM's."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a bill.

    What the source does not say is ``None``. Amounts are exact decimal text, in whole
    units of the currency.
    """

    source: str
    """Which reader read it: ``openai``, ``aws``, ... (:data:`.SOURCES`)."""
    start: dt.datetime
    """Aware UTC."""
    end: dt.datetime
    """Aware UTC, exclusive."""
    kind: Kind
    name: str
    """The source's own words, such as ``gpt-5-mini-2025-08-07, cached input``."""
    currency: str
    """ISO 4217, in capitals."""
    billed_text: str | None = None
    """The amount billed. ``None`` in :attr:`.Statement.usage` only, where the source
    reports quantities apart from amounts."""
    listed_text: str | None = None
    """The amount at list price, before discounts."""
    usd_text: str | None = None
    """The amount billed in USD, if the source converts it itself."""
    quantity: Decimal | None = None
    """In our units: tokens, not millions of them; searches, seconds, ..."""
    requests: int | None = None
    scope: Mapping[str, str] = field(default_factory=dict)
    """The source's ids: ``organization``, ``project``, ``workspace``, ``api_key``,
    ``account``, ``principal``, ``label:NAME`` of a cloud, ..."""
    provider: str | None = None
    """As in the ledger: ``openai``, ``azure``, ``bedrock``, ..."""
    model: str | None = None
    """As in the price book where the source's name means exactly one of its models, else
    the source's name."""
    meter: str | None = None
    """A key of :data:`.METERS`."""
    mode: str | None = None
    """A key of :data:`.MODES`; ``None`` is standard."""
    tier: str | None = None
    """``long_context``, or the source's name of another tier of prices."""
    region: str | None = None
    """Where the price depends on it: ``us``, ``global``, ``datazone``, ``us-east-1``, ..."""
    cache_ttl: str | None = None
    """``5m``, ``30m``, ``1h`` or ``12h``, where a line of cache writes says it."""
    response_id: str | None = None
    """The provider's id of one answer, in a bill by generation."""

    @property
    def billed(self) -> Decimal | None:
        """The amount billed, in :attr:`currency`."""
        return _number(self.billed_text)

    @property
    def listed(self) -> Decimal | None:
        """The amount at list price, in :attr:`currency`."""
        return _number(self.listed_text)

    @property
    def billed_usd(self) -> Decimal | None:
        """The amount billed in USD; ``None`` if the bill has no such amount."""
        if self.usd_text is None and self.currency == "USD":
            return self.billed
        return _number(self.usd_text)


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
