"""Changes the classes and objects of client libraries, and undoes it in any order."""

from __future__ import annotations

import functools
import sys
import threading
import typing as t
from collections.abc import Callable

from ..errors import ConfigError
from .tap import Tap

_lock = threading.Lock()


def become(thing: t.Any, kind: type) -> None:
    """Mix ``kind`` into an object's class; the new class looks like the original one.

    :raises TypeError: If its class has a fixed layout.
    """
    base: t.Any = type(thing)
    thing.__class__ = _subclass(kind, base)


@functools.lru_cache(maxsize=256)
def _subclass(kind: type, base: type) -> type:
    looks = {
        "__slots__": (),
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
    }
    return type(base.__name__, (kind, base), looks)


def wrap_transport(transport: t.Any, kind: type, context: object) -> None:
    """Mix ``kind`` into what a client sends through, unless that is already done.

    :param context: Stored as the transport's ``_llm_cost``.
    :raises ConfigError: If its class has a fixed layout.
    """
    try:
        transport.__dict__["_llm_cost"] = context
        if not isinstance(transport, kind):
            become(transport, kind)
    except (AttributeError, TypeError):
        raise ConfigError(
            f"The transport {type(transport).__name__} of this client cannot be wrapped,"
            " because its class has a fixed layout. Derive its class from a transport of"
            " the client's library."
        ) from None


def bound(method: t.Any, instance: object) -> t.Any:
    """A class's method, bound to an instance.

    Other tools put descriptors there that are not functions and must know their instance.
    """
    return method.__get__(instance, type(instance))


class Patch:
    """A method of a class that is captured while a tap is set.

    Others may patch the same method before and after us, and remove their patches in any
    order. So ours checks the tap at each call, and is removed only where it is visible: on
    top, or directly below wrapt proxies such as OpenTelemetry's. It is also installed below
    those, because a wrapt proxy can only be removed from the top.

    :param owner: The class that has the method.
    :param around: Makes the new method from this patch and the original method. It must do
        what the original did while :attr:`tap` is ``None``.
    """

    def __init__(
        self,
        owner: type,
        name: str,
        around: Callable[[Patch, Callable[..., t.Any]], Callable[..., t.Any]],
    ) -> None:
        self.tap: Tap | None = None
        self._owner = owner
        self._name = name
        self._around = around
        self._ours: Callable[..., t.Any] | None = None
        self._original: t.Any = None

    def on(self, tap: Tap) -> None:
        """Capture through this tap from now on."""
        with _lock:
            self.tap = tap
            if self._installed():
                return
            above, self._original = self._top()
            method = self._around(self, self._original)
            self._ours = functools.wraps(self._original)(method)
            self._put(above, self._ours)

    def off(self) -> None:
        """Stop capturing."""
        with _lock:
            self.tap = None
            above, method = self._top()
            if self._ours is not None and method is self._ours:
                self._put(above, self._original)
                self._ours = self._original = None

    def _top(self) -> tuple[t.Any, t.Any]:
        """The lowest wrapt proxy on top of the method, if any, and what is below it."""
        above, method = None, vars(self._owner)[self._name]
        wrapt: t.Any = sys.modules.get("wrapt")
        # Since wrapt 2, not all of its proxies derive from ObjectProxy.
        proxies: t.Any = getattr(wrapt, "BaseObjectProxy", None)
        proxies = proxies or getattr(wrapt, "ObjectProxy", ())
        while isinstance(method, proxies):
            above, method = method, method.__wrapped__
        return above, method

    def _put(self, above: t.Any, method: t.Any) -> None:
        if above is None:
            setattr(self._owner, self._name, method)
        else:
            above.__wrapped__ = method

    def _installed(self) -> bool:
        """Whether our method is still installed, on top or below other patches."""
        if self._ours is None:
            return False
        method = vars(self._owner)[self._name]
        while method is not None:
            if method is self._ours:
                return True
            method = getattr(method, "__wrapped__", None)
        return False
