"""A pytest plugin for a machine that has everything: a skipped test is a failure.

``python -m pytest -p tests.no_skips``. Only the shared test data may be absent.
"""

from __future__ import annotations

import pytest

ALLOWED = "no ../shared"
SKIPPED = 9  # an exit status of its own: to run failed tests again does not mend it

_skipped: list[str] = []


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    # A skip's longrepr is (file, line, "Skipped: reason").
    where = report.longrepr
    reason = where[2] if isinstance(where, tuple) else str(where)
    if reason.removeprefix("Skipped: ") != ALLOWED:
        _skipped.append(f"{report.nodeid}: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note a test that skipped."""
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a module that skipped as a whole."""
    _note(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if one did."""
    if _skipped:
        session.exitstatus = SKIPPED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which, and why."""
    if _skipped:
        terminalreporter.section("skipped, though everything is here", red=True)
        for line in _skipped:
            terminalreporter.write_line(line)
