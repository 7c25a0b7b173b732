"""What an app is notified of: a threshold was reached, or a call was refused."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

from ..call import Call
from ..errors import BudgetExceeded
from ..money import add
from ..money import digits
from ..money import multiply

if t.TYPE_CHECKING:
    from .standing import Standing

_SHARED: t.Final = (
    "budget",
    "period",
    "limit_usd",
    "spent_usd",
    "resets_at",
    "call",
    "tags",
    "reserved_usd",
    "lost_usd",
    "estimate_usd",
    "unbounded",
    "unsettled_usd",
)
"""The fields that :exc:`.BudgetExceeded` has too."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A budget reached a threshold, or had no room for a call."""

    budget: str
    """The budget's name."""
    period: str
    limit_usd: Decimal
    spent_usd: Decimal
    """Includes the call that reached the threshold."""
    threshold: Decimal = Decimal(1)
    """The fraction of the limit that was reached; 1 is the limit itself, and a refusal."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The tag values the budget applies to, if each value has its own."""
    starts_at: dt.datetime | None = None
    """The start of the window (aware UTC); ``None`` for a budget per call."""
    resets_at: dt.datetime | None = None
    """The end of the window; ``None`` if it never ends, and for a budget per call."""
    call: Call | None = None
    """The call that reached the threshold; ``None`` if no call was sent."""
    reserved_usd: Decimal = Decimal(0)
    """The amount reserved for calls in progress."""
    lost_usd: Decimal = Decimal(0)
    """The amount counted for calls that never ended."""
    estimate_usd: Decimal | None = None
    """The estimated cost of a refused call; ``None`` if no estimate was needed."""
    unsettled_usd: Decimal = Decimal(0)
    """The amount counted for calls that were cut or reported no usage."""
    unbounded: bool = False
    """The call was refused because its cost is unbounded (``unbounded="refuse"``)."""

    @classmethod
    def of(
        cls,
        standing: Standing,
        *,
        threshold: Decimal = Decimal(1),
        call: Call | None = None,
        estimate_usd: Decimal | None = None,
    ) -> Alert:
        """Create the alert of a window that has a limit."""
        assert standing.limit_usd is not None
        return cls(
            standing.budget.name,
            standing.budget.period,
            standing.limit_usd,
            standing.spent_usd,
            threshold,
            standing.tags,
            standing.starts_at,
            standing.ends_at,
            call,
            standing.reserved_usd,
            standing.lost_usd,
            estimate_usd,
            standing.unsettled_usd,
        )

    @property
    def exceeded(self) -> bool:
        """Whether the limit was reached by what is spent and unsettled."""
        return self.threshold >= 1 and self._counted >= self.limit_usd

    @property
    def refused(self) -> bool:
        """Whether a call was refused below the limit. Reserved, lost and unsettled
        amounts and the call itself could have exceeded it.
        """
        return self.threshold >= 1 and self._counted < self.limit_usd

    @property
    def _counted(self) -> Decimal:
        return add(self.spent_usd, self.unsettled_usd)

    def error(self) -> BudgetExceeded:
        """Return the exception to raise for this alert."""
        return BudgetExceeded(**{name: getattr(self, name) for name in _SHARED})

    def document(self) -> dict[str, t.Any]:
        """Return what is posted to a webhook; Slack and others display ``text``."""
        event = "exceeded" if self.exceeded else "threshold"
        estimate = self.estimate_usd
        return {
            "text": _escaped(self.text()),
            "event": "budget_refused" if self.refused else f"budget_{event}",
            "budget": self.budget,
            "period": self.period,
            "tags": dict(self.tags),
            "threshold": str(self.threshold),
            "limit_usd": digits(self.limit_usd),
            "spent_usd": digits(self.spent_usd),
            "reserved_usd": digits(self.reserved_usd),
            "lost_usd": digits(self.lost_usd),
            "unsettled_usd": digits(self.unsettled_usd),
            "estimate_usd": None if estimate is None else digits(estimate),
            "starts_at": _iso(self.starts_at),
            "resets_at": _iso(self.resets_at),
        }

    def text(self) -> str:
        """Return one line for people."""
        error = self.error()
        percent = digits(multiply(self.threshold, 100))
        line = (
            error.describe()
            if self.threshold >= 1
            else error.describe(f"has reached {percent} %")
        )
        if self.resets_at is not None:
            line += f" It resets at {self.resets_at:%Y-%m-%d %H:%M} UTC."
        return line


def _escaped(text: str) -> str:
    """Escape for Slack, so that no tag value can mention people or add links."""
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, name)
    return text


def _iso(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
