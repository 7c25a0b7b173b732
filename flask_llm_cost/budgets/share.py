"""One window of a budget that a call counts in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import Budget
from . import Window


@dataclass(frozen=True, slots=True)
class Share:
    """One window of a budget that a call counts in."""

    budget: Budget
    whose: Mapping[str, str]
    window: Window
    id: str
