"""The recipes of docs/dashboard.rst are run as written."""

from __future__ import annotations

import base64
import pathlib
import re
import textwrap
import typing as t

import flask_login
import pytest
from flask import Flask
from flask import request
from flask.testing import FlaskClient
from flask_httpauth import HTTPBasicAuth
from werkzeug.middleware.proxy_fix import ProxyFix

from tests.conftest import MakeApp

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "dashboard.rst"

BLOCK = re.compile(r"^\.\. code-block:: python\n((?:\n|    .*\n)+)", re.MULTILINE)


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name
        self.is_admin = name == "admin"


def recipe(title: str) -> str:
    """The code below a heading of the page."""
    section = re.split(rf"^{re.escape(title)}\n[~-]+\n", DOCS.read_text(), flags=re.M)[
        1
    ]
    section = re.split(r"^.+\n(?:~{4,}|-{4,})\n", section, flags=re.M)[0]
    return "\n".join(textwrap.dedent(block) for block in BLOCK.findall(section))


def mounted(app: Flask, code: str, **names: t.Any) -> FlaskClient:
    """An app that follows a recipe, with the last blueprint of the recipe mounted."""
    made: list[t.Any] = []

    class Extension:
        def blueprint(self, **options: t.Any) -> t.Any:
            made.append(app.extensions["llm_cost"].extension.blueprint(**options))
            return made[-1]

    scope = {"llm_cost": Extension(), "app": app, "request": request, **names}
    exec(code, scope)
    if "llm_cost" not in app.blueprints:
        app.register_blueprint(made[-1], url_prefix="/llm-costs")
    return app.test_client()


def login(app: Flask) -> dict[str, t.Any]:
    app.secret_key = "a test's"
    manager = flask_login.LoginManager(app)
    manager.user_loader(User)
    manager.request_loader(
        lambda request: User(request.args["as"]) if "as" in request.args else None
    )
    manager.login_view = "login"
    app.add_url_rule("/login", "login", lambda: "log in")
    return {
        "current_user": flask_login.current_user,
        "login_required": flask_login.login_required,
    }


def statuses(client: FlaskClient) -> list[int]:
    who = ("", "?as=someone", "?as=admin")
    return [client.get(f"/llm-costs/{one}").status_code for one in who]


def test_flask_login_distinguishes_visitors(make_app: MakeApp) -> None:
    first, second = recipe("With Flask-Login").split("llm_cost.blueprint(access=login")
    app = make_app()
    assert statuses(mounted(app, first, **login(app))) == [403, 403, 200]
    app = make_app()
    client = mounted(app, "llm_cost.blueprint(access=login" + second, **login(app))
    assert statuses(client) == [302, 403, 200]


def token(name: str, word: str) -> dict[str, str]:
    text = base64.b64encode(f"{name}:{word}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


@pytest.mark.parametrize("number", [0, 1])
def test_basic_authentication_asks(make_app: MakeApp, number: int) -> None:
    app = make_app()
    blocks = re.split(
        r"^def basic", recipe("With HTTP basic authentication"), flags=re.M
    )
    code = blocks[0] if not number else "def basic" + blocks[1]

    def check(name: str, word: str) -> bool:
        return (name, word) == ("finance", "secret")

    client = mounted(app, code, HTTPBasicAuth=HTTPBasicAuth, check=check)
    asked = client.get("/llm-costs/")
    assert asked.status_code == 401
    assert asked.headers["WWW-Authenticate"].startswith("Basic")
    wrong = client.get("/llm-costs/", headers=token("finance", "guess"))
    assert wrong.status_code == 401
    right = client.get("/llm-costs/", headers=token("finance", "secret"))
    assert right.status_code == 200


def test_a_decorator_of_the_apps_own_guards_the_pages(make_app: MakeApp) -> None:
    app = make_app()
    client = mounted(app, recipe("With your own decorator"))
    assert client.get("/llm-costs/").status_code == 403
    headers = {"X-Team": "finance"}
    assert client.get("/llm-costs/", headers=headers).status_code == 200


def test_public_is_public(make_app: MakeApp) -> None:
    code = recipe("On a private network")
    assert mounted(make_app(), code).get("/llm-costs/").status_code == 200


def test_behind_a_proxy_links_have_its_prefix(make_app: MakeApp) -> None:
    client = mounted(make_app(), recipe("Behind a proxy"), ProxyFix=ProxyFix)
    headers = {"X-Forwarded-Prefix": "/shop", "X-Forwarded-Host": "example.org"}
    page = client.get("/llm-costs/models", headers=headers).text
    assert 'href="/shop/llm-costs/"' in page
    assert 'href="/llm-costs' not in page


def test_an_app_adds_to_the_layout(make_app: MakeApp, tmp_path: pathlib.Path) -> None:
    found = re.search(
        r"^\.\. code-block:: html\+jinja\n((?:\n|    .*\n)+)", DOCS.read_text(), re.M
    )
    assert found is not None
    folder = tmp_path / "templates" / "llm_cost"
    folder.mkdir(parents=True)
    folder.joinpath("base.html").write_text(textwrap.dedent(found[1]))
    app = make_app()
    app.jinja_loader.searchpath.append(str(tmp_path / "templates"))  # type: ignore[union-attr]
    client = mounted(app, 'llm_cost.blueprint(access="public")')
    for address in ("", "models", "prices?q=gpt-4o", "nothing"):
        page = client.get(f"/llm-costs/{address}").text
        assert '<a href="/">Back to the shop</a>' in page
        assert 'href="/static/costs.css"' in page
        assert page.count("<h1>") == 1
