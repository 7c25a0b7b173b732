"""What pages and commands need from the app they run in."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable

if t.TYPE_CHECKING:
    from ..config import Settings
    from ..prices import PriceBook
    from ..storage import Storage


class Host(t.Protocol):
    """One app's state, as it is in ``app.extensions["llm_cost"]``."""

    @property
    def settings(self) -> Settings: ...

    @property
    def ledger(self) -> Storage: ...

    @property
    def book(self) -> PriceBook: ...

    @property
    def clock(self) -> Callable[[], dt.datetime]:
        """Returns the current time (aware UTC)."""
        ...
