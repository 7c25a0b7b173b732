"""The Claude Agent SDK: what its process counted since the last result."""

from __future__ import annotations

import asyncio
import json
import typing as t
from collections.abc import AsyncIterator
from collections.abc import Iterator

import pytest

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.errors import UnknownPrice
from tests.capture.conftest import Book

sdk = pytest.importorskip("claude_agent_sdk")


@pytest.fixture
def tap(book: Book) -> Iterator[Tap]:
    tap = Tap(book)
    clients.instrument(tap)
    yield tap
    clients.uninstrument()


def result(session: str, **models: tuple[int, int]) -> dict[str, t.Any]:
    """A result as the process writes it, with input and output tokens by model."""
    return {
        "type": "result",
        "subtype": "success",
        "duration_ms": 2000,
        "duration_api_ms": 1500,
        "is_error": False,
        "num_turns": 1,
        "session_id": session,
        "result": "secret answer",
        "total_cost_usd": 0.5,
        "modelUsage": {
            name.replace("_", "-"): {
                "inputTokens": used,
                "outputTokens": made,
                "cacheReadInputTokens": 7,
                "cacheCreationInputTokens": 3,
                "webSearchRequests": 1,
                "costUSD": 0.5,
                "contextWindow": 200000,
            }
            for name, (used, made) in models.items()
        },
    }


class Process:
    """The SDK's process: it answers each prompt with the next of its results."""

    def __init__(self, *results: dict[str, t.Any]) -> None:
        self.results = list(results)
        self.messages: asyncio.Queue[dict[str, t.Any] | None] = asyncio.Queue()

    async def connect(self) -> None:
        pass

    async def write(self, data: str) -> None:
        message = json.loads(data)
        if message["type"] == "control_request":
            answer = {"subtype": "success", "request_id": message["request_id"]}
            self.messages.put_nowait({"type": "control_response", "response": answer})
        elif self.results:
            self.messages.put_nowait(self.results.pop(0))
            if not self.results:
                self.messages.put_nowait(None)

    async def read_messages(self) -> AsyncIterator[dict[str, t.Any]]:
        while (message := await self.messages.get()) is not None:
            yield message

    async def close(self) -> None:
        pass

    async def end_input(self) -> None:
        pass

    def is_ready(self) -> bool:
        return True


async def ask(*results: dict[str, t.Any]) -> list[t.Any]:
    """Ask once, or several times in one conversation."""
    process = Process(*results)
    if len(results) == 1:
        return [got async for got in sdk.query(prompt="hi", transport=process)]
    found = []
    async with sdk.ClaudeSDKClient(transport=process) as client:
        for _ in results:
            await client.query("hi")
            found += [got async for got in client.receive_response()]
    return found


def answer(*results: dict[str, t.Any]) -> list[t.Any]:
    return asyncio.run(ask(*results))


def test_each_model_of_a_result_is_a_row(book: Book, tap: Tap) -> None:
    clients.uninstrument()
    data = result("one", claude_sonnet_5=(10, 20), claude_haiku_5=(1, 2))
    expected = answer(data)
    clients.instrument(tap)
    assert answer(data) == expected
    assert expected[0].session_id == "one"
    sonnet, haiku = book.calls
    assert (sonnet.model, haiku.model) == ("claude-sonnet-5", "claude-haiku-5")
    assert sonnet.usage is not None
    assert (sonnet.usage.input_tokens, sonnet.usage.output_tokens) == (10, 20)
    assert (sonnet.usage.cache_read_tokens, sonnet.usage.cache_write_tokens) == (7, 3)
    assert sonnet.usage.units == {"web_search": 1}
    assert sonnet.usage_source == "estimated"
    assert {"client_estimate", "estimated"} <= sonnet.flags
    assert (sonnet.reported_cost, sonnet.latency_ms) == (None, 1500)
    assert sonnet.event_id != haiku.event_id


def used(book: Book) -> list[int]:
    return [call.usage.input_tokens for call in book.calls if call.usage is not None]


def test_a_later_result_of_a_process_adds_the_difference(book: Book, tap: Tap) -> None:
    counted = (10, 20), (15, 20), (15, 20)
    answer(*(result("two", claude_sonnet_5=each) for each in counted))
    assert used(book) == [10, 5]


def test_a_session_that_is_resumed_is_counted_anew(book: Book, tap: Tap) -> None:
    # https://platform.claude.com/docs/en/agent-sdk/cost-tracking: "Each query() call
    # within a session reports its own cost independently."
    answer(result("three", claude_sonnet_5=(10, 20)))
    answer(result("three", claude_sonnet_5=(100, 200)))
    assert used(book) == [10, 100]


@pytest.mark.parametrize("models", [None, {"m": {"inputTokens": "many"}}, {"m": 1}])
def test_damage_is_not_a_row(models: t.Any, book: Book, tap: Tap) -> None:
    found = answer({**result("four"), "modelUsage": models})
    assert found[0].session_id == "four"
    assert not book.calls


def test_a_refusal_does_not_reach_the_reader(book: Book, tap: Tap) -> None:
    book.forbids = UnknownPrice("anthropic", "claude-sonnet-5")
    assert answer(result("five", claude_sonnet_5=(1, 1)))[0].session_id == "five"
    assert not book.calls


def test_a_reader_that_stops_early_leaves_nothing_open(book: Book, tap: Tap) -> None:
    async def ask_for_one() -> None:
        async for _ in sdk.query(
            prompt="hi", transport=Process(result("six", claude_sonnet_5=(1, 1)))
        ):
            break

    asyncio.run(ask_for_one())
    assert used(book) == [1]
