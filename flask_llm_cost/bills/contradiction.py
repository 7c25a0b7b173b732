"""Find days on which a source's own usage contradicts what it billed in total."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections import Counter
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Mapping
from decimal import Decimal

from ..money import context
from ..money import digits
from ..money import quotient
from .line import Line
from .rates import at_list_price
from .sums import add

_ROUNDING: t.Final = Decimal("1e-9")
_SIX_DIGITS: t.Final = context(6)


def contradictions(
    lines: Iterable[Line], usage: Iterable[Line], reported: frozenset[dt.date]
) -> Mapping[dt.date, str]:
    """Return the days whose total is not what their usage costs at list price, and why.

    Only totals are judged: a line that names a model or a meter is compared by itself. A
    contract's discount is one ratio over several days, so such days are fine, too.

    :param reported: The days that the source reports usage of, even if there is nothing.
    """
    totals: dict[dt.date, Decimal] = {}
    for line in lines:
        day = line.start.date()
        if line.kind != "usage" or line.model is not None or day not in reported:
            continue
        if line.billed_usd is not None:
            totals[day] = add(totals.get(day, Decimal(0)), line.billed_usd)
    used = defaultdict(list)
    for each in usage:
        used[each.start.date()].append(each)
    costs = {day: at_list_price(used[day]) for day in totals}
    known = {day: cost for day, cost in costs.items() if cost is not None}
    ratios = Counter(_ratio(totals[day], cost) for day, cost in known.items() if cost)
    return {
        day: f"${digits(totals[day])} was billed, but the usage that the source reports"
        f" for that day costs ${digits(cost)} at list price"
        for day, cost in known.items()
        if abs(totals[day] - cost) > _ROUNDING
        and (not cost or ratios[_ratio(totals[day], cost)] < 2)
    }


def _ratio(billed: Decimal, cost: Decimal) -> Decimal:
    return _SIX_DIGITS.plus(quotient(billed, cost))
