"""Which group of a bill calls belong to: a project, a workspace, a key.

The ledger knows ids and fingerprints, see :mod:`flask_llm_cost.scope`; a bill has names of
its own. ``LLM_COST_BILL_SCOPES`` maps one to the other.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from decimal import Decimal

from ..scope import ids_of
from ..scope import KEY
from ..scope import parts_of
from .report import add_up
from .report import exact
from .statement import Statement

Holds: t.TypeAlias = Callable[[str], bool]
"""Whether calls of a scope are compared."""

_REST: t.Final = "*"


def group_of(scope: str, groups: Mapping[str, str]) -> str | None:
    """Return the group of the bill that calls of a scope belong to.

    :param groups: As ``LLM_COST_BILL_SCOPES``. A whole scope comes first, then its parts,
        the most specific first, then ``"*"``.
    """
    for known in (scope, *parts_of(scope), _REST):
        if known in groups:
            return groups[known]
    return None


def names_of(scope: str) -> list[str]:
    """Return the ids that a bill may have for calls of a scope, too."""
    return [value for name, value in ids_of(scope).items() if name != KEY]


def unknown_groups(statement: Statement, groups: Mapping[str, str]) -> Iterator[str]:
    """Warn of mapped ids that no line of a bill has.

    :param groups: As ``LLM_COST_BILL_SCOPES``.
    """
    scopes = {frozenset(line.scope.items()) for line in statement.lines}
    known = sorted({value for scope in scopes for _, value in scope})
    for name in dict.fromkeys(groups.values()):
        if statement.lines and name not in known:
            ids = ", ".join(known[:5]) or "none: request the bill by project or key"
            yield (
                f"LLM_COST_BILL_SCOPES maps to {name!r}, but no line of the bill has that"
                f" id. Ids on the bill: {ids}{', ...' if len(known) > 5 else ''}."
            )


def lacking(
    billed: Mapping[str, Decimal], held: Mapping[str, Decimal], left: Decimal
) -> dict[str | None, Decimal]:
    """Say to which ids a quantity was billed that the ledger lacks.

    Only what adds up to all of it is an answer: otherwise the id is not known.

    :param billed: Quantities by the bill's ids.
    :param held: Quantities by the ids that the ledger knows of its calls.
    """
    lacks = {name: exact.subtract(n, held.get(name, 0)) for name, n in billed.items()}
    more: dict[str | None, Decimal] = {
        name: quantity for name, quantity in lacks.items() if quantity
    }
    if (
        all(quantity > 0 for quantity in more.values())
        and add_up(more.values()) == left
    ):
        return dict(more)
    found = [name for name, quantity in billed.items() if quantity == left]
    return {found[0] if len(found) == 1 else None: left}
