"""What did an LLM call use? Every provider's answer, read into one shape."""

from __future__ import annotations

from .dialect import Dialect
from .dialect import needles
from .dialect import Notes
from .exchange import Exchange
from .exchange import NO_CALL
from .exchange import Path
from .exchange import Provider
from .exchange import read_exchange
from .exchange import Route
from .exchange import route
from .exchange import route_to

__all__ = [
    "Dialect",
    "Exchange",
    "NO_CALL",
    "Notes",
    "Path",
    "Provider",
    "Route",
    "needles",
    "read_exchange",
    "route",
    "route_to",
]
