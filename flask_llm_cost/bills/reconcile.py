"""Compare a ledger to a bill: pure functions from both to a report.

The ledger's side are its sums by meter and UTC hour; the bill's is a statement. Each
day is compared separately, since bills are made by UTC day.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from decimal import Decimal

from ..money import quotient
from ..money import WIDE
from ..rollups.meters import MeterKey
from .advice import suggestions
from .calls import compare_calls
from .cells import BillDay
from .cells import Calls
from .cells import in_parts
from .cells import ledger_days
from .cells import LedgerDay
from .cells import long_periods
from .cells import Place
from .cells import same_models
from .ledger_side import Ledger
from .line import Line
from .match import Matcher
from .report import add_up
from .report import DayReport
from .report import exact
from .report import judge
from .report import judge_day
from .report import Report
from .report import Residual
from .report import UNEXPLAINED
from .scopes import group_of
from .statement import Statement
from .totals import name_totals
from .totals import Total

_DAY: t.Final = dt.timedelta(days=1)
_ZERO: t.Final = Decimal(0)

PROVIDERS: t.Final[Mapping[str, frozenset[str]]] = {
    "openai": frozenset(("openai",)),
    "anthropic": frozenset(("anthropic",)),
    "openrouter": frozenset(("openrouter",)),
    "azure": frozenset(("azure", "azure_anthropic")),
    "aws": frozenset(("bedrock",)),
    "google": frozenset(("gemini", "vertex")),
    "xai": frozenset(("xai",)),
    "focus": frozenset(),
}
"""The providers whose calls a source bills; those of a bill's lines come on top."""


def providers_of(statement: Statement) -> frozenset[str]:
    """Return the providers that a statement bills for."""
    named = {line.provider for line in statement.lines if line.provider is not None}
    return PROVIDERS.get(statement.source, frozenset()) | named


def reconcile(
    statement: Statement,
    ledger: Ledger,
    *,
    scopes: Mapping[str, str] | None = None,
    rate: Decimal | None = None,
    now: dt.datetime | None = None,
    tried: bool = True,
) -> list[Report]:
    """Compare a ledger to a statement: a report for each scope.

    :param scopes: The bill's ids by scopes of the ledger, or parts of them (``"*"`` is all
        others). Without it, all of the bill is compared to all of the ledger.
    :param rate: USD per unit of the bill's currency.
    :param now: Days that are not over by then cannot be compared.
    :param tried: Whether the source was ever tried on a real bill.
    """
    targets: list[str | None] = [None]
    if scopes:
        targets = list(dict.fromkeys(scopes.values()))
    return [
        _Comparison(statement, ledger, target, scopes or {}, rate, now, tried).report()
        for target in targets
    ]


class _Comparison:
    def __init__(
        self,
        statement: Statement,
        ledger: Ledger,
        scope: str | None,
        scopes: Mapping[str, str],
        rate: Decimal | None,
        now: dt.datetime | None,
        tried: bool,
    ) -> None:
        self._statement = statement
        self._scope = scope
        self._rate = rate
        self._tried = tried
        self._lines = [line for line in statement.lines if self._is_ours(line)]
        self._why = dict(self._not_comparable(ledger.since, now))
        self._periods = long_periods(self._lines)
        parts = {
            self._periods[day]: self._why[day]
            for day in self._periods
            if day in self._why
        }
        self._why |= {d: parts[p] for d, p in self._periods.items() if p in parts}
        self._providers = providers_of(statement)
        self._groups = scopes
        self._held = self._ledger_days(ledger)
        self._bill: dict[dt.date, BillDay] = defaultdict(BillDay)
        self._residuals: list[Residual] = []
        self._matched = _ZERO
        self._per_call = _ZERO
        self._ignored = _ZERO
        self._costs: Mapping[str, Decimal] = {}
        self._ledger = ledger
        self._by_call: list[tuple[Line, Decimal]] = []
        self._totals: list[Total] = []

    def _is_ours(self, line: Line) -> bool:
        return self._scope is None or self._scope in line.scope.values()

    # Days

    def _days(self) -> Iterator[dt.date]:
        day, end = self._statement.start.date(), self._statement.end
        while dt.datetime.combine(day, dt.time(), dt.UTC) < end:
            yield day
            day += _DAY

    def _not_comparable(
        self, since: dt.datetime | None, now: dt.datetime | None
    ) -> Iterator[tuple[dt.date, str]]:
        bill = self._statement
        no_usd = any(
            self._usd(line) is None for line in self._lines if line.billed is not None
        )
        for day in self._days():
            start = dt.datetime.combine(day, dt.time(), dt.UTC)
            if no_usd:
                yield day, f"The bill is in {bill.currency}: pass its --rate in USD."
            elif day in bill.not_comparable:
                yield day, bill.not_comparable[day]
            elif day not in bill.covered:
                yield day, "The bill does not cover this day."
            elif bill.watermark is not None and start >= bill.watermark:
                yield day, "The bill was not yet complete for this day (watermark)."
            elif now is not None and start + _DAY > now:
                yield day, "The day is not over."
            elif since is not None and start < since:
                yield day, "Calls were pruned before the ledger kept sums for bills."

    def _usd(self, line: Line) -> Decimal | None:
        if (
            line.currency != "USD"
            and self._rate is not None
            and line.billed is not None
        ):
            return exact.multiply(line.billed, self._rate)
        return line.billed_usd

    def _ledger_days(self, ledger: Ledger) -> dict[dt.date, LedgerDay]:
        hours = [
            (hour, {k: each for k, each in sums.items() if self._is_held(k)})
            for hour, sums in in_parts(ledger.hourly(), self._statement.watermark)
        ]
        ours = {(key.provider, key.model) for _, sums in hours for key in sums}
        theirs = {
            (line.provider or "", line.model)
            for line in self._lines
            if line.model is not None
        }
        self._models = same_models(ours, theirs)
        found = ledger_days(
            hours, self._models, self._statement.watermark, self._periods
        )
        wanted = set(self._days()) - set(self._why)
        return {day: each for day, each in found.items() if day in wanted}

    def _is_held(self, key: MeterKey) -> bool:
        """Whether a sum of the ledger is of this bill and group."""
        return key.provider in self._providers and self._holds(key.scope)

    def _holds(self, scope: str) -> bool:
        return self._scope is None or group_of(scope, self._groups) == self._scope

    # Comparing

    def report(self) -> Report:
        """Compare everything."""
        self._sort_lines()
        days = [day for day in self._days() if day not in self._why]
        held = {day: self._held.get(day, LedgerDay()) for day in days}
        bill = {day: self._bill[day] for day in days}
        ledger_usd = {day: each.cost for day, each in held.items()}
        foreign = self._statement.currency != "USD"
        matcher = Matcher(
            held,
            bill,
            doubles=self._twice,
            foreign=foreign,
            converted=foreign and self._rate is not None,
        )
        self._compare_calls(days, matcher)
        for day in days:
            self._compare_fees(day, held[day], matcher)
            self._compare_totals(day, held[day], matcher)
        self._residuals += name_totals(self._totals, self._has_twice)
        cells = matcher.run()
        name = min(self._providers, default=self._statement.source)
        self._suggestions = tuple(suggestions(cells, name))
        for cell in cells:
            self._residuals += cell.residuals
            self._matched = exact.add(self._matched, cell.matched)
            self._per_call = exact.add(self._per_call, cell.billed.amount)
        return self._made(ledger_usd)

    def _twice(self, day: dt.date, models: frozenset[str]) -> Mapping[str, Decimal]:
        """Return what the ledger has twice, by meter."""
        same = {name for name, known in self._models.items() if known in models}
        if self._scope is None:
            return self._ledger.doubles(day, models | same)
        return self._ledger.doubles(day, models | same, self._holds)

    def _sort_lines(self) -> None:
        self._billed: dict[dt.date, Decimal] = defaultdict(Decimal)
        for line in self._lines:
            day, usd = line.start.date(), self._usd(line)
            if usd is None:
                continue
            if line.kind == "ignored":
                self._ignored = exact.add(self._ignored, usd)
                continue
            self._billed[day] = exact.add(self._billed[day], usd)
            if line.kind == "usage" and self._is_by_call(line, day):
                if day not in self._why:
                    self._by_call.append((line, usd))
            elif line.kind != "usage":
                self._bill[day].others.append(line)
            elif line.model is None:
                self._bill[day].unknown.append(line)
            else:
                model = self._models.get(line.model, line.model)
                self._bill[day].add(line, usd, model)

    def _is_by_call(self, line: Line, day: dt.date) -> bool:
        pruned = self._ledger.pruned
        return (
            line.response_id is not None
            and self._ledger.calls is not None
            and (pruned is None or day >= pruned.date() + _DAY)
        )

    def _compare_calls(self, days: Iterable[dt.date], matcher: Matcher) -> None:
        """Compare call by call the days that the bill has answers of."""
        if not self._by_call or self._ledger.calls is None:
            return
        pruned = self._ledger.pruned
        wanted = {d for d in days if pruned is None or d >= pruned.date() + _DAY}
        found = compare_calls(
            self._by_call,
            (
                call
                for call in self._ledger.calls()
                if call.day in wanted and self._holds(call.scope)
            ),
        )
        self._residuals += found.residuals
        self._matched = exact.add(self._matched, found.matched)
        self._per_call = exact.add(self._per_call, found.billed)
        self._costs = found.costs
        for day in wanted:
            matcher.take_day(day)
            if day in self._held:
                self._held[day].reported.clear()

    def _compare_fees(self, day: dt.date, held: LedgerDay, matcher: Matcher) -> None:
        """Name what lines of other kinds are for, beyond what the ledger has of it."""
        sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for line in self._bill[day].others:
            meter = line.meter if line.kind == "tool_fee" else None
            key = line.kind, meter or line.name
            sums[key] = exact.add(sums[key], self._usd(line) or _ZERO)
        for (kind, meter), amount in sums.items():
            if kind == "tool_fee":
                amount = exact.subtract(amount, matcher.take(day, meter))
            if amount:
                self._residuals.append(
                    Residual(kind, amount, day, meter=meter, evidence="line")
                )

    def _compare_totals(self, day: dt.date, held: LedgerDay, matcher: Matcher) -> None:
        """Compare what has no quantities on one of the sides."""
        bill = self._bill[day]
        if bill.unknown and not self._names_models:
            self._add_total(self._day_total(day, held, matcher))
            return
        for line in bill.unknown:
            usd = self._usd(line) or _ZERO
            self._per_call = exact.add(self._per_call, usd)
            self._residuals.append(
                Residual(UNEXPLAINED, usd, day, meter=line.name, evidence="line")
            )
        plain = {place.model for place in bill.billed if not place.meter}
        plain |= {model for model, cost in held.reported.items() if cost}
        for model in sorted(plain):
            self._add_total(self._model_total(day, model, held, matcher))

    @property
    def _names_models(self) -> bool:
        return any(line.model is not None for line in self._lines)

    def _day_total(self, day: dt.date, held: LedgerDay, matcher: Matcher) -> Total:
        calls, cost, estimated, parts = Calls(), _ZERO, _ZERO, 0
        for model in {*held.calls, *held.reported, *(p.model for p in held.held)}:
            each = self._model_total(day, model, held, matcher)
            calls = calls.plus(each.calls)
            cost = exact.add(cost, each.cost)
            estimated = exact.add(estimated, each.estimated)
            parts += each.parts
        unknown = self._bill[day].unknown
        billed = add_up(self._usd(line) or _ZERO for line in unknown)
        listed = [line.listed for line in unknown]
        known = None if None in listed else add_up(t.cast(list[Decimal], listed))
        return Total(day, None, billed, cost, calls, parts, estimated, known)

    def _model_total(
        self, day: dt.date, model: str, held: LedgerDay, matcher: Matcher
    ) -> Total:
        cost, estimated, parts = held.reported.get(model, _ZERO), _ZERO, 1
        billed: list[Decimal] = []
        listed: list[Decimal | None] = []
        for cell in matcher.take_model(day, model):
            cost = exact.add(cost, cell.held.cost)
            estimated = exact.add(estimated, cell.held.estimated_cost)
            parts += cell.held.parts
            if cell.billed.lines:
                billed.append(cell.billed.amount)
                listed.append(cell.billed.listed)
        for each in self._bill[day].billed.get(Place(model, ""), {}).values():
            billed.append(each.amount)
            listed.append(each.listed)
        known = None if None in listed else add_up(t.cast(list[Decimal], listed))
        amount = add_up(billed) if billed else None
        calls = held.calls.get(model, Calls())
        return Total(day, model, amount, cost, calls, parts, estimated, known)

    def _add_total(self, total: Total) -> None:
        self._per_call = exact.add(self._per_call, total.billed or _ZERO)
        self._matched = exact.add(self._matched, total.matched)
        self._totals.append(total)

    def _has_twice(self, total: Total) -> bool:
        """Whether the ledger has answers of a total twice."""
        held = self._held.get(total.day, LedgerDay())
        models = frozenset(held.calls) if total.model is None else {total.model}
        return bool(self._twice(total.day, frozenset(models)))

    # The result

    def _made(self, ledger_usd: Mapping[dt.date, Decimal]) -> Report:
        by_day: dict[dt.date, list[Residual]] = defaultdict(list)
        scoped = [
            dataclasses.replace(each, scope=each.scope or self._scope)
            for each in self._residuals
            if each.amount_usd
        ]
        for each in sorted(scoped, key=lambda r: (r.day, r.model or "", r.meter or "")):
            by_day[each.day].append(each)
        residuals = [each for day in sorted(by_day) for each in by_day[day]]
        days = [self._day_report(day, ledger_usd, by_day[day]) for day in self._days()]
        coverage = None
        if self._per_call:
            coverage = _share(self._matched, self._per_call)
        bill, calls = self._statement, self._all_calls()
        verdict, reason = judge(
            days,
            residuals,
            calls=calls.calls,
            calls_usd=self._per_call,
            coverage=coverage,
            tried=self._tried,
        )
        return Report(
            source=bill.source,
            scope=self._scope,
            statement=bill.digest,
            start=bill.start.date(),
            end=(bill.end - dt.timedelta(microseconds=1)).date(),
            currency=bill.currency,
            billed_usd=add_up(d.billed_usd for d in days if _counts(d)),
            ledger_usd=add_up(d.ledger_usd for d in days if _counts(d)),
            ignored_usd=self._ignored,
            unpriced_calls=calls.unpriced,
            incomplete_calls=calls.incomplete,
            residuals=tuple(residuals),
            coverage=coverage,
            watermark=bill.watermark,
            verdict=verdict,
            reason=reason,
            days=tuple(days),
            calls_usd=self._per_call,
            costs=self._costs,
            suggestions=self._suggestions,
        )

    def _all_calls(self) -> Calls:
        total = Calls()
        for day in self._held.values():
            for each in day.calls.values():
                total = total.plus(each)
        return total

    def _day_report(
        self,
        day: dt.date,
        ledger_usd: Mapping[dt.date, Decimal],
        residuals: list[Residual],
    ) -> DayReport:
        billed, ours = self._billed[day], ledger_usd.get(day, _ZERO)
        if day in self._why:
            return DayReport(day, billed, ours, "not_comparable", self._why[day])
        held = self._held.get(day)
        empty = not billed and not ours and (held is None or not held.calls)
        return DayReport(day, billed, ours, judge_day(residuals, empty=empty))


def _counts(day: DayReport) -> bool:
    return day.verdict != "not_comparable"


def _share(part: Decimal, whole: Decimal) -> Decimal:
    return min(
        Decimal(1), quotient(part, whole).quantize(Decimal("1e-6"), context=WIDE)
    )
