"""Lines are appended, and reach their ledger, whatever a database's URL contains."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.errors import LlmCostError
from flask_llm_cost.errors import StorageError
from flask_llm_cost.ledger import destination
from tests.conftest import MakeLedger

from .samples import make_call
from .test_ledger import stored

HUSH = "hun{}ter2"


@pytest.mark.parametrize("odd", "#/?[]:%&= ")
def test_a_password_may_contain_what_sqlalchemy_allows(odd: str) -> None:
    uri = f"mysql+pymysql://me:{HUSH.format(odd)}@h:3306/costs"
    assert sa.make_url(uri).host == "h"
    assert destination.of_uri(uri, "/x", lambda: "/tmp/y") == "mysql://h:3306/costs"


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("postgresql+psycopg://u:p@H:05432/y?sslmode=on", "postgresql://h:5432/y"),
        ("postgresql://u@/y?host=/run", "postgresql://None:None/y"),
        ("postgresql://[::1]:5/y", "postgresql://::1:5/y"),
        ("postgresql://u:p@h1:1,h2:2/y", "postgresql://h1:1,h2:2/y"),
        ("postgresql://h:odd/y", "postgresql://h:odd/y"),
        ("sqlite:///a#b.db", "sqlite:/x/a#b.db"),
        ("sqlite:////a/b.db?timeout=1", "sqlite:/a/b.db"),
        ("sqlite://", "sqlite:/tmp/y/llm_cost.db"),
        ("sqlite:///:memory:", "sqlite:/tmp/y/llm_cost.db"),
        ("sqlite:///file:x?mode=memory&uri=true", "sqlite:/tmp/y/llm_cost.db"),
    ],
)
def test_the_destination_is_only_the_address(uri: str, found: str) -> None:
    assert destination.of_uri(uri, "/x", lambda: "/tmp/y") == found


@given(st.text() | st.from_regex(r"\A[a-z+]*://[a:/@?#\[\]%,1]*\Z"))
def test_no_text_is_rejected_and_an_unclear_one_is_not_repeated(uri: str) -> None:
    found = destination.of_uri(uri, os.sep, lambda: os.sep)
    assert found == destination.of_uri(uri, os.sep, lambda: os.sep)
    assert "@" not in found.partition("/")[0]


@pytest.mark.parametrize(
    "uri",
    [
        "mysql+pymysql://me:hun@ter2@127.0.0.1:1/costs",
        "mysql+pymysql://me:hunter2@h1:1,h2:2/costs",
        "mysql+pymysql://me:hunter2@h:hunter2/costs",
        "odd://me:hun#ter2@h/y",
    ],
)
def test_a_wrong_url_loses_no_call_and_shows_no_password(
    make_ledger: MakeLedger, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Exception] = []
    ledger = make_ledger(uri, failed=lambda call, error: told.append(error))
    with caplog.at_level(logging.DEBUG):
        ledger.append(make_call())
        assert not ledger.flush(0.5)
    assert (ledger.lost, ledger.queue.count()) == (0, 1)
    with pytest.raises(StorageError, match="LLM_COST_DATABASE_URI") as caught:
        ledger.queue.drain()
    said = caplog.text + str(told) + str(caught.value)
    assert "ter2" not in said


def _no_engine() -> sa.Engine:
    raise LlmCostError("LLM_COST_BIND_KEY is 'costs', which is no bind")


def _bad_host() -> sa.Engine:
    raise RuntimeError("hunter2")


@pytest.mark.parametrize(
    ("host", "message"),
    [(_no_engine, "BIND_KEY"), (_bad_host, "own database.*RuntimeError")],
)
def test_without_the_host_engine_calls_are_queued(
    make_ledger: MakeLedger,
    host: Callable[[], sa.Engine],
    message: str,
) -> None:
    ledger = make_ledger(host_engine=host)
    ledger.append(make_call())
    assert (ledger.lost, ledger.queue.count()) == (0, 1)
    with pytest.raises(StorageError, match=message) as caught:
        ledger.queue.drain()
    assert "hunter2" not in str(caught.value)
    ledger.close()  # else its thread may claim the file again
    later = make_ledger()
    assert later.queue.count() == 1
    assert later.queue.drain().new == 1
    assert len(stored(later)) == 1
