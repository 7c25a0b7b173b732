"""The models in use that need a price."""

from __future__ import annotations

import sqlalchemy as sa

from ..call import REPORTED
from ..db.tables import calls
from .filters import CallFilter


def models_in_use(
    connection: sa.Connection, where: CallFilter
) -> list[tuple[str, str]]:
    """Return provider and model of calls with usage and without a reported cost, sorted."""
    c = calls.c
    query = (
        sa.select(c.provider, c.model)
        .where(
            *where.clauses(),
            c.total_input_tokens.is_not(None),
            sa.or_(c.cost_source.is_(None), c.cost_source.not_in(REPORTED)),
        )
        .distinct()
    )
    return sorted((row.provider, row.model) for row in connection.execute(query))
