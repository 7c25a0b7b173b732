"""Vanna's Flask server."""

from __future__ import annotations

from pathlib import Path

from .host import Host


def make(folder: Path) -> Host:
    """The server of an agent that is not asked."""
    from types import SimpleNamespace

    from vanna.servers.flask.app import VannaFlaskServer

    return Host("vanna", VannaFlaskServer(SimpleNamespace()).create_app())
