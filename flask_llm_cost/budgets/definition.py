"""What is a budget, whose calls count in it, and what do the settings define?"""

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

from ..calendar import utc_ms
from ..call import Call
from ..config import check_money
from ..config import check_one_of
from ..config import check_zone
from ..config import KEY_PATTERN
from ..config import PREFIX
from ..config import Settings
from ..errors import ConfigError
from .window import PERIODS
from .window import Window
from .window import window

Limit: t.TypeAlias = Decimal | Callable[[Mapping[str, str]], t.Any]
Estimate: t.TypeAlias = Decimal | str | Callable[[t.Any], t.Any]

BEHAVIORS: t.Final = ("notify", "raise", "block")
_ORDER: t.Final = {name: n for n, name in enumerate(PERIODS)}
_TRACE: t.Final = "trace_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much may be spent in each period, and by which calls."""

    name: str
    limit_usd: Limit
    """A number, or a callable that is asked with the tags of whose budget it is."""
    period: str = "month"
    tags: Mapping[str, str]
    """Only calls with these tags; ``"*"`` is a budget for each value."""
    models: tuple[str, ...] = ()
    """Only calls of these models (patterns such as ``gpt-4o*``); empty is all."""
    thresholds: tuple[Decimal, ...]
    """Parts of the limit at which the app is told, the lowest first; the last is 1."""
    behavior: str = "notify"
    hard: bool = True
    """With ``block``: take a hold for each call, so that the limit holds."""
    estimate: Estimate = "bound"
    """What a call may cost: ``bound``, ``average``, USD, or a callable."""
    unpriced: str = "ignore"
    zone: dt.tzinfo = dt.UTC
    week_start: str = "monday"
    on_error: str = "open"

    @property
    def order(self) -> int:
        """The shortest period is the first that is looked at after a call."""
        return _ORDER[self.period]

    @property
    def holds(self) -> bool:
        """Whether each call takes a hold before it is sent."""
        return self.behavior == "block" and self.hard and self.period != "call"

    @property
    def definition(self) -> str:
        """What it counts: the same for two budgets that count the same calls."""
        return _digest(
            [self.name, self.period, sorted(self.tags.items()), sorted(self.models)]
        )

    @property
    def calendar(self) -> str:
        """What it counts, and between which bounds."""
        return _digest([self.definition, str(self.zone), self.week_start])

    def whose(self, tags: Mapping[str, str]) -> Mapping[str, str] | None:
        """The tags whose values have budgets of their own, with those of a call.

        :return: ``None`` if a call with such tags does not count.
        """
        found = {}
        for key, wanted in self.tags.items():
            value = tags.get(key)
            if value is None or (wanted != "*" and value != wanted):
                return None
            if wanted == "*":
                found[key] = value
        return found

    def covers(self, provider: str, *models: str | None) -> bool:
        """Whether a call of that model counts, by any name that it has."""
        if not self.models:
            return True
        names = [name for name in models if name]
        names += [f"{provider}/{name}" for name in names]
        return any(fnmatch.fnmatchcase(n, p) for n in names for p in self.models)

    def window(self, moment: dt.datetime) -> Window:
        """The window that a moment is in."""
        return window(self.period, moment, self.zone, self.week_start)

    def key(self, whose: Mapping[str, str], span: Window) -> str:
        """The name of one window of it in the ledger."""
        end = None if span.end is None else utc_ms(span.end)
        return _digest(
            [self.definition, sorted(whose.items()), utc_ms(span.start), end]
        )


def tags_of(call: Call) -> Mapping[str, str]:
    """A call's tags as they were when it was sent."""
    if call.trace_id is None or _TRACE in call.tags:
        return call.tags
    return {**call.tags, _TRACE: call.trace_id}


def model_of(call: Call) -> str:
    """The name by which a call's model is matched: the same before it is sent and after."""
    return call.request_model or call.model


def _digest(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


# From settings


def defined(settings: Settings) -> tuple[Budget, ...]:
    """The budgets that the settings define.

    :raises ConfigError: For an entry of ``LLM_COST_BUDGETS`` that is wrong.
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
                f"{PREFIX}BUDGETS has more than one budget of the name {name!r}: give each"
                " a name of its own (MONTHLY_BUDGET is 'monthly', DAILY_BUDGET 'daily',"
                " CALL_BUDGET 'call')."
            )
    return tuple(found)


def _read(at: str, entry: Mapping[str, t.Any], settings: Settings) -> Budget:
    for key in entry:
        if key not in _CHECKS:
            near = difflib.get_close_matches(key, _CHECKS, n=1)
            raise ConfigError(
                f"{at} has {key!r}, which a budget does not have."
                f" {f'Did you mean {near[0]!r}?' if near else 'It has: ' + ', '.join(_CHECKS)}"
            )
    for key in ("name", "limit_usd"):
        if key not in entry:
            raise ConfigError(f"{at} has no {key!r}: every budget needs one.")
    values = {
        key: _CHECKS[key](f"{at}[{key!r}]", value) for key, value in entry.items()
    }
    values["zone"] = values.pop("timezone", settings.timezone)
    values.setdefault("behavior", settings.budget_behavior)
    values.setdefault("tags", {})
    values.setdefault("thresholds", (Decimal("0.5"), Decimal("0.8"), Decimal(1)))
    budget = Budget(week_start=settings.week_start, **values)
    _agree(at, budget)
    return budget


def _agree(at: str, budget: Budget) -> None:
    if budget.unpriced == "block" and budget.behavior != "block":
        raise ConfigError(
            f"{at}['unpriced'] is 'block', and its behavior is {budget.behavior!r}: only a"
            " budget that blocks can refuse calls without a price. Set behavior to 'block'."
        )
    if budget.unpriced == "estimate" and isinstance(budget.estimate, str):
        raise ConfigError(
            f"{at}['unpriced'] is 'estimate', and a call without a price has no"
            f" {budget.estimate!r} estimate: set 'estimate' to USD or a callable."
        )


def _name(at: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 100:
        raise ConfigError(f"{at} must be a text of 1 to 100 characters, not {value!r}.")
    return value


def _limit(at: str, value: object) -> Limit:
    return value if callable(value) else check_money(at, value)


def _tags(at: str, value: object) -> dict[str, str]:
    wanted = 'a mapping of tag keys to a value or "*"'
    if not isinstance(value, Mapping):
        raise ConfigError(f"{at} must be {wanted}, not {value!r}.")
    for key, text in value.items():
        if not isinstance(key, str) or not KEY_PATTERN.fullmatch(key):
            raise ConfigError(f"{at} has the key {key!r}: it must be {wanted}.")
        if isinstance(text, bool) or not isinstance(text, (str, int)):
            raise ConfigError(f"{at}[{key!r}] must be a text, not {text!r}.")
    return {key: str(text) for key, text in value.items()}


def _models(at: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise ConfigError(
            f"{at} must be a list of models, such as ['gpt-4o*'], not {value!r}."
        )
    models = tuple(value)
    for model in models:
        if not isinstance(model, str) or not model:
            raise ConfigError(f"{at} has {model!r}, which is no model's name.")
    return models


def _thresholds(at: str, value: object) -> tuple[Decimal, ...]:
    wanted = "a list of numbers above 0 and up to 1, such as [0.5, 0.8, 1.0]"
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise ConfigError(f"{at} must be {wanted}, not {value!r}.")
    # Kept in millionths: two that are one there would be taken down twice.
    found = {round(check_money(f"{at} entry", item), 6) for item in value}
    if not all(0 < part <= 1 for part in found):
        raise ConfigError(f"{at} must be {wanted}, not {value!r}.")
    # The limit itself is always told of.
    return tuple(sorted(found | {Decimal(1)}))


def _hard(at: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{at} must be True or False, not {value!r}.")
    return value


def _estimate(at: str, value: object) -> Estimate:
    if callable(value) or (isinstance(value, str) and value in ("bound", "average")):
        return t.cast(Estimate, value)
    try:
        return check_money(at, value)
    except ConfigError:
        raise ConfigError(
            f"{at} must be 'bound', 'average', a number of USD or a callable, not {value!r}."
        ) from None


_CHECKS: t.Final[Mapping[str, Callable[[str, t.Any], t.Any]]] = {
    "name": _name,
    "limit_usd": _limit,
    "period": check_one_of(*PERIODS),
    "tags": _tags,
    "models": _models,
    "thresholds": _thresholds,
    "behavior": check_one_of(*BEHAVIORS),
    "hard": _hard,
    "estimate": _estimate,
    "unpriced": check_one_of("ignore", "estimate", "block"),
    "timezone": check_zone,
    "on_error": check_one_of("open", "closed"),
}
