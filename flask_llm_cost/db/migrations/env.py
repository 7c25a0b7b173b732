"""Run our revisions on the given connection, or as SQL text.

Logging is not configured here: the host app configures its own.
"""

from __future__ import annotations

from alembic import context

from flask_llm_cost.db.migrations import VERSION_TABLE
from flask_llm_cost.db.tables import metadata

attributes = context.config.attributes

if context.is_offline_mode():
    context.configure(
        dialect_name=attributes["dialect"],
        # The text is for a client. Drivers would need every "%" doubled.
        dialect_opts={"paramstyle": "named"},
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        literal_binds=True,
        output_buffer=attributes["output"],
        transactional_ddl=attributes["dialect"] not in ("mysql", "mariadb"),
    )
else:
    context.configure(
        connection=attributes["connection"],
        target_metadata=metadata,
        version_table=VERSION_TABLE,
    )

with context.begin_transaction():
    context.run_migrations()
