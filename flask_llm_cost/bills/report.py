"""The result of comparing a ledger to a bill."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

from ..money import context
from ..money import digits

Verdict: t.TypeAlias = t.Literal[
    "reconciled", "explained", "unexplained", "not_comparable", "nothing"
]
Evidence: t.TypeAlias = t.Literal["quantity", "total", "call", "line"]
"""What a residual rests on: the quantities of a line, a total without quantities, a single
call, or the kind of a line."""

UNEXPLAINED: t.Final = "unexplained"
CAUSES: t.Final[Mapping[str, str]] = {
    "no_usage": "calls that reported no usage, such as streams that were cut",
    "double_capture": "calls that are in the ledger twice",
    "day_edge": "calls around midnight that the bill counts on the other day",
    "lag": "calls that were not on the bill yet",
    "not_on_bill": "calls in the ledger that were not billed",
    "uncaptured": "calls that are not in the ledger: from another app, key or script",
    "unpriced": "calls whose price the ledger does not know",
    "estimated": "calls whose usage was estimated",
    "incomplete": "calls that are only partly priced",
    "tier": "calls that were billed in another mode, such as batch or priority",
    "long_context": "calls that were billed at another rate for long contexts",
    "region": "calls that were billed at the rate of another region",
    "cache_ttl": "cache writes that were billed at another time to live",
    "discount": "a discount on all lines",
    "price": "a price other than the ledger's",
    "tool_fee": "tool fees",
    "session_fee": "session fees",
    "storage": "storage",
    "commitment": "prepaid capacity",
    "credit": "credits",
    "tax": "tax",
    "adjustment": "adjustments",
    "currency": "currency conversion",
    "rounding": "rounding",
    UNEXPLAINED: "no known cause, or more than one",
}
"""Why a bill and a ledger differ."""

_FINE: t.Final = frozenset(("rounding", "day_edge"))
"""Causes with which a ledger is still ``reconciled``."""
_SUSPECT: t.Final = frozenset(("uncaptured", "not_on_bill", "double_capture"))
"""Causes that say that the ledger and the bill are not of the same calls."""
_ENOUGH: t.Final = Decimal("0.95")
_FEW: t.Final = Decimal("0.01")

exact: t.Final = context(200)
"""Sums and products of amounts are exact in it."""


@dataclass(frozen=True, slots=True)
class Residual:
    """A part of the difference, with its cause."""

    cause: str
    """One of :data:`CAUSES`."""
    amount_usd: Decimal
    """Billed beyond the ledger; negative if the ledger has more."""
    day: dt.date
    scope: str | None = None
    model: str | None = None
    meter: str | None = None
    """The meter; of a line that is not understood, its name."""
    evidence: Evidence = "quantity"
    candidates: tuple[str, ...] = ()
    """If it is unexplained: the causes that it may have."""


@dataclass(frozen=True, slots=True)
class DayReport:
    """The comparison of one UTC day."""

    day: dt.date
    billed_usd: Decimal
    ledger_usd: Decimal
    verdict: Verdict
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The comparison of one source and scope. Totals are those of comparable days."""

    source: str
    scope: str | None
    statement: str
    """The digest of the bill's files."""
    start: dt.date
    """The first UTC day."""
    end: dt.date
    """The last UTC day."""
    currency: str
    billed_usd: Decimal
    ledger_usd: Decimal
    """The known cost, without estimates."""
    ignored_usd: Decimal
    """Lines of a cloud's bill that are not for LLMs."""
    unpriced_calls: int
    incomplete_calls: int
    residuals: tuple[Residual, ...]
    coverage: Decimal | None
    """The share of the dollars billed per call that the ledger has calls for."""
    watermark: dt.datetime | None
    verdict: Verdict
    reason: str | None
    days: tuple[DayReport, ...]
    calls_usd: Decimal = Decimal(0)
    """The part of :attr:`billed_usd` that is billed per call."""
    costs: Mapping[str, Decimal] = field(default_factory=dict)
    """The true costs of calls that differ from the ledger, by event id, if the bill has
    a line for each answer."""
    suggestions: tuple[str, ...] = ()
    """What to correct."""

    @property
    def difference_usd(self) -> Decimal:
        """Billed beyond the ledger: the sum of the residuals."""
        return exact.subtract(self.billed_usd, self.ledger_usd)

    @property
    def unexplained_usd(self) -> Decimal:
        """The sum of what has no cause."""
        return add_up(r.amount_usd for r in self.residuals if r.cause == UNEXPLAINED)

    @property
    def good(self) -> bool:
        """Whether nothing is left to explain."""
        return self.verdict in ("reconciled", "explained")

    def by_cause(self) -> dict[str, Decimal]:
        """The sums of the residuals, in the order of :data:`CAUSES`."""
        found = {each.cause for each in self.residuals}
        return {
            cause: add_up(r.amount_usd for r in self.residuals if r.cause == cause)
            for cause in CAUSES
            if cause in found
        }

    def as_json(self) -> dict[str, t.Any]:
        """The report as ``reconcile --format json`` has it; money is exact text."""
        return {
            "source": self.source,
            "scope": self.scope,
            "statement": self.statement,
            "from": self.start.isoformat(),
            "to": self.end.isoformat(),
            "currency": self.currency,
            "billed_usd": digits(self.billed_usd),
            "ledger_usd": digits(self.ledger_usd),
            "difference_usd": digits(self.difference_usd),
            "ignored_usd": digits(self.ignored_usd),
            "unpriced_calls": self.unpriced_calls,
            "incomplete_calls": self.incomplete_calls,
            "residuals": [
                {
                    "cause": each.cause,
                    "amount_usd": digits(each.amount_usd),
                    "day": each.day.isoformat(),
                    "scope": each.scope,
                    "model": each.model,
                    "meter": each.meter,
                    "evidence": each.evidence,
                    "candidates": list(each.candidates),
                }
                for each in self.residuals
            ],
            "unexplained_usd": digits(self.unexplained_usd),
            "coverage": None if self.coverage is None else digits(self.coverage),
            "watermark": None if self.watermark is None else self.watermark.isoformat(),
            "verdict": self.verdict,
            "reason": self.reason,
            "days": [
                {
                    "day": each.day.isoformat(),
                    "billed_usd": digits(each.billed_usd),
                    "ledger_usd": digits(each.ledger_usd),
                    "verdict": each.verdict,
                    "reason": each.reason,
                }
                for each in self.days
            ],
        }


def add_up(amounts: Iterable[Decimal]) -> Decimal:
    """Sum amounts exactly."""
    total = Decimal(0)
    for amount in amounts:
        total = exact.add(total, amount)
    return total


def judge_day(residuals: Iterable[Residual], *, empty: bool) -> Verdict:
    """Return the verdict on a day.

    :param empty: Neither side has anything.
    """
    causes = {each.cause for each in residuals if each.amount_usd}
    if empty and not causes:
        return "nothing"
    if UNEXPLAINED in causes:
        return "unexplained"
    return "reconciled" if causes <= _FINE else "explained"


def judge(
    days: Iterable[DayReport],
    residuals: Iterable[Residual],
    *,
    calls: int,
    calls_usd: Decimal,
    coverage: Decimal | None,
    tried: bool,
) -> tuple[Verdict, str | None]:
    """Return the verdict on a period, and the reason if it is not a good one.

    :param calls: How many calls the ledger has.
    :param calls_usd: What was billed per call.
    :param tried: Whether the source was ever tried on a real bill.
    """
    comparable = [each for each in days if each.verdict != "not_comparable"]
    if not comparable:
        return "not_comparable", next(
            (d.reason for d in days), "The bill has no lines."
        )
    verdicts = {each.verdict for each in comparable}
    if verdicts == {"nothing"}:
        return "nothing", "Both the bill and the ledger are empty."
    if not calls:
        return "unexplained", "The ledger has no calls on these days."
    if "unexplained" in verdicts:
        return "unexplained", "Some of the difference has no cause, or more than one."
    found = list(residuals)
    if not edges_cancel(found):
        return "unexplained", "Calls around midnight do not cancel out."
    suspect = add_up(abs(r.amount_usd) for r in found if r.cause in _SUSPECT)
    if suspect > exact.multiply(calls_usd, _FEW):
        return "unexplained", (
            "More than 1 % of the amount billed per call does not match calls in the"
            " ledger: the bill covers other apps, or some calls were not captured."
        )
    if calls_usd and (coverage is None or coverage < _ENOUGH):
        return "unexplained", "The ledger has calls for less than 95 % of the bill."
    if verdicts <= {"reconciled", "nothing"} and tried:
        return "reconciled", None
    if verdicts <= {"reconciled", "nothing"}:
        return "explained", "This source has never been tested with a real bill."
    return "explained", None


def edges_cancel(residuals: Iterable[Residual]) -> bool:
    """Whether what moved over midnight is on the bill of the other day."""
    sums: dict[tuple[str | None, ...], Decimal] = {}
    for each in residuals:
        if each.cause == "day_edge":
            line = each.scope, each.model, each.meter
            sums[line] = exact.add(sums.get(line, Decimal(0)), each.amount_usd)
    return all(abs(rest) < Decimal("1e-6") for rest in sums.values())
