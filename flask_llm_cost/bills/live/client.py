"""A client for admin APIs: timeouts, retries, and a key that is never shown."""

from __future__ import annotations

import datetime as dt
import email.utils
import ipaddress
import json
import time
import typing as t
import urllib.parse
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping

import requests
from requests.auth import AuthBase

from ...capture.suppression import suppress
from ...errors import BillError
from ..document import MAX_JSON
from ..values import shown

Progress: t.TypeAlias = Callable[[str], None]
Query: t.TypeAlias = Iterable[tuple[str, str]]

_TIMEOUT_S: t.Final = (10, 60)
_ATTEMPTS: t.Final = 5
_RETRIED: t.Final = frozenset((408, 425, 429, 500, 502, 503, 504, 529))
_LONGEST_WAIT_S: t.Final = 300.0
_CHUNK: t.Final = 64 * 1024


class Gone(Exception):
    """A cursor expired: start over from the first page."""


class _Temporary(Exception):
    """A request failed, and may succeed when it is sent again."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Key(AuthBase):
    """Adds the key to a request. Without it, requests would look into ``.netrc``."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        return request


class Client:
    """Asks one API. Use it in a ``with`` block.

    :param source: The API's name in errors and progress.
    :param headers: What carries the key.
    """

    def __init__(
        self,
        source: str,
        url: str,
        headers: Mapping[str, str],
        *,
        team: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.source = source
        self.team = team
        self._url = url.rstrip("/")
        self._check_url()
        self._key = _Key(headers)
        self._progress = progress
        self._session = requests.Session()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._session.close()

    def _check_url(self) -> None:
        parts = urllib.parse.urlsplit(self._url)
        if parts.scheme == "https" and parts.hostname:
            return
        if parts.scheme != "http" or not _is_loopback(parts.hostname or ""):
            raise BillError(self.source, None, "its URL must be https, or on loopback.")

    def error(self, what: str, message: str) -> BillError:
        """Return an error about a request."""
        return BillError(f"{self.source}'s API", what, message)

    def get(self, what: str, path: str, query: Query = ()) -> bytes:
        """Return the body of an answer.

        :param what: What is requested, as errors and progress name it.
        :raises BillError: If the request fails, after retries.
        :raises Gone: If a cursor expired.
        """
        return self._send(what, "GET", path, list(query), None)

    def post(self, what: str, path: str, body: object) -> bytes:
        """Return the body of the answer to a question in JSON; see :meth:`get`."""
        return self._send(what, "POST", path, [], body)

    def _send(
        self,
        what: str,
        method: str,
        path: str,
        query: list[tuple[str, str]],
        body: object,
    ) -> bytes:
        if self._progress is not None:
            self._progress(f"Requesting from {self.source}: {what}.")
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with suppress():
                    return self._once(what, method, path, query, body)
            except _Temporary as failure:
                wait = (
                    failure.wait_s if failure.wait_s is not None else 2.0**attempt / 2
                )
                if attempt == _ATTEMPTS or wait > _LONGEST_WAIT_S:
                    raise self.error(
                        what,
                        f"{failure} ({attempt} attempts; asked to wait {wait:.0f} s)."
                        " Try again later.",
                    ) from None
                self._wait(wait, str(failure))
        raise AssertionError("unreachable")

    def _wait(self, seconds: float, reason: str) -> None:
        if self._progress is not None:
            self._progress(f"{reason}; waiting {seconds:.0f} s.")
        time.sleep(seconds)

    def _once(
        self,
        what: str,
        method: str,
        path: str,
        query: list[tuple[str, str]],
        body: object,
    ) -> bytes:
        try:
            with self._session.request(
                method,
                f"{self._url}{path}",
                params=query,
                json=body,
                auth=self._key,
                timeout=_TIMEOUT_S,
                allow_redirects=False,
                stream=True,
            ) as response:
                return self._body(what, response)
        except requests.RequestException as error:
            # Its text may have the URL, but never a header.
            raise _Temporary(f"no complete answer ({type(error).__name__})") from None

    def _body(self, what: str, response: requests.Response) -> bytes:
        status = response.status_code
        if status in _RETRIED:
            wait = _retry_after(response.headers.get("Retry-After"))
            raise _Temporary(f"it answered with {status}", wait)
        if status == 410:
            raise Gone
        # Otherwise urllib3 1.26 passes a body that was cut as the whole.
        response.raw.enforce_content_length = True
        body = bytearray()
        for chunk in response.iter_content(_CHUNK):
            body += chunk
            if len(body) > MAX_JSON:
                raise self.error(what, f"the answer has more than {MAX_JSON:,} bytes.")
        if status != 200:
            raise self.error(what, _refusal(status, bytes(body)))
        return bytes(body)


_ADVICE: t.Final = {
    401: "Check the key: it must be an administrator's key, not one for calls.",
    403: "The key lacks permission, or is one for calls.",
    404: "The account or the team has no such report.",
}


def _refusal(status: int, body: bytes) -> str:
    """Return what a refusal says. Providers repeat a part of a wrong key: leave it out."""
    try:
        found = json.loads(body[:100_000])
    except (ValueError, RecursionError):
        found = None
    error = found.get("error") if isinstance(found, dict) else None
    kind = error.get("type") or error.get("code") if isinstance(error, dict) else None
    named = f": {shown(str(kind))}" if kind and status not in (401, 403) else ""
    advice = _ADVICE.get(status, "")
    return f"it answered with {status}{named}. {advice}".strip()


def _retry_after(value: str | None) -> float | None:
    """Read seconds or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return max(0.0, (moment - dt.datetime.now(dt.UTC)).total_seconds())


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
