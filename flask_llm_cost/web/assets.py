"""The static files, at URLs that change with their content."""

from __future__ import annotations

import functools
import hashlib
import re
from importlib import resources

from flask import make_response
from flask import Response
from flask import url_for
from werkzeug.exceptions import NotFound

TYPES = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}

IMMUTABLE = "public, max-age=31536000, immutable"


@functools.cache
def files() -> dict[str, tuple[bytes, str]]:
    """The content and digest of each static file, by name."""
    found = {}
    for entry in resources.files("flask_llm_cost.web").joinpath("static").iterdir():
        if entry.name.endswith(tuple(TYPES)):
            found[entry.name] = entry.read_bytes()
    found["embedded.css"] = _embedded(found["pages.css"].decode()).encode()
    return {
        name: (content, hashlib.sha256(content).hexdigest()[:12])
        for name, content in found.items()
    }


def _embedded(css: str) -> str:
    """The style sheet for pages inside an app's own layout, which it leaves alone.

    Nested rules apply only below ``.llm-costs``, which takes the place of the document.
    """
    nested = re.sub(r"(?m)^(\s*)(?::root|html) \{", r"\1& {", css)
    return f".llm-costs {{\n{nested}}}\n"


def url(name: str) -> str:
    """The URL of a static file's current content."""
    return url_for(".asset", digest=files()[name][1], name=name)


def asset(digest: str, name: str) -> Response:
    """Send a static file, to be cached for a year if its digest is current."""
    if name not in files():
        raise NotFound
    content, current = files()[name]
    response = make_response(content)
    response.headers["Content-Type"] = TYPES[name[name.rfind(".") :]]
    response.headers["Cache-Control"] = IMMUTABLE if digest == current else "no-cache"
    return response
