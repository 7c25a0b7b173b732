"""A real browser for tests, and a ledger that looks like a year of an app."""

from __future__ import annotations

import datetime as dt
import random
import typing as t

from flask import Flask

from flask_llm_cost.call import Usage

from .conftest import a_call
from .conftest import NOW
from .conftest import open_cost

PROVIDERS = (
    *("openai", "anthropic", "gemini", "mistral", "cohere", "groq", "xai", "bedrock"),
    *("deepseek", "fireworks", "together", "perplexity", "openrouter"),
)


def varied(app: Flask, *, days: int = 75) -> None:
    """Record calls of 13 providers and 39 models, some estimated, and a spike."""
    ledger = app.extensions["llm_cost"].ledger
    chance = random.Random(20)
    for number in range(900):
        provider = PROVIDERS[number % len(PROVIDERS)]
        at = NOW - dt.timedelta(minutes=chance.randrange(5, days * 1440))
        cost = f"{chance.randrange(1, 900_000) / 1_000_000:.6f}"
        call = a_call(
            at=at,
            provider=provider,
            model=f"{provider}/a-model-with-a-rather-long-name-{number % 39}-20260101",
            cost=None if number % 31 == 0 else cost,
            usage=Usage(
                input_tokens=chance.randrange(10, 4000),
                cache_read_tokens=chance.randrange(0, 2000),
                output_tokens=chance.randrange(10, 900),
            ),
            tags={
                "feature": ("chat", "search", "summary", "agent")[number % 4],
                "tenant": f"customer-{number % 130}@a-rather-long-domain.example.com",
                "session": f"talk-{number // 3}",
            },
        )
        ledger.append(call)
    for number in range(12):
        ledger.append(
            a_call(
                at=NOW - dt.timedelta(days=2, minutes=number),
                model="o3-deep-research",
                cost="17.25",
                tags={"feature": "agent", "tenant": "loop"},
            )
        )
        ledger.append(
            a_call(
                at=NOW - dt.timedelta(days=number, minutes=7),
                usage_source="estimated",
                cost=open_cost("0.39", "0.10"),
                stream=True,
            )
        )
        ledger.append(
            a_call(
                at=NOW - dt.timedelta(days=number, minutes=9),
                outcome="http_error",
                http_status=429,
                usage=None,
                cost=None,
            )
        )
    assert ledger.flush(120)


WIDER: t.Final = """() => {
document.querySelectorAll("details").forEach(d => { d.open = true; });
return [...document.querySelectorAll("main .card")].flatMap(card => {
  const inner = card.getBoundingClientRect();
  return [...card.querySelectorAll("table")].filter(table => {
    const box = table.getBoundingClientRect();
    return table.checkVisibility() &&
      (box.right > inner.right + 0.5 || box.left < inner.left - 0.5);
  }).map(table => table.caption?.textContent + ": " +
    Math.round(table.getBoundingClientRect().width) + " in " + Math.round(inner.width));
});
}"""
"""The tables that are wider than their card, those in closed parts included."""

SMALL: t.Final = """() => [...document.querySelectorAll("a, button, summary, select, input")]
  .filter(e => e.type !== "hidden" && e.getClientRects().length)
  .filter(e => !e.closest("svg, p, .skip, .note"))
  .map(e => [e.textContent.trim().slice(0, 40), e.getBoundingClientRect()])
  .filter(([, box]) => box.height < 23.5 && box.height > 1).map(([name, box]) =>
    name + " " + Math.round(box.width) + "x" + Math.round(box.height))"""
"""Controls, outside of sentences, that are less than 24 px high."""
