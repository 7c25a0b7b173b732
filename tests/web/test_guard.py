"""Nobody sees an app's costs unless its access rule grants it."""

from __future__ import annotations

import base64
import logging
import typing as t

import flask_login
import pytest
from flask import abort
from flask import Flask
from flask import redirect
from flask import request
from flask import Response
from flask.testing import FlaskClient
from werkzeug.datastructures import Authorization

from flask_llm_cost.errors import ConfigError
from flask_llm_cost.web import make_blueprint

from .conftest import MakeSite

ADDRESSES = [
    "/llm-costs",
    "/llm-costs/",
    "/llm-costs/calls",
    "/llm-costs/calls.csv",
    "/llm-costs/calls/019a0000-0000-7000-8000-000000000000",
    "/llm-costs/no/such/page",
    "/llm-costs/static/000000000000/nothing.css",
]


def stylesheet(app: Flask) -> str:
    from flask_llm_cost.web import assets

    return f"/llm-costs/static/{assets.files()['pages.css'][1]}/pages.css"


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_without_a_rule_there_is_nothing(
    make_site: MakeSite, address: str, method: str
) -> None:
    response = make_site(access=None).test_client().open(address, method=method)
    assert response.status_code == 404
    assert "LLM cost" not in response.text


def test_without_a_rule_not_even_the_stylesheet_is_there(make_site: MakeSite) -> None:
    app = make_site(access=None)
    assert app.test_client().get(stylesheet(app)).status_code == 404


def test_without_a_rule_the_apps_own_404_answers(make_site: MakeSite) -> None:
    app = make_site(access=None)
    app.register_error_handler(404, lambda error: ("the app's own", 404))
    response = app.test_client().get("/llm-costs/")
    assert response.text == "the app's own"
    assert "X-Robots-Tag" not in response.headers


def test_without_a_rule_the_log_says_once_what_to_do(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    visitor = make_site(access=None).test_client()
    visitor.get("/llm-costs/")
    visitor.get("/llm-costs/calls")
    [warning] = [r for r in caplog.records if r.name == "flask_llm_cost.web"]
    assert warning.levelno == logging.WARNING
    assert "access=" in warning.getMessage()


def test_without_a_rule_debug_says_what_to_do(make_site: MakeSite) -> None:
    app = make_site(access=None)
    app.debug = True
    response = app.test_client().get("/llm-costs/")
    assert response.status_code == 403
    assert "access=lambda" in response.text


@pytest.mark.parametrize("access", ["everyone", True, 1, {}, ()])
def test_anything_except_a_callable_or_public_is_rejected(access: t.Any) -> None:
    with pytest.raises(ConfigError, match="callable"):
        make_blueprint(access)


class NumpyTrue:
    """Truthy and equal to True, like ``numpy.bool_``, but not True."""

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return other is True

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("verdict", [False, None, 0, 1, [1], {"a": 1}, NumpyTrue()])
@pytest.mark.parametrize("address", ADDRESSES)
def test_only_true_passes(make_site: MakeSite, verdict: object, address: str) -> None:
    response = make_site(access=lambda: verdict).test_client().get(address)
    assert response.status_code == 403


def test_a_truthy_verdict_is_logged_with_its_type(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    make_site(access=lambda: 1).test_client().get("/llm-costs/")
    assert "returned a int" in caplog.text


def test_true_passes(make_site: MakeSite) -> None:
    visitor = make_site(access=lambda: True).test_client()
    assert visitor.get("/llm-costs/").status_code == 200
    assert visitor.get("/llm-costs/no/such/page").status_code == 404


@pytest.mark.parametrize(
    ("verdict", "status", "text"),
    [
        (lambda: redirect("/login"), 302, "/login"),
        (lambda: Response("pay first", 402), 402, "pay first"),
        (lambda: ("who are you", 401, {"WWW-Authenticate": "Basic"}), 401, "who"),
        (lambda: "come back tomorrow", 200, "come back tomorrow"),
    ],
)
def test_a_response_is_returned_unchanged(
    make_site: MakeSite, verdict: t.Any, status: int, text: str
) -> None:
    response = make_site(access=verdict).test_client().get("/llm-costs/calls")
    assert response.status_code == status
    assert text in response.text
    assert "Content-Security-Policy" not in response.headers


def test_an_abort_in_the_rule_is_passed_on(make_site: MakeSite) -> None:
    response = make_site(access=lambda: abort(401)).test_client().get("/llm-costs/")
    assert response.status_code == 401


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_rule_that_fails_keeps_the_pages_closed(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    def broken() -> bool:
        raise LookupError("no such user")

    response = make_site(access=broken).test_client().get(address)
    assert response.status_code == 500
    assert "no such user" not in response.text
    assert "no such user" in caplog.text


def test_an_invalid_response_keeps_the_pages_closed(
    make_site: MakeSite,
) -> None:
    response = make_site(access=lambda: (True, "x", "y", "z")).test_client()
    assert response.get("/llm-costs/").status_code == 500


def test_the_403_page_has_its_stylesheet(make_site: MakeSite) -> None:
    app = make_site(access=lambda: False)
    visitor = app.test_client()
    assert stylesheet(app) in visitor.get("/llm-costs/").text
    assert visitor.get(stylesheet(app)).status_code == 200


def test_public_shows_everyone(make_site: MakeSite) -> None:
    assert make_site("public").test_client().get("/llm-costs/").status_code == 200


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name
        self.is_admin = name == "admin"


def with_login(make_site: MakeSite, access: t.Any) -> FlaskClient:
    app = make_site(access)
    app.secret_key = "test"
    manager = flask_login.LoginManager(app)
    manager.user_loader(User)
    manager.request_loader(
        lambda request: User(request.args["as"]) if "as" in request.args else None
    )
    manager.login_view = "login"
    app.add_url_rule("/login", "login", lambda: "log in")
    return app.test_client()


def admin() -> bool:
    user = flask_login.current_user
    return bool(user.is_authenticated and user.is_admin)


@pytest.mark.parametrize(
    ("who", "status"), [("", 403), ("?as=user", 403), ("?as=admin", 200)]
)
def test_flask_login_users_are_distinguished(
    make_site: MakeSite, who: str, status: int
) -> None:
    visitor = with_login(make_site, admin)
    assert visitor.get(f"/llm-costs/{who}").status_code == status


def test_an_anonymous_visitor_without_is_admin_is_an_error_and_closed(
    make_site: MakeSite,
) -> None:
    visitor = with_login(make_site, lambda: flask_login.current_user.is_admin)
    assert visitor.get("/llm-costs/").status_code == 500


def test_login_required_redirects_anonymous_visitors(make_site: MakeSite) -> None:
    visitor = with_login(make_site, flask_login.login_required(lambda: True))
    response = visitor.get("/llm-costs/")
    assert response.status_code == 302
    assert response.location.startswith("/login")
    assert visitor.get("/llm-costs/?as=user").status_code == 200


def basic() -> t.Any:
    if request.authorization == Authorization(
        "basic", {"username": "finance", "password": "s"}
    ):
        return True
    return "Who are you?", 401, {"WWW-Authenticate": 'Basic realm="costs"'}


def test_http_basic_asks_and_lets_in(make_site: MakeSite) -> None:
    visitor = make_site(basic).test_client()
    assert visitor.get("/llm-costs/").headers["WWW-Authenticate"].startswith("Basic")
    token = base64.b64encode(b"finance:s").decode()
    headers = {"Authorization": f"Basic {token}"}
    assert visitor.get("/llm-costs/", headers=headers).status_code == 200


def test_each_blueprint_has_its_own_rule(make_site: MakeSite) -> None:
    app = make_site("public")
    extension = app.extensions["llm_cost"].extension
    second = extension.blueprint(access=lambda: False, name="other")
    app.register_blueprint(second, url_prefix="/closed")
    visitor = app.test_client()
    assert visitor.get("/llm-costs/").status_code == 200
    assert visitor.get("/closed/").status_code == 403
