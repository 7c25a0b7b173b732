"""What pricing one call costs, against a dict look-up with integers."""

from __future__ import annotations

import datetime as dt

from interleave import run

from flask_llm_cost import Usage
from flask_llm_cost.prices import PriceBook

_RATES = {("openai", "gpt-4o"): (2_500_000, 1_250_000, 10_000_000)}
_USAGE = Usage(input_tokens=1234, cache_read_tokens=2048, output_tokens=567)
_AT = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def integers() -> int:
    rate = _RATES.get(("openai", "gpt-4o"))
    assert rate is not None
    return (
        _USAGE.input_tokens * rate[0]
        + _USAGE.cache_read_tokens * rate[1]
        + _USAGE.output_tokens * rate[2]
    )


def main() -> None:
    book = PriceBook.bundled()
    cost = book.cost("openai", "gpt-4o", _USAGE, at=_AT)
    assert cost is not None
    assert cost.total_usd * 10**12 == integers()
    run(
        "Price one call",
        {
            "dict+int": integers,
            "known model": lambda: book.cost("openai", "gpt-4o", _USAGE, at=_AT),
            "dated name": lambda: book.cost(
                "openai", "gpt-4o-2024-11-20", _USAGE, at=_AT
            ),
            "unknown model": lambda: book.cost(
                "openai", "no-such-model", _USAGE, at=_AT
            ),
        },
        calls=5000,
    )


if __name__ == "__main__":
    main()
