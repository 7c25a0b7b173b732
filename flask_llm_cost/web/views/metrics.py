"""The counters and gauges for monitoring."""

from __future__ import annotations

import typing as t

from flask import Response

from .. import metrics as exposition
from .page import Page


def metrics() -> Response:
    """What Prometheus reads."""
    lines = exposition.text(exposition.metrics())
    return Response("".join(lines), content_type=exposition.CONTENT_TYPE)


PAGES: t.Final = (Page("/metrics", "metrics", metrics),)
