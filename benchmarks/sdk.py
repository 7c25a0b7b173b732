"""The overhead of recording calls of the openai SDK, by this extension and by others.

Each candidate runs in a process of its own, in turn with the others. Each other package has a
virtualenv, which is created in ``benchmarks/.venvs`` on first use. The provider is a process on
loopback. The CPU time of all threads of a process is counted, including the final flush. A
caller waits as long as the median of its calls. Arguments name the peers to compare with:
``sdk.py otel langfuse``, or with none: ``sdk.py alone``. The last table sums up.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import typing as t
from collections.abc import Callable
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
"""The packages that each peer needs, in their newest versions."""


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
"""The times of each candidate."""


class Spent(t.NamedTuple):
    """What the calls of one command took, in microseconds for each call."""

    cpu: Times
    wall: Times


class Worker:
    """A process that makes the calls of one candidate."""

    def __init__(self, name: str, python: str, host: str) -> None:
        self._process = subprocess.Popen(
            [python, str(HERE / "sdk_worker.py"), name, host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, command: str) -> tuple[float, ...]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return tuple(map(float, self._process.stdout.readline().split()))

    def end(self) -> None:
        self._process.communicate()


def measure(workers: dict[str, Worker], command: str, spent: Spent) -> None:
    """Run each worker in turn, several times, and record the times."""
    for number in range(ROUNDS + 1):
        names = list(workers)
        # Every second round is reversed, so that drift cancels out.
        for name in names if number % 2 else reversed(names):
            took = workers[name].ask(command)
            if number:  # the first round warms up
                for times, value in zip(spent, took, strict=True):
                    times.setdefault(name, []).append(value)


def show(title: str, spent: Times, bases: dict[str, str]) -> None:
    """Print the times of each candidate relative to its base."""
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


def compare(
    spent: dict[str, Spent], bases: dict[str, str], peers: tuple[str, ...]
) -> None:
    """Print what this extension and its peers add, side by side, with the spread."""
    answer, stream = list(spent.values())[:2]
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"\nIn short ({os.cpu_count()} cores, load {load}; median, IQR)\n")
    print("| | caller waits | CPU of a response | CPU of a stream |")
    print("|---|---:|---:|---:|")
    for name in ("bare again", "ours", *peers):
        base = bases[name]
        waits = _paired(answer.wall, name, base, lambda one, other: one - other)
        ratios = [
            _paired(each.cpu, name, base, lambda one, other: one / other)
            for each in (answer, stream)
        ]
        print(
            f"| {name} | {waits[1]:+.0f} us ({waits[0]:+.0f}..{waits[2]:+.0f})"
            + "".join(f" | {r[1]:.2f}x ({r[0]:.2f}..{r[2]:.2f})" for r in ratios)
            + " |"
        )


def _paired(
    times: Times, name: str, base: str, compared: Callable[[float, float], float]
) -> list[float]:
    """The quartiles of pairs that were measured one after the other."""
    pairs = zip(times[name], times[base], strict=True)
    return statistics.quantiles([compared(*pair) for pair in pairs], n=4)


LAUNCHES: t.Final = 3
"""How often each process is started: identical ones differ by a few percent."""

ROUNDS: t.Final = 4

QUESTIONS: t.Final = {
    "call 400": "One 2 KB response, written to the ledger in the background",
    "call 40": "The same, flushed after every 40",
    "stream 40": f"A stream of {CHUNKS} chunks, written to the ledger in the background",
    "stream 4": "The same, flushed after every 4",
}
"""What the workers run. The flush after the last call is always counted."""


def main() -> None:
    asked = tuple(sys.argv[1:]) or tuple(PEERS)
    peers = () if asked == ("alone",) else asked
    with provider(CHUNKS) as host:
        _measure(host, peers)


def _measure(host: str, peers: tuple[str, ...]) -> None:
    spent = {command: Spent({}, {}) for command in QUESTIONS}
    for _ in range(LAUNCHES):
        workers, bases = _started(host, peers)
        for command, times in spent.items():
            measure(workers, command, times)
        counts = {name: workers[name].ask("recorded")[0] for name in ("ours", *peers)}
        over = {
            name: workers[name].ask("memory 100")[0]
            - workers[bases[name]].ask("memory 100")[0]
            for name in ("ours", *peers)
        }
        for worker in workers.values():
            worker.end()
    runs = f"CPU us; {LAUNCHES} launches, {ROUNDS} interleaved rounds each"
    for command, times in spent.items():
        show(f"{QUESTIONS[command]} ({runs})", times.cpu, bases)
    for name, count in counts.items():
        print(
            f"\n{name} recorded {count:.0f}" if count >= 0 else f"\n{name}: sent away"
        )
    print("\nMemory of one open stream, bytes over bare:")
    for name, size in over.items():
        print(f"{name}: {size:+.0f}")
    compare({name: spent[name] for name in ("call 400", "stream 40")}, bases, peers)


def _started(
    host: str, peers: tuple[str, ...]
) -> tuple[dict[str, Worker], dict[str, str]]:
    """The processes, and the base that each is compared with."""
    workers = {"bare": Worker("bare", sys.executable, host)}
    # A second identical process shows the noise.
    workers["bare again"] = Worker("bare", sys.executable, host)
    workers["ours"] = Worker("ours", sys.executable, host)
    bases = dict.fromkeys(workers, "bare")
    for peer in peers:
        # Each peer requires its own version of the SDK, so each has a base of its own.
        base = f"bare beside {peer}"
        workers[base] = Worker("bare", _python(peer), host)
        workers[peer] = Worker(peer, _python(peer), host)
        bases |= {base: base, peer: base}
    return workers, bases


if __name__ == "__main__":
    main()
