"""Which stored calls to reprice."""

from __future__ import annotations

from collections.abc import Iterable

from ..ledger.reprice import Scope
from .filters import CallFilter


def scope_of(where: CallFilter, models: Iterable[str], *, priced: bool) -> Scope:
    """Select the calls of some days.

    :param where: With both ends.
    :param models: ``model`` or ``provider/model``; all if empty.
    :param priced: Also calls whose cost is known and complete.
    """
    if where.start is None or where.end is None:
        raise ValueError("Repricing needs a range with both ends.")
    return Scope(where.start, where.end, tuple(models), priced)
