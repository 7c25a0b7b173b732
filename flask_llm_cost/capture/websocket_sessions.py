"""Finds the session of a websocket: of turns, or one that is a single call."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager

from .harmless import harmless
from .tap import Tap
from .turns import Handshake
from .turns import Session
from .whole_session import WholeSession

Either: t.TypeAlias = Session | WholeSession

SESSION: t.Final = "_llm_cost"
"""Where a connection has its session, or ``None`` if it is not one with an LLM."""


def session_of(
    tap: Tap | None, connection: t.Any, opened: Callable[[t.Any], Handshake | None]
) -> Either | None:
    """The session of a connection, which begins when it is first used.

    :param opened: Returns what it was opened with; ``None`` for one that the app's own
        server accepted.
    """
    own: dict[str, t.Any] = vars(connection)
    if tap is not None and SESSION not in own:
        own[SESSION] = _opened(tap, connection, opened)
    return own.get(SESSION)


@harmless()
def _opened(
    tap: Tap, connection: t.Any, opened: Callable[[t.Any], Handshake | None]
) -> Either | None:
    handshake = opened(connection)
    found = None if handshake is None else tap.find("WS", handshake.url)
    if handshake is None or found is None:
        return None
    if found.dialect.whole:
        return WholeSession(handshake, found.dialect)
    return Session(handshake)


@contextmanager
def sending(tap: Tap | None, session: Either | None, message: object) -> Iterator[None]:
    """Look at a message while it is sent.

    :raises LlmCostError: Before that, if the recorder rejects the turn or the session that
        it starts.
    """
    begun = None
    if session is not None and tap is not None:
        begun = session.sending(tap, message)
    try:
        yield
    except BaseException:
        if session is not None and begun is not None:
            session.unsent(begun)
        raise
