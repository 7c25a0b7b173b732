"""Rendering: a separate Jinja environment, which no setting of the app changes."""

from __future__ import annotations

import logging
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Mapping

from flask import Blueprint
from flask import current_app
from flask import Flask
from flask import g
from flask import request
from flask import session
from flask import url_for
from jinja2 import BaseLoader
from jinja2 import ChoiceLoader
from jinja2 import Environment
from jinja2 import PackageLoader
from jinja2 import TemplateNotFound
from markupsafe import Markup

from ..errors import ConfigError

_logger = logging.getLogger("flask_llm_cost.web")

Context: t.TypeAlias = Callable[[], Mapping[str, t.Any]]
"""Returns names that templates can use."""

Layout: t.TypeAlias = Callable[..., str]
"""Renders the app's own layout around ``title``, ``head`` and ``body``."""

_FALLBACK: t.Final = Markup(
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    "<title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>\n"
)


class Dashboard(Blueprint):
    """The blueprint of the pages, which knows how to render them.

    :param names: The names that every template of ours uses.
    :param context: The app's own names, for templates that it overrides.
    :param layout: The app's own layout.
    :raises ConfigError: If ``context`` or ``layout`` is not callable.
    """

    enable_openapi = False
    """APIFlask reads it of each blueprint that has a ``before_request`` function."""

    def __init__(
        self,
        name: str,
        *,
        names: Context,
        context: Context | None,
        layout: Layout | None,
    ) -> None:
        super().__init__(name, __name__)
        for key, value in (("context", context), ("layout", layout)):
            if value is not None and not callable(value):
                raise ConfigError(
                    f"blueprint({key}=...) must be a callable, not {value!r}."
                )
        self._names = names
        self._context = context
        self._layout = layout
        self._environments: weakref.WeakKeyDictionary[Flask, Environment] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def environment(self) -> Environment:
        """The environment of the current app's pages."""
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        found = self._environments.get(app)
        if found is None:
            found = self._environments[app] = _environment(app)
        return found

    def render(self, name: str, values: Mapping[str, t.Any]) -> str:
        """Render a template, inside the app's layout if there is one."""
        layout = self._layout
        template = self.environment.get_template(f"llm_cost/{name}.html")
        names = {
            **(_call(self._context) if self._context is not None else {}),
            **self._names(),
            **values,
            "embedded": layout is not None,
        }
        if layout is None:
            return template.render(names)
        parts = template.make_module(names)
        try:
            title, head, body = parts.page_title, parts.page_head, parts.page_body  # type: ignore[attr-defined]
        except AttributeError:
            raise ConfigError(
                "blueprint(layout=...) needs pages that extend llm_cost/layout.html, but"
                f" the app's override of llm_cost/{name}.html or llm_cost/base.html does"
                " not. Extend it, or remove layout=."
            ) from None
        return t.cast(str, _call(layout, title=title, head=head, body=body))


def _call(function: Callable[..., t.Any], **values: Markup) -> t.Any:
    return current_app.ensure_sync(function)(**values)


def render(name: str, **values: t.Any) -> str:
    """Render a template for the mount that serves the current request."""
    return _dashboard().render(name, values)


def render_error(name: str, title: str, text: str | None, **values: t.Any) -> str:
    """As :func:`render`, but if that fails, return a page that needs nothing."""
    try:
        return render(name, title=title, description=text, **values)
    except Exception:
        # The app's override, context or layout, or a URL that cannot be built: whatever
        # it is, it must not replace the error that the visitor is to see.
        _logger.exception("An error page of the LLM cost pages cannot be rendered.")
        text = text or "See the app's log for details."
        return _FALLBACK.format(title=title, text=text)


def _dashboard() -> Dashboard:
    blueprints = (current_app.blueprints.get(name) for name in request.blueprints)
    return next(found for found in blueprints if isinstance(found, Dashboard))


class _Overrides(BaseLoader):
    """The templates of the current app, which take precedence over ours."""

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        loader = current_app.jinja_env.loader
        if loader is None or not loader.has_source_access:
            raise TemplateNotFound(template)
        return loader.get_source(environment, template)


def _environment(app: Flask) -> Environment:
    ours = PackageLoader("flask_llm_cost.web")
    environment = Environment(
        loader=ChoiceLoader([_Overrides(), ours]),
        autoescape=True,
        auto_reload=app.jinja_env.auto_reload,
    )
    # These follow the current request. The app's url_defaults apply to url_for.
    environment.globals.update(url_for=url_for, request=request, g=g, session=session)
    return environment
