"""Response headers for browsers, caches and crawlers."""

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
    """Add no headers to this response, which the app's access rule made."""
    setattr(g, _FOREIGN, True)


def protect(response: Response, *, embedded: bool = False) -> Response:
    """Add the headers. Those that the app sets later, on all its responses, win.

    :param embedded: The pages are inside the app's own layout, whose scripts and frames
        are subject to the app's policy only.
    """
    if g.get(_FOREIGN, False):
        return response
    for name, value in HEADERS.items():
        if not embedded or name != "Content-Security-Policy":
            response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    return response
