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


def compare(
    title: str, workers: dict[str, Worker], bases: dict[str, str], command: str
) -> None:
    """Ask each worker in turn, and print what it took against its own base."""
    spent: dict[str, list[float]] = {name: [] for name in workers}
    for number in range(ROUNDS + 1):
        names = list(workers)
        # Every second round backwards, so that drift favours no one.
        for name in names if number % 2 else reversed(names):
            took = workers[name].ask(command)
            if number:  # the first round warms up
                spent[name].append(took)
    print(f"\n{title} (CPU us; {ROUNDS} interleaved rounds of `{command}`)\n")
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


ROUNDS: t.Final = 15


def main() -> None:
    with provider(CHUNKS) as host:
        _measure(host)


def _measure(host: str) -> None:
    workers = {"bare": Worker("bare", sys.executable, host)}
    workers["ours"] = Worker("ours", sys.executable, host)
    bases = {"bare": "bare", "ours": "bare"}
    for peer in PEERS:
        # Each peer has its own idea of the SDK's version, so each has a base of its own.
        base = f"bare beside {peer}"
        workers[base] = Worker("bare", _python(peer), host)
        workers[peer] = Worker(peer, _python(peer), host)
        bases |= {base: base, peer: base}
    compare("One 2 KB answer", workers, bases, "call 40")
    compare(f"A stream of {CHUNKS} chunks", workers, bases, "stream 4")
    for name in ("ours", *PEERS):
        count = workers[name].ask("recorded")
        print(f"\n{name} recorded {count if count >= 0 else 'to the host'}")
    print("\nMemory of one open stream, bytes over bare:")
    for name in ("ours", *PEERS):
        over = workers[name].ask("memory 100") - workers[bases[name]].ask("memory 100")
        print(f"{name}: {over:+.0f}")
    for worker in workers.values():
        worker.end()


if __name__ == "__main__":
    main()
