"""Each public name can be imported from the package and is documented."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types
import typing as t

import pytest
from blinker import NamedSignal

import flask_llm_cost


def documented(value: t.Any) -> bool:
    """A value without a docstring of its own (a constant, a signal) needs none here."""
    own = isinstance(value, type | types.FunctionType)
    return not own or bool(inspect.getdoc(value))


def public(cls: type) -> t.Iterator[tuple[str, t.Any]]:
    for name, value in vars(cls).items():
        if not name.startswith("_"):
            yield name, getattr(value, "fget", None) or inspect.unwrap(value)


PUBLIC = {
    name: value
    for name, value in inspect.getmembers(flask_llm_cost)
    if not name.startswith("_")
    and isinstance(value, type | types.FunctionType | NamedSignal)
}


def test_lazy_names_are_listed_and_imported_on_first_access() -> None:
    code = (
        "import flask_llm_cost\n"
        "lazy = {'LlmCost', 'Provider', 'request_tags'}\n"
        "assert lazy <= {*dir(flask_llm_cost)} - {*vars(flask_llm_cost)}\n"
        "from flask_llm_cost import LlmCost, Provider, request_tags\n"
        "assert lazy <= {*vars(flask_llm_cost)}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert {"LlmCost", "Provider", "request_tags", "Call", "call_recorded"} <= {*PUBLIC}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = flask_llm_cost.nothing_of_this_name


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_docstring(name: str) -> None:
    value = PUBLIC[name]
    assert documented(value)
    if isinstance(value, type):
        bare = [n for n, v in public(value) if not documented(v)]
        assert not bare, f"{name} has members without a docstring"
