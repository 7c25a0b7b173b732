"""Problems that may occur with every call: logged once, then only counted."""

from __future__ import annotations

import logging
import typing as t

_log = logging.getLogger("flask_llm_cost")

_MOST_KINDS: t.Final = 1000
"""Names of models and functions are part of a kind, and may come from outside."""

_counts: dict[tuple[object, ...], int] = {}


def report(
    message: str,
    *args: object,
    level: int = logging.WARNING,
    error: BaseException | None = None,
) -> None:
    """Log a problem the first time, and its count the 10th, 100th, 1,000th, ... time.

    It is the same problem if message and arguments are the same.

    :param error: An exception whose traceback is logged the first time.
    """
    kind: tuple[object, ...] = (message, *args)
    if kind not in _counts and len(_counts) >= _MOST_KINDS:
        kind = (message,)
    count = _counts[kind] = _counts.get(kind, 0) + 1
    if count == 1:
        _log.log(level, message, *args, exc_info=error)
    elif str(count).rstrip("0") == "1":
        _log.log(level, f"{message} (%d times so far)", *args, count)


def forget() -> None:
    """Start counting again, for tests."""
    _counts.clear()
