"""What pages and commands ask of the app they run in."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ..config import Settings
    from ..ledger import Ledger
    from ..prices import PriceBook


class Host(t.Protocol):
    """One app's state, as it stands in ``app.extensions["llm_cost"]``."""

    @property
    def settings(self) -> Settings: ...

    @property
    def ledger(self) -> Ledger: ...

    @property
    def book(self) -> PriceBook: ...
