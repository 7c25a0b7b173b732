"""Posts alerts to the app's webhook, and to nothing else."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import ssl
import time
import typing as t
from urllib.parse import SplitResult
from urllib.parse import urlsplit

from ..db.timeouts import time_limit
from ..db.timeouts import TimeLimit
from ..public_address import is_public

TIMEOUT: t.Final = 10.0
"""Seconds for connecting, sending and the answer's status together."""


class DeliveryError(Exception):
    """An alert was not accepted. Of the URL, the message contains only the host."""


class Webhook:
    """Posts alerts to one URL.

    The host is resolved once per delivery, and the connection uses the address that was
    checked: a name that resolves differently a moment later gives no access to a private
    network. Redirects are not followed.

    :param secret: Signs each body with its time (``X-LLM-Cost-Signature``).
    :param private: Allow addresses that are not public.
    """

    def __init__(
        self, url: str, *, secret: str | None = None, private: bool = False
    ) -> None:
        self._url = urlsplit(url)
        self._secret = secret
        self._private = private

    def __call__(self, number: str, body: bytes) -> None:
        """Post one alert.

        :param number: Its id, the same for each attempt.
        :raises DeliveryError: If it was not accepted.
        """
        host = self._url.hostname or ""
        try:
            status = self._post(host, number, body)
        except OSError as error:
            raise DeliveryError(f"{host}: {type(error).__name__}: {error}") from error
        except (http.client.HTTPException, ValueError) as error:
            # Their messages may contain the path, which is often the secret.
            raise DeliveryError(f"{host}: {type(error).__name__}") from None
        if not 200 <= status < 300:
            raise DeliveryError(f"{host} answered {status}")

    def _post(self, host: str, number: str, body: bytes) -> int:
        address = self._address(host)
        # The timeout of a socket applies to each read: a receiver could drip for hours.
        with time_limit(TIMEOUT) as limit:
            connection = _Pinned(address, self._url, limit)
            try:
                connection.request(
                    "POST", _target(self._url), body, self._headers(number, body)
                )
                # Its body says nothing more, and may never end.
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException) as error:
                if limit.expired or isinstance(error, TimeoutError):
                    raise _late() from None
                raise
            finally:
                connection.close()
            if limit.expired:
                raise _late()
            return status

    def _headers(self, number: str, body: bytes) -> dict[str, str]:
        headers = {
            "Host": self._url.netloc.rpartition("@")[2],
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "flask-llm-cost",
            "Idempotency-Key": number,
        }
        if self._secret is not None:
            at = str(int(time.time()))
            headers["X-LLM-Cost-Timestamp"] = at
            headers["X-LLM-Cost-Signature"] = "sha256=" + sign(self._secret, at, body)
        return headers

    def _address(self, host: str) -> str:
        """Return the address to connect to; all addresses of the host must be public."""
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if not self._private:
            for address in addresses:
                if not is_public(address):
                    raise DeliveryError(
                        f"{host} is not a public address; set LLM_COST_ALERT_ALLOW_PRIVATE"
                        " to post to a private network"
                    )
        return addresses[0]


def _late() -> TimeoutError:
    return TimeoutError(f"no answer within {TIMEOUT:g} s")


def sign(secret: str, at: str, body: bytes) -> str:
    """Return the signature of a body posted at a time (seconds since 1970, as text)."""
    return hmac.new(
        secret.encode(), at.encode() + b"." + body, hashlib.sha256
    ).hexdigest()


def _target(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


class _Pinned(http.client.HTTPConnection):
    """A connection to a checked address, with the name of its host for TLS."""

    def __init__(self, address: str, url: SplitResult, limit: TimeLimit) -> None:
        self._secure = url.scheme == "https"
        self._limit = limit
        self._address = address
        super().__init__(
            url.hostname or "",
            url.port or (443 if self._secure else 80),
            timeout=TIMEOUT,
        )

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        self._limit.watch(self.sock)
        if self._secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)
