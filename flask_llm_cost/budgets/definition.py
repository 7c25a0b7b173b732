"""Budget definitions: which calls count, in which windows, up to which limit. Pure."""

from __future__ import annotations

import datetime as dt
import difflib
import fnmatch
import hashlib
import json
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from .. import checks
from ..calendar import utc_ms
from ..call import Call
from ..call import KEY_PATTERN
from ..config import PREFIX
from ..config import Settings
from ..errors import ConfigError
from ..money import own_context
from .window import PERIODS
from .window import window

Limit: t.TypeAlias = Decimal | Callable[[Mapping[str, str]], t.Any]
Estimate: t.TypeAlias = Decimal | str | Callable[[t.Any], t.Any]

BEHAVIORS: t.Final = ("notify", "raise", "block")
_TRACE: t.Final = "trace_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit on what some calls may cost in each period."""

    name: str
    limit_usd: Limit
    """A number, or a callable that gets the tag values that the budget applies to."""
    period: str = "month"
    tags: Mapping[str, str]
    """Only calls with these tags count; ``"*"`` gives each value its own budget."""
    models: tuple[str, ...] = ()
    """Only calls of these models count (patterns such as ``gpt-4o*``); empty means all."""
    thresholds: tuple[Decimal, ...]
    """Fractions of the limit at which the app is notified, in ascending order up to 1."""
    behavior: str = "notify"
    hard: bool = True
    """With ``block``: reserve the estimate of each call, so that the limit holds."""
    estimate: Estimate = "bound"
    """What a call may cost: ``bound``, ``average``, USD, or a callable."""
    unpriced: str = "ignore"
    """How calls without a known price count: ``ignore``, ``estimate`` or ``block``."""
    cut: str = "estimate"
    """What is counted of calls that were cut: ``estimate`` or ``ceiling``."""
    unbounded: str = "largest"
    """How an unbounded request is reserved: ``largest``, or ``refuse``."""
    zone: dt.tzinfo = dt.UTC
    week_start: str = "monday"
    on_error: str = "open"

    @property
    def order(self) -> int:
        """The position of the period; the shortest comes first."""
        return PERIODS.index(self.period)

    @property
    def per_value(self) -> bool:
        """Whether each value of a tag has its own budget."""
        return "*" in self.tags.values()

    @property
    def reserves(self) -> bool:
        """Whether each call reserves its estimate before it is sent."""
        return self.behavior == "block" and self.hard and self.period != "call"

    @property
    def definition(self) -> str:
        """A hash of what counts: equal for two budgets that count the same calls."""
        return _digest(
            [self.name, self.period, sorted(self.tags.items()), sorted(self.models)]
        )

    @property
    def calendar(self) -> str:
        """A hash of what counts, and of the calendar of its windows."""
        return _digest([self.definition, str(self.zone), self.week_start])

    def match(
        self, provider: str, model: str | None, tags: Mapping[str, str]
    ) -> dict[str, str] | None:
        """Return the call's values of the tags that have a budget for each value.

        :return: ``None`` if the call does not count.
        """
        if not self.covers(provider, model):
            return None
        values = {}
        for key, wanted in self.tags.items():
            value = tags.get(key)
            if value is None or (wanted != "*" and value != wanted):
                return None
            if wanted == "*":
                values[key] = value
        return values

    def match_call(self, call: Call) -> dict[str, str] | None:
        """Return :meth:`match` for a recorded call."""
        return self.match(call.provider, model_of(call), tags_of(call))

    def covers(self, provider: str, model: str | None) -> bool:
        """Whether calls of a model count."""
        if not self.models:
            return True
        names = (model, f"{provider}/{model}") if model else ()
        return any(fnmatch.fnmatchcase(n, p) for n in names for p in self.models)

    def window(self, tags: Mapping[str, str], moment: dt.datetime) -> BudgetWindow:
        """Return the window that contains a time.

        :param tags: As :meth:`match` returns them.
        """
        start, end = window(self.period, moment, self.zone, self.week_start)
        ends_ms = None if end is None else utc_ms(end)
        key = [self.definition, sorted(tags.items()), utc_ms(start), ends_ms]
        return BudgetWindow(self, tags, start, end, _digest(key))


@dataclass(frozen=True, slots=True)
class BudgetWindow:
    """One period of a budget for one set of tag values: what calls count in."""

    budget: Budget
    tags: Mapping[str, str]
    """The tag values the budget applies to, if each value has its own."""
    starts_at: dt.datetime
    ends_at: dt.datetime | None
    """Exclusive; ``None`` if it never ends."""
    id: str
    """A hash of all of these: the key of its row in the ledger."""


class Reservation(t.NamedTuple):
    """What one call may cost in one window."""

    window: BudgetWindow
    amount: int
    """In pico-USD."""


def tags_of(call: Call) -> Mapping[str, str]:
    """Return a call's tags as they were when it was sent."""
    if call.trace_id is None or _TRACE in call.tags:
        return call.tags
    return {**call.tags, _TRACE: call.trace_id}


def model_of(call: Call) -> str:
    """Return the model name that budgets match: the same before and after a call."""
    return call.request_model or call.model


def _digest(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def read_budgets(settings: Settings) -> tuple[Budget, ...]:
    """Return the budgets that the settings define.

    :raises ConfigError: If an entry of ``LLM_COST_BUDGETS`` is invalid.
    """
    found = [
        _read(
            f"{PREFIX}{key}",
            {"name": name, "period": period, "limit_usd": limit},
            settings,
        )
        for key, name, period, limit in (
            ("MONTHLY_BUDGET", "monthly", "month", settings.monthly_budget),
            ("DAILY_BUDGET", "daily", "day", settings.daily_budget),
            ("CALL_BUDGET", "call", "call", settings.call_budget),
        )
        if limit is not None
    ]
    for n, entry in enumerate(settings.budgets):
        found.append(_read(f"{PREFIX}BUDGETS[{n}]", entry, settings))
    names = [budget.name for budget in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"{PREFIX}BUDGETS has more than one budget named {name!r}: use unique names"
                " (MONTHLY_BUDGET is named 'monthly', DAILY_BUDGET 'daily', CALL_BUDGET"
                " 'call')."
            )
    return tuple(found)


def _read(at: str, entry: Mapping[str, t.Any], settings: Settings) -> Budget:
    for key in entry:
        if key not in _CHECKS:
            known = ", ".join(_CHECKS)
            near = difflib.get_close_matches(key, _CHECKS, n=1)
            raise ConfigError(
                f"{at} has an unknown key {key!r}."
                f" {f'Did you mean {near[0]!r}?' if near else f'Known keys: {known}.'}"
            )
    for key in ("name", "limit_usd"):
        if key not in entry:
            raise ConfigError(f"{at} has no {key!r}; it is required.")
    values = {
        key: _CHECKS[key](f"{at}[{key!r}]", value) for key, value in entry.items()
    }
    values["zone"] = values.pop("timezone", settings.timezone)
    values.setdefault("behavior", settings.budget_behavior)
    values.setdefault("tags", {})
    values.setdefault("thresholds", (Decimal("0.5"), Decimal("0.8"), Decimal(1)))
    if "unpriced" not in values:
        reserves = values["behavior"] == "block" and values.get("hard", True)
        values["unpriced"] = "estimate" if reserves else "ignore"
    budget = Budget(week_start=settings.week_start, **values)
    _check_refusals(at, budget)
    return budget


def _check_refusals(at: str, budget: Budget) -> None:
    for key, value, calls in (
        ("unpriced", "block", "unpriced calls"),
        ("unbounded", "refuse", "unbounded requests"),
    ):
        if getattr(budget, key) == value and budget.behavior != "block":
            raise ConfigError(
                f"{at}[{key!r}] is {value!r}, but its behavior is {budget.behavior!r}. Only"
                f" a budget that blocks can refuse {calls}: set 'behavior' to 'block'."
            )
    reserves = budget.behavior == "block" and budget.hard
    if (
        budget.unpriced == "estimate"
        and isinstance(budget.estimate, str)
        and not reserves
    ):
        raise ConfigError(
            f"{at}['unpriced'] is 'estimate', but {budget.estimate!r} cannot estimate a"
            " call without a price: set 'estimate' to a number of USD or a callable."
        )


def _name(at: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 100:
        raise checks.wrong(at, value, "a string of 1 to 100 characters")
    return value


def _limit(at: str, value: object) -> Limit:
    return value if callable(value) else checks.money(at, value)


def _tags(at: str, value: object) -> dict[str, str]:
    wanted = 'a mapping of tag keys to a value or "*"'
    if not isinstance(value, Mapping):
        raise checks.wrong(at, value, wanted)
    for key, text in value.items():
        if not isinstance(key, str) or not KEY_PATTERN.fullmatch(key):
            raise ConfigError(f"{at} must be {wanted}; {key!r} is not a valid key.")
        if isinstance(text, bool) or not isinstance(text, (str, int)):
            raise checks.wrong(f"{at}[{key!r}]", text, "a string")
    return {key: str(text) for key, text in value.items()}


def _models(at: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise checks.wrong(at, value, "a list of models, such as ['gpt-4o*']")
    return tuple(checks.string(f"{at} entry", model) for model in value)


@own_context
def _thresholds(at: str, value: object) -> tuple[Decimal, ...]:
    wanted = "a list of numbers above 0 and up to 1, such as [0.5, 0.8, 1.0]"
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise checks.wrong(at, value, wanted)
    # Stored in millionths: two that round to the same would be recorded twice.
    found = {round(checks.money(f"{at} entry", item), 6) for item in value}
    if not all(0 < part <= 1 for part in found):
        raise checks.wrong(at, value, wanted)
    # The limit itself is always a threshold.
    return tuple(sorted(found | {Decimal(1)}))


def _estimate(at: str, value: object) -> Estimate:
    if callable(value) or (isinstance(value, str) and value in ("bound", "average")):
        return t.cast(Estimate, value)
    try:
        return checks.money(at, value)
    except ConfigError:
        wanted = "'bound', 'average', a number of USD or a callable"
        raise checks.wrong(at, value, wanted) from None


_CHECKS: t.Final[Mapping[str, Callable[[str, t.Any], t.Any]]] = {
    "name": _name,
    "limit_usd": _limit,
    "period": checks.one_of(*PERIODS),
    "tags": _tags,
    "models": _models,
    "thresholds": _thresholds,
    "behavior": checks.one_of(*BEHAVIORS),
    "hard": checks.flag,
    "estimate": _estimate,
    "unpriced": checks.one_of("ignore", "estimate", "block"),
    "cut": checks.one_of("estimate", "ceiling"),
    "unbounded": checks.one_of("largest", "refuse"),
    "timezone": checks.zone,
    "on_error": checks.one_of("open", "closed"),
}
