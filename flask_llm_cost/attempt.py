"""The values that pass between capture and an app when a call is sent, and when it ends."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

from .call import Call
from .call import TagSource
from .wait_limit import WaitLimit


@dataclass(frozen=True, slots=True)
class Attempt:
    """An HTTP attempt about to be sent."""

    provider: str
    operation: str
    request_model: str | None = None
    stream: bool = False
    tags: TagSource | None = None
    """Explicit tags, of the adapter or the caller."""
    body: bytes | None = field(default=None, repr=False)
    """The request body, if it is known. Budgets read an upper bound of the cost from it."""
    flags: frozenset[str] = frozenset()
    """Conditions that the URL shows and a price may depend on: ``region.eu``."""
    poll: bool = False
    """It is already paid for: it only fetches the answer to an earlier request, or the
    provider began it by itself."""
    unlisted: bool = False
    """Its host is on no list: it may turn out not to be an LLM call, and is not stopped."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was fixed when a call was sent; capture hands it back when the call ends."""

    event_id: str
    started_at: dt.datetime
    tags: Mapping[str, str]
    """All tags, resolved and limited."""
    flags: frozenset[str] = frozenset()
    origin: t.Any = None
    """The recorder's own: which app and request sent the call."""
    app_key: int = 0
    """Identifies the app: the same for all of its calls, whichever request sent them."""
    estimate: bool = False
    """Estimate the usage of a stream whose provider does not report it."""
    inject: bool = False
    """Ask a stream for its usage if it would not report it otherwise."""
    wait_limit: WaitLimit = field(default_factory=WaitLimit, compare=False, repr=False)
    """How long the call may still wait for the ledger."""


class Recorder(t.Protocol):
    """Everything that capture knows about the other rooms."""

    def begin(self, attempt: Attempt) -> Snapshot | None:
        """Called on the caller's thread before the request leaves.

        :return: ``None`` if this attempt must not be captured.
        :raises LlmCostError: If the call must not be sent: a budget rejects it, or a setting
            asks to raise an error of an earlier call.
        """
        ...

    def record(
        self, call: Call, snapshot: Snapshot, *, deferred: bool = False
    ) -> Call | None:
        """Called once at the attempt's end, from any thread. Never raises.

        :param deferred: Called from ``__del__`` or a signal handler, at any bytecode of
            any thread: only append to a queue; no lock, I/O or logging.
        :return: The call as recorded, if that is already known.
        """
        ...


class ClientRecorder(Recorder, t.Protocol):
    """A recorder of what clients send, which may be to any host."""

    @property
    def unlisted_hosts(self) -> str:
        """What to do with calls to hosts on no list: ``count``, ``record`` or ``ignore``."""
        ...

    def unlisted_counter(self) -> Callable[[str], None] | None:
        """Called on the caller's thread before such a call leaves, if it is to be counted.

        :return: What to call with the host when it turned out to be an LLM call.
        """
        ...
