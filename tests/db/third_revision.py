"""A third revision, which proves that later ones can be added to a ledger with data."""

from __future__ import annotations

import shutil
import typing as t
from pathlib import Path

from flask_llm_cost.db import migrations

THIRD: t.Final = "0003"

_TEXT: t.Final = '''
"""Add a table, a column of calls and a column of rollups that holds part of another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from flask_llm_cost.db.column_types import Text
from flask_llm_cost.db.migrations import steps

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    steps.create_table(
        "llm_cost_notes",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("note", Text(255), nullable=False),
    )
    steps.create_index("ix_llm_cost_notes_note", "llm_cost_notes", ["note"])
    steps.add_column("llm_cost_calls", sa.Column("note", Text(32)))
    steps.add_column(
        "llm_cost_rollups",
        sa.Column("noted", sa.BigInteger, nullable=False, server_default="0"),
    )


def downgrade() -> None:
    # A second run must not add it again, nor use a column that the first has dropped.
    if steps.has_column("llm_cost_rollups", "noted"):
        op.execute("UPDATE llm_cost_rollups SET calls = calls + noted, noted = 0")
    steps.drop_column("llm_cost_rollups", "noted")
    steps.drop_column("llm_cost_calls", "note")
    steps.drop_table("llm_cost_notes")
'''


def environment(folder: Path) -> str:
    """A copy of the bundled Alembic environment with the third revision added."""
    copy = folder / "migrations"
    shutil.copytree(
        Path(migrations.__file__).parent,
        copy,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (copy / "versions" / "r0003_notes.py").write_text(_TEXT)
    return str(copy)
