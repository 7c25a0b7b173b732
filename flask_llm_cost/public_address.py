"""Distinguish public addresses from those of a private network."""

from __future__ import annotations

import ipaddress
import typing as t

_NAT64: t.Final = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL: t.Final = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "::/96",  # IPv4-compatible addresses (deprecated)
            "::ffff:0:0:0/96",  # IPv4-translated addresses
            "64:ff9b:1::/48",  # local-use NAT64
            "fec0::/10",  # site-local addresses (deprecated)
        ),
    )
)
"""Networks that are not public, though ``is_global`` is true."""


def is_public(address: str) -> bool:
    """Whether an address is not of this machine or a private network."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        # IPv6 addresses that contain an IPv4 address.
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is None and parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
        if any(parsed in network for network in _LOCAL):
            return False
    return parsed.is_global and not parsed.is_multicast
