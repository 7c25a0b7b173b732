"""Which attempts are not captured: those inside ``suppress()`` or inside another capture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from contextvars import Token


class Guard:
    """Suppresses captures while it is on.

    A task started meanwhile has it in its copy of the context. What counts is therefore
    the flag, whose change every context sees, and not the variable.
    """

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = True

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


def suppressed() -> bool:
    """Whether an attempt that is sent here must not be captured."""
    guard = _guard.get()
    return guard is not None and guard.on


@contextmanager
def suppress() -> Iterator[None]:
    """Capture nothing inside a ``with`` block."""
    guard = Guard()
    token = guard.enter()
    try:
        yield
    finally:
        guard.leave(token)
