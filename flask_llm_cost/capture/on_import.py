"""Calls a function once a module is imported: a library that is never used costs nothing."""

from __future__ import annotations

import sys
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from .harmless import harmless

_lock = threading.Lock()


def when_imported(name: str, work: Callable[[], object]) -> None:
    """Call ``work`` once, right after a module that is not imported yet is imported.

    It is called on the importing thread, before that thread can use the module. If a module
    of this package imports it, it is called once that module is imported, too.
    """
    with _lock:
        _finder.awaited[name] = work
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)


def forget(name: str) -> None:
    """Wait for a module no longer."""
    with _lock:
        _finder.awaited.pop(name, None)
        if not _finder.awaited and _finder in sys.meta_path:
            sys.meta_path.remove(_finder)


class _Finder(MetaPathFinder):
    """Lets the other finders find a module, and has its loader call back once."""

    def __init__(self) -> None:
        self.awaited: dict[str, Callable[[], object]] = {}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in self.awaited and not fullname.startswith(_OURS):
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(fullname, path, target)
            if spec is not None:
                _call_back(spec)
                return spec
        return None


_finder: t.Final = _Finder()

_OURS: t.Final = f"{__package__}."

_unfinished: set[str] = set()
"""Modules of this package that are being imported now, on any thread."""

_postponed: list[Callable[[], object]] = []
"""Work of modules that they import, and that needs them complete."""


@harmless()
def _call_back(spec: ModuleSpec) -> None:
    """Hide the loader's method with one of its instance, until that is called."""
    loader: t.Any = spec.loader
    own = vars(loader)
    hidden = own.get("exec_module")
    if isinstance(loader, type) or getattr(hidden, "llm_cost", False):
        return

    def exec_module(module: ModuleType) -> None:
        if hidden is None:
            own.pop("exec_module", None)
        else:
            own["exec_module"] = hidden
        name = module.__name__
        if name.startswith(_OURS):
            _load_ours(name, lambda: loader.exec_module(module))
        else:
            loader.exec_module(module)
            _loaded(name)

    vars(exec_module)["llm_cost"] = True
    own["exec_module"] = exec_module


def _load_ours(name: str, load: Callable[[], object]) -> None:
    """Load a module of this package. What captures a library may be in it."""
    with _lock:
        _unfinished.add(name)
    try:
        load()
    finally:
        with _lock:
            _unfinished.discard(name)
            due = [] if _unfinished else _postponed[:]
            del _postponed[: len(due)]
        for work in due:
            _call(work)


def _loaded(name: str) -> None:
    work = _finder.awaited.get(name)
    if work is None:
        return
    forget(name)
    with _lock:
        if _unfinished:
            _postponed.append(work)
            return
    _call(work)


@harmless()
def _call(work: Callable[[], object]) -> None:
    work()
