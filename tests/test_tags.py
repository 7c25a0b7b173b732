from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import string
import threading
import typing as t
from collections.abc import AsyncGenerator
from collections.abc import AsyncIterator
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.config import Settings
from flask_llm_cost.tags import Block
from flask_llm_cost.tags import resolve
from flask_llm_cost.tags import ResolvedTags
from flask_llm_cost.tags import sources_here
from flask_llm_cost.tags import sources_of_app
from tests.corpus import SHARED


def taken(explicit: t.Any = None, *providers: t.Any, **config: t.Any) -> ResolvedTags:
    settings = Settings.read(
        {f"LLM_COST_{key.upper()}": value for key, value in config.items()}
    )
    sources = (*sources_here(explicit), *sources_of_app(settings, providers))
    return resolve(settings, sources)


def test_the_more_specific_source_wins() -> None:
    defaults = {"a": "default", "b": "default", "c": "default", "d": "default"}
    with Block({"c": "outer", "b": "outer"}), Block({"c": "inner"}):
        tags = taken(
            {"d": "explicit"}, lambda: {"b": "provider"}, default_tags=defaults
        ).tags
    assert tags == {"a": "default", "b": "outer", "c": "inner", "d": "explicit"}


def test_a_source_that_raises_loses_only_its_own_tags() -> None:
    def broken() -> t.NoReturn:
        raise RuntimeError("no user")

    result = taken({"a": 1}, broken, lambda: {"b": 2}, default_tags=broken)
    assert result.tags == {"a": "1", "b": "2"}
    assert result.flags == {"tag_error"}


def test_a_value_without_a_text_form_is_dropped() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    result = taken({"a": Broken(), "b": "kept"})
    assert result.tags == {"b": "kept"}
    assert result.flags == {"tag_error"}


def test_a_callable_value_that_raises_loses_only_its_own_tag(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def who() -> dict[str, t.Any]:
        return {"feature": "chat", "plan": lambda: 1 // 0, "step": lambda: "summary"}

    result = taken(None, who, default_tags={"plan": "unknown"})
    assert result.tags == {"feature": "chat", "step": "summary", "plan": "unknown"}
    assert result.flags == {"tag_error"}
    assert "the tag plan is missing" in caplog.text


@pytest.mark.parametrize(("in_request", "place"), [(True, ";"), (False, " outside a")])
def test_the_log_names_the_line_that_failed_once(
    in_request: bool, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    def who() -> t.NoReturn:
        raise RuntimeError("Working outside of request context")

    for _ in range(10):
        resolve(Settings(), [who], in_request=in_request)
    line = who.__code__.co_firstlineno + 1
    first, tenth = caplog.messages
    assert f"who ({__file__}:{line}) raised RuntimeError{place}" in first
    assert tenth == f"{first} (10 times so far)"
    assert "Working" not in caplog.text  # it may quote content


def test_a_provider_that_returns_no_mapping_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def who() -> t.Any:
        return "ann"

    resolve(Settings(), [who])
    assert f"{__file__}:{who.__code__.co_firstlineno}) raised" in caplog.text


def test_a_limit_drops_the_least_specific_tags() -> None:
    result = taken(
        {"e1": 1, "e2": 2}, lambda: {"p": 1}, default_tags={"d": 1}, max_tags=3
    )
    assert set(result.tags) == {"e1", "e2", "p"}
    assert result.flags == {"tags_dropped"}


def test_an_invalid_key_is_dropped_and_flagged() -> None:
    result = taken({"a b": 1, "": 2, 3: 4, "x" * 201: 5, "größe": 6, "ok": 7})
    assert result.tags == {"ok": "7"}
    assert result.flags == {"tags_dropped"}


def test_a_nested_secret_is_redacted() -> None:
    tags = taken({"context": {"user": "ann", "auth": [{"apiKey": "k"}]}}).tags
    assert json.loads(tags["context"]) == {
        "user": "ann",
        "auth": [{"apiKey": "[REDACTED]"}],
    }


@pytest.mark.parametrize(
    "value",
    [
        "sk-proj-AAAAAAAAAAAAAAAAAAAA",
        "Bearer abcdefghijklmnop",
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4",
        "AKIAIOSFODNN7EXAMPLE",
    ],
)
def test_a_value_that_looks_like_a_key_is_redacted(value: str) -> None:
    assert taken({"note": value}).tags == {"note": "[REDACTED]"}


def test_ordinary_words_are_not_taken_for_secrets() -> None:
    tags = {"secretary": "Ann", "note": "task-force-of-the-north", "keyboard": "sk-1"}
    assert taken(tags).tags == tags


@given(
    st.dictionaries(
        st.one_of(st.text(string.ascii_letters, min_size=1, max_size=8), st.text()),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    ),
    st.integers(0, 64),
)
def test_any_tags_are_cut_to_the_limits(tags: dict[str, t.Any], limit: int) -> None:
    result = taken(tags, max_tags=5, max_tag_bytes=limit)
    assert len(result.tags) <= 5
    for value in result.tags.values():
        assert len(value.encode()) <= limit or value == "[REDACTED]"
        assert "\0" not in value


def test_a_block_left_in_another_context_does_not_raise() -> None:
    block = Block({"a": 1})
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    assert taken().tags == {}


def test_a_block_left_in_another_thread_is_left_where_it_was_entered() -> None:
    def work() -> Iterator[None]:
        with Block({"user": "alice"}):
            yield

    def go() -> None:
        steps = t.cast("t.Generator[None]", work())
        next(steps)
        assert taken().tags == {"user": "alice"}
        thread = threading.Thread(target=steps.close)
        thread.start()
        thread.join()
        assert taken().tags == {}

    contextvars.copy_context().run(go)


def test_a_task_started_inside_a_block_keeps_its_tags_after_it() -> None:
    async def later() -> dict[str, t.Any]:
        await asyncio.sleep(0)
        return dict(taken().tags)

    async def main() -> dict[str, t.Any]:
        with Block({"user": "alice"}):
            task = asyncio.create_task(later())
        return await task

    assert asyncio.run(main()) == {"user": "alice"}


def test_a_block_decorates_a_function_and_a_coroutine() -> None:
    @Block({"feature": "chat"})
    def plain() -> dict[str, str]:
        return taken().tags

    @Block({"feature": "chat"})
    async def later() -> dict[str, str]:
        await asyncio.sleep(0)
        return taken().tags

    assert plain() == asyncio.run(later()) == {"feature": "chat"}
    assert taken().tags == {}


def test_a_decorated_generator_is_tagged_only_while_it_runs() -> None:
    @Block({"feature": "chat"})
    def steps() -> Iterator[dict[str, str]]:
        try:
            yield taken().tags
        except KeyError:
            yield {"caught": "KeyError", **taken().tags}

    generator = t.cast("t.Generator[dict[str, str], None, None]", steps())
    assert next(generator) == {"feature": "chat"}
    assert taken().tags == {}
    assert generator.throw(KeyError()) == {"caught": "KeyError", "feature": "chat"}
    generator.close()


def test_a_block_may_be_shared_by_threads_and_tasks() -> None:
    block = Block({"feature": "chat"})
    both = threading.Barrier(2)

    def inside() -> tuple[dict[str, str], dict[str, str]]:
        with block:
            both.wait(5)
            tags = taken().tags
            both.wait(5)
        return tags, taken().tags

    async def tasks() -> list[dict[str, str]]:
        async def one() -> dict[str, str]:
            with block:
                await asyncio.sleep(0.01)
                tags = taken().tags
            assert taken().tags == {}
            return tags

        return await asyncio.gather(one(), one(), one())

    with ThreadPoolExecutor(2) as threads:
        results = [work.result() for work in [threads.submit(inside) for _ in range(2)]]
    assert results == [({"feature": "chat"}, {})] * 2
    assert asyncio.run(tasks()) == [{"feature": "chat"}] * 3


def test_a_decorated_async_generator_is_tagged_only_while_it_runs() -> None:
    @Block({"feature": "chat"})
    async def steps() -> AsyncIterator[dict[str, str]]:
        yield taken().tags
        await asyncio.sleep(0)
        yield taken().tags

    async def use() -> None:
        seen = 0
        async for tags in steps():
            seen += 1
            assert tags == {"feature": "chat"}
            assert taken().tags == {}
        assert seen == 2

    asyncio.run(use())


def test_a_decorated_async_generator_receives_what_its_caller_sends_and_raises() -> (
    None
):
    @Block({"feature": "chat"})
    async def steps() -> AsyncGenerator[t.Any, str]:
        try:
            sent = yield taken().tags
            try:
                yield {"sent": sent, **taken().tags}
            except KeyError:
                await asyncio.sleep(0)
                yield {"caught": "KeyError", **taken().tags}
        finally:
            await asyncio.sleep(0)
            closed.append(taken().tags)

    async def use() -> None:
        generator = steps()
        assert await anext(generator) == {"feature": "chat"}
        assert await generator.asend("x") == {"sent": "x", "feature": "chat"}
        caught = await generator.athrow(KeyError())
        assert caught == {"caught": "KeyError", "feature": "chat"}
        await generator.aclose()
        assert taken().tags == {}

    closed: list[dict[str, str]] = []
    assert inspect.isasyncgenfunction(steps)
    asyncio.run(use())
    assert closed == [{"feature": "chat"}]


def test_a_decorated_context_manager_sees_the_error_of_its_block() -> None:
    @asynccontextmanager
    @Block({"feature": "chat"})
    async def turned() -> AsyncIterator[None]:
        try:
            yield
        except KeyError as error:
            raise ValueError("turned") from error

    async def use() -> None:
        async with turned():
            raise KeyError

    with pytest.raises(ValueError, match="turned"):
        asyncio.run(use())


def test_a_task_that_is_cancelled_inside_a_decorated_async_generator_ends() -> None:
    @Block({"feature": "chat"})
    async def steps() -> AsyncIterator[None]:
        try:
            waiting.set()
            await asyncio.Event().wait()
            yield
        finally:
            ended.append(taken().tags)

    async def use() -> None:
        async for _ in steps():
            pass

    async def main() -> None:
        task = asyncio.create_task(use())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert taken().tags == {}

    ended: list[dict[str, str]] = []
    waiting = asyncio.Event()
    asyncio.run(main())
    assert ended == [{"feature": "chat"}]


def _cases() -> list[t.Any]:
    path = SHARED / "vectors" / "tags.json"
    if not path.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason="no ../shared"))]
    vectors = json.loads(path.read_text())["vectors"]
    kinds = ("tag_key", "stored_tags", "sanitize")
    return [pytest.param(v, id=v["id"]) for v in vectors if v["kind"] in kinds]


BETTER = {
    # "store JSON types (lists as lists), filter on JSON text form": the text form is JSON.
    "st-hash": {"a": '{"b": 1, "c": [2]}'},
    # The case's own "better": redact values that look like a key.
    "sn-value-secret-not-detected": {"note": "[REDACTED]"},
    # DESIGN 4: "redacted keys (whole words, nested too)".
    "sn-nested-secret": {"ctx": '{"api_key": "[REDACTED]"}'},
    # DESIGN 4: keys match [A-Za-z0-9_.-]{1,200}.
    "k-long": "invalid",
}


@pytest.mark.parametrize("case", _cases())
def test_shared_cases(case: dict[str, t.Any]) -> None:
    if case["kind"] == "tag_key":
        expected = BETTER.get(case["id"], case["expected"])
        assert bool(taken({case["key"]: "x"}).tags) == (expected == "valid")
        return
    names = {"max_tag_count": "max_tags", "max_tag_value_bytesize": "max_tag_bytes"}
    config = {
        names.get(key, key): value for key, value in case.get("config", {}).items()
    }
    expected = BETTER.get(case["id"], case["expected"])
    stored = {
        key: value if isinstance(value, str) else str(value)
        for key, value in expected.items()
    }
    assert taken(case["tags"], **config).tags == stored


@pytest.mark.parametrize(
    "key", ["apikey", "APIKEY", "apiKey", "api-key", "openai_apikey", "accesstoken"]
)
def test_a_secret_key_is_redacted_in_any_spelling(key: str) -> None:
    assert taken({key: "x"}).tags == {key: "[REDACTED]"}
    nested = taken({"ctx": {"request": [{key: "hunter2"}]}}).tags["ctx"]
    assert "hunter2" not in nested


@pytest.mark.parametrize("key", ["secretary", "passwords_reset_by", "keyapi", "token"])
def test_a_key_that_only_resembles_a_secret_is_stored(key: str) -> None:
    assert taken({key: "x"}).tags == {key: "x"}
