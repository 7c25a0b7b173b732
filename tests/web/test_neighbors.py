"""The blueprint beside other extensions, and in hosts that handle all blueprints alike."""

from __future__ import annotations

import functools
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import apiflask
import flasgger
import flask_restx
import flask_smorest
import flask_wtf.csrf
import pytest
from flask import Blueprint
from flask import Flask
from flask.testing import FlaskClient

from flask_llm_cost import LlmCost

PAGES = ("", "models", "calls", "prices?q=gpt-4o", "calls.csv")

Open = Callable[..., FlaskClient]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Mount the dashboard on an app of another class, or below another blueprint."""
    apps: list[Flask] = []

    def opened(
        app: Flask, *, parent: Blueprint | None = None, **options: t.Any
    ) -> FlaskClient:
        apps.append(app)
        app.instance_path = str(tmp_path)
        app.config["TESTING"] = True
        blueprint = LlmCost(app).blueprint(access="public", **options)
        (parent or app).register_blueprint(blueprint, url_prefix="/costs")
        if parent is not None:
            app.register_blueprint(parent)
        return app.test_client()

    yield opened
    for app in apps:
        app.extensions["llm_cost"].close()


def works(client: FlaskClient, at: str = "/costs/") -> None:
    for path in PAGES:
        assert client.get(f"{at}{path}").status_code == 200, path
    assert client.get(f"{at}nothing").status_code == 404
    assert "Page not found" in client.get(f"{at}nothing").text


def described(client: FlaskClient, path: str) -> set[str]:
    response = client.get(path)
    assert response.status_code == 200
    return set(t.cast(dict[str, t.Any], response.json)["paths"])


def test_apiflask_describes_its_own_views(opened: Open) -> None:
    app = apiflask.APIFlask("host")
    app.get("/orders")(lambda: {})
    client = opened(app)
    works(client)
    assert described(client, "/openapi.json") == {"/orders"}


def test_smorest_describes_its_own_views(opened: Open) -> None:
    app = Flask("host")
    app.config.update(
        API_TITLE="Shop",
        API_VERSION="1",
        OPENAPI_VERSION="3.0.3",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
    )
    api = flask_smorest.Api(app)
    orders = flask_smorest.Blueprint("orders", "orders")
    orders.route("/orders")(lambda: {})
    api.register_blueprint(orders)
    client = opened(app)
    works(client)
    assert described(client, "/openapi.json") == {"/orders"}


def test_flasgger_describes_its_own_views(opened: Open) -> None:
    app = Flask("host")
    flasgger.Swagger(app)
    client = opened(app)
    works(client)
    assert described(client, "/apispec_1.json") == set()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_restx_at_the_root_leaves_the_pages_alone(opened: Open) -> None:
    app = Flask("host")
    flask_restx.Api(app)
    client = opened(app)
    works(client)
    assert described(client, "/swagger.json") == set()


def test_a_nested_blueprint_works(opened: Open) -> None:
    parent = Blueprint("admin", "admin", url_prefix="/admin/<team>")
    client = opened(Flask("host"), parent=parent)
    works(client, "/admin/finance/costs/")
    page = client.get("/admin/finance/costs/models").text
    assert 'href="/admin/finance/costs/calls"' in page


def test_a_host_may_set_attributes_on_blueprints_and_views(opened: Open) -> None:
    app = Flask("host")
    client = opened(app)
    for blueprint in app.blueprints.values():
        blueprint.login_required = True  # type: ignore[attr-defined]
    for view in app.view_functions.values():
        view.exempt = True  # type: ignore[attr-defined]
    works(client)


def test_attributes_set_on_the_views_of_one_app_are_not_anothers(opened: Open) -> None:
    one, two = Flask("one"), Flask("two")
    opened(one)
    opened(two)
    for name, view in one.view_functions.items():
        if name != "static":
            assert view is not two.view_functions[name]


def test_a_host_may_wrap_and_list_all_views(opened: Open) -> None:
    app = Flask("host")
    client = opened(app)
    seen = []
    for name, view in list(app.view_functions.items()):

        @functools.wraps(view)
        def wrapped(*args: t.Any, _view: t.Any = view, **values: t.Any) -> t.Any:
            seen.append(_view.__name__)
            return _view(*args, **values)

        app.view_functions[name] = wrapped
        assert view.__doc__ or name == "static"
    works(client)
    assert "models" in seen


@pytest.fixture
def guarded() -> Flask:
    """An app whose CSRF protection covers GET, too."""
    app = Flask("host")
    app.config.update(SECRET_KEY="a test's", WTF_CSRF_METHODS=["GET", "POST"])
    flask_wtf.csrf.CSRFProtect(app)
    return app


def test_a_csrf_refusal_says_what_to_do(opened: Open, guarded: Flask) -> None:
    response = opened(guarded).get("/costs/")
    assert response.status_code == 400
    assert "Invalid filter" not in response.text
    assert "The CSRF token is missing." in response.text
    assert "csrf.exempt(blueprint)" in response.text


def test_the_blueprint_can_be_exempt_from_csrf(opened: Open, guarded: Flask) -> None:
    client = opened(guarded)
    guarded.extensions["csrf"].exempt(guarded.blueprints["llm_cost"])
    works(client)
