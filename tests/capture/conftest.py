from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from collections.abc import Iterator

import pytest
import requests

from flask_llm_cost.attempt import Attempt
from flask_llm_cost.attempt import Snapshot
from flask_llm_cost.call import Call
from flask_llm_cost.capture.requests_adapter import LlmCostAdapter
from flask_llm_cost.event_id import event_time
from flask_llm_cost.event_id import mint_event_id
from tests.capture.server import Provider


class Book:
    """A recorder that collects what it is given."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.calls: list[Call] = []
        self.deferred: list[bool] = []
        self.forbids: Exception | None = None
        self.asks = True
        self.breaks = False
        self.injects = False
        self.unlisted_hosts = "count"
        self.counted: list[str] = []

    def begin(self, attempt: Attempt) -> Snapshot | None:
        self.attempts.append(attempt)
        if self.forbids is not None:
            raise self.forbids
        if not self.asks:
            return None
        now = dt.datetime.now(dt.UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        tags = attempt.tags() if callable(attempt.tags) else attempt.tags
        texts = {key: str(value) for key, value in (tags or {}).items()}
        return Snapshot(
            mint_event_id(now),
            now,
            texts,
            frozenset({"held"}),
            inject=self.injects,
        )

    def record(self, call: Call, snapshot: Snapshot, *, deferred: bool = False) -> None:
        if self.breaks:
            raise ValueError("the ledger is broken: sk-secret")
        assert event_time(call.event_id) == call.started_at
        self.calls.append(call)
        self.deferred.append(deferred)

    def unlisted_counter(self) -> Callable[[str], None]:
        return self.counted.append

    @property
    def call(self) -> Call:
        """The only recorded call."""
        assert len(self.calls) == 1, self.calls
        return self.calls[0]


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    provider = Provider()
    thread = threading.Thread(target=provider.serve_forever, args=(0.01,))
    thread.start()
    yield provider
    provider.released.set()
    provider.shutdown()
    provider.server_close()
    thread.join()


@pytest.fixture
def provider(_provider: Provider) -> Iterator[Provider]:
    """A provider on the loopback."""
    _provider.released.clear()
    yield _provider
    _provider.released.set()
    # What a test left open must not be recorded in the next one.
    _provider.settle()


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def hosts(provider: Provider) -> dict[str, str]:
    return {provider.host: "openai"}


@pytest.fixture
def session(book: Book, hosts: dict[str, str]) -> Iterator[requests.Session]:
    """A session whose calls are captured."""
    with requests.Session() as session:
        session.mount("http://", LlmCostAdapter(book, hosts=hosts))
        yield session


@pytest.fixture
def bare() -> Iterator[requests.Session]:
    """A session that is not captured."""
    with requests.Session() as session:
        yield session
