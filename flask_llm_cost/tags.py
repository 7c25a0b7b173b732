"""Who and what a call was for: tags from settings, providers, blocks and the call itself."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import logging
import re
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextvars import ContextVar
from contextvars import Token
from dataclasses import dataclass

from .call import TagSource
from .config import KEY_PATTERN
from .config import Settings

_log = logging.getLogger("flask_llm_cost")

_P = t.ParamSpec("_P")
_R = t.TypeVar("_R")

REDACTED: t.Final = "[REDACTED]"
UNTAGGED: t.Final = "(untagged)"

_blocks: ContextVar[tuple[Mapping[str, t.Any], ...]] = ContextVar(
    "flask_llm_cost.tags", default=()
)
