"""The pages: what was spent, on what, and what is not known. They only read.

One page is one view in ``views.py``, one template, and the questions it asks of
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
    """Make the blueprint of the pages, to be mounted where the app likes.

    :param access: Who may look: a callable of which only ``True`` passes, or
        ``"public"``. Without a rule everything answers 404.
    :param name: Its name; a second mount in one app needs one of its own.
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
        # A closed mount looks like no mount: the app's own 404, and nothing of ours.
        problems.register(blueprint)
        blueprint.context_processor(views.context)
        blueprint.after_request(protect)
    return blueprint
