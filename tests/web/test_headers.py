from __future__ import annotations

import re

import pytest
from flask import Blueprint
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from flask_llm_cost.web import assets

from .conftest import MakeSite

POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)


@pytest.mark.parametrize(
    "address",
    ["/", "/models", "/calls", "/calls.csv", "/calls?from=x", "/nothing", "/calls/1"],
)
def test_every_response_is_private(visitor: FlaskClient, address: str) -> None:
    headers = visitor.get(f"/llm-costs{address}").headers
    assert headers["Content-Security-Policy"] == POLICY
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Robots-Tag"].startswith("noindex")
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_static_file_with_the_current_digest_is_cached(visitor: FlaskClient) -> None:
    page = visitor.get("/llm-costs/").text
    [address] = re.findall(r'rel="stylesheet" href="([^"]+)"', page)
    response = visitor.get(address)
    assert response.content_type == "text/css; charset=utf-8"
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_static_file_with_another_digest_is_not_cached(visitor: FlaskClient) -> None:
    response = visitor.get("/llm-costs/static/000000000000/pages.css")
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "name", ["nothing.css", "..%2F__init__.py", "__init__.py", ".css", "pages"]
)
def test_nothing_else_is_a_static_file(visitor: FlaskClient, name: str) -> None:
    assert visitor.get(f"/llm-costs/static/0/{name}").status_code == 404


def test_pages_are_plain_and_strict(visitor: FlaskClient) -> None:
    page = visitor.get("/llm-costs/").text
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|data:|=.https?://", page)


def links(page: str) -> set[str]:
    return set(re.findall(r'(?:href|action)="(/[^"]*)"', page))


def test_links_stay_under_the_prefix_of_a_proxy(site: Flask) -> None:
    visitor = Client(ProxyFix(site, x_prefix=1))
    page = visitor.get("/llm-costs/calls", headers={"X-Forwarded-Prefix": "/shop"})
    assert links(page.text)
    assert all(link.startswith("/shop/llm-costs") for link in links(page.text))


def test_links_stay_under_the_script_name(site: Flask) -> None:
    visitor = Client(site)
    page = visitor.get("/llm-costs/", environ_overrides={"SCRIPT_NAME": "/shop"})
    assert all(link.startswith("/shop/llm-costs") for link in links(page.text))


def test_another_mount_links_to_itself(make_site: MakeSite) -> None:
    app = make_site(None)
    extension = app.extensions["llm_cost"].extension
    mount = extension.blueprint(access="public", name="costs")
    app.register_blueprint(mount, url_prefix="/admin/a/b")
    page = app.test_client().get("/admin/a/b/calls").text
    assert all(link.startswith("/admin/a/b") for link in links(page))


def test_at_the_root_the_app_keeps_its_own_urls(make_site: MakeSite) -> None:
    app = make_site(None)
    extension = app.extensions["llm_cost"].extension
    app.register_blueprint(extension.blueprint(access="public", name="root"))
    app.register_error_handler(404, lambda error: ("the app's own", 404))
    visitor = app.test_client()
    assert visitor.get("/calls").status_code == 200
    assert visitor.get("/elsewhere").text == "the app's own"


def test_an_asset_is_named_by_its_content() -> None:
    content, digest = assets.files()["pages.css"]
    assert len(digest) == 12
    assert b"url(" not in content


def test_a_mount_inside_another_blueprint_links_to_itself(make_site: MakeSite) -> None:
    app = make_site(None)
    parent = Blueprint("admin", __name__)
    mount = app.extensions["llm_cost"].extension.blueprint(
        access="public", name="inner"
    )
    parent.register_blueprint(mount, url_prefix="/costs")
    app.register_blueprint(parent, url_prefix="/admin")
    visitor = app.test_client()
    page = visitor.get("/admin/costs/calls").text
    assert all(link.startswith("/admin/costs") for link in links(page))
    assert visitor.get("/admin/costs/nothing").headers["X-Robots-Tag"]
