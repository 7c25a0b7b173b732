"""The cost of pricing a call, against a dict and integers, and against other packages.

    python benchmarks/pricing.py            # this package, load time and memory of the book
    python benchmarks/pricing.py litellm    # in a venv that has litellm
    python benchmarks/pricing.py genai      # in a venv that has genai-prices

Each candidate prices the same usage (1,234 input tokens, 400 of them cached, 567 output) for
four models in turn, by provider and model, and returns the exact total. The row "as recorded"
also creates the usage and keeps every part of the cost, as for a recorded call; the row beside
it only creates the usage.
"""

from __future__ import annotations

import datetime as dt
import os
import statistics
import subprocess
import sys
import typing as t
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache

from interleave import run

from flask_llm_cost import Usage
from flask_llm_cost.prices import PriceBook

_PROMPT, _CACHED, _OUTPUT = 1234, 400, 567
_MODELS = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-sonnet-4-5"),
    ("gemini", "gemini-2.5-flash"),
)
_ALIASES = (
    ("openai", "gpt-4o-2024-11-20"),
    ("OpenAI", "openai/gpt-4o-mini"),
    ("anthropic", "claude-sonnet-4-5-20250929"),
    ("google", "gemini-2.5-flash-001"),
)
_UNKNOWN = tuple((provider, f"no-{model}") for provider, model in _MODELS)
_AT = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)

Names: t.TypeAlias = tuple[tuple[str, str], ...]
Pricer: t.TypeAlias = Callable[[str, str], object]

_book = PriceBook.bundled()


def _rates(provider: str, model: str) -> tuple[int, int, int] | None:
    found = _book.find(provider, model, _AT)
    if found is None:
        return None
    rates = {str(key): int(rate * 10**6) for key, rate in found.price.rates.items()}
    return rates["input"], rates["cache_read"], rates["output"]


_INTEGERS = {name: _rates(*name) for name in _MODELS}


def integers(provider: str, model: str) -> int | None:
    """The lower limit: one lookup and three multiplications."""
    rates = _INTEGERS.get((provider, model))
    if rates is None:
        return None
    fresh, cached, out = rates
    return (_PROMPT - _CACHED) * fresh + _CACHED * cached + _OUTPUT * out


_normal = lru_cache(maxsize=4096)(_rates)


def normalized(provider: str, model: str) -> int | None:
    """The lower limit for a name that must be resolved first."""
    rates = _normal(provider, model)
    if rates is None:
        return None
    fresh, cached, out = rates
    return (_PROMPT - _CACHED) * fresh + _CACHED * cached + _OUTPUT * out


_usage = Usage(
    input_tokens=_PROMPT - _CACHED, cache_read_tokens=_CACHED, output_tokens=_OUTPUT
)


def ours(provider: str, model: str) -> Decimal | None:
    cost = _book.cost(provider, model, _usage, _AT)
    return None if cost is None else cost.total_usd


def ours_now(provider: str, model: str) -> Decimal | None:
    cost = _book.cost(provider, model, _usage)
    return None if cost is None else cost.total_usd


def ours_whole(provider: str, model: str) -> object:
    cost = _book.cost(provider, model, _usage, _AT)
    return None if cost is None else list(cost.parts.values())


def _made() -> Usage:
    return Usage(
        input_tokens=_PROMPT - _CACHED, cache_read_tokens=_CACHED, output_tokens=_OUTPUT
    )


def usage_alone(provider: str, model: str) -> object:
    return _made()


def as_recorded(provider: str, model: str) -> object:
    cost = _book.cost(provider, model, _made(), _AT)
    return None if cost is None else (cost.source, list(cost.parts.values()))


def litellm() -> dict[str, Pricer]:
    # By default, it downloads its prices.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    def per_token(provider: str, model: str) -> object:
        try:
            return litellm.cost_per_token(
                model=model,
                prompt_tokens=_PROMPT,
                completion_tokens=_OUTPUT,
                cache_read_input_tokens=_CACHED,
                custom_llm_provider=provider.lower(),
            )
        except Exception:
            return None

    return {"litellm.cost_per_token": per_token}


def genai() -> dict[str, Pricer]:
    import genai_prices

    used = genai_prices.Usage(
        input_tokens=_PROMPT, cache_read_tokens=_CACHED, output_tokens=_OUTPUT
    )

    def calc(provider: str, model: str) -> object:
        try:
            return genai_prices.calc_price(
                used,
                model_ref=model,
                provider_id={"gemini": "google"}.get(provider, provider),
                genai_request_timestamp=_AT,
            ).total_price
        except LookupError:
            return None

    return {"genai_prices.calc_price": calc}


_PEERS: dict[str, Callable[[], dict[str, Pricer]]] = {
    "litellm": litellm,
    "genai": genai,
}


def _in_turn(pricer: Pricer, names: Names) -> Callable[[], object]:
    (p1, m1), (p2, m2), (p3, m3), (p4, m4) = names

    def four() -> None:
        pricer(p1, m1)
        pricer(p2, m2)
        pricer(p3, m3)
        pricer(p4, m4)

    return four


def _compare(title: str, names: Names, base: str, peers: dict[str, Pricer]) -> None:
    limit = {"dict+int": integers, "lru name + int": normalized}[base]
    candidates: dict[str, Pricer] = {
        base: limit,
        "exact total": ours,
        "exact total, of now": ours_now,
        "total and every part": ours_whole,
        "as recorded": as_recorded,
        "the usage alone": usage_alone,
        **peers,
    }
    for name in names:
        said = limit(*name)
        total = ours(*name)
        assert (said is None) is (total is None), name
        assert said is None or total is None or total * 10**12 == said, name
    run(
        title,
        {name: _in_turn(pricer, names) for name, pricer in candidates.items()},
        calls=50 if peers else 5000,
        per=4,
    )


def _load() -> None:
    timed = (
        "import time; import flask_llm_cost.prices as p; s = time.process_time();"
        "book = p.PriceBook.bundled(); print(round((time.process_time() - s) * 1e3, 1))"
    )
    traced = (
        "import tracemalloc; import flask_llm_cost.prices as p; tracemalloc.start();"
        "book = p.PriceBook.bundled(); kept, peak = tracemalloc.get_traced_memory();"
        "n = len(book.entries()); print(n, kept >> 10, peak >> 10)"
    )
    print("\nLoading the bundled book, a fresh process each")
    times = [float(_fresh(timed)) for _ in range(7)]
    models, kept, peak = _fresh(traced).split()
    print(
        f"{statistics.median(times)} ms CPU; {models} names; {kept} KB, {peak} at most"
    )


def _fresh(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout


def main() -> None:
    peers: dict[str, Pricer] = {}
    for name in sys.argv[1:]:
        peers |= _PEERS[name]()
    _compare("Known models", _MODELS, "dict+int", peers)
    _compare("Aliases and dated names", _ALIASES, "lru name + int", peers)
    _compare("Unknown models", _UNKNOWN, "lru name + int", peers)
    if not peers:
        _load()


if __name__ == "__main__":
    main()
