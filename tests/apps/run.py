"""Use the extension inside a public Flask app, in the app's own virtualenv.

.. code-block:: text

    $ python tests/apps/run.py mlflow

:mod:`.hosts` makes the app. Calls are then sent by a view, by a plain generator that a view
returns, by threads, and by tasks of Celery and RQ, to a fake provider on loopback; and the
dashboard is opened behind the app's own login, if it has one. The last line of the output
is a JSON object with the versions and the results.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import threading
import typing as t
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

if t.TYPE_CHECKING:
    from flask import Flask
    from werkzeug.test import TestResponse

    from flask_llm_cost import LlmCost
    from flask_llm_cost.call import Call

    from .hosts.host import Host

sys.path.insert(0, str(Path(__file__).parent))

from work import ask
from work import BODY

VIEW_CALLS: t.Final = 5
STREAMS: t.Final = 3
THREADS: t.Final = 4
TASKS: t.Final = 3


def main(name: str) -> None:
    """Run everything; an assertion fails where something is not as it should be."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        make: t.Callable[[Path], Host] = importlib.import_module(f"hosts.{name}").make
        host = make(Path(folder))
        llm_cost, url = set_up(host, Path(folder))
        expected = {"view": VIEW_CALLS, "stream": STREAMS, "thread": THREADS}
        send(host, url, llm_cost)
        for kind, run in (("celery", celery_tasks), ("rq", rq_tasks)):
            if run(host.app, url):
                expected[kind] = TASKS
        assert llm_cost.flush(30)
        check(host, calls_of(host.app), expected)
        dashboard = open_dashboard(host)
    packages = (host.package, "flask", "werkzeug", "sqlalchemy", "celery", "rq")
    found = {name: installed(name) for name in packages}
    sys.stdout.write(
        json.dumps({"versions": found, "calls": expected, "dashboard": dashboard})
        + "\n"
    )


def installed(package: str) -> str | None:
    """The version of a package, or ``None`` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def set_up(host: Host, folder: Path) -> tuple[LlmCost, str]:
    """Add the extension, the dashboard and two views, as the docs describe it."""
    from flask_llm_cost import LlmCost
    from flask_llm_cost import request_tags
    from flask_llm_cost.testing import fake_provider

    url = fake_provider()
    app = host.app
    app.config.update(
        LLM_COST_PROVIDER_HOSTS={urlsplit(url).netloc: "openai"},
        LLM_COST_DATABASE_URI=f"sqlite:///{folder / 'llm_cost.db'}",
        LLM_COST_SPOOL_DIR=str(folder / "spool"),
        LLM_COST_ROLLUP_TAGS=("endpoint",),
    )
    llm_cost = LlmCost(app, instrument=True)
    llm_cost.tag_provider(request_tags)
    pages = llm_cost.blueprint(access=host.access)
    host.exempt(pages)
    app.register_blueprint(pages, url_prefix="/llm-costs")

    @app.get("/llm-test/ask")
    def llm_test_ask() -> str:
        return ask(url)

    @app.get("/llm-test/stream")
    def llm_test_stream() -> Iterator[str]:
        return stream(url)

    host.exempt(llm_test_ask)
    host.exempt(llm_test_stream)
    return llm_cost, url


def stream(url: str) -> Iterator[str]:
    """One streamed call, sent when the server iterates over the response."""
    import requests

    body = BODY | {"stream": True, "stream_options": {"include_usage": True}}
    with requests.post(
        f"{url}/v1/chat/completions", json=body, timeout=30, stream=True
    ) as answer:
        for line in answer.iter_lines():
            yield f"{len(line)}\n"


def send(host: Host, url: str, llm_cost: LlmCost) -> None:
    """Send the calls of views and threads."""
    client = host.app.test_client()
    host.login(client)
    for path, number in (("ask", VIEW_CALLS), ("stream", STREAMS)):
        for _ in range(number):
            response: TestResponse = client.get(f"/llm-test/{path}")
            assert response.status_code == 200, (path, response.status, response.text)
            assert response.text
    with host.app.app_context(), llm_cost.tags(endpoint="thread"):
        threads = [
            threading.Thread(target=llm_cost.bind(ask), args=(url,))
            for _ in range(THREADS)
        ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def celery_tasks(app: Flask, url: str) -> bool:
    """Run tasks in a worker, in an app context as Flask's docs show it."""
    if installed("celery") is None:
        return False
    from celery import Celery
    from celery import Task
    from celery.contrib.testing.worker import start_worker

    extension: LlmCost = app.extensions["llm_cost"].extension

    class InContext(Task):  # type: ignore[misc,type-arg]
        def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
            with app.app_context(), extension.tags(endpoint="celery"):
                return self.run(*args, **kwargs)

    tasks = Celery(
        "host", task_cls=InContext, broker="memory://", backend="cache+memory://"
    )
    asking = tasks.task(name="ask")(ask)
    with start_worker(tasks, pool="solo", perform_ping_check=False, loglevel="error"):
        for result in [asking.delay(url) for _ in range(TASKS)]:
            assert result.get(timeout=60) == "asked"
    return True


def rq_tasks(app: Flask, url: str) -> bool:
    """Run jobs in a worker of RQ, over an imitation of Redis."""
    if installed("rq") is None or installed("fakeredis") is None:
        return False
    from fakeredis import FakeStrictRedis
    from rq import Queue
    from rq import SimpleWorker
    from rq.timeouts import TimerDeathPenalty

    class Worker(SimpleWorker):
        death_penalty_class = TimerDeathPenalty

    connection = FakeStrictRedis()
    queue = Queue(connection=connection)
    jobs = [queue.enqueue(ask, url) for _ in range(TASKS)]
    extension: LlmCost = app.extensions["llm_cost"].extension
    with app.app_context(), extension.tags(endpoint="rq"):
        Worker([queue], connection=connection).work(burst=True, logging_level="ERROR")
    assert [job.return_value() for job in jobs] == ["asked"] * TASKS
    return True


def calls_of(app: Flask) -> list[Call]:
    """The calls in the ledger."""
    from flask_llm_cost.query.detail import stream_calls
    from flask_llm_cost.query.filters import CallFilter

    return [*stream_calls(app.extensions["llm_cost"].ledger.reading, CallFilter())]


KINDS: t.Final = {"llm_test_ask": "view", "llm_test_stream": "stream"}


def check(host: Host, calls: list[Call], expected: dict[str, int]) -> None:
    """Each call is in the ledger once, with its price and the tags of its origin."""
    found: dict[str, int] = {}
    for call in calls:
        endpoint = call.tags.get("endpoint", "none")
        kind = KINDS.get(endpoint, endpoint)
        found[kind] = found.get(kind, 0) + 1
        assert call.outcome == "ok", call
        assert call.cost is not None, call
        assert call.cost.complete, call
        assert call.cost.total_usd > 0, call
    assert found == expected, (found, expected)


def open_dashboard(host: Host) -> str:
    """Open every page, after the login if the app has one."""
    stranger = host.app.test_client().get("/llm-costs/")
    client = host.app.test_client()
    host.login(client)
    for path in ("", "calls", "models", "tags/endpoint", "data-quality", "budgets"):
        response = client.get(f"/llm-costs/{path}")
        assert response.status_code == 200, (path, response.status)
        assert "<h1" in response.text
    if not host.has_login:
        return "open"
    assert stranger.status_code in {302, 401, 403}, stranger.status
    return "behind the app's login"


if __name__ == "__main__":
    main(sys.argv[1])
