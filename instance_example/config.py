"""The settings of the example app, and of Flask-LLM-Cost.

Override them in ``instance/config.py``, or in the environment with the prefix
``EXAMPLE_``, such as ``EXAMPLE_LLM_URL``.
"""

from __future__ import annotations

from .models import limit_of

# The app ---------------------------------------------------------------------

# Signs the login cookie. Change it before you deploy the app.
SECRET_KEY = "example only"
SESSION_COOKIE_SAMESITE = "Lax"

# The app's database, in the instance folder. For PostgreSQL, include the driver:
# "postgresql+psycopg://user@host/name".
SQLALCHEMY_DATABASE_URI = "sqlite:///example.db"

# Create tables and users when the app starts. A real app uses migrations instead.
PREPARE = True

# The provider, such as "https://api.openai.com", and its API key. None starts a fake
# provider in this process, on this port of loopback.
LLM_URL: str | None = None
LLM_KEY = "not needed here"
LLM_MODEL = "gpt-4o-mini"
LOOPBACK_PORT = 5051

# Celery runs jobs in the request, unless a worker does. To start one, see README.md.
CELERY = {"task_always_eager": True, "task_eager_propagates": True}

# Flask-LLM-Cost --------------------------------------------------------------

# The ledger is in separate tables in the app's PostgreSQL, MySQL or MariaDB. If the app's
# database is an SQLite file, as here, the ledger is llm_cost.db next to it in the instance
# folder: SQLite allows one writer at a time. Name another database to separate the two:
# LLM_COST_DATABASE_URI = "postgresql+psycopg://user@host/costs"

# Calls are appended to a file in the instance folder and then written to the database, so
# that no request waits for it and no call is lost in a crash. In a container whose disk does
# not persist, write to the database directly:
# LLM_COST_WRITE = "sync"

# The time zone of days, weeks and months in reports.
LLM_COST_TIMEZONE = "Europe/Berlin"

# Tags of every call. who() in __init__.py adds those of the request.
LLM_COST_DEFAULT_TAGS = {"env": "example"}

# The tags that calls are aggregated by. The sums remain when old calls are pruned.
LLM_COST_ROLLUP_TAGS = ("tenant", "feature", "user_id")

# Each tenant has its own budget, whose limit is in the app's database. Calls that would
# exceed it are not sent.
LLM_COST_BUDGETS = [
    {
        "name": "plan",
        "period": "month",
        "limit_usd": limit_of,
        "tags": {"tenant": "*"},
        "behavior": "block",
    },
]

# Statements for customers (`flask llm-cost statement --tag tenant`) charge 20 % on top.
LLM_COST_STATEMENT_MARKUP = {"*": [{"from": "2026-01-01", "factor": "1.20"}]}

# Tags that are named after a secret (password, api_key, ...) are stored as [REDACTED]. This
# replaces the default list, so include its entries:
# LLM_COST_REDACTED_TAG_KEYS = ("password", "secret", ..., "social_security_number")

# Prices that are not bundled, or were negotiated.
LLM_COST_PRICES_FILE = "prices.json"

# A single price, which takes precedence over the file.
LLM_COST_PRICE_OVERRIDES = {"example/tiny": {"input": "0.10", "output": "0.20"}}

# Names that are priced as another model.
LLM_COST_MODEL_ALIASES = {"example/house-model": "openai/gpt-4o-mini"}

# Additional hosts and their providers. The fake provider is one.
LLM_COST_PROVIDER_HOSTS = {f"127.0.0.1:{LOOPBACK_PORT}": "openai"}

# Log a warning once per model without a price. Its calls are recorded without a cost.
LLM_COST_ON_UNKNOWN_PRICE = "warn"

# The number of rows on a page of calls.
LLM_COST_PER_PAGE = 50
