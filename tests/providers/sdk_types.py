"""The SDKs' types of usage, sample documents of them, and each way to change one value."""

from __future__ import annotations

import datetime as dt
import enum
import importlib
import inspect
import pkgutil
import types
import typing as t

import pydantic

Model = type[pydantic.BaseModel]
Path = tuple[str | int, ...]
"""The members that lead to a value."""


def modules(root: str) -> t.Iterator[types.ModuleType]:
    package = importlib.import_module(root)
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{root}."):
        yield importlib.import_module(found.name)


def usage_types(root: str) -> dict[str, Model]:
    """Return the types with ``Usage`` in their name that are not parts of each other.

    :return: By their path, below the root.
    """
    found = {
        f"{each.__module__}.{each.__name__}".removeprefix(f"{root}."): each
        for module in modules(root)
        for each in vars(module).values()
        if is_model(each)
        and each.__module__ == module.__name__
        and "Usage" in each.__name__
    }
    parts = {part for each in found.values() for part in parts_of(each)}
    return {path: each for path, each in found.items() if each not in parts}


def is_model(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, pydantic.BaseModel)


def parts_of(model: Model) -> t.Iterator[Model]:
    for field in model.model_fields.values():
        for each in kinds(field.annotation):
            if is_model(each):
                yield each
                yield from parts_of(each)


def kinds(annotation: t.Any) -> t.Iterator[t.Any]:
    """Return what a type can be, without ``None``."""
    origin = t.get_origin(annotation)
    if isinstance(annotation, t.TypeAliasType if hasattr(t, "TypeAliasType") else ()):
        yield from kinds(annotation.__value__)
    elif origin is t.Annotated:
        yield from kinds(t.get_args(annotation)[0])
    elif origin in (t.Union, types.UnionType, list):
        for each in t.get_args(annotation):
            yield from kinds(each)
    elif annotation is not type(None):
        yield annotation


# Samples

_SIZES: t.Final = (1_000_000, 1_000, 100)
"""Counts by depth, so that details never exceed their total."""


def sample(model: Model, depth: int = 0) -> dict[str, t.Any]:
    """Return a document of a type, with a value for each of its fields."""
    made: dict[str, t.Any] = {}
    for name, field in model.model_fields.items():
        annotation = field.annotation
        options = [*kinds(annotation)]
        values = [_value(name, each, depth) for each in options]
        made[field.alias or name] = values if _is_list(annotation) else values[0]
    _make_consistent(made)
    return made


def _is_list(annotation: t.Any) -> bool:
    return t.get_origin(annotation) is list or any(
        _is_list(each) for each in t.get_args(annotation)
    )


def _value(name: str, kind: t.Any, depth: int) -> t.Any:
    if is_model(kind):
        return sample(kind, depth + 1)
    if _values(kind):
        return _values(kind)[-1]
    if kind is int:
        size = _SIZES[min(depth, 2)]
        return size // 10 if "cache" in name else size
    named = {float: 60.5, bool: True, dt.datetime: "2026-11-01T00:00:00Z", dict: {}}
    if kind in named:
        return named[kind]
    return "187" if name == "amount" else "x"


def _values(kind: t.Any) -> list[t.Any]:
    """Return the values of an enumeration. The last ones are best for samples."""
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        found = [each.value for each in kind]
    elif t.get_origin(kind) is t.Literal:
        found = [*t.get_args(kind)][::-1]
    else:
        return []
    # Images and audio have buckets of their own. Text and documents have not.
    return sorted(found, key=lambda value: str(value).lower() in ("image", "audio"))


_TOTALS: t.Final = {
    "total_tokens": (
        ("input_tokens", "output_tokens"),
        ("prompt_tokens", "completion_tokens"),
        ("prompt_tokens",),
    ),
    "totalTokenCount": (
        ("promptTokenCount", "candidatesTokenCount")
        + ("thoughtsTokenCount", "toolUsePromptTokenCount"),
        ("promptTokenCount", "responseTokenCount")
        + ("thoughtsTokenCount", "toolUsePromptTokenCount"),
    ),
}


def _make_consistent(made: dict[str, t.Any]) -> None:
    for total, sums in _TOTALS.items():
        for parts in sums:
            if total in made and made.keys() >= set(parts):
                made[total] = sum(made[part] for part in parts)
                break


# Changes


def changes(model: Model) -> t.Iterator[tuple[str, Path, list[t.Any]]]:
    """Return each value of a sample, as the name of its field, its place and others."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        for number, kind in enumerate(kinds(field.annotation)):
            where: Path = (key, number) if _is_list(field.annotation) else (key,)
            if is_model(kind):
                for inner, path, values in changes(kind):
                    yield inner, (*where, *path), values
            elif others := _others(name, kind):
                yield name, where, others
            if not _is_list(field.annotation):
                break  # a sample has the first kind only


def _others(name: str, kind: t.Any) -> list[t.Any]:
    if _values(kind):
        return _values(kind)[-2:-1]
    if kind in (int, float):
        return [7, 0]
    if kind is str:
        return ["188" if name == "amount" else "us"]
    return []


def without_siblings(document: t.Any, path: Path) -> t.Iterator[t.Any]:
    """Return copies of a document without one of the members beside a place."""
    if len(path) > 1:
        for inner in without_siblings(document[path[0]], path[1:]):
            yield changed(document, path[:1], inner)
    if isinstance(document, dict):
        for name in document:
            if name != path[0]:
                yield {key: each for key, each in document.items() if key != name}


def changed(document: t.Any, path: Path, value: t.Any) -> t.Any:
    """Return a copy of a document with another value at one place."""
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = changed(document[path[0]], path[1:], value)
    return copy
