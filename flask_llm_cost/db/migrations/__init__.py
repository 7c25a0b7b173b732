"""The bundled Alembic environment: each revision is one file in ``versions``.

Only :mod:`flask_llm_cost.db.migrate` runs it.
"""

from __future__ import annotations

import typing as t

HEAD: t.Final = "0002"
"""The newest revision, which this version of the package reads and writes."""

VERSION_TABLE: t.Final = "llm_cost_schema_version"
