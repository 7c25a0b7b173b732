"""How does an alert reach the app's webhook, and nothing else?"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
import time
import typing as t
from urllib.parse import SplitResult
from urllib.parse import urlsplit

TIMEOUT: t.Final = 10.0
_MOST_ANSWER: t.Final = 64 * 1024


class Refused(Exception):
    """An alert was not accepted. The message names no part of the URL but its host."""


class Webhook:
    """Posts alerts to one URL.

    The host is resolved once for each delivery, and the address that was looked at is the
    one that is connected to: a name that points elsewhere a moment later is no way into a
    private network. Redirects are not followed.

    :param secret: Signs each body, with its time (``X-LLM-Cost-Signature``).
    :param private: Let it be an address that is not public.
    """

    def __init__(
        self, url: str, *, secret: str | None = None, private: bool = False
    ) -> None:
        self._url = urlsplit(url)
        self._secret = secret
        self._private = private

    def __call__(self, number: str, body: bytes) -> None:
        """Post one alert.

        :param number: Its id, the same each time it is tried.
        :raises Refused: If it was not accepted.
        """
        host = self._url.hostname or ""
        try:
            status = self._post(host, number, body)
        except OSError as error:
            raise Refused(f"{host}: {type(error).__name__}: {error}") from error
        except (http.client.HTTPException, ValueError) as error:
            # Their words may repeat the path, which is often the secret.
            raise Refused(f"{host}: {type(error).__name__}") from None
        if not 200 <= status < 300:
            raise Refused(f"{host} answered {status}")

    def _post(self, host: str, number: str, body: bytes) -> int:
        connection = _Pinned(self._address(host), self._url, timeout=TIMEOUT)
        try:
            connection.request(
                "POST", _target(self._url), body, self._headers(number, body)
            )
            response = connection.getresponse()
            response.read(_MOST_ANSWER)
            return response.status
        finally:
            connection.close()

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
        """The address to connect to: all that the name stands for must be public."""
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if not self._private:
            for address in addresses:
                if not _is_public(address):
                    raise Refused(
                        f"{host} is not a public address: set LLM_COST_ALERT_ALLOW_PRIVATE"
                        " if it is meant to be in a private network"
                    )
        return addresses[0]


def sign(secret: str, at: str, body: bytes) -> str:
    """The signature of a body that was posted at a time (seconds since 1970, as text)."""
    return hmac.new(
        secret.encode(), at.encode() + b"." + body, hashlib.sha256
    ).hexdigest()


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        # Forms in which an IPv6 address stands for one of IPv4.
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is None and parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
        if any(parsed in network for network in _LOCAL):
            return False
    return parsed.is_global and not parsed.is_multicast


_NAT64: t.Final = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL: t.Final = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "::/96",  # an address of IPv4, in the form that is no longer used
            "::ffff:0:0:0/96",  # and in the one of translators
            "64:ff9b:1::/48",  # NAT64 inside a network
            "fec0::/10",  # once the private addresses of IPv6
        ),
    )
)
"""What ``is_global`` takes for public, and is not."""


def _target(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was looked at, in the name of its host."""

    def __init__(self, address: str, url: SplitResult, *, timeout: float) -> None:
        self._secure = url.scheme == "https"
        self._address = address
        super().__init__(
            url.hostname or "",
            url.port or (443 if self._secure else 80),
            timeout=timeout,
        )

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)
