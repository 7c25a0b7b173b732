"""What recording adds to the openai SDK: this extension, and others that record its calls.

Each way runs in a process of its own, in turn with the others, and each peer in a virtualenv
of its own, made in ``benchmarks/.venvs`` when it is first needed. The provider is a process
on loopback. The CPU time of all of a process's threads is counted, and what was recorded is
flushed within it.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import typing as t
from pathlib import Path

from provider import provider

HERE: t.Final = Path(__file__).parent
VENVS: t.Final = HERE / ".venvs"
CHUNKS: t.Final = 200

PEERS: t.Final = {
    "otel": ("opentelemetry-sdk", "opentelemetry-instrumentation-openai", "openai"),
    "langfuse": ("langfuse", "openai"),
    "litellm": ("litellm",),
}
"""What each peer needs, in its newest version."""


def _python(peer: str) -> str:
    """The interpreter of a peer's virtualenv."""
    folder = VENVS / peer
    python = folder / "bin" / "python"
    if not python.exists():
        uv = shutil.which("uv")
        if uv is None:
            pip = [str(python), "-m", "pip", "install", "-q"]
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        else:
            pip = [uv, "pip", "install", "-q", "-p", str(python)]
            subprocess.run([uv, "venv", "-q", folder], check=True)
        subprocess.run([*pip, *PEERS[peer]], check=True)
    return str(python)


Times: t.TypeAlias = dict[str, list[float]]
"""What each way took."""


class Worker:
    """A process that makes calls in one way."""

    def __init__(self, name: str, python: str, host: str) -> None:
        self._process = subprocess.Popen(
            [python, str(HERE / "sdk_worker.py"), name, host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, command: str) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate()


def measure(workers: dict[str, Worker], command: str, spent: Times) -> None:
    """Ask each worker in turn, some times over, and put down what each took."""
    for number in range(ROUNDS + 1):
        names = list(workers)
        # Every second round backwards, so that drift favors no one.
        for name in names if number % 2 else reversed(names):
            took = workers[name].ask(command)
            if number:  # the first round warms up
                spent.setdefault(name, []).append(took)


def show(title: str, spent: Times, bases: dict[str, str]) -> None:
    """Print what each way took against its own base."""
    print(f"\n{title}\n")
    print("| way | median | IQR | added | x bare | IQR of that |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, times in spent.items():
        pairs = list(zip(times, spent[bases[name]], strict=True))
        ratios = [one / other for one, other in pairs]
        low, _, high = statistics.quantiles(times, n=4)
        least, _, most = statistics.quantiles(ratios, n=4)
        added = statistics.median(one - other for one, other in pairs)
        print(
            f"| {name} | {statistics.median(times):.0f} | {low:.0f}..{high:.0f}"
            f" | {added:+.0f} | {statistics.median(ratios):.2f} | {least:.2f}..{most:.2f} |"
        )


LAUNCHES: t.Final = 3
"""Each process is started so often: two of the same way differ by some percent."""

ROUNDS: t.Final = 4

QUESTIONS: t.Final = {
    "call 400": "One 2 KB answer, what is recorded at its own pace",
    "call 40": "The same, all of it flushed after every 40",
    "stream 40": f"A stream of {CHUNKS} chunks, what is recorded at its own pace",
    "stream 4": "The same, all of it flushed after every 4",
}
"""The flush after the last one is counted in any case."""


def main() -> None:
    with provider(CHUNKS) as host:
        _measure(host)


def _measure(host: str) -> None:
    spent: dict[str, Times] = {command: {} for command in QUESTIONS}
    for _ in range(LAUNCHES):
        workers, bases = _started(host)
        for command, times in spent.items():
            measure(workers, command, times)
        counts = {name: workers[name].ask("recorded") for name in ("ours", *PEERS)}
        over = {
            name: workers[name].ask("memory 100")
            - workers[bases[name]].ask("memory 100")
            for name in ("ours", *PEERS)
        }
        for worker in workers.values():
            worker.end()
    runs = f"CPU us; {LAUNCHES} launches, {ROUNDS} interleaved rounds each"
    for command, times in spent.items():
        show(f"{QUESTIONS[command]} ({runs})", times, bases)
    for name, count in counts.items():
        print(
            f"\n{name} recorded {count:.0f}" if count >= 0 else f"\n{name}: sent away"
        )
    print("\nMemory of one open stream, bytes over bare:")
    for name, size in over.items():
        print(f"{name}: {size:+.0f}")


def _started(host: str) -> tuple[dict[str, Worker], dict[str, str]]:
    """The processes, and to which of them each is compared."""
    workers = {"bare": Worker("bare", sys.executable, host)}
    # A second one of the same shows what a difference is worth.
    workers["bare again"] = Worker("bare", sys.executable, host)
    workers["ours"] = Worker("ours", sys.executable, host)
    bases = dict.fromkeys(workers, "bare")
    for peer in PEERS:
        # Each peer has its own idea of the SDK's version, so each has a base of its own.
        base = f"bare beside {peer}"
        workers[base] = Worker("bare", _python(peer), host)
        workers[peer] = Worker(peer, _python(peer), host)
        bases |= {base: base, peer: base}
    return workers, bases


if __name__ == "__main__":
    main()
