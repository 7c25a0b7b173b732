"""A mount below a URL prefix with parameters, such as ``/tenants/<tenant>/llm-costs``."""

from __future__ import annotations

import functools
import inspect
import re
import typing as t
from collections.abc import Callable

from flask import current_app
from flask import has_request_context
from flask import request
from flask.blueprints import BlueprintSetupState

from ..errors import ConfigError

OWN: t.Final = frozenset({"digest", "event_id", "key", "name", "path"})
"""The parameters of the dashboard's own URLs."""

_PARAMETER: t.Final = re.compile(r"<(?:[^<>]*:)?(\w+)>")

View: t.TypeAlias = Callable[..., t.Any]


def check_prefix(state: BlueprintSetupState) -> None:
    """Reject a prefix that has a parameter of ours.

    :raises ConfigError: Naming it.
    """
    for name in _PARAMETER.findall(f"{state.url_prefix or ''}{state.subdomain or ''}"):
        if name in OWN:
            raise ConfigError(
                f"The URL prefix {state.url_prefix!r} of the LLM cost pages has a"
                f" parameter <{name}>, which their own URLs use. Give it another name."
            )


def without_prefix(view: View) -> View:
    """Call a view with its own URL parameters only, not those of the prefix.

    Each mount has functions of its own, so apps may set attributes on them.
    """
    own = inspect.signature(view).parameters

    @functools.wraps(view)
    def mounted(**values: t.Any) -> t.Any:
        return view(**{name: value for name, value in values.items() if name in own})

    return mounted


def keep_prefix(endpoint: str, values: dict[str, t.Any]) -> None:
    """Give links between the pages of one mount the parameters of its prefix."""
    mount = endpoint.rpartition(".")[0]
    if not has_request_context() or request.blueprint != mount:
        return
    rule = next(current_app.url_map.iter_rules(f"{mount}.overview"))
    missing = rule.arguments - values.keys()
    if missing:
        # From the URL: the app's url_value_preprocessor may have removed the arguments.
        adapter = current_app.create_url_adapter(request)
        found = adapter.match()[1] if adapter is not None else {}
        values.update((name, found[name]) for name in missing & found.keys())
