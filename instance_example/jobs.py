"""Jobs, which have no request: each is given what its calls are tagged with."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from celery import Celery
from celery import shared_task
from celery import Task
from flask import Flask

from . import llm
from . import llm_cost
from .models import db
from .models import find_tenant
from .models import Question
from .models import Tenant
from .models import User


def init_app(app: Flask) -> None:
    """Set up Celery, so that tasks run in an app context."""

    class AppTask(Task):  # type: ignore[misc]
        def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery = Celery(app.name, task_cls=AppTask)
    celery.config_from_object(app.config["CELERY"])
    celery.set_default()
    app.extensions["celery"] = celery


@shared_task(ignore_result=True)  # type: ignore[untyped-decorator]
def write_digest(tenant: str, user_id: str) -> None:
    """Summarize what the users of a tenant asked last."""
    questions = db.session.scalars(
        sa.select(Question.text)
        .join(User, User.id == Question.user_id)
        .join(Tenant, Tenant.id == User.tenant_id)
        .where(Tenant.name == tenant)
        .order_by(Question.id.desc())
        .limit(20)
    )
    with llm_cost.tags(tenant=tenant, user_id=user_id):
        text = llm.summary(questions)
    found = find_tenant(tenant)
    if found is not None:
        found.digest = text
        db.session.commit()
