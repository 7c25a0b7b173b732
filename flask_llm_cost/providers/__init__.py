"""Reads what an LLM call used from the provider's answer."""

from __future__ import annotations

from .dialect import Dialect
from .dialect import needles
from .dialect import Notes
from .exchange import Exchange
from .finished import read_exchange
from .paths import NOT_A_CALL
from .paths import Path
from .registry import Provider
from .routes import chat_route
from .routes import known_name
from .routes import Route
from .routes import route
from .routes import usage_on_request
from .scope import Headers
from .scope import ScopeReader
from .unlisted import is_call
from .unlisted import is_request

__all__ = [
    "Dialect",
    "Exchange",
    "Headers",
    "NOT_A_CALL",
    "Notes",
    "Path",
    "Provider",
    "Route",
    "ScopeReader",
    "chat_route",
    "is_call",
    "is_request",
    "known_name",
    "needles",
    "read_exchange",
    "route",
    "usage_on_request",
]
