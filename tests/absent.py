"""A pytest plugin for a virtualenv without all of the test group: skip what needs more.

``python -m pytest -p tests.absent``. A module or a test that imports a package that is not
installed is skipped, and the summary names the packages.
"""

from __future__ import annotations

import collections
import functools
import importlib.util
import inspect
import sys
import typing as t

import pytest
from click.testing import CliRunner
from click.testing import Result

_missing: collections.Counter[str] = collections.Counter()


def _absent(error: BaseException | None) -> str | None:
    """The package that is not installed, if that is why the error was raised."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            name = error.name.partition(".")[0]
            ours = name in {"flask_llm_cost", "tests", "tools", "instance_example"}
            return None if ours or _installed(name) else name
        error = error.__cause__
    return None


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _skip(report: t.Any, name: str) -> None:
    _missing[name] += 1
    report.outcome = "skipped"
    report.longrepr = (report.nodeid, 0, f"Skipped: {name} is not installed")


def pytest_configure() -> None:
    """Let click 8.1 return what a command wrote as click 8.2 does, both ways."""
    if "mix_stderr" in inspect.signature(CliRunner).parameters:
        init: t.Any = functools.partialmethod(CliRunner.__init__, mix_stderr=False)
        setattr(CliRunner, "__init__", init)  # noqa: B010
        setattr(Result, "output", property(lambda it: it.stdout + it.stderr))  # noqa: B010


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> t.Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip a module that cannot be imported without an absent package."""
    report = yield
    # Documented nowhere, but the error is not in the report.
    call = getattr(report, "call", None)
    name = _absent(call.excinfo.value) if call and call.excinfo else None
    if report.failed and name:
        _skip(report, name)
        _forget(str(collector.path))
    return report


def _forget(path: str) -> None:
    """Let a module that imports the one at `path` fail for the same reason."""
    for module in [*sys.modules]:
        if getattr(sys.modules[module], "__file__", None) == path:
            del sys.modules[module]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> t.Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skip a test that imports an absent package."""
    report = yield
    name = _absent(call.excinfo.value) if call.excinfo else None
    if report.failed and name:
        _skip(report, name)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the packages."""
    if _missing:
        terminalreporter.section("skipped for want of packages")
        for name, count in _missing.most_common():
            terminalreporter.write_line(f"{count:5} {name}")
