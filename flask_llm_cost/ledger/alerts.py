"""Alerts of budgets: which threshold a call passed, and that it is told of once."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

import sqlalchemy as sa

from ..budgets import Alert
from ..budgets import Budget
from ..budgets import tags_of
from ..budgets.budget import model_of
from ..call import Call
from .outbox import post
from .rows import from_pico
from .share import Share
from .tables import budget_alerts

Limits: t.TypeAlias = Callable[[Budget, Mapping[str, str]], Decimal | None]
"""What a budget allows, asked with whose it is; ``None`` if that cannot be told."""

MILLION: t.Final = 1_000_000
"""Thresholds are kept in millionths of the limit."""

REFUSED: t.Final = MILLION + 1
"""Kept as a threshold, too: a call was refused before the limit was spent."""


def threshold(allowed: int, millionths: int) -> int:
    """From how many pico-USD on a part of a limit is reached."""
    return -(-allowed * millionths // MILLION)


def in_order(found: tuple[Share, int, t.Any]) -> tuple[int, int, str]:
    share, millionths, _ = found
    return share.budget.order, millionths, share.id


def passed_by(
    spent: int, at: int, costs: Sequence[tuple[int, Call | None]]
) -> tuple[int, Call | None]:
    """Which of the calls counted just now passed a threshold, and the total with it."""
    total = spent - sum(cost for cost, _ in costs)
    for cost, call in costs:
        total += cost
        if total >= at:
            return total, call
    return spent, None


def alert_of(
    share: Share, allowed: int, total: int, millionths: int, call: Call | None
) -> Alert:
    """The alert of a threshold of a window."""
    return Alert(
        budget=share.budget.name,
        period=share.budget.period,
        limit_usd=from_pico(allowed),
        spent_usd=from_pico(total),
        threshold=Decimal(millionths) / MILLION,
        tags=share.whose,
        starts_at=share.window.start,
        resets_at=share.window.end,
        call=call,
    )


def call_alert(budget: Budget, call: Call, limits: Limits) -> Alert | None:
    """The alert of one call that costs as much as a budget allows for one."""
    whose = budget.whose(tags_of(call))
    if call.cost is None or whose is None:
        return None
    limit = limits(budget, whose)
    if not budget.covers(call.provider, model_of(call)) or limit is None:
        return None
    if call.cost.total_usd < limit:
        return None
    return Alert(
        budget=budget.name,
        period=budget.period,
        limit_usd=limit,
        spent_usd=call.cost.total_usd,
        threshold=Decimal(1),
        tags=whose,
        call=call,
    )


def raise_alert(
    connection: sa.Connection, window: str, millionths: int, alert: Alert, webhook: bool
) -> None:
    """Take down that a threshold was passed.

    :raises IntegrityError: If it was taken down before.
    """
    connection.execute(
        sa.insert(budget_alerts).values(
            window_id=window, threshold=millionths, raised_at=dt.datetime.now(dt.UTC)
        )
    )
    if webhook:
        post(connection, alert)
