"""Costs of estimated usage, added up apart from those of usage that was told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from flask_llm_cost.db.migrations import steps

revision = "0006"
down_revision = "0003"

_TABLE = "llm_cost_rollups"
_SUMS = ("estimated", "estimated_tokens", "cost_estimated")


def upgrade() -> None:
    early = _reads_calls_first()
    for name in _SUMS:
        steps.add_column(
            _TABLE, sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
        )
    # What was pruned before stays as it was added up: its calls are there no more.
    if not early:
        _add_up_again()


def downgrade() -> None:
    early = _reads_calls_first()
    # A second run must not add them again, nor look for columns that the first dropped.
    if steps.has_column(_TABLE, "estimated"):
        op.execute(
            "UPDATE llm_cost_rollups SET priced = priced + estimated,"
            " cost_total = cost_total + cost_estimated,"
            " estimated = 0, cost_estimated = 0"
        )
    for name in _SUMS:
        steps.drop_column(_TABLE, name)
    if not early:
        _add_up_again()


def _reads_calls_first() -> bool:
    """Mark the hours beforehand where that can be; whether it could.

    PostgreSQL locks out all who read the sums from the first ALTER until the end, and
    reading all calls takes long. Meanwhile this has the rollers' turn, so that none adds
    up in the old way what is marked here. MySQL and MariaDB would end it with the ALTER.
    """
    if op.get_context().dialect.name != "postgresql":
        return False
    op.execute("UPDATE llm_cost_facts SET value = '0006' WHERE name = 'roller'")
    _add_up_again()
    return True


def _add_up_again() -> None:
    """Mark the hours that have estimates. (A second run changes nothing.)"""
    op.execute(
        "INSERT INTO llm_cost_marks (id, hour) SELECT DISTINCT"
        " -1 - (started_at - started_at % 3600000), started_at - started_at % 3600000"
        " FROM llm_cost_calls WHERE usage_source = 'estimated' AND"
        " -1 - (started_at - started_at % 3600000) NOT IN (SELECT id FROM llm_cost_marks)"
    )
