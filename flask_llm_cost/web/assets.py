"""The static files, at URLs that change with their content."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources

from flask import make_response
from flask import Response
from flask import url_for
from werkzeug.exceptions import NotFound

TYPES = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}

IMMUTABLE = "public, max-age=31536000, immutable"


@functools.cache
def read(name: str) -> tuple[bytes, str]:
    """The content and digest of a static file.

    :raises KeyError: If it does not exist.
    """
    for entry in resources.files("flask_llm_cost.web").joinpath("static").iterdir():
        if entry.name == name and entry.is_file():
            content = entry.read_bytes()
            return content, hashlib.sha256(content).hexdigest()[:12]
    raise KeyError(name)


def exists(name: str) -> bool:
    """Whether there is a static file with this name."""
    try:
        read(name)
    except KeyError:
        return False
    return True


def url(name: str) -> str:
    """The URL of a static file's current content."""
    return url_for(".asset", digest=read(name)[1], name=name)


def asset(digest: str, name: str) -> Response:
    """Send a static file, to be cached for a year if its digest is current."""
    suffix = name[name.rfind(".") :]
    if suffix not in TYPES:
        raise NotFound
    try:
        content, current = read(name)
    except KeyError:
        raise NotFound from None
    response = make_response(content)
    response.headers["Content-Type"] = TYPES[suffix]
    response.headers["Cache-Control"] = IMMUTABLE if digest == current else "no-cache"
    return response
