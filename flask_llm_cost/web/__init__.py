"""The dashboard: what was spent, on what, and what is unknown. It only reads.

A page is one view in ``views``, one template, and the questions it asks
:mod:`flask_llm_cost.query`.
"""

from __future__ import annotations

from functools import partial

from . import assets
from . import problems
from . import views
from .guard import Access
from .guard import Guard
from .headers import protect
from .prefix import check_prefix
from .prefix import keep_prefix
from .prefix import without_prefix
from .rendering import Context
from .rendering import Dashboard
from .rendering import Layout

__all__ = ["Access", "Context", "Layout", "make_blueprint"]


def make_blueprint(
    access: Access = None,
    *,
    name: str = "llm_cost",
    context: Context | None = None,
    layout: Layout | None = None,
) -> Dashboard:
    """Create the dashboard's blueprint.

    :param access: Who may see the pages: a callable that returns ``True`` to grant
        access, or ``"public"``. Without a rule every URL returns 404.
    :param name: The blueprint's name. Each mount in an app needs its own.
    :param context: Returns names for the templates that the app overrides.
    :param layout: Renders the app's layout around ``title``, ``head`` and ``body``.
    :raises ConfigError: If one of them is invalid.
    """
    guard = Guard(access)
    blueprint = Dashboard(name, names=views.context, context=context, layout=layout)
    blueprint.before_request(guard.check)
    blueprint.record(check_prefix)
    blueprint.url_defaults(keep_prefix)
    blueprint.add_url_rule(
        "/static/<digest>/<name>",
        "asset",
        without_prefix(assets.asset),
        methods=["GET"],
    )
    for page in views.PAGES:
        blueprint.add_url_rule(
            page.rule,
            page.endpoint,
            without_prefix(page.view),
            methods=["GET"],
            strict_slashes=False,
        )
    blueprint.record(problems.catch_unknown)
    if not guard.closed:
        # A closed dashboard looks as if it were not mounted: the app's own 404 answers.
        problems.register(blueprint)
        blueprint.after_request(partial(protect, embedded=layout is not None))
    return blueprint
