"""Fetch a price source: from a path, or over a guarded HTTP GET.

It uses urllib, because requests would send credentials from ``.netrc`` and pass through the
app's own instrumentation.
"""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import http.client
import io
import ipaddress
import json
import socket
import threading
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request
import zlib
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..money import own_context
from ..money import parse_int
from ..money import parse_number
from ..public_address import is_public
from .sources import genai_prices
from .sources import litellm
from .sources import openrouter
from .sources import Sheet
from .sources import UNEXPECTED_SHAPE

READERS: t.Final[dict[str, t.Callable[[object], Sheet]]] = {
    litellm.NAME: litellm.read,
    openrouter.NAME: openrouter.read,
    genai_prices.NAME: genai_prices.read,
}
"""The known sources, the most trusted first."""

MAX_BYTES: t.Final = 32 * 1024 * 1024
MAX_VALUES: t.Final = 1_000_000
TIMEOUT_S: t.Final = 20.0
_CHUNK: t.Final = 64 * 1024

Progress: t.TypeAlias = t.Callable[[str, int], None]
"""Called with a source's name and how many bytes have arrived."""


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The outcome of fetching a source: a sheet, an error, or unchanged."""

    name: str
    url: str
    fetched_at: dt.datetime
    version: str | None = None
    """Its ETag, else its Last-Modified, else the sha256 of its body."""
    sheet: Sheet | None = None
    error: str | None = None
    """Why there is no sheet. Completes a sentence that begins with the source's name."""
    unchanged: bool = False
    """Whether the known version is current (304)."""


class _Failed(Exception):
    """A source is unusable; the message completes "litellm ..."."""


def fetch(
    name: str,
    where: str,
    *,
    known_version: str | None = None,
    now: dt.datetime | None = None,
    timeout: float = TIMEOUT_S,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> FetchResult:
    """Fetch a source. Never raises: whatever goes wrong is the result's ``error``.

    :param where: A path, or an https URL (http on loopback).
    :param known_version: The version we have; the source may answer that it is current.
    :param timeout: Seconds for the whole exchange.
    """
    at = now or dt.datetime.now(dt.UTC)
    reader = READERS.get(name)
    if reader is None:
        error = f"is not a known source; known sources: {', '.join(READERS)}"
        return FetchResult(name, where, at, error=error)
    try:
        if "://" in where:
            report = None if progress is None else partial(progress, name)
            get = partial(_get, where, known_version, timeout, max_bytes, report)
            body = _within(timeout, get)
        else:
            body = _read_path(Path(where), max_bytes), None
        if body is None:
            return FetchResult(name, where, at, version=known_version, unchanged=True)
        data, version = body
        if data[:2] == b"\x1f\x8b":
            data = _unzip(data, max_bytes)
        version = version or hashlib.sha256(data).hexdigest()
        document = _parse(data)
        sheet = own_context(reader)(document)
        _drop_unprintable_names(sheet)
    except _Failed as error:
        return FetchResult(name, where, at, error=str(error))
    except (*UNEXPECTED_SHAPE, RecursionError) as error:
        # We don't control what a source sends; the other sources must still be read.
        return FetchResult(name, where, at, error=f"cannot be read: {error}")
    return FetchResult(name, where, at, version=version, sheet=sheet)


_T = t.TypeVar("_T")


def _within(seconds: float, work: t.Callable[[], _T]) -> _T:
    """Do some work on a thread, and give up after some seconds.

    The timeout of a socket applies to each read: a source could drip for hours.
    """
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="llm-cost-fetch", daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        raise _Failed(f"timed out after {seconds:g} s") from None


def _parse(data: bytes) -> object:
    values = sum(map(data.count, (b",", b"[", b"{")))
    if values > MAX_VALUES:  # each takes many times the memory of its bytes
        raise _Failed(f"has more than {MAX_VALUES:,} values")
    return json.loads(
        data,
        parse_float=parse_number,
        parse_int=parse_int,
        object_pairs_hook=_unique_keys,
    )


def _unique_keys(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Failed(f"has the key {twice[:100]!r} twice in one object")
    return found


def _drop_unprintable_names(sheet: Sheet) -> None:
    """Drop names with control characters: they could forge lines of a diff."""
    tables: tuple[dict[str, t.Any], ...] = (
        sheet.models,
        sheet.rejected,
        sheet.zeros,
        sheet.aliases,
    )
    for table in tables:
        for name in [name for name in table if not name.isprintable()]:
            del table[name]


def _unzip(data: bytes, max_bytes: int) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            return _limited(file.read(max_bytes + 1), max_bytes)
    except (OSError, EOFError, zlib.error) as error:
        raise _Failed(f"is not valid gzip: {error}") from error


def _read_path(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            return _limited(file.read(max_bytes + 1), max_bytes)
    except OSError as error:
        raise _Failed(f"cannot be read: {error.strerror}") from error


def _limited(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise _Failed(f"has more than {max_bytes:,} bytes")
    return data


def _get(
    url: str,
    known_version: str | None,
    timeout: float,
    max_bytes: int,
    progress: t.Callable[[int], None] | None,
) -> tuple[bytes, str | None] | None:
    """Return the body and its version; ``None`` if the known version is current."""
    _check_url(url)
    request = urllib.request.Request(
        url, headers={"User-Agent": "Flask-LLM-Cost", "Accept": "application/json"}
    )
    if known_version is not None:
        request.add_header("If-None-Match", known_version)
    deadline = time.monotonic() + timeout
    try:
        with _opener(url).open(request, timeout=timeout) as response:
            headers = response.headers
            kind = headers.get_content_type()
            if kind == "text/html":
                raise _Failed(f"sent {kind} instead of a price list")
            data = _read_body(response, deadline, max_bytes, progress)
            return data, _version(headers)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 304:
            return None
        raise _Failed(f"responded with {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise _Failed(f"cannot be fetched: {reason or type(error).__name__}") from None


def _version(headers: t.Any) -> str | None:
    """Return what names the version, if it is fit for a price file and a header."""
    found = str(headers.get("ETag") or headers.get("Last-Modified") or "")
    return found if found.isprintable() and 0 < len(found) <= 200 else None


def _read_body(
    response: http.client.HTTPResponse,
    deadline: float,
    max_bytes: int,
    progress: t.Callable[[int], None] | None,
) -> bytes:
    data = bytearray()
    # read1() returns what has arrived, so that a slow source cannot stretch the timeout.
    while chunk := response.read1(_CHUNK):
        data += chunk
        if len(data) > max_bytes:
            raise _Failed(f"has more than {max_bytes:,} bytes")
        if time.monotonic() > deadline:
            raise _Failed("took too long")
        if progress is not None:
            progress(len(data))
    declared = response.headers.get("Content-Length")
    if declared is not None and declared.isdigit() and int(declared) != len(data):
        raise _Failed(f"sent only {len(data):,} of {int(declared):,} bytes")
    return bytes(data)


def _check_url(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and _is_loopback(parts.hostname):
        return
    raise _Failed("must be https, or http on loopback")


def _check_redirect(old: str, new: str) -> None:
    """Check that a redirect leads to the same server or to the internet."""
    _check_url(new)
    before, after = urllib.parse.urlsplit(old), urllib.parse.urlsplit(new)
    if (before.scheme, before.netloc) == (after.scheme, after.netloc):
        return
    found = socket.getaddrinfo(after.hostname, after.port or 443)
    if not all(is_public(str(entry[4][0])) for entry in found):
        raise _Failed(f"redirects to {after.hostname}, which is not a public address")


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
        fp.close()  # else its body is read, which may never end
        _check_redirect(req.full_url, newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(url: str) -> urllib.request.OpenerDirector:
    if _is_loopback(urllib.parse.urlsplit(url).hostname):
        # A proxy from the environment cannot reach this machine.
        return urllib.request.build_opener(_Redirects, urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(_Redirects)
