"""A problem that occurs with every call is logged once, then counted."""

from __future__ import annotations

import pytest

from flask_llm_cost import recurring


def test_a_problem_is_logged_the_1st_10th_and_100th_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(150):
        recurring.report("%s failed.", "who")
    recurring.report("%s failed.", "other")
    assert caplog.messages == [
        "who failed.",
        "who failed. (10 times so far)",
        "who failed. (100 times so far)",
        "other failed.",
    ]


def test_only_the_first_has_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        recurring.report("It failed.", error=ValueError("x"))
    first, tenth = caplog.records
    assert first.exc_info is not None
    assert tenth.exc_info is None


def test_problems_without_end_take_no_memory_without_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number in range(3000):
        recurring.report("%s failed.", number)
    assert len(recurring._counts) == 1001
    assert len(caplog.messages) < 1005
