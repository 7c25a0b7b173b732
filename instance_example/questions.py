"""A page that asks a question and shows the answer, whole or streamed, and starts a job."""

from __future__ import annotations

from collections.abc import Iterator

import requests
from flask import Blueprint
from flask import redirect
from flask import render_template
from flask import request
from flask import Response
from flask import url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from . import jobs
from . import llm
from . import login_manager
from .models import db
from .models import Question

bp = Blueprint("questions", __name__, url_prefix="/questions")


@bp.before_request
def only_users() -> ResponseReturnValue | None:
    if current_user.is_authenticated:
        return None
    response: ResponseReturnValue = login_manager.unauthorized()
    return response


@bp.get("")
def page() -> ResponseReturnValue:
    return render_template("questions.html")


@bp.post("")
def whole() -> ResponseReturnValue:
    """Wait for the answer, then show it."""
    text = _asked()
    try:
        answer = llm.answer(text)
    except requests.RequestException as error:
        return render_template("questions.html", text=text, error=_kind(error)), 502
    return render_template("questions.html", text=text, answer=answer)


@bp.post("/stream")
def streamed() -> ResponseReturnValue:
    """Stream the answer."""
    text = _asked()
    try:
        pieces = llm.stream(text)
    except requests.RequestException as error:
        return render_template("questions.html", text=text, error=_kind(error)), 502
    return Response(_tolerant(pieces), mimetype="text/plain")


@bp.post("/digest")
def digest() -> ResponseReturnValue:
    """Have a job summarize what the tenant's users asked."""
    jobs.write_digest.delay(current_user.tenant.name, current_user.get_id())
    return redirect(url_for("questions.page"))


def _asked() -> str:
    text = request.form.get("text", "").strip()[:4000] or "Hello?"
    question = Question()
    question.user_id = current_user.id
    question.text = text
    db.session.add(question)
    db.session.commit()
    return text


def _tolerant(pieces: Iterator[str]) -> Iterator[str]:
    try:
        yield from pieces
    except requests.RequestException as error:
        yield f"\n\nThe answer was cut short: {_kind(error)}."


def _kind(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the provider answered {error.response.status_code}"
    return "the provider cannot be reached"
