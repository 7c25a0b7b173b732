"""Logging in and out."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint
from flask import redirect
from flask import render_template
from flask import request
from flask import url_for
from flask.typing import ResponseReturnValue
from flask_login import login_user
from flask_login import logout_user

from .models import find_user

bp = Blueprint("login", __name__)


@bp.get("/login")
def form() -> ResponseReturnValue:
    return render_template("login.html", failed=False)


@bp.post("/login")
def check() -> ResponseReturnValue:
    user = find_user(request.form.get("name", ""))
    if user is None or not user.knows(request.form.get("password", "")):
        return render_template("login.html", failed=True), 401
    login_user(user)
    return redirect(_next())


@bp.post("/logout")
def leave() -> ResponseReturnValue:
    logout_user()
    return redirect(url_for("login.form"))


def _next() -> str:
    """The page that the visitor requested, if it is in this app."""
    target = request.args.get("next", "")
    parts = urlsplit(target)
    # For a browser, "//host" and "/\host" are other sites.
    if parts.scheme or parts.netloc or target[:1] != "/" or target[1:2] in ("/", "\\"):
        return url_for("questions.page")
    return target
