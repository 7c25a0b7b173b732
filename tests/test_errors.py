"""Exceptions keep type and attributes on their way between processes."""

from __future__ import annotations

import copy
import datetime as dt
import inspect
import json
import multiprocessing
import pickle
import typing as t
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from celery import Celery
from celery import signals as celery_signals
from celery.contrib.testing.worker import start_worker
from flask import Flask

import flask_llm_cost
from flask_llm_cost import errors
from flask_llm_cost.attempt import Attempt
from flask_llm_cost.errors import BillError
from flask_llm_cost.errors import BudgetExceeded
from flask_llm_cost.errors import ConfigError
from flask_llm_cost.errors import FilterError
from flask_llm_cost.errors import LlmCostError
from flask_llm_cost.errors import PriceFileError
from flask_llm_cost.errors import PriceSyncError
from flask_llm_cost.errors import SetupRequired
from flask_llm_cost.errors import StorageError
from flask_llm_cost.errors import UnknownPrice
from tests.conftest import MakeApp
from tests.ledger.samples import make_call

MAY = dt.datetime(2027, 5, 1, tzinfo=dt.UTC)

ERRORS: t.Final[list[LlmCostError]] = [
    LlmCostError("Something is wrong."),
    ConfigError("LLM_COST_TIMEZONE must be a zone, not 5."),
    BudgetExceeded(
        "per user",
        period="month",
        limit_usd=Decimal("1.50"),
        spent_usd=Decimal("1.000000000001"),
        resets_at=MAY,
        call=make_call(1, event_id="019ca945-0a01-765e-b693-6d8bab864b42"),
        tags={"user": "añe"},
        reserved_usd=Decimal("0.2"),
        lost_usd=Decimal("0.1"),
        estimate_usd=Decimal("0.4"),
    ),
    BudgetExceeded("one", "call", Decimal(1), Decimal(2)),
    UnknownPrice("acme", "brain-1"),
    StorageError("The ledger cannot be written."),
    SetupRequired("Run 'flask llm-cost db upgrade'."),
    PriceFileError("prices.json is malformed."),
    PriceSyncError("litellm failed."),
    BillError("may.csv", "row 3", "cost 'ten' is not a number."),
    FilterError("from", "'x' is not a valid date."),
]
every_error = pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)


def known(error: BaseException) -> dict[str, t.Any]:
    """The type, the message and the attributes of an error."""
    return {"type": type(error), "text": str(error)} | vars(error)


def fail(number: int) -> None:
    raise ERRORS[number]


def test_the_text_of_an_exceeded_budget_has_no_amounts() -> None:
    full = BudgetExceeded("all", "month", "100", "123.45", tags={"user": "ann"})
    assert str(full) == "The month budget 'all' of user 'ann' is exceeded."
    assert "$123.45 of $100 spent" in full.describe()
    no_room = BudgetExceeded("all", "month", "100", "50", reserved_usd="45.5")
    assert str(no_room) == "The month budget 'all' has no room for this call."
    assert "$45.5 reserved" in no_room.describe()
    for error in (full, no_room):
        assert not any(sign in str(error) for sign in ("$", "100", "123", "45"))


def test_no_error_is_forgotten_here() -> None:
    public = {kind for _, kind in inspect.getmembers(errors, inspect.isclass)}
    ours = {kind for kind in public if issubclass(kind, LlmCostError)}
    assert {type(error) for error in ERRORS} == ours
    assert all(getattr(flask_llm_cost, kind.__name__) is kind for kind in ours)


@every_error
def test_errors_can_be_pickled_and_copied(error: LlmCostError) -> None:
    error = copy.copy(error)
    error.add_note("seen at noon")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert known(pickle.loads(pickle.dumps(error, protocol))) == known(error)
    assert known(copy.copy(error)) == known(error)
    assert known(copy.deepcopy(error)) == known(error)


@every_error
def test_plain_json_of_the_arguments_is_enough(error: LlmCostError) -> None:
    again = type(error)(*json.loads(json.dumps(error.args)))
    assert known(again) == known(error) | (
        {"call": None} if "call" in vars(error) else {}
    )


def test_errors_cross_a_process_pool() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        for number, error in enumerate(ERRORS):
            raised = pool.submit(fail, number).exception(timeout=60)
            assert raised is not None
            assert known(raised) == known(error)


def test_errors_cross_a_multiprocessing_pool() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for number, error in enumerate(ERRORS):
            with pytest.raises(type(error)) as info:
                pool.apply_async(fail, (number,)).get(timeout=60)
            assert known(info.value) == known(error)


@pytest.fixture
def _logging_left_alone() -> Iterator[None]:
    def leave(**_: t.Any) -> None:
        pass

    celery_signals.setup_logging.connect(leave, weak=False)
    yield
    celery_signals.setup_logging.disconnect(leave)


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.usefixtures("_logging_left_alone")
@pytest.mark.filterwarnings("ignore")
def test_errors_are_celery_results(tmp_path: Path, serializer: str) -> None:
    celery = Celery("tasks", broker="memory://", backend=f"file://{tmp_path}")
    celery.conf.result_serializer = serializer
    celery.conf.accept_content = ["json", "pickle"]
    task = celery.task(shared=False)(fail)
    with start_worker(celery, pool="solo", perform_ping_check=False):
        pending = [task.delay(number) for number in range(len(ERRORS))]
        for error, result in zip(ERRORS, pending, strict=True):
            expected = known(error)
            if serializer == "json" and "call" in expected:
                expected["call"] = None
            with pytest.raises(type(error)) as info:
                result.get(timeout=60, interval=0.02)
            assert known(info.value) == expected


def test_a_storage_error_that_is_raised_names_its_cause(make_app: MakeApp) -> None:
    class Full(Exception):
        pass

    cause = Full("no room")

    def store(call: t.Any) -> None:
        raise cause

    app: Flask = make_app(LLM_COST_STORAGE=store, LLM_COST_ON_STORAGE_ERROR="raise")
    llm_cost = app.extensions["llm_cost"].extension
    with app.app_context():
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
        with pytest.raises(StorageError, match="could not be stored: no room") as info:
            llm_cost.begin(Attempt("openai", "chat", "gpt-4o"))
    assert info.value.__cause__ is cause


@pytest.mark.parametrize("storage", ["database", "jsonl"])
def test_a_disk_that_rejects_calls_is_the_cause(
    make_app: MakeApp, tmp_path: Path, storage: str
) -> None:
    (tmp_path / "file").touch()
    app: Flask = make_app(
        LLM_COST_STORAGE=storage,
        LLM_COST_ON_STORAGE_ERROR="raise",
        LLM_COST_SPOOL_DIR=str(tmp_path / "file" / "spool"),
        LLM_COST_JSONL_DIR=str(tmp_path / "file" / "calls"),
        LLM_COST_DATABASE_URI="sqlite:////nowhere/at/all.db",
    )
    llm_cost = app.extensions["llm_cost"].extension
    with app.app_context():
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
        with pytest.raises(StorageError, match="A call was lost") as info:
            llm_cost.begin(Attempt("openai", "chat", "gpt-4o"))
    assert info.value.__cause__ is not None
