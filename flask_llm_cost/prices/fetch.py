"""How does a price source reach us? From a path, or over a guarded HTTP GET."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import http.client
import io
import ipaddress
import json
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

from .meters import number_of
from .sources import genai_prices
from .sources import litellm
from .sources import ODD
from .sources import openrouter
from .sources import Sheet

READERS: t.Final[dict[str, t.Callable[[object], Sheet]]] = {
    litellm.NAME: litellm.read,
    openrouter.NAME: openrouter.read,
    genai_prices.NAME: genai_prices.read,
}
"""The sources there are, in the order in which they are believed."""

MAX_BYTES: t.Final = 32 * 1024 * 1024
TIMEOUT: t.Final = 20.0
_CHUNK: t.Final = 64 * 1024

Progress: t.TypeAlias = t.Callable[[str, int], None]
"""Told of a source's name and how many bytes have come."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking a source."""

    name: str
    url: str
    fetched_at: dt.datetime
    version: str | None = None
    """Its ETag, else its Last-Modified, else the sha256 of its body."""
    sheet: Sheet | None = None
    error: str | None = None
    """Why there is no sheet."""
    unchanged: bool = False
    """It is what we had before (304)."""


def ask(
    name: str,
    where: str,
    *,
    known_version: str | None = None,
    now: dt.datetime | None = None,
    timeout: float = TIMEOUT,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> Answer:
    """Ask a source. Whatever goes wrong is in the answer's ``error``.

    :param where: A path, or an https URL (http on loopback).
    :param known_version: The version we have; a source may answer that it is current.
    :param timeout: Seconds for the whole exchange.
    """
    at = now or dt.datetime.now(dt.UTC)
    reader = READERS.get(name)
    if reader is None:
        known = ", ".join(READERS)
        return Answer(name, where, at, error=f"is no source; there are {known}")
    try:
        body = _read(name, where, known_version, timeout, max_bytes, progress)
        if body is None:
            return Answer(name, where, at, version=known_version, unchanged=True)
        data, version = body
        if data[:2] == b"\x1f\x8b":
            data = _unzip(data, max_bytes)
        version = version or hashlib.sha256(data).hexdigest()
        sheet = reader(json.loads(data, parse_float=number_of))
        _leave_out_odd_names(sheet)
    except _Refused as error:
        return Answer(name, where, at, error=str(error))
    except (*ODD, RecursionError) as error:
        # A source is not ours: whatever shape it takes, the others are still read.
        return Answer(name, where, at, error=f"cannot be read: {error}")
    return Answer(name, where, at, version=version, sheet=sheet)


class _Refused(Exception):
    """A source that will not be read, and why."""


def _leave_out_odd_names(sheet: Sheet) -> None:
    """A name with control characters would forge lines of a diff; no model has such."""
    tables: tuple[dict[str, t.Any], ...] = (
        sheet.models,
        sheet.refused,
        sheet.zeros,
        sheet.also,
    )
    for table in tables:
        for name in [name for name in table if not name.isprintable()]:
            del table[name]


def _unzip(data: bytes, max_bytes: int) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            plain = file.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _Refused(f"is broken gzip: {error}") from error
    if len(plain) > max_bytes:
        raise _Refused(f"has more than {max_bytes:,} bytes")
    return plain


def _read(
    name: str,
    where: str,
    known_version: str | None,
    timeout: float,
    max_bytes: int,
    progress: Progress | None,
) -> tuple[bytes, str | None] | None:
    if "://" not in where:
        return _read_path(Path(where), max_bytes), None
    _check_url(where)
    request = urllib.request.Request(
        where, headers={"User-Agent": "Flask-LLM-Cost", "Accept": "application/json"}
    )
    if known_version is not None:
        request.add_header("If-None-Match", known_version)
    deadline = time.monotonic() + timeout
    try:
        with _opener(where).open(request, timeout=timeout) as response:
            kind = response.headers.get_content_type()
            if kind == "text/html":
                raise _Refused(f"answers with {kind}, which is no price list")
            data = _read_body(name, response, deadline, max_bytes, progress)
            version = response.headers.get("ETag") or response.headers.get(
                "Last-Modified"
            )
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 304:
                return None
            raise _Refused(f"answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise _Refused(f"cannot be fetched: {reason or type(error).__name__}") from None
    return data, version


def _read_path(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise _Refused(f"cannot be read: {error.strerror}") from error
    if len(data) > max_bytes:
        raise _Refused(f"has more than {max_bytes:,} bytes")
    return data


def _read_body(
    name: str,
    response: http.client.HTTPResponse,
    deadline: float,
    max_bytes: int,
    progress: Progress | None,
) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        # read1: what has come, so that a slow source cannot stretch the timeout.
        chunk = response.read1(_CHUNK)
        if not chunk:
            break
        size += len(chunk)
        if size > max_bytes:
            raise _Refused(f"has more than {max_bytes:,} bytes")
        if time.monotonic() > deadline:
            raise _Refused("took too long")
        chunks.append(chunk)
        if progress is not None:
            progress(name, size)
    declared = response.headers.get("Content-Length")
    if declared is not None and declared.isdigit() and int(declared) != size:
        raise _Refused(f"broke off after {size:,} of {int(declared):,} bytes")
    return b"".join(chunks)


def _check_url(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and _is_loopback(parts.hostname):
        return
    raise _Refused("must be https, or http on loopback")


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: t.Any,
        code: int,
        msg: str,
        headers: t.Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(url: str) -> urllib.request.OpenerDirector:
    # No proxy leads to this machine.
    if _is_loopback(urllib.parse.urlsplit(url).hostname):
        return urllib.request.build_opener(_Redirects, urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(_Redirects)
