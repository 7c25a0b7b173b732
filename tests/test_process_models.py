"""uWSGI, trio, and every way to start a process: each acknowledged call is stored once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import typing as t
from http.client import HTTPConnection
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_llm_cost.db import tables
from tests.cluster.servers import free_ports
from tests.conftest import MakeApp
from tests.test_servers import host as host
from tests.test_servers import provider as provider


def stored(app: t.Any) -> list[str]:
    with app.extensions["llm_cost"].ledger.reading() as connection:
        found = connection.scalars(sa.select(tables.calls.c.response_id)).all()
    return sorted(number for number in found if number is not None)


UWSGI: t.Final = shutil.which("uwsgi", path=f"{Path(sys.executable).parent}:/usr/bin")


@pytest.mark.skipif(UWSGI is None, reason="uWSGI is not installed")
@pytest.mark.parametrize(
    "options",
    [
        "--processes 2",
        "--processes 2 --lazy-apps",
        "--processes 2 --enable-threads",
        "--processes 2 --lazy-apps --threads 2",
        "--processes 1 --max-requests 5",
    ],
)
def test_uwsgi_with_and_without_threads_loses_no_call(
    make_app: MakeApp, host: Path, provider: str, options: str
) -> None:
    app = make_app()
    (port,) = free_ports(1)
    env = {
        **os.environ,
        "HOST_INSTANCE": app.instance_path,
        "HOST_PROVIDER": provider,
        "PYTHONPATH": os.pathsep.join(p for p in [str(host.parent), *sys.path] if p),
    }
    assert UWSGI is not None
    process = subprocess.Popen(
        [
            *(UWSGI, "--master", "--die-on-term", "--http-socket", f"127.0.0.1:{port}"),
            *("--chdir", str(host.parent), "--module", "served_host:app"),
            *("--home", sys.prefix, *options.split()),
        ],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    acked = []
    try:
        until = time.monotonic() + 60
        for number in range(20):
            while True:
                connection = HTTPConnection("127.0.0.1", port, timeout=30)
                try:
                    connection.request("GET", f"/{number}")
                    assert connection.getresponse().read() == b"%d" % number
                    break
                except OSError:
                    assert process.poll() is None
                    assert time.monotonic() < until
                    time.sleep(0.1)
                finally:
                    connection.close()
            acked.append(str(number))
    finally:
        process.send_signal(signal.SIGTERM)
        log = process.communicate(timeout=60)[0].decode("utf-8", "replace")
    assert "Traceback" not in log, log
    # A worker whose last request has ended may be killed before it stores the last call.
    app.extensions["llm_cost"].ledger.queue.drain()
    assert stored(app) == sorted(acked), log


START: t.Final = """
    import multiprocessing, os, sys
    from concurrent.futures import ProcessPoolExecutor
    from flask import Flask
    from flask_llm_cost import LlmCost

    app = Flask("host", instance_path=os.environ["HOST_INSTANCE"])
    llm_cost = LlmCost(app)

    def work(number):
        with app.app_context():
            llm_cost.track(
                provider="openai", model="gpt-4o", input_tokens=1,
                response_id=str(number),
            )
        return number

    if __name__ == "__main__":
        way, kind = sys.argv[1:]
        context = multiprocessing.get_context(way)
        work(100)
        if kind == "pool":
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                assert list(pool.map(work, range(6))) == list(range(6))
        else:
            made = [context.Process(target=work, args=(n,)) for n in range(6)]
            for each in made:
                each.start()
            for each in made:
                each.join(60)
                assert each.exitcode == 0
        work(101)
"""


@pytest.mark.parametrize("kind", ["pool", "processes"])
@pytest.mark.parametrize("way", ["spawn", "forkserver"])
def test_processes_of_multiprocessing_store_their_calls(
    make_app: MakeApp, tmp_path: Path, way: str, kind: str
) -> None:
    app = make_app()
    script = tmp_path / "work.py"
    script.write_text(textwrap.dedent(START))
    done = subprocess.run(
        [sys.executable, str(script), way, kind],
        env={**os.environ, "HOST_INSTANCE": app.instance_path},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    # The children of multiprocessing end without exit handlers: their lines are adopted.
    app.extensions["llm_cost"].ledger.queue.drain()
    expected = sorted(map(str, [*range(6), 100, 101]))
    assert stored(app) == expected


TRIO: t.Final = """
    import os, sys, httpx, trio
    from flask import Flask
    from flask_llm_cost import LlmCost

    provider = os.environ["HOST_PROVIDER"]
    app = Flask("host", instance_path=os.environ["HOST_INSTANCE"])
    app.config["LLM_COST_PROVIDER_HOSTS"] = {provider: "openai"}
    llm_cost = LlmCost(app)

    async def ask(client, number):
        response = await client.post(
            f"http://{provider}/v1/chat/completions",
            json={"model": "gpt-4o", "messages": []},
            headers={"X-Number": str(number)},
        )
        assert response.json()["id"] == str(number)

    async def main():
        with app.app_context():
            async with httpx.AsyncClient() as client:
                llm_cost.wrap(client)
                async with trio.open_nursery() as nursery:
                    for number in range(6):
                        with llm_cost.tags(user=f"u{number}"):
                            nursery.start_soon(ask, client, number)
                with trio.move_on_after(0):
                    await ask(client, 7)

    trio.run(main)
    assert llm_cost is not None
    with app.app_context():
        assert llm_cost.flush(20)
        assert llm_cost.calls.by_tag("user", "u3").count() == 1
"""


def test_calls_under_trio_are_captured_with_their_tags(
    make_app: MakeApp, provider: str
) -> None:
    pytest.importorskip("trio")
    app = make_app()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TRIO)],
        env={
            **os.environ,
            "HOST_INSTANCE": app.instance_path,
            "HOST_PROVIDER": provider,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert stored(app) == ["0", "1", "2", "3", "4", "5"]
