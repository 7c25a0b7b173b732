"""Signals that an app can listen to (blinker). The sender is always the Flask app.

Receivers are isolated: an exception in one is logged, and affects neither the others nor
the call.
"""

from __future__ import annotations

import logging
import typing as t

from blinker import NamedSignal
from blinker import Namespace

from .interrupts import pass_on
from .recurring import report

_names = Namespace()

call_recorded: NamedSignal = _names.signal("llm-cost-call-recorded")
"""Sent after a call was handed to the ledger. Keyword ``call``: the :class:`.Call`."""

budget_threshold: NamedSignal = _names.signal("llm-cost-budget-threshold")
"""Sent once when spend reaches a threshold below a budget's limit. Keyword ``alert``: the
:class:`.Alert`; its ``call`` is the one that reached the threshold."""

budget_exceeded: NamedSignal = _names.signal("llm-cost-budget-exceeded")
"""Sent once in each window of a budget when its limit is reached, and once when it refuses a
call before that, with ``alert.refused``. Keyword ``alert``: the :class:`.Alert`."""

price_unknown: NamedSignal = _names.signal("llm-cost-price-unknown")
"""Sent when a call with usage has no price. Keyword ``call``: the :class:`.Call`."""

storage_failed: NamedSignal = _names.signal("llm-cost-storage-failed")
"""Sent when a call could not be stored. Keywords ``call`` and ``error``; ``call`` is ``None``
if no call is lost, but calls are queued in the spool because the database is unavailable."""


def send(signal: NamedSignal, sender: t.Any, **values: t.Any) -> None:
    """Send a signal to every receiver, and log exceptions."""
    if not signal.receivers:
        return
    for receiver in signal.receivers_for(sender):
        # Receivers are the app's code: an exception in one must reach neither the others
        # nor the request whose call is being recorded.
        try:
            receiver(sender, **values)
        except Exception as error:
            pass_on(error)
            report(
                "The receiver %s of %s raised an exception, which was ignored.",
                getattr(receiver, "__qualname__", type(receiver).__name__),
                signal.name,
                level=logging.ERROR,
                error=error,
            )
