"""A Flask-AppBuilder app, with its users and its login form."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

from .host import Host

if t.TYPE_CHECKING:
    from flask.testing import FlaskClient


def make(folder: Path) -> Host:
    """The skeleton that ``flask fab create-app`` writes."""
    from flask import Flask
    from flask_appbuilder import AppBuilder
    from flask_appbuilder.utils.legacy import get_sqla_class
    from flask_login import current_user

    app = Flask("skeleton")
    app.config.update(
        SECRET_KEY="x" * 32,
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder / 'app.db'}",
        WTF_CSRF_ENABLED=True,
    )
    db = get_sqla_class()()
    db.init_app(app)
    appbuilder = AppBuilder()
    with app.app_context():
        appbuilder.init_app(app, db.session)
        db.create_all()
        role = appbuilder.sm.find_role("Admin")
        appbuilder.sm.add_user("admin", "A", "D", "admin@example.org", role, "secret")
    return Host(
        "flask-appbuilder",
        app,
        lambda: current_user.is_authenticated and appbuilder.sm.is_admin(),
        _login,
    )


def _login(client: FlaskClient) -> None:
    form = client.get("/login/").text
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', form)
    assert token is not None
    response = client.post(
        "/login/",
        data={"csrf_token": token[1], "username": "admin", "password": "secret"},
    )
    assert response.status_code == 302, response.status
