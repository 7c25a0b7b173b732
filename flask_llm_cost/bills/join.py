"""Join quantities to their lines, for sources that report them separately from amounts."""

from __future__ import annotations

import dataclasses
import typing as t
from collections import defaultdict
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Sequence
from decimal import Decimal

from .line import Line
from .sums import add

_DIMENSIONS: t.Final = ("mode", "tier", "region", "cache_ttl")
PREPAID: t.Final = frozenset(("reserved", "scale", "provisioned"))
"""Modes that reports of usage count, and that amounts per token leave out."""


def join(
    lines: Sequence[Line], usage: Sequence[Line]
) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """Give lines without a quantity the one that is reported for them.

    The two are compared by what both of them distinguish. Where that leaves several lines
    for one quantity, nothing is joined.

    :return: The lines, and the quantities that are left.
    """
    names = [
        each for each in _DIMENSIONS if _tells(lines, each) and _tells(usage, each)
    ]
    scopes = _scopes(lines) & _scopes(usage)

    def key(line: Line) -> Hashable:
        scope = tuple((name, line.scope.get(name)) for name in sorted(scopes))
        told = tuple(getattr(line, name) for name in names)
        return (line.start, line.end, line.model, line.meter, *told, *scope)

    quantities = defaultdict(list)
    for each in usage:
        if each.mode not in PREPAID:
            quantities[key(each)].append(each)
    places = defaultdict(list)
    for number, line in enumerate(lines):
        if line.model is not None and line.meter is not None:
            places[key(line)].append(number)
    joined, used = list(lines), set[int]()
    for group, numbers in places.items():
        found = quantities.get(group)
        if found and len(numbers) == 1 and lines[numbers[0]].quantity is None:
            joined[numbers[0]] = _joined(lines[numbers[0]], found)
            used.update(map(id, found))
    return tuple(joined), tuple(each for each in usage if id(each) not in used)


def _joined(line: Line, found: Sequence[Line]) -> Line:
    quantity = Decimal(0)
    for each in found:
        quantity = add(quantity, each.quantity or Decimal(0))
    counts = [each.requests for each in found if each.requests is not None]
    requests = sum(counts) if len(counts) == len(found) else None
    return dataclasses.replace(line, quantity=quantity, requests=requests)


def _tells(lines: Iterable[Line], name: str) -> bool:
    return any(getattr(line, name) is not None for line in lines)


def _scopes(lines: Iterable[Line]) -> set[str]:
    return {name for line in lines for name in line.scope}
