"""The settings of the example: the app's own, then those of Flask-LLM-Cost.

A deployment overrides them in ``instance/config.py``, or in the environment with the
prefix ``EXAMPLE_``, such as ``EXAMPLE_LLM_URL``.
"""

from __future__ import annotations

# The app ---------------------------------------------------------------------

# Signs the login cookie. Any other than this one, before strangers can reach the app.
SECRET_KEY = "example only"
SESSION_COOKIE_SAMESITE = "Lax"

# The app's database, in the instance folder. On PostgreSQL name the driver, too:
# "postgresql+psycopg://user@host/name".
SQLALCHEMY_DATABASE_URI = "sqlite:///example.db"

# Make tables and users when the app starts. A real app has migrations instead.
PREPARE = True

# Where the LLM is: "https://api.openai.com", with its key. None: a fake provider that
# is started in this process, on this port of loopback.
LLM_URL: str | None = None
LLM_KEY = "not needed here"
LLM_MODEL = "gpt-4o-mini"
LOOPBACK_PORT = 5051

# Flask-LLM-Cost --------------------------------------------------------------

# The ledger is in the app's database, in tables of its own. Another one, if the app's is
# SQLite and busy (SQLite has one writer at a time), or on a server of its own:
# LLM_COST_DATABASE_URI = "sqlite:////var/lib/example/llm_cost.db"

# Calls go to a file in the instance folder first and from there into the database, so
# that no request waits for it and no crash loses a call. Where the disk goes with the
# container, write to the database at once:
# LLM_COST_WRITE = "sync"

# Whose days, weeks and months the reports mean.
LLM_COST_TIMEZONE = "Europe/Berlin"

# Tags on every call; those of requests come from who() in __init__.py.
LLM_COST_DEFAULT_TAGS = {"env": "example"}

# The tags that the report breaks down by.
LLM_COST_ROLLUP_TAGS = ("feature", "user_id")

# Tags called after a secret (password, api_key, ...) are stored as [REDACTED]. Another list
# replaces the default one, so repeat what it has:
# LLM_COST_REDACTED_TAG_KEYS = ("password", "secret", ..., "social_security_number")

# Prices that the bundled ones lack, or that were negotiated.
LLM_COST_PRICES_FILE = "prices.json"

# A single price, right here. It goes before the file.
LLM_COST_PRICE_OVERRIDES = {"example/tiny": {"input": "0.10", "output": "0.20"}}

# Names that are billed as another model.
LLM_COST_MODEL_ALIASES = {"example/house-model": "openai/gpt-4o-mini"}

# Hosts beside the known ones, and what they speak: the fake provider is one.
LLM_COST_PROVIDER_HOSTS = {f"127.0.0.1:{LOOPBACK_PORT}": "openai"}

# A model without a price is recorded without a cost, and said once in the log.
LLM_COST_ON_UNKNOWN_PRICE = "warn"

# Rows on a page of calls.
LLM_COST_PER_PAGE = 50
