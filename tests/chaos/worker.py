"""A process of an app under attack: threads that call a model, and signals that interrupt.

Everything that it knows goes through a pipe to the test, line by line: it may be killed, and
its disk may be full.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import faulthandler
import functools
import json
import logging
import os
import random
import resource
import signal
import sys
import threading
import time
import typing as t
from collections import deque
from pathlib import Path

import requests
from flask import Flask

from flask_llm_cost import LlmCost
from flask_llm_cost import signals
from flask_llm_cost.budgets.enforcement import Enforcer
from flask_llm_cost.budgets.estimates import Estimates
from flask_llm_cost.budgets.reservations import Reservations
from flask_llm_cost.db.engine import Engines
from flask_llm_cost.errors import BudgetExceeded
from flask_llm_cost.errors import StorageError
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger.queue import Queue

THREADS: t.Final = 3
LANES: t.Final = ("closed", "open", "hostile")

_TICK_S: t.Final = 0.01


def budgets(folder: Path) -> list[dict[str, t.Any]]:
    """The budgets of the app: one that is closed on errors, and one that is open."""

    def limit(name: str, tags: object) -> str:
        # As an app would read it from its own table.
        limits: dict[str, str] = json.loads((folder / "limits.json").read_text())
        return limits[name]

    return [
        {
            "name": name,
            "limit_usd": functools.partial(limit, name),
            "period": "total",
            "tags": {"lane": name},
            "behavior": "block",
            "on_error": name,
            # The true cost is at most the bound, so that the limit must hold.
            "cut": "ceiling",
        }
        for name in ("closed", "open")
    ]


class Interrupted(Exception):
    """What the app's signal handler raises."""


def say(kind: str, *values: object) -> None:
    # One write to a pipe, which is never torn at this length.
    os.write(1, (json.dumps([kind, *values]) + "\n").encode())


class Control:
    """How late the machine wakes this process: it was stopped, or others were busy."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=2000)
        self._sleeping = time.perf_counter()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self._sleeping = began = time.perf_counter()
            time.sleep(_TICK_S)
            ended = time.perf_counter()
            self._late.append((ended, ended - began - _TICK_S))

    def since(self, began: float) -> float:
        """Return by how many seconds it was late at most, since then."""
        now = time.perf_counter() - self._sleeping - _TICK_S
        found = [late for ended, late in list(self._late) if ended >= began]
        return max(0.0, now, *found)


class Delays:
    """How long calls waited because of the package."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._control = Control()

    def begin(self) -> None:
        self._local.ours = self._local.late = 0.0
        self._local.parts = {}

    @property
    def ours(self) -> list[float]:
        """The delay of a call, and that without the control's, in seconds."""
        ours: float = self._local.ours
        return [ours, max(0.0, ours - self._local.late)]

    @property
    def parts(self) -> dict[str, float]:
        """What took how long, in ms: outer parts include inner ones."""
        return dict(getattr(self._local, "parts", {}))

    def measure(self, owner: t.Any, name: str, *, total: bool = True) -> None:
        """Measure each call of a method.

        :param total: It counts; otherwise it is a part of another one.
        """
        function = getattr(owner, name)
        label = f"{owner.__name__}.{name}" if isinstance(owner, type) else name

        def measured(*args: t.Any, **options: t.Any) -> t.Any:
            began = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                took = time.perf_counter() - began
                parts = self.parts
                parts[label] = round(parts.get(label, 0) + 1000 * took, 1)
                self._local.parts = parts
                if total:
                    self._local.ours += took
                    self._local.late += self._control.since(began)

        setattr(owner, name, measured)


class Worker:
    def __init__(self, options: dict[str, t.Any]) -> None:
        self._options = options
        self._folder = Path(options["folder"])
        self._stop = threading.Event()
        self._chance = random.Random(options["seed"])
        self._offset = dt.timedelta()
        app = self.app = Flask("worker", instance_path=options["folder"])
        app.config.update(
            LLM_COST_DATABASE_URI=options["uri"],
            LLM_COST_PROVIDER_HOSTS={options["host"]: "openai"},
            LLM_COST_BUDGETS=budgets(self._folder),
        )
        self.llm_cost = LlmCost(app)
        self._delays = Delays()
        self._delays.measure(self.llm_cost, "begin")
        self._delays.measure(self.llm_cost, "record")
        for owner, name in (
            (Enforcer, "begin"),
            (Enforcer, "after"),
            (Engines, "run"),
            (Engines, "answering"),
            (Ledger, "append"),
            (Queue, "append"),
            (Reservations, "reserve"),
            (Reservations, "known_refusal"),
            (Estimates, "of"),
        ):
            self._delays.measure(owner, name, total=False)
        state = app.extensions["llm_cost"]
        state.clock = lambda: dt.datetime.now(dt.UTC) + self._offset
        signals.storage_failed.connect(self._failed, app)
        owe = Reservations.owe

        def owing(mine: Reservations, event_id: str, wanted: t.Any) -> None:
            say("unreserved", event_id)
            owe(mine, event_id, wanted)

        setattr(Reservations, "owe", owing)  # noqa: B010

    def _failed(self, sender: object, call: t.Any, error: Exception) -> None:
        if call is not None:
            say("lost", call.response_id, call.event_id)

    # Signals

    def interrupt(self, number: int, frame: object) -> None:
        raise Interrupted

    def record_in_handler(self, number: int, frame: object) -> None:
        event_id = mint_event_id(dt.datetime.now(dt.UTC))
        self.llm_cost.track(
            provider="openai",
            model="gpt-4o-mini",
            input_tokens=1,
            event_id=event_id,
            tags={"lane": "handler"},
        )
        say("handler", event_id)

    def control(self, number: int, frame: object) -> None:
        """Fill the disk, or step the clock."""
        what = json.loads((self._folder / f"control.{os.getpid()}").read_text())
        limit = resource.RLIM_INFINITY if what["space"] is None else what["space"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        self._offset = dt.timedelta(seconds=what["offset"])

    def end(self, number: int, frame: object) -> None:
        self._stop.set()

    # Calls

    def run(self) -> None:
        # What is imported in a handler is not imported amid the same import.
        with self.app.app_context():
            self.llm_cost.track(provider="openai", model="gpt-4o-mini", input_tokens=1)
            self.llm_cost.flush(0)
        threads = [
            threading.Thread(target=self.work, args=(n,)) for n in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        self.app.app_context().push()  # an interrupted context would not be popped
        for name, handler in (
            ("SIGUSR1", self.interrupt),
            ("SIGUSR2", self.record_in_handler),
            ("SIGHUP", self.control),
            ("SIGTERM", self.end),
        ):
            signal.signal(getattr(signal, name), handler)
        say("ready")
        # The main thread calls, too: its calls are interrupted.
        while not self._stop.is_set():
            try:
                self.work(THREADS)
            except Interrupted:
                continue
        while any(thread.is_alive() for thread in threads):
            try:
                for thread in threads:
                    thread.join()
            except Interrupted:
                continue
        for name in ("SIGUSR1", "SIGUSR2"):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        say("flushed", self.llm_cost.flush(60))

    def work(self, number: int) -> None:
        chance = random.Random(f"{self._options['seed']}.{number}.{time.time()}")
        bare, calls = requests.Session(), 0
        with contextlib.ExitStack() as stack:
            if number < THREADS:
                stack.enter_context(self.app.app_context())
            session = stack.enter_context(requests.Session())
            session.mount("http://", self.llm_cost.adapter())
            while not self._stop.is_set():
                lane = chance.choices(LANES, (5, 5, 1))[0]
                try:
                    self.call(session, lane, chance)
                except (BudgetExceeded, StorageError) as error:
                    say("refused", lane, type(error).__name__, self._delays.ours)
                except requests.RequestException:
                    say("failed", lane, self._delays.ours)
                if self._delays.ours[1] > 0.25:
                    say("slow", calls, *self._delays.ours, self._delays.parts)
                calls += 1
                if chance.random() < 0.05:
                    began = time.perf_counter()
                    try:
                        bare.post(self._url("open"), json={"lane": "open"}, timeout=60)
                    except requests.RequestException:
                        continue
                    say("bare", time.perf_counter() - began)
                time.sleep(chance.uniform(0, 0.05))

    def call(self, session: requests.Session, lane: str, chance: random.Random) -> None:
        body: dict[str, t.Any] = {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": "Hello there"}],
            "max_tokens": 1000,
            "stream": chance.random() < 0.3,
        }
        self._delays.begin()
        began = time.perf_counter()
        with self.llm_cost.tags(lane=lane):
            answer = session.post(
                self._url(lane), json=body, stream=body["stream"], timeout=60
            )
            text = answer.content
        took = time.perf_counter() - began
        number = answer.headers.get("x-request-id")
        whole = number is not None and number.encode() in text
        if lane != "hostile" and answer.ok and whole:
            say("done", lane, number, self._delays.ours, took)

    def _url(self, lane: str) -> str:
        return f"http://{self._options['host']}/v1/chat/completions?lane={lane}"


def main() -> None:
    faulthandler.register(signal.SIGQUIT, all_threads=True)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    Worker(json.loads(sys.argv[1])).run()


if __name__ == "__main__":
    main()
