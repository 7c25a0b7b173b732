"""What an app is told when spend passes a part of a budget, or a call is refused."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

from ..call import Call


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold of a budget was passed, or a call did not fit in what is left of it."""

    budget: str
    """The budget's name."""
    period: str
    limit_usd: Decimal
    spent_usd: Decimal
    """With the call that passed it."""
    threshold: Decimal
    """The part of the limit that was passed: 1 is the limit itself, also for a refusal."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Whose budget it is, where each value of a tag has one."""
    starts_at: dt.datetime | None = None
    """Of the window (aware UTC); ``None`` for one call."""
    resets_at: dt.datetime | None = None
    """When the window ends; ``None`` if it never does, and for one call."""
    call: Call | None = None
    """The call that passed it; ``None`` if none was sent."""
    refused: bool = False
    """A call was refused though the limit is not spent: with what is held, what is lost
    and what the call may cost, it could have been."""
    reserved_usd: Decimal = Decimal(0)
    """Of a refusal: what calls under way may still cost."""
    lost_usd: Decimal = Decimal(0)
    """Of a refusal: what counts for calls of which no one knows what they cost."""
    estimate_usd: Decimal | None = None
    """Of a refusal: what the call may have cost; ``None`` if it was not asked for."""

    @property
    def exceeded(self) -> bool:
        """Whether it is the limit that was reached."""
        return self.threshold >= 1 and not self.refused

    def document(self) -> dict[str, t.Any]:
        """What is posted to a webhook: ``text`` is what Slack and its likes show."""
        return {
            "text": _escaped(self.text()),
            "event": self._event(),
            "budget": self.budget,
            "period": self.period,
            "tags": dict(self.tags),
            "threshold": str(self.threshold),
            "limit_usd": _plain(self.limit_usd),
            "spent_usd": _plain(self.spent_usd),
            "starts_at": _iso(self.starts_at),
            "resets_at": _iso(self.resets_at),
        } | self._refusal()

    def _event(self) -> str:
        if self.refused:
            return "budget_refused"
        return "budget_exceeded" if self.exceeded else "budget_threshold"

    def _refusal(self) -> dict[str, t.Any]:
        if not self.refused:
            return {}
        estimate = self.estimate_usd
        return {
            "reserved_usd": _plain(self.reserved_usd),
            "lost_usd": _plain(self.lost_usd),
            "estimate_usd": None if estimate is None else _plain(estimate),
        }

    def text(self) -> str:
        """One line for people."""
        whose = ", ".join(f"{key} {value}" for key, value in self.tags.items())
        name = f"{self.budget!r} ({whose})" if whose else repr(self.budget)
        percent = f"{self.threshold * 100:f}".rstrip("0").rstrip(".")
        what = "is spent" if self.exceeded else f"has passed {percent}%"
        if self.refused:
            what = "has refused a call"
        line = (
            f"The {self.period} budget {name} {what}:"
            f" ${_plain(self.spent_usd)} of ${_plain(self.limit_usd)}"
            f"{' spent' if self.refused else ''}"
            f"{_besides(self.reserved_usd, self.lost_usd, self.estimate_usd)}."
        )
        if self.resets_at is not None:
            line += f" It resets at {self.resets_at:%Y-%m-%d %H:%M} UTC."
        return line


def _besides(held: Decimal, lost: Decimal, estimate: Decimal | None) -> str:
    """What counts beside what is spent, for people."""
    return "".join(
        f", ${_plain(amount)} {what}"
        for amount, what in (
            (held, "held for calls under way"),
            (lost, "lost"),
            (estimate or Decimal(0), "asked for"),
        )
        if amount
    )


def _escaped(text: str) -> str:
    """As Slack takes it: whatever a tag's value says, it calls nobody and links nowhere."""
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, name)
    return text


def _plain(usd: Decimal) -> str:
    return f"{usd.normalize():f}"


def _iso(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
