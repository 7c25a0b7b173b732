"""Compute what a call costs: dated prices by model, exact and without a network.

``import flask_llm_cost.prices`` loads neither Flask, SQLAlchemy nor an HTTP client.
"""

from __future__ import annotations

from .book import PriceBook as PriceBook
from .book import STALE_AFTER as STALE_AFTER
from .explain import explain as explain
from .explain import Explanation as Explanation
from .lookup import Found as Found
from .meters import MODES as MODES
from .quote import Quote as Quote
