"""Track what a Flask app spends on LLM APIs, in the app's own database."""

from __future__ import annotations

import importlib
import typing as t

from .call import Call as Call
from .call import Cost as Cost
from .call import Part as Part
from .call import Reading as Reading
from .call import Usage as Usage
from .errors import BillError as BillError
from .errors import BudgetExceeded as BudgetExceeded
from .errors import ConfigError as ConfigError
from .errors import FilterError as FilterError
from .errors import LlmCostError as LlmCostError
from .errors import PriceFileError as PriceFileError
from .errors import PriceSyncError as PriceSyncError
from .errors import SetupRequired as SetupRequired
from .errors import StorageError as StorageError
from .errors import UnknownPrice as UnknownPrice
from .signals import budget_exceeded as budget_exceeded
from .signals import budget_threshold as budget_threshold
from .signals import call_recorded as call_recorded
from .signals import price_unknown as price_unknown
from .signals import storage_failed as storage_failed

if t.TYPE_CHECKING:
    from .extension import LlmCost as LlmCost
    from .providers import Provider as Provider
    from .request import request_tags as request_tags
else:
    # Imported on first access (PEP 562), so that a script that only prices calls does
    # not load Flask.
    _LAZY = {"LlmCost": "extension", "Provider": "providers", "request_tags": "request"}

    def __getattr__(name: str) -> t.Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LAZY})
