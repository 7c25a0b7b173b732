"""The public names are what `__all__` says, and each says what it is."""

from __future__ import annotations

import inspect
import types
import typing as t

import pytest

import flask_llm_cost


def documented(value: t.Any) -> bool:
    """A value without a docstring of its own (a constant, a signal) needs none here."""
    own = isinstance(value, type | types.FunctionType)
    return not own or bool(inspect.getdoc(value))


def public(cls: type) -> t.Iterator[tuple[str, t.Any]]:
    for name, value in vars(cls).items():
        if not name.startswith("_"):
            yield name, getattr(value, "fget", None) or inspect.unwrap(value)


def test_all_is_sorted_and_complete() -> None:
    names = flask_llm_cost.__all__
    assert list(names) == sorted(names)
    assert all(hasattr(flask_llm_cost, name) for name in names)
    assert set(names) <= set(dir(flask_llm_cost))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = flask_llm_cost.nothing_of_this_name


@pytest.mark.parametrize("name", flask_llm_cost.__all__)
def test_a_public_name_has_a_docstring(name: str) -> None:
    value = getattr(flask_llm_cost, name)
    assert documented(value)
    if isinstance(value, type):
        bare = [n for n, v in public(value) if not documented(v)]
        assert not bare, f"{name} has members without a docstring"
