"""``verify-capture``: does a call of each dialect arrive, with usage and a price?"""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

import click
from flask import current_app
from flask.cli import with_appcontext

from .doctor import Finding
from .text import money
from .text import plain

if t.TYPE_CHECKING:
    from flask import Flask

    from ..call import Call

FEATURE: t.Final = "llm_cost_verify"
"""The tag ``feature`` of the calls that are sent."""

_ASKED: t.Final[tuple[tuple[str, str, dict[str, t.Any]], ...]] = (
    (
        "openai",
        "https://api.openai.com/v1/chat/completions",
        {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    ),
    (
        "anthropic",
        "https://api.anthropic.com/v1/messages",
        {
            "model": "claude-haiku-4-5",
            "max_tokens": 50,
            "messages": [{"role": "user", "content": "Hello"}],
        },
    ),
    (
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/models/"
        "gemini-2.5-flash:generateContent",
        {"contents": [{"parts": [{"text": "Hello"}]}]},
    ),
)


@click.command("verify-capture")
@with_appcontext
def verify_capture() -> None:
    """Send a call of each dialect to a fake provider, and see what is captured of it.

    They go through the app's own adapter, are tagged and priced as any other call, and
    are shown instead of stored. Nothing leaves this machine. Signals are sent; the calls
    carry the tag feature=llm_cost_verify. Ends with 1 if something is amiss.
    """
    findings = list(verify(current_app))
    for found in findings:
        click.echo(f"[{found.status:>5}] {found.name}: {plain(found.message)}")
    if any(found.status == "error" for found in findings):
        click.get_current_context().exit(1)


def verify(app: Flask) -> Iterator[Finding]:
    """What became of one call of each dialect."""
    import requests

    from .demo.provider import serve

    state = app.extensions["llm_cost"]
    if not state.settings.enabled:
        yield Finding("error", "capture", "LLM_COST_ENABLED is False.")
        return
    with serve(pause=0) as url, requests.Session() as session:
        session.mount("https://", state.extension.adapter(inner=_redirect(url)))
        for provider, asked, body in _ASKED:
            before, state.collected = state.collected, []
            try:
                with state.extension.tags(feature=FEATURE):
                    session.post(asked, json=body, timeout=10).close()
                calls: list[Call] = state.collected
            finally:
                state.collected = before
            yield _judged(provider, calls)


def _redirect(url: str) -> t.Any:
    """An adapter that sends to the fake provider what was meant for a real one."""
    from requests.adapters import HTTPAdapter

    class Redirect(HTTPAdapter):
        def send(self, request: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
            request.url = url + request.path_url
            return super().send(request, *args, **options)

    return Redirect()


def _judged(provider: str, calls: list[Call]) -> Finding:
    if len(calls) != 1:
        return Finding("error", provider, f"{len(calls)} calls captured instead of 1.")
    [call] = calls
    if call.usage is None:
        return Finding("error", provider, f"{call.model} captured without its usage.")
    if call.tags.get("feature") != FEATURE:
        return Finding("error", provider, f"{call.model} captured without its tags.")
    if call.cost is None:
        return Finding("warn", provider, f"{call.model} captured, but has no price.")
    return Finding(
        "ok",
        provider,
        f"{call.model} captured: {call.usage.total_input_tokens:,} tokens in,"
        f" {call.usage.total_output_tokens:,} out, {money(call.cost.total_usd)}.",
    )
