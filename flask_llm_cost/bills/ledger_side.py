"""The ledger's side of a comparison with a bill."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from decimal import Decimal

from ..rollups.meters import MeterSums
from .calls import HeldCall
from .scopes import Holds

Hourly: t.TypeAlias = Callable[[], Iterable[tuple[dt.datetime, MeterSums]]]
"""Returns the ledger's sums by UTC hour, over the statement's period."""


class LedgerDoubles(t.Protocol):
    """Returns the quantities that the ledger has twice, by meter, of one day and model."""

    def __call__(
        self, day: dt.date, models: frozenset[str], holds: Holds = ..., /
    ) -> Mapping[str, Decimal]:
        """``holds``: of calls in these scopes; of all if it is left out."""
        ...


def no_doubles(
    day: dt.date, models: frozenset[str], holds: Holds | None = None, /
) -> Mapping[str, Decimal]:
    """Know of none."""
    return {}


@dataclasses.dataclass(frozen=True, slots=True)
class Ledger:
    """What a ledger brings to the comparison."""

    hourly: Hourly
    since: dt.datetime | None = None
    """Calls before this were pruned before the ledger kept such sums."""
    doubles: LedgerDoubles = no_doubles
    calls: Callable[[], Iterable[HeldCall]] | None = None
    """The calls of the statement's period, for bills with a line for each answer."""
    pruned: dt.datetime | None = None
    """Single calls before this are no longer in the ledger."""
