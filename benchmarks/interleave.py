"""Time candidates in turn and print ratios, which are stable on a noisy machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from collections.abc import Mapping


def run(
    title: str,
    candidates: Mapping[str, Callable[[], object]],
    *,
    calls: int,
    rounds: int = 21,
    per: int = 1,
    unit: str = "call",
) -> dict[str, float]:
    """Run each candidate ``calls`` times per round, in turn, and print CPU time per unit.

    :param candidates: Functions that make one call, by name; the first is the base.
    :param per: The number of units (calls, chunks) in one call.
    :return: Each candidate's median ratio to the base, pair by pair.
    """
    spent: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        names = list(candidates)
        # Every second round is reversed, so that drift cancels out.
        for name in names if number % 2 else reversed(names):
            candidate = candidates[name]
            start = time.process_time()
            for _ in range(calls):
                candidate()
            seconds = time.process_time() - start
            if number:  # the first round warms up
                spent[name].append(seconds / calls / per * 1e6)
    base = next(iter(candidates))
    ratios = {
        name: statistics.median(a / b for a, b in zip(times, spent[base], strict=True))
        for name, times in spent.items()
    }
    print(
        f"\n{title} (CPU us per {unit}; {rounds} interleaved rounds of {calls} calls)\n"
    )
    print(f"| candidate | median | IQR | added | x {base} |")
    print("|---|---:|---:|---:|---:|")
    for name, times in spent.items():
        low, _, high = statistics.quantiles(times, n=4)
        added = statistics.median(
            a - b for a, b in zip(times, spent[base], strict=True)
        )
        print(
            f"| {name} | {statistics.median(times):.2f} | {low:.2f}..{high:.2f}"
            f" | {added:+.2f} | {ratios[name]:.2f} |"
        )
    return ratios
