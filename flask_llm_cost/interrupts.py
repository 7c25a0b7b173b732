"""Distinguishes our own errors from those that a signal handler raises amid our work.

RQ's ``JobTimeoutException`` and Celery's ``SoftTimeLimitExceeded`` are plain exceptions that a
handler raises wherever the process happens to be. They are meant for the app, and must not
be mistaken for an error in capture.
"""

from __future__ import annotations

import signal
import threading
from types import CodeType


def of_signal(error: BaseException) -> bool:
    """Whether a signal handler raised the error."""
    if threading.current_thread() is not threading.main_thread():
        return False  # handlers run only in the main thread
    codes = {_code(signal.getsignal(number)) for number in signal.valid_signals()}
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code in codes:
            return True
        at = at.tb_next
    return False


def _code(handler: object) -> CodeType | None:
    function = getattr(handler, "__func__", handler)
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(vars(type(handler)).get("__call__"), "__code__", None)
    return code if isinstance(code, CodeType) else None
