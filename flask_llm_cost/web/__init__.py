"""The dashboard: what was spent, on what, and what is unknown. It only reads.

A page is one view in ``views.py``, one template, and the questions it asks
:mod:`flask_llm_cost.query`.
"""

from __future__ import annotations

from flask import Blueprint

from . import assets
from . import problems
from . import views
from .guard import Access
from .guard import Guard
from .headers import protect

__all__ = ["Access", "make_blueprint"]


def make_blueprint(access: Access = None, *, name: str = "llm_cost") -> Blueprint:
    """Create the dashboard's blueprint.

    :param access: Who may see the pages: a callable that returns ``True`` to grant
        access, or ``"public"``. Without a rule every URL returns 404.
    :param name: The blueprint's name. Each mount in an app needs its own.
    :raises ConfigError: If ``access`` is anything else.
    """
    guard = Guard(access)
    blueprint = Blueprint(name, __name__, template_folder="templates")
    blueprint.before_request(guard.check)
    blueprint.add_url_rule(
        "/static/<digest>/<name>", "asset", assets.asset, methods=["GET"]
    )
    for page in views.PAGES:
        blueprint.add_url_rule(
            page.rule, page.endpoint, page.view, methods=["GET"], strict_slashes=False
        )
    blueprint.record(problems.catch_unknown)
    if not guard.closed:
        # A closed dashboard looks as if it were not mounted: the app's own 404 answers.
        problems.register(blueprint)
        blueprint.context_processor(views.context)
        blueprint.after_request(protect)
    return blueprint
