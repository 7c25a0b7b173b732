"""Know what a Flask app's LLM calls cost: a ledger in the app's own database."""

from __future__ import annotations

import importlib
import typing as t

if t.TYPE_CHECKING:
    from .call import Call as Call
    from .call import Cost as Cost
    from .call import Part as Part
    from .call import Reading as Reading
    from .call import Usage as Usage
    from .errors import BudgetExceeded as BudgetExceeded
    from .errors import ConfigError as ConfigError
    from .errors import FilterError as FilterError
    from .errors import LlmCostError as LlmCostError
    from .errors import PriceFileError as PriceFileError
    from .errors import PriceSyncError as PriceSyncError
    from .errors import SetupRequired as SetupRequired
    from .errors import StorageError as StorageError
    from .errors import UnknownPrice as UnknownPrice
    from .extension import LlmCost as LlmCost
    from .providers import Provider as Provider
    from .request import request_tags as request_tags
    from .signals import budget_exceeded as budget_exceeded
    from .signals import budget_threshold as budget_threshold
    from .signals import call_recorded as call_recorded
    from .signals import price_unknown as price_unknown
    from .signals import storage_failed as storage_failed

_HOMES: t.Final = {
    "call": ("Call", "Cost", "Part", "Reading", "Usage"),
    "errors": (
        "BudgetExceeded",
        "ConfigError",
        "FilterError",
        "LlmCostError",
        "PriceFileError",
        "PriceSyncError",
        "SetupRequired",
        "StorageError",
        "UnknownPrice",
    ),
    "extension": ("LlmCost",),
    "providers": ("Provider",),
    "request": ("request_tags",),
    "signals": (
        "budget_exceeded",
        "budget_threshold",
        "call_recorded",
        "price_unknown",
        "storage_failed",
    ),
}
_HOME_OF: t.Final = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BudgetExceeded",
    "Call",
    "ConfigError",
    "Cost",
    "FilterError",
    "LlmCost",
    "LlmCostError",
    "Part",
    "PriceFileError",
    "PriceSyncError",
    "Provider",
    "Reading",
    "SetupRequired",
    "StorageError",
    "UnknownPrice",
    "Usage",
    "budget_exceeded",
    "budget_threshold",
    "call_recorded",
    "price_unknown",
    "request_tags",
    "storage_failed",
]


def __getattr__(name: str) -> t.Any:
    # Lazy (PEP 562), so that a script that only prices loads no Flask.
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
