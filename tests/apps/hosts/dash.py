"""A Dash app."""

from __future__ import annotations

from pathlib import Path

from .host import Host


def make(folder: Path) -> Host:
    """The Flask app under a Dash app with one component."""
    import dash

    app = dash.Dash(__name__)
    app.layout = dash.html.Div("Dash")
    return Host("dash", app.server)
