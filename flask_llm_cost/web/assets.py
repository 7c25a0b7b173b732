"""The pages' static files, under names that change with their content."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources

from flask import make_response
from flask import Response
from flask import url_for
from werkzeug.exceptions import NotFound

TYPES = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}

FOREVER = "public, max-age=31536000, immutable"


@functools.cache
def read(name: str) -> tuple[bytes, str]:
    """Content and digest of a static file.

    :raises KeyError: If there is none of that name.
    """
    for entry in resources.files("flask_llm_cost.web").joinpath("static").iterdir():
        if entry.name == name and entry.is_file():
            content = entry.read_bytes()
            return content, hashlib.sha256(content).hexdigest()[:12]
    raise KeyError(name)


def exists(name: str) -> bool:
    """There is a static file of that name."""
    try:
        read(name)
    except KeyError:
        return False
    return True


def url(name: str) -> str:
    """The address of a static file, good for as long as its content does not change."""
    return url_for(".asset", digest=read(name)[1], name=name)


def asset(digest: str, name: str) -> Response:
    """Send a static file: forever if its digest is today's, else to be asked again."""
    suffix = name[name.rfind(".") :]
    if suffix not in TYPES:
        raise NotFound
    try:
        content, current = read(name)
    except KeyError:
        raise NotFound from None
    response = make_response(content)
    response.headers["Content-Type"] = TYPES[suffix]
    response.headers["Cache-Control"] = FOREVER if digest == current else "no-cache"
    return response
