"""The cost of the current request's calls, and a response header that reports it."""

from __future__ import annotations

import threading
import typing as t
import weakref
from collections import deque
from decimal import Decimal

from flask import Flask
from flask import g
from flask import has_request_context
from flask import request
from flask import Response

from . import streaming
from .call import Call
from .interrupts import Section
from .money import add
from .money import digits

COST: t.Final = "X-LLM-Cost-USD"
UNPRICED: t.Final = "X-LLM-Cost-Unpriced"

_NAME: t.Final = "_llm_cost_request"


class RequestCost:
    """Sums the cost of the calls that one request sent, in ``g.llm_cost_usd``.

    :param context: The request's ``g``.
    """

    __slots__ = (
        "_context",
        "_counting",
        "_ended",
        "_known",
        "_lock",
        "calls",
        "unpriced",
    )

    def __init__(self, context: t.Any) -> None:
        # Weak: a call may end after its request, and must not keep its context alive.
        self._context: weakref.ref[t.Any] = weakref.ref(context)
        self._lock = threading.Lock()
        self._counting = Section()
        self._ended: deque[Call] = deque()
        self._known: Decimal | None = None
        self.calls = 0
        self.unpriced = 0
        """Calls that may have cost an unknown amount."""
        self._publish()

    @property
    def usd(self) -> Decimal | None:
        """The sum of known costs: 0 without any call, ``None`` if no cost is known."""
        if self._known is None and not self.unpriced:
            return Decimal(0)
        return self._known

    def add(self, call: Call) -> None:
        """Add a call that ended, on any thread."""
        self._ended.append(call)
        if self._counting.entered:
            return  # a signal handler interrupted this thread, which counts it next
        with self._counting, self._lock:
            while self._ended:
                self._count(self._ended.popleft())

    def _count(self, call: Call) -> None:
        self.calls += 1
        if call.cost is not None:
            self._known = add(self._known or Decimal(0), call.cost.total_usd)
        elif call.unpriced:
            self.unpriced += 1
        self._publish()

    def _publish(self) -> None:
        context = self._context()
        if context is not None:
            context.llm_cost_usd = self.usd


def current() -> RequestCost | None:
    """The cost of the current request, or of the one whose response is being streamed."""
    stream = streaming.current()
    if stream is not None:
        return stream.names.get(_NAME)
    if not has_request_context():
        return None
    found: RequestCost | None = g.get(_NAME)
    return _begin() if found is None else found


def _begin() -> RequestCost:
    context = t.cast(t.Any, g)._get_current_object()
    made = RequestCost(context)
    setattr(context, _NAME, made)
    return made


def watch(app: Flask, *, header: bool) -> None:
    """Maintain ``g.llm_cost_usd`` in each request of an app, and follow its streams.

    :param header: Also add it to responses (``LLM_COST_COST_HEADER``).
    """

    def begin() -> None:
        # Always a new one: in a test, one app context and its g may serve many requests.
        _begin()

    app.before_request(begin)
    app.after_request(streaming.follow)
    if header:
        app.after_request(_add_header)


def _add_header(response: Response) -> Response:
    """Report the cost so far. A streamed body may spend more."""
    spent = current()
    if spent is None or not spent.calls:
        return response
    usd = spent.usd
    if usd is not None:
        response.headers[COST] = digits(usd)
    if spent.unpriced:
        response.headers[UNPRICED] = str(spent.unpriced)
    return response


def request_tags() -> dict[str, str]:
    """A tag provider: the ``endpoint`` and ``blueprint`` of the current request.

    .. code-block:: python

        llm_cost.tag_provider(request_tags)

    ``llm_cost.calls.cost_by_tag("endpoint")`` then returns what each endpoint spends. There
    are no such tags outside of a request, or if no view matches the URL.
    """
    if not has_request_context() or request.endpoint is None:
        return {}
    found = {"endpoint": request.endpoint}
    if request.blueprint is not None:
        found["blueprint"] = request.blueprint
    return found
