"""Locust's web interface, under gevent."""

from __future__ import annotations

import typing as t
from pathlib import Path

from .host import Host

if t.TYPE_CHECKING:
    from flask.testing import FlaskClient


def make(folder: Path) -> Host:
    """The interface with a login."""
    from flask import redirect
    from flask_login import current_user
    from flask_login import login_user
    from flask_login import UserMixin
    from locust.env import Environment
    from locust.web import WebUI

    class User(UserMixin):  # type: ignore[misc]
        id = "admin"

    ui = WebUI(Environment(), "127.0.0.1", 0, web_login=True)
    app = ui.app
    app.secret_key = "x" * 32
    ui.login_manager.user_loader(lambda name: User())

    def submit() -> t.Any:
        login_user(User())
        return redirect("/")

    app.add_url_rule("/login_submit", "login_submit", submit, methods=["POST"])
    return Host("locust", app, lambda: current_user.is_authenticated, _login)


def _login(client: FlaskClient) -> None:
    assert client.post("/login_submit").status_code == 302
