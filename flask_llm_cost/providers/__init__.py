"""What did an LLM call use? Every provider's answer, read into one shape."""

from __future__ import annotations

from .dialect import Dialect
from .dialect import needles
from .dialect import Notes
from .exchange import chat_route
from .exchange import Exchange
from .exchange import NOT_A_CALL
from .exchange import Path
from .exchange import Provider
from .exchange import read_exchange
from .exchange import Route
from .exchange import route

__all__ = [
    "Dialect",
    "Exchange",
    "NOT_A_CALL",
    "Notes",
    "Path",
    "Provider",
    "Route",
    "needles",
    "read_exchange",
    "route",
    "chat_route",
]
