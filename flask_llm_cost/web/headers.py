"""What every page says to browsers, caches and crawlers about itself."""

from __future__ import annotations

import typing as t

from flask import g
from flask import Response

POLICY: t.Final = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)

HEADERS: t.Final = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}

_FOREIGN: t.Final = "_llm_cost_foreign_response"


def leave_alone() -> None:
    """This request is answered by the app's access rule: its response is its own."""
    setattr(g, _FOREIGN, True)


def protect(response: Response) -> Response:
    """Add our headers. What the app sets afterwards, for all its pages, wins."""
    if g.get(_FOREIGN, False):
        return response
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    return response
