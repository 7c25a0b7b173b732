"""App and tags of a call, wherever it is made: views, streams, tasks, commands, scripts."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import subprocess
import sys
import threading
import typing as t
import warnings
from collections.abc import Iterator
from pathlib import Path

import click
import fakeredis
import httpx2
import pytest
import requests
import rq
from celery import Celery
from celery import signals as celery_signals
from celery.contrib.testing.worker import start_worker
from flask import Flask
from flask import Response
from flask import stream_with_context
from rq.timeouts import TimerDeathPenalty

from flask_llm_cost import Call
from flask_llm_cost import LlmCost
from flask_llm_cost.query.detail import stream_calls
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.testing import record_calls
from tests.capture.server import Answer
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM
from tests.capture.server import Provider
from tests.conftest import MakeApp

ASK = {"model": "gpt-4o", "stream": True}


@pytest.fixture
def app(make_app: MakeApp, provider: Provider) -> Flask:
    provider.play(Answer(CHAT_STREAM, cuts=(50,)))
    return make_app(LLM_COST_PROVIDER_HOSTS={provider.host: "openai"})


@pytest.fixture
def session(llm_cost: LlmCost) -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield llm_cost.wrap(session)


@pytest.fixture
def calls(app: Flask) -> Iterator[list[Call]]:
    with record_calls(app) as calls:
        yield calls


def test_tasks_of_an_async_view_have_their_own_tags(
    app: Flask, llm_cost: LlmCost, calls: list[Call], provider: Provider
) -> None:
    @app.get("/")
    async def view() -> str:
        async with httpx2.AsyncClient(verify=False) as client:
            llm_cost.wrap(client)

            async def ask(number: int) -> None:
                with llm_cost.tags(number=number):
                    await asyncio.sleep(0)
                    await client.post(provider.url(), json=ASK)

            with llm_cost.tags(view="chat"):
                await asyncio.gather(*(ask(number) for number in range(20)))
        return ""

    assert app.test_client().get("/").status_code == 200
    assert sorted(int(call.tags["number"]) for call in calls) == list(range(20))
    assert {call.tags["view"] for call in calls} == {"chat"}


@pytest.mark.parametrize("early", [False, True])
def test_a_streamed_response_has_the_tags_of_its_send(
    early: bool,
    app: Flask,
    llm_cost: LlmCost,
    calls: list[Call],
    session: requests.Session,
    provider: Provider,
) -> None:
    @llm_cost.tag_provider
    def who() -> dict[str, t.Any]:
        from flask import request

        return {"path": request.path}

    @app.get("/chat")
    def chat() -> Response:
        def lines() -> Iterator[bytes]:
            with (
                llm_cost.tags(feature="chat"),
                session.post(provider.url(), json=ASK, stream=True) as answer,
            ):
                yield from answer.iter_content(20)

        return Response(stream_with_context(lines()))

    response = app.test_client().get("/chat", buffered=False)
    chunks = response.iter_encoded()
    if early:
        next(chunks)
        response.close()
    else:
        assert b"".join(chunks) == CHAT_STREAM
    # A call that ends in a generator's close() is recorded later.
    llm_cost.flush(10)
    [call] = calls
    assert call.tags == {"feature": "chat", "path": "/chat"}
    assert call.outcome == ("interrupted" if early else "ok")


def test_one_object_of_several_apps_drops_calls_without_a_context(
    make_app: MakeApp,
    app: Flask,
    llm_cost: LlmCost,
    session: requests.Session,
    provider: Provider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = Flask("other", instance_path=app.instance_path + "2")
    other.config["LLM_COST_PROVIDER_HOSTS"] = {provider.host: "openai"}
    llm_cost.init_app(other)
    with record_calls(app) as mine, record_calls(other) as theirs:
        with app.app_context():
            session.post(provider.url(), json=ASK)
        with other.app_context():
            session.post(provider.url(), json=ASK)
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
    other.extensions["llm_cost"].close()
    assert (len(mine), len(theirs)) == (1, 1)
    assert "A call was not recorded" in caplog.text


@pytest.fixture
def logging_left_alone() -> Iterator[None]:
    """A Celery worker would set the level of the root logger for all later tests."""

    def leave(**_: t.Any) -> None:
        pass

    celery_signals.setup_logging.connect(leave, weak=False)
    yield
    celery_signals.setup_logging.disconnect(leave)


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.usefixtures("logging_left_alone")
@pytest.mark.filterwarnings("ignore")
def test_a_celery_task_with_an_app_context_is_captured(
    eager: bool,
    app: Flask,
    llm_cost: LlmCost,
    calls: list[Call],
    session: requests.Session,
    provider: Provider,
) -> None:
    celery = Celery("tasks", broker="memory://", backend="cache+memory://")
    celery.conf.task_always_eager = eager

    # Celery shares tasks between all its apps, in no particular order: a task of the same
    # name from another test could run instead.
    @celery.task(shared=False)
    def work(user: int) -> int:
        with app.app_context(), llm_cost.tags(user=user):
            return session.post(provider.url(), json=ASK).status_code

    if eager:
        results = [work.delay(n).get() for n in range(6)]
    else:
        with start_worker(
            celery, pool="threads", concurrency=3, perform_ping_check=False
        ):
            pending = [work.delay(n) for n in range(6)]
            results = [result.get(timeout=60) for result in pending]
    assert results == [200] * 6
    assert sorted(call.tags["user"] for call in calls) == list("012345")


_work: t.Any = None


def run_work(user: int) -> int:
    """The job. The queue accepts only functions of a module."""
    return t.cast(int, _work(user))


class _Worker(rq.SimpleWorker):
    death_penalty_class = TimerDeathPenalty


@pytest.fixture
def _own_signals() -> Iterator[None]:
    """The worker replaces them; children that later tests fork could not be terminated."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_own_signals")
@pytest.mark.filterwarnings("ignore")
def test_an_rq_job_with_an_app_context_is_captured(
    app: Flask,
    llm_cost: LlmCost,
    calls: list[Call],
    session: requests.Session,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(user: int) -> int:
        with app.app_context(), llm_cost.tags(user=user):
            return session.post(provider.url(), json=ASK).status_code

    monkeypatch.setattr(sys.modules[__name__], "_work", work)
    monkeypatch.setitem(sys.modules, "rq_jobs", sys.modules[__name__])
    queue = rq.Queue(connection=fakeredis.FakeStrictRedis())
    jobs = [queue.enqueue("rq_jobs.run_work", n) for n in range(3)]
    _Worker([queue], connection=queue.connection).work(burst=True)
    assert [job.return_value() for job in jobs] == [200] * 3
    assert [call.tags["user"] for call in calls] == list("012")


def test_a_click_command_of_the_app_is_captured(
    app: Flask, calls: list[Call], session: requests.Session, provider: Provider
) -> None:
    @app.cli.command("ask")
    def ask() -> None:
        click.echo(session.post(provider.url(), json=ASK).status_code)

    result = app.test_cli_runner().invoke(args=["ask"])
    assert result.output == "200\n"
    assert calls[0].usage is not None


_SCRIPT: t.Final = """
import sys
import requests
from flask import Flask
from flask_llm_cost import LlmCost

url, host, folder = sys.argv[1:]
app = Flask("script", instance_path=folder)
app.config["LLM_COST_PROVIDER_HOSTS"] = {host: "openai"}
llm_cost = LlmCost(app)
llm_cost.instrument()
with app.app_context(), llm_cost.tags(script="nightly"):
    requests.post(url, json={"model": "gpt-4o"}, timeout=60)
requests.post(url, json={"model": "gpt-4o"}, timeout=60)  # the only app there is
"""


@pytest.mark.parametrize("storable", [True, False])
def test_the_calls_of_a_script_outlive_it(
    storable: bool, make_app: MakeApp, provider: Provider
) -> None:
    """They are in the ledger or, if the exit could not wait for that, in the spool."""
    provider.play(Answer(CHAT_JSON))
    app = make_app()
    ledger = app.extensions["llm_cost"].ledger
    database = Path(app.instance_path, "llm_cost.db")
    if not storable:
        database.mkdir(parents=True)
    arguments = provider.url(), provider.host, app.instance_path
    subprocess.run([sys.executable, "-c", _SCRIPT, *arguments], check=True, timeout=120)
    if not storable:
        assert ledger.queue.count() == 2
        database.rmdir()
    # The exit of a process waits only some seconds, which a busy machine may need to load
    # the database driver. Whoever drains next stores the rest.
    ledger.queue.drain()
    assert ledger.queue.count() == 0
    calls = list(stream_calls(ledger.reading, CallFilter()))
    assert sorted(call.tags.get("script", "") for call in calls) == ["", "nightly"]


def test_a_task_that_was_started_inside_a_call_is_captured(
    app: Flask, llm_cost: LlmCost, calls: list[Call], provider: Provider
) -> None:
    """As in SDKs that fetch something in the background from inside a hook."""

    async def main() -> None:
        tasks: list[asyncio.Task[t.Any]] = []
        sent = asyncio.Event()

        async def later(client: t.Any) -> None:
            await sent.wait()
            await client.post(provider.url(), json={"model": "later"})

        class Transport(httpx2.AsyncHTTPTransport):
            async def handle_async_request(self, request: t.Any) -> t.Any:
                if not tasks:
                    tasks.append(asyncio.create_task(later(client)))
                return await super().handle_async_request(request)

        transport = Transport(verify=False)
        async with httpx2.AsyncClient(transport=transport) as client:
            llm_cost.wrap(client)
            async with client.stream("POST", provider.url(), json=ASK) as response:
                sent.set()
                await asyncio.gather(*tasks)
                await response.aread()

    with app.app_context():
        asyncio.run(main())
    assert sorted(str(call.request_model) for call in calls) == ["gpt-4o", "later"]


@pytest.mark.parametrize("kind", ["tags", "suppress", "track_stream"])
def test_a_block_may_be_left_in_a_foreign_context(
    kind: str, app: Flask, llm_cost: LlmCost, calls: list[Call]
) -> None:
    blocks: dict[str, t.Callable[[], t.Any]] = {
        "tags": lambda: llm_cost.tags(feature="x"),
        "suppress": llm_cost.suppress,
        "track_stream": lambda: llm_cost.track_stream(
            provider="openai", model="gpt-4o"
        ),
    }

    def inside() -> Iterator[None]:
        with blocks[kind]():
            yield

    errors: list[BaseException] = []

    def leave(steps: t.Any) -> None:
        try:
            steps.close()
        except BaseException as error:  # noqa: B036
            errors.append(error)

    with app.app_context(), warnings.catch_warnings():
        steps = inside()
        # The tags stay where the block was entered: not in the context of later tests.
        contextvars.copy_context().run(next, steps)
        thread = threading.Thread(target=leave, args=(steps,))
        thread.start()
        thread.join()
    assert not errors
    assert len(calls) == (kind == "track_stream")
