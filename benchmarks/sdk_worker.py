"""One candidate of `sdk.py`, in a process of its own.

Its arguments are the name of the candidate and the provider's address. Each line on standard
input is a command, ``call N``, ``stream N``, ``memory N`` or ``recorded``; the reply is one
number, or two for the first two commands. It runs in the virtualenv of the package that it
measures, and imports only that.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import tempfile
import time
import tracemalloc
import typing as t
from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager

MESSAGES: t.Final = [{"role": "user", "content": "word " * 100}]
ASKED: t.Final = {"model": "gpt-4o-mini", "messages": MESSAGES}
STREAMED: t.Final = {
    **ASKED,
    "stream": True,
    "stream_options": {"include_usage": True},
}


class Way(t.NamedTuple):
    create: Callable[..., t.Any]
    flush: Callable[[], object]
    """Make sure that everything is recorded, because this is part of the measurement."""
    recorded: Callable[[], int]


@contextmanager
def bare(host: str) -> Iterator[Way]:
    import openai

    client = openai.OpenAI(base_url=f"http://{host}/v1", api_key="x", max_retries=0)
    yield Way(client.chat.completions.create, lambda: None, lambda: 0)
    client.close()


@contextmanager
def ours(host: str) -> Iterator[Way]:
    import openai
    from flask import Flask

    from flask_llm_cost import LlmCost

    with tempfile.TemporaryDirectory() as folder:
        app = Flask("bench", instance_path=folder)
        app.config["LLM_COST_PROVIDER_HOSTS"] = {host: "openai"}
        llm_cost = LlmCost(app)
        client = openai.OpenAI(base_url=f"http://{host}/v1", api_key="x", max_retries=0)
        llm_cost.wrap(client)
        yield Way(
            client.chat.completions.create,
            lambda: llm_cost.flush(60),
            lambda: llm_cost.calls.priced().count(),
        )
        app.extensions["llm_cost"].close()
        client.close()


@contextmanager
def otel(host: str) -> Iterator[Way]:
    """Spans are created and batched; the exporter only counts them."""
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    count = 0

    class Counting(SpanExporter):
        def export(self, spans: t.Any) -> SpanExportResult:
            nonlocal count
            count += len(spans)
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Counting()))
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    with bare(host) as way:
        yield Way(way.create, provider.force_flush, lambda: count)
    provider.shutdown()


@contextmanager
def langfuse(host: str) -> Iterator[Way]:
    """It sends its records to the provider's host, which accepts and ignores them."""
    os.environ["LANGFUSE_PUBLIC_KEY"] = "pk-lf-x"
    os.environ["LANGFUSE_SECRET_KEY"] = "sk-lf-x"
    os.environ["LANGFUSE_HOST"] = os.environ["LANGFUSE_BASE_URL"] = f"http://{host}"
    from langfuse import get_client
    from langfuse.openai import OpenAI

    client = OpenAI(base_url=f"http://{host}/v1", api_key="x", max_retries=0)
    yield Way(client.chat.completions.create, get_client().flush, lambda: -1)
    client.close()


@contextmanager
def litellm(host: str) -> Iterator[Way]:
    """Used with a callback, as by an app that wants the cost."""
    import litellm as library

    costs: list[float] = []

    def keep(asked: t.Any, answer: t.Any, began: t.Any, ended: t.Any) -> None:
        # Called for each chunk of a stream, too; the last one has the cost.
        if asked.get("response_cost") is not None:
            costs.append(asked["response_cost"])

    library.success_callback = [keep]
    options = {"api_base": f"http://{host}/v1", "api_key": "x", "max_retries": 0}

    def create(**asked: t.Any) -> t.Any:
        return library.completion(**asked | options | {"model": "openai/gpt-4o-mini"})

    def flush() -> None:
        until = time.monotonic() + 1
        while len(costs) < made[0] and time.monotonic() < until:
            time.sleep(0.001)

    made = [0]

    def counted(**asked: t.Any) -> t.Any:
        made[0] += 1
        return create(**asked)

    yield Way(counted, flush, lambda: len(costs))


WAYS: t.Final = {
    "bare": bare,
    "ours": ours,
    "otel": otel,
    "langfuse": langfuse,
    "litellm": litellm,
}


def call(way: Way, count: int) -> tuple[float, float]:
    return timed(way, count, lambda: way.create(**ASKED))


def stream(way: Way, count: int) -> tuple[float, float]:
    """Time streams that are read to their end."""
    return timed(way, count, lambda: deque(way.create(**STREAMED), maxlen=0))


def timed(way: Way, count: int, send: Callable[[], object]) -> tuple[float, float]:
    """CPU microseconds of one call, of all threads, and how long its caller waits.

    The latter is the median, which a busy machine affects least.
    """
    waited = []
    start = time.process_time()
    for _ in range(count):
        sent = time.perf_counter()
        send()
        waited.append(time.perf_counter() - sent)
    way.flush()
    spent = (time.process_time() - start) / count
    return spent * 1e6, statistics.median(waited) * 1e6


def memory(way: Way, count: int) -> tuple[float]:
    """Bytes of memory of one open stream that is read to about its middle."""
    list(way.create(**STREAMED))
    way.flush()
    gc.collect()
    tracemalloc.start()
    begin = tracemalloc.get_traced_memory()[0]
    streams = []
    for _ in range(count):
        opened = iter(way.create(**STREAMED))
        for _ in range(100):
            next(opened)
        streams.append(opened)
    gc.collect()
    size = (tracemalloc.get_traced_memory()[0] - begin) / count
    tracemalloc.stop()
    for opened in streams:
        for _ in opened:
            pass
    return (size,)


def main() -> None:
    name, host = sys.argv[1:]
    # The output of a package must not be mistaken for a reply.
    answers, sys.stdout = sys.stdout, sys.stderr
    with WAYS[name](host) as way:
        for line in sys.stdin:
            verb, _, count = line.strip().partition(" ")
            if verb == "recorded":
                way.flush()
                answer: tuple[float, ...] = (way.recorded(),)
            else:
                answer = {"call": call, "stream": stream, "memory": memory}[verb](
                    way, int(count)
                )
            print(*answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
