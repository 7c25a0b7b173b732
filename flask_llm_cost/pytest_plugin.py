"""A pytest plugin that keeps the tests of an app out of its ledger.

In ``conftest.py``: ``pytest_plugins = ["flask_llm_cost.pytest_plugin"]``.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

import pytest

if t.TYPE_CHECKING:
    from .call import Call


@pytest.fixture(scope="session", autouse=True)
def _no_llm_cost_ledger() -> Iterator[None]:
    """Collect what is called outside of a test, such as by fixtures of the session."""
    from .testing import record_calls

    with record_calls():
        yield


@pytest.fixture(autouse=True)
def llm_calls() -> Iterator[list[Call]]:
    """The calls that a test makes, in every app of the process."""
    from .testing import record_calls

    with record_calls() as calls:
        yield calls
