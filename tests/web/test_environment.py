"""Hosts with a Jinja environment of their own do not change the pages, nor the reverse."""

from __future__ import annotations

import datetime as dt
import typing as t
from pathlib import Path

import pytest
from flask import Flask
from flask import g
from flask import render_template_string
from jinja2 import Environment
from jinja2 import StrictUndefined
from markupsafe import Markup

from flask_llm_cost.errors import ConfigError
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.web import prefix

from .conftest import MakeSite
from .conftest import NOW
from .conftest import recorder

PATHS = ("", "models", "calls", "tags", "tags/feature", "prices?q=gpt-4o", "nothing")

AT = NOW - dt.timedelta(hours=1)

EVENT_ID = mint_event_id(AT)

SCRIPT = "<script>alert(1)</script>"


def pages(app: Flask) -> list[str]:
    record = recorder(app)
    record(tags={"feature": SCRIPT}, at=AT, event_id=EVENT_ID)
    visitor = app.test_client()
    return [visitor.get(f"/llm-costs/{path}").text for path in PATHS]


@pytest.fixture
def plain(make_site: MakeSite) -> list[str]:
    """The pages of an app that changes nothing."""
    return pages(make_site())


def delimiters(app: Flask) -> None:
    app.jinja_options = {
        "variable_start_string": "[[",
        "variable_end_string": "]]",
        "block_start_string": "<%",
        "block_end_string": "%>",
        "comment_start_string": "<#",
        "comment_end_string": "#>",
    }


def line_statements(app: Flask) -> None:
    app.jinja_env.line_statement_prefix = "<"


def asynchronous(app: Flask) -> None:
    app.jinja_options = {"enable_async": True}


def without_autoescape(app: Flask) -> None:
    app.jinja_env.autoescape = False
    app.select_jinja_autoescape = lambda name: False  # type: ignore[method-assign]


def context_processors(app: Flask) -> None:
    names = ("slice", "waiting", "selection", "fmt", "pages", "charts", "queued", "ui")
    names += ("url_for", "request", "asset", "answer", "totals", "title", "range")
    app.context_processor(lambda: dict.fromkeys(names, "the host's"))


def globals_(app: Flask) -> None:
    names = ("range", "dict", "namespace", "url_for", "labels", "present", "clock")
    app.jinja_env.globals.update(dict.fromkeys(names, "the host's"))


def filters(app: Flask) -> None:
    for name in ("truncate", "map", "round", "max", "dictsort", "first", "length"):
        app.add_template_filter(lambda value, *args, **options: "the host's", name)


def tests(app: Flask) -> None:
    for name in ("none", "defined"):
        app.add_template_test(lambda value: True, name)


def i18n(app: Flask) -> None:
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.install_gettext_callables(  # type: ignore[attr-defined]
        lambda text: "the host's", lambda one, many, n: "the host's", newstyle=True
    )


def finalize(app: Flask) -> None:
    app.jinja_env.finalize = lambda value: "" if value is None else f"<{value}>"


def undefined(app: Flask) -> None:
    app.jinja_env.undefined = StrictUndefined


def another_class(app: Flask) -> None:
    class Broken(Environment):
        def getattr(self, obj: t.Any, attribute: str) -> t.Any:
            raise TypeError("the host's sandbox")

    app.jinja_env.__class__ = Broken


@pytest.mark.parametrize(
    "change",
    [
        delimiters,
        line_statements,
        asynchronous,
        without_autoescape,
        context_processors,
        globals_,
        filters,
        tests,
        i18n,
        finalize,
        undefined,
        another_class,
    ],
)
def test_a_hosts_environment_changes_no_page(
    plain: list[str], make_site: MakeSite, change: t.Callable[[Flask], None]
) -> None:
    app = make_site()
    change(app)
    found = pages(app)
    assert found == plain
    assert not any(SCRIPT in page for page in found)


def override(app: Flask, folder: Path, **templates: str) -> None:
    folder = folder / "templates"
    folder.joinpath("llm_cost").mkdir(parents=True)
    for name, source in templates.items():
        folder.joinpath("llm_cost", f"{name}.html").write_text(source)
    app.jinja_loader.searchpath.append(str(folder))  # type: ignore[union-attr]


def mount(app: Flask, at: str = "/costs", **options: t.Any) -> t.Any:
    extension = app.extensions["llm_cost"].extension
    blueprint = extension.blueprint(access="public", **options)
    app.register_blueprint(blueprint, url_prefix=at)
    return app.test_client()


def test_an_override_is_standard_jinja(make_app: t.Any, tmp_path: Path) -> None:
    app = make_app(SECRET_KEY="a test's")
    delimiters(app)
    source = (
        '{% extends "llm_cost/layout.html" %}{% block nav %}'
        "{{ url_for('home') }} {{ request.path }} {{ g.team }} {{ session.x or '-' }}"
        " {{ shop }} {{ '<' }}{% endblock %}"
    )
    override(app, tmp_path, base=source)
    app.add_url_rule("/home", "home", lambda: "")
    app.before_request(lambda: setattr(g, "team", "finance"))
    client = mount(app, context=lambda: {"shop": "Shop", "fmt": "not this one"})
    page = client.get("/costs/models").text
    assert "/home /costs/models finance - Shop &lt;" in page


def shop_layout(*, title: Markup, head: Markup, body: Markup) -> str:
    return render_template_string(
        "<!doctype html><title><< title >></title><< head >><b><< user >></b><< body >>",
        title=title,
        head=head,
        body=body,
    )


def test_pages_render_inside_the_layout_of_the_host(make_app: t.Any) -> None:
    app = make_app()
    app.jinja_options = {"variable_start_string": "<<", "variable_end_string": ">>"}
    app.context_processor(lambda: {"user": "Ann"})
    client = mount(app, layout=shop_layout)
    for path in ("", "models", "calls?from=x", "nothing"):
        response = client.get(f"/costs/{path}")
        page = response.text
        assert page.count("<!doctype html>") == 1
        assert page.count("<title>") == page.count("<h1>") == page.count("<b>Ann</b>")
        assert page.count('<div class="llm-costs">') == 1
        assert "embedded.css" in page
        assert "<main" not in page
        # The policy of the host's pages is the host's.
        assert "Content-Security-Policy" not in response.headers
    assert "<title>Models · LLM costs</title>" in client.get("/costs/models").text


def test_the_style_sheet_of_an_embedded_page_leaves_the_host_alone(
    make_app: t.Any,
) -> None:
    client = mount(make_app(), layout=lambda title, head, body: head)
    address = client.get("/costs/").text.partition('href="')[2].partition('"')[0]
    css = client.get(address).text
    assert css.startswith(".llm-costs {")
    assert ":root" not in css
    assert css.count("{") == css.count("}")


def test_an_override_without_our_layout_cannot_be_embedded(
    make_app: t.Any, tmp_path: Path
) -> None:
    app = make_app()
    override(app, tmp_path, base="Ours")
    client = mount(app, layout=shop_layout)
    with pytest.raises(ConfigError, match=r"llm_cost/layout\.html"):
        client.get("/costs/models")


@pytest.mark.parametrize("option", ["context", "layout"])
def test_an_option_that_is_not_callable_is_rejected(
    make_app: t.Any, option: str
) -> None:
    with pytest.raises(ConfigError, match=option):
        mount(make_app(), **{option: "layout.html"})


def broken(**values: t.Any) -> t.Any:
    raise RuntimeError("the host's layout failed")


@pytest.mark.parametrize(
    "options", [{"context": broken}, {"layout": broken}], ids=["context", "layout"]
)
def test_an_error_page_does_not_fail(
    make_app: t.Any, options: dict[str, t.Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(PROPAGATE_EXCEPTIONS=False)
    client = mount(app, **options)
    for path, status in (("", 500), ("nothing", 404), ("calls?from=%3Cb%3E", 400)):
        response = client.get(f"/costs/{path}")
        assert response.status_code == status
        assert response.text.count("<h1>") == 1
        assert "<b>" not in response.text
    assert "the host's layout failed" in caplog.text


def test_a_broken_override_does_not_fail_the_error_page(
    make_app: t.Any, tmp_path: Path
) -> None:
    app = make_app(PROPAGATE_EXCEPTIONS=False)
    override(app, tmp_path, base="{% if %}")
    response = mount(app).get("/costs/models")
    assert response.status_code == 500
    assert "Internal error" in response.text


def take_tenant(app: Flask) -> None:
    @app.url_value_preprocessor
    def take(endpoint: str | None, values: dict[str, t.Any] | None) -> None:
        g.tenant = (values or {}).pop("tenant", None)


def give_tenant(app: Flask) -> None:
    @app.url_defaults
    def give(endpoint: str, values: dict[str, t.Any]) -> None:
        if app.url_map.is_endpoint_expecting(endpoint, "tenant"):
            values.setdefault("tenant", g.tenant)


def links(page: str) -> list[str]:
    return [part.partition('"')[0] for part in page.split('href="')[1:]]


@pytest.mark.parametrize(
    "helpers", [(), (take_tenant,), (take_tenant, give_tenant), (give_tenant,)]
)
def test_a_prefix_may_have_parameters(make_app: t.Any, helpers: t.Any) -> None:
    app = make_app()
    for helper in helpers:
        helper(app)
    if helpers == (give_tenant,):
        app.before_request(lambda: setattr(g, "tenant", "acme"))
    call = recorder(app)()
    client = mount(app, "/t/<tenant>/costs")
    for path in ("", "models", f"calls/{call.event_id}", "tags/feature", "calls.csv"):
        response = client.get(f"/t/acme/costs/{path}")
        assert response.status_code == 200, path
        found = links(response.text)
        assert all(link.startswith(("/t/acme/costs/", "#")) for link in found), path
        assert client.get(found[1]).status_code == 200 if found else path == "calls.csv"
    for path, status in (("calls?from=x", 400), ("nothing", 404)):
        response = client.get(f"/t/acme/costs/{path}")
        assert response.status_code == status
        assert "/t/acme/costs/calls" in response.text
    assert client.post("/t/acme/costs/").status_code == 405


def test_a_subdomain_may_be_a_parameter(make_app: t.Any) -> None:
    app = make_app(SERVER_NAME="shop.test")
    app.subdomain_matching = True
    app.url_map.host_matching = False
    extension = app.extensions["llm_cost"].extension
    app.register_blueprint(
        extension.blueprint(access="public"), url_prefix="/costs", subdomain="<tenant>"
    )
    client = app.test_client()
    page = client.get("/costs/", base_url="http://acme.shop.test")
    assert page.status_code == 200


def test_a_prefix_parameter_of_ours_is_rejected_at_once(make_app: t.Any) -> None:
    app = make_app()
    mount(app)
    rules = app.url_map.iter_rules()
    ours = [rule.arguments for rule in rules if rule.endpoint.startswith("llm_cost.")]
    assert set().union(*ours) == prefix.OWN
    for name in prefix.OWN:
        with pytest.raises(ConfigError, match=f"<{name}>.*another name"):
            mount(app, f"/t/<string:{name}>/costs", name=f"with_{name}")


def test_another_bad_request_is_not_an_invalid_filter(make_app: t.Any) -> None:
    app = make_app()

    @app.before_request
    def refuse() -> t.Any:
        from flask import abort

        abort(400, "The CSRF token is missing.")

    page = mount(app).get("/costs/").text
    assert "Invalid filter" not in page
    assert "The CSRF token is missing." in page
