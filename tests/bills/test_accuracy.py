"""The page ``docs/accuracy.rst`` is what the tests find."""

from __future__ import annotations

from tests.bills.accuracy import PAGE
from tests.bills.accuracy import page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.bills.accuracy"
