"""A database that cannot be used: on_error decides, whatever was raised for it."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from flask_llm_cost.attempt import Attempt
from flask_llm_cost.errors import StorageError
from tests.conftest import MakeApp

from .test_enforcement import extension_of

ATTEMPT = Attempt("openai", "chat", "gpt-4o")
ENTRY = {"name": "x", "limit_usd": 5, "behavior": "block"}


class TokenRejected(Exception):
    """What an app's own code raises that fetches a token for each connection."""


def rejected() -> t.NoReturn:
    raise TokenRejected("the token abc")


@pytest.mark.parametrize("on_error", ["open", "closed"])
@pytest.mark.parametrize(
    "uri", ["sqlite:///x.db", "postgresql+psycopg://nobody@127.0.0.1:1/none"]
)
def test_on_error_decides_whatever_the_apps_own_creator_raises(
    make_app: MakeApp, uri: str, on_error: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(
        LLM_COST_DATABASE_URI=uri,
        LLM_COST_ENGINE_OPTIONS={"creator": rejected},
        LLM_COST_BUDGETS=[ENTRY | {"on_error": on_error}],
    )
    with app.app_context():
        if on_error == "closed":
            with pytest.raises(StorageError, match="cannot be used: TokenRejected$"):
                extension_of(app).begin(ATTEMPT)
        else:
            assert extension_of(app).begin(ATTEMPT)
    assert "abc" not in caplog.text


def test_a_closed_budget_refuses_where_the_ledgers_folder_cannot_be_created(
    make_app: MakeApp,
) -> None:
    app = make_app(
        LLM_COST_DATABASE_URI="sqlite:///x.db",
        LLM_COST_BUDGETS=[ENTRY | {"on_error": "closed"}],
    )
    Path(app.instance_path).write_text("not a folder")
    with app.app_context(), pytest.raises(StorageError, match="cannot be created"):
        extension_of(app).begin(ATTEMPT)
