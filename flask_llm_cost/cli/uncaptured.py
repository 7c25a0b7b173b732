"""Packages that call LLMs in a way that is not captured, and what to do instead.

``docs/clients/index.rst`` has the same table, and a test compares them.
"""

from __future__ import annotations

import typing as t
from collections.abc import Collection
from collections.abc import Iterator
from dataclasses import dataclass

from .findings import Finding


@dataclass(frozen=True, slots=True)
class Uncaptured:
    """A package whose calls are not captured."""

    name: str
    """Its name on the package index."""
    transport: str
    """How it sends."""
    instead: str
    provider: str = ""
    """The provider that it calls; empty if it calls any."""
    general: bool = False
    """Whether many apps have it for other purposes."""


_OTHER: t.Final = "Call LLMs with a client that is captured, or use llm_cost.track()."

UNCAPTURED: t.Final = (
    Uncaptured("pycurl", "libcurl", _OTHER, general=True),
    Uncaptured("pyreqwest", "a library in Rust", _OTHER, general=True),
)


def uncaptured(
    version_of: t.Callable[[str], str | None], seen: Collection[str]
) -> Iterator[Finding]:
    """Report the installed packages whose calls are not captured.

    :param version_of: Returns the installed version of a package, if it is installed.
    :param seen: Providers with calls in the ledger: the app may track these.
    """
    for package in UNCAPTURED:
        version = version_of(package.name)
        if version is None:
            continue
        message = (
            f"{version} sends through {package.transport}, which is not captured."
            f" {package.instead}"
        )
        if package.general:
            message += " This only matters if the app calls an LLM with it."
        expected = package.general or package.provider in seen
        status: t.Literal["warn", "error"] = "warn" if expected else "error"
        yield Finding(status, f"SDK {package.name}", message)
