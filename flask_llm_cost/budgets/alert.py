"""What an app is told when spend passes a part of a budget."""

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
    """A threshold of a budget was passed."""

    budget: str
    """The budget's name."""
    period: str
    limit_usd: Decimal
    spent_usd: Decimal
    """With the call that passed it."""
    threshold: Decimal
    """The part of the limit that was passed: 1 is the limit itself."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Whose budget it is, where each value of a tag has one."""
    starts_at: dt.datetime | None = None
    """Of the window (aware UTC); ``None`` for one call."""
    resets_at: dt.datetime | None = None
    """When the window ends; ``None`` if it never does, and for one call."""
    call: Call | None = None
    """The call that passed it; ``None`` if none was sent."""

    @property
    def exceeded(self) -> bool:
        """Whether it is the limit that was reached."""
        return self.threshold >= 1

    def document(self) -> dict[str, t.Any]:
        """What is posted to a webhook: ``text`` is what Slack and its likes show."""
        return {
            "text": self.text(),
            "event": "budget_exceeded" if self.exceeded else "budget_threshold",
            "budget": self.budget,
            "period": self.period,
            "tags": dict(self.tags),
            "threshold": str(self.threshold),
            "limit_usd": f"{self.limit_usd.normalize():f}",
            "spent_usd": f"{self.spent_usd.normalize():f}",
            "starts_at": _iso(self.starts_at),
            "resets_at": _iso(self.resets_at),
        }

    def text(self) -> str:
        """One line for people."""
        whose = ", ".join(f"{key} {value}" for key, value in self.tags.items())
        name = f"{self.budget!r} ({whose})" if whose else repr(self.budget)
        percent = f"{self.threshold * 100:f}".rstrip("0").rstrip(".")
        what = "is spent" if self.exceeded else f"has passed {percent}%"
        line = (
            f"The {self.period} budget {name} {what}:"
            f" ${self.spent_usd.normalize():f} of ${self.limit_usd.normalize():f}."
        )
        if self.resets_at is not None:
            line += f" It resets at {self.resets_at:%Y-%m-%d %H:%M} UTC."
        return line


def _iso(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
