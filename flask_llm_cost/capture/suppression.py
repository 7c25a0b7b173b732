"""Which attempts are not captured: those inside ``suppress()`` or inside another capture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from contextvars import Token


class Guard:
    """Suppresses captures while it is on.

    :param tentative: Only a listed host shows that an attempt is an LLM call: one to such
        a host inside of this is captured, and is the call.

    A task started meanwhile has it in its copy of the context. What counts is therefore
    the flag, whose change every context sees, and not the variable.
    """

    __slots__ = ("on", "superseded", "tentative")

    def __init__(self, *, tentative: bool = False) -> None:
        self.on = True
        self.tentative = tentative
        self.superseded = False
        """An attempt inside of this is the call."""

    def enter(self) -> Token[Guard | None]:
        """Suppress captures in the current context."""
        return _guard.set(self)

    def leave(self, token: Token[Guard | None] | None) -> None:
        """Lift the suppression.

        :param token: What :meth:`enter` returned, unless it was given back already.
        """
        self.on = False
        if token is not None:
            try:
                _guard.reset(token)
            except ValueError:
                # Left in another context than entered: the response arrived there, or a
                # generator was closed there. The flag is off, which is enough.
                pass


_guard: ContextVar[Guard | None] = ContextVar("flask_llm_cost.guard", default=None)


def current() -> Guard | None:
    """The guard that is on here."""
    guard = _guard.get()
    return guard if guard is not None and guard.on else None


def suppressed() -> bool:
    """Whether an attempt that is sent here must not be captured."""
    return current() is not None


@contextmanager
def suppress() -> Iterator[None]:
    """Capture nothing inside a ``with`` block."""
    guard = Guard()
    token = guard.enter()
    try:
        yield
    finally:
        guard.leave(token)
