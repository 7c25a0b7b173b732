"""An app of several customers that calls an LLM, tracks the costs and limits them.

.. code-block:: text

    $ flask --app instance_example run

It needs no API key and no network: unless ``LLM_URL`` is set, a fake provider answers on
loopback. Read ``config.py`` next.
"""

from __future__ import annotations

import typing as t

from flask import Flask
from flask import has_request_context
from flask import redirect
from flask import render_template
from flask import request
from flask import url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from flask_login import LoginManager

from flask_llm_cost import BudgetExceeded
from flask_llm_cost import LlmCost

from .models import db
from .models import load_user
from .models import seed

llm_cost = LlmCost()
login_manager = LoginManager()


def create_app(config: dict[str, t.Any] | None = None) -> Flask:
    """Create the app.

    :param config: Overrides ``config.py``; used by tests.
    """
    app = Flask(__name__, instance_relative_config=True)
    app.config.from_object("instance_example.config")
    # The deployment's own settings: secrets, provider, database.
    app.config.from_pyfile("config.py", silent=True)
    app.config.from_prefixed_env("EXAMPLE")
    app.config.update(config or {})

    db.init_app(app)
    login_manager.init_app(app)
    login_manager.login_view = "login.form"
    login_manager.user_loader(load_user)

    # After db.init_app, because the ledger uses its engine.
    llm_cost.init_app(app)

    from . import jobs
    from . import login
    from . import questions
    from . import usage

    jobs.init_app(app)
    app.register_blueprint(login.bp)
    app.register_blueprint(questions.bp)
    app.register_blueprint(usage.bp)
    app.register_blueprint(
        llm_cost.blueprint(access=staff_only), url_prefix="/llm-costs"
    )
    app.register_error_handler(BudgetExceeded, limit_reached)
    app.add_url_rule("/", "home", lambda: redirect(url_for("questions.page")))
    if app.config["PREPARE"]:
        prepare(app)
    return app


def staff_only() -> bool | ResponseReturnValue:
    """Access rule of the dashboard: customers get a 403, anonymous visitors the login page."""
    if not current_user.is_authenticated:
        return t.cast("ResponseReturnValue", login_manager.unauthorized())
    return current_user.sees_costs is True


def limit_reached(error: BudgetExceeded) -> ResponseReturnValue:
    """Show why a call was not sent. Nothing was spent on it."""
    return render_template("limit.html", error=error), 429


@llm_cost.tag_provider
def who() -> dict[str, str | None]:
    """The tags of every call in a request. Those of jobs are in ``jobs.py``."""
    if not has_request_context() or not current_user.is_authenticated:
        return {}
    return {
        "tenant": current_user.tenant.name,
        "user_id": current_user.get_id(),
        "endpoint": request.endpoint,
    }


def prepare(app: Flask) -> None:
    """Create tables and users.

    An app with migrations runs ``flask db upgrade`` and ``flask llm-cost db upgrade`` with
    each deployment instead.
    """
    with app.app_context():
        db.create_all()
        seed()
    app.extensions["llm_cost"].ledger.schema.upgrade()
