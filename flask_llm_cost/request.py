"""What the calls of the current request cost, and a header that says so."""

from __future__ import annotations

import threading
import typing as t
import weakref
from decimal import Decimal

from flask import Flask
from flask import g
from flask import has_request_context
from flask import request
from flask import Response

from .call import Call

COST: t.Final = "X-LLM-Cost-USD"
UNPRICED: t.Final = "X-LLM-Cost-Unpriced"

_NAME: t.Final = "_llm_cost_request"


class RequestCost:
    """Adds up what the calls that one request sent cost, in ``g.llm_cost_usd``.

    :param context: The request's ``g``.
    """

    __slots__ = ("_context", "_known", "_lock", "calls", "unpriced")

    def __init__(self, context: t.Any) -> None:
        # A call may end after its request, and should not keep its things alive till then.
        self._context: weakref.ref[t.Any] = weakref.ref(context)
        self._lock = threading.Lock()
        self._known: Decimal | None = None
        self.calls = 0
        self.unpriced = 0
        """Calls that may have cost something, nobody knows how much."""
        self._publish()

    @property
    def usd(self) -> Decimal | None:
        """The sum of the known costs: 0 without any call, ``None`` if none is known."""
        if self._known is None and not self.unpriced:
            return Decimal(0)
        return self._known

    def add(self, call: Call) -> None:
        """Add a call that ended, on whatever thread."""
        with self._lock:
            self.calls += 1
            if call.cost is not None:
                self._known = (self._known or Decimal(0)) + call.cost.total_usd
            elif call.unpriced:
                self.unpriced += 1
            self._publish()

    def _publish(self) -> None:
        context = self._context()
        if context is not None:
            context.llm_cost_usd = self.usd


def current() -> RequestCost | None:
    """Of the request that is handled here; ``None`` outside of one."""
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
    """Keep ``g.llm_cost_usd`` in each request of an app.

    :param header: Whether responses tell, too (``LLM_COST_COST_HEADER``).
    """

    def begin() -> None:
        # Always anew: in a test one app context, and so one g, may serve many requests.
        _begin()

    app.before_request(begin)
    if header:
        app.after_request(_tell)


def _tell(response: Response) -> Response:
    """Say what was spent until now; a streamed body may spend more."""
    spent = current()
    if spent is None or not spent.calls:
        return response
    usd = spent.usd
    if usd is not None:
        response.headers[COST] = f"{usd.normalize():f}"
    if spent.unpriced:
        response.headers[UNPRICED] = str(spent.unpriced)
    return response


def request_tags() -> dict[str, str]:
    """A tag provider: the ``endpoint`` and ``blueprint`` of the request that calls.

    .. code-block:: python

        llm_cost.tag_provider(request_tags)

    Then ``llm_cost.calls.cost_by_tag("endpoint")`` says what each of them spends. Outside
    of a request, and for an address that no view serves, there are no such tags.
    """
    if not has_request_context() or request.endpoint is None:
        return {}
    found = {"endpoint": request.endpoint}
    if request.blueprint is not None:
        found["blueprint"] = request.blueprint
    return found
