"""${message}"""

from __future__ import annotations

import sqlalchemy as sa

from flask_llm_cost.db.migrations import steps

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "..."}


def downgrade() -> None:
    ${downgrades if downgrades else "..."}
