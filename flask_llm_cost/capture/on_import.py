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

    It is called on the importing thread, before that thread can use the module.
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
        if fullname not in self.awaited:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(fullname, path, target)
            if spec is not None:
                _call_back(spec, self.awaited)
                return spec
        return None


_finder: t.Final = _Finder()


@harmless()
def _call_back(spec: ModuleSpec, awaited: dict[str, Callable[[], object]]) -> None:
    """Hide the loader's method with one of its instance, until that is called."""
    loader: t.Any = spec.loader
    own = vars(loader)
    if isinstance(loader, type) or "exec_module" in own:
        return

    def exec_module(module: ModuleType) -> None:
        own.pop("exec_module", None)
        loader.exec_module(module)
        work = awaited.get(module.__name__)
        if work is not None:
            forget(module.__name__)
            _call(work)

    own["exec_module"] = exec_module


@harmless()
def _call(work: Callable[[], object]) -> None:
    work()
