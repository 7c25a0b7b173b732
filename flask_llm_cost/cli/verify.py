"""``verify-capture``: checks that test calls are captured, with usage and a price."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import importlib.util
import json
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import click
from flask import current_app
from flask.cli import with_appcontext

from ..errors import LlmCostError
from ..errors import StorageError
from ..signals import call_recorded
from ..tags import resolve
from .findings import Finding
from .findings import show
from .text import count
from .text import money

if t.TYPE_CHECKING:
    from flask import Flask

    from ..call import Call
    from .demo.provider import Urls

FEATURE: t.Final = "llm_cost_verify"
"""The tag ``feature`` of the test calls."""

_REQUESTS: t.Final[dict[str, tuple[str, dict[str, t.Any]]]] = {
    "openai": (
        "/v1/chat/completions",
        {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    ),
    "anthropic": (
        "/v1/messages",
        {
            "model": "claude-haiku-4-5",
            "max_tokens": 50,
            "messages": [{"role": "user", "content": "Hello"}],
        },
    ),
    "gemini": (
        "/v1beta/models/gemini-2.5-flash:generateContent",
        {"contents": [{"parts": [{"text": "Hello"}]}]},
    ),
}

_Send: t.TypeAlias = Callable[[str, dict[str, t.Any]], None]


@click.command("verify-capture")
@with_appcontext
def verify_capture() -> None:
    """Check that calls to a fake provider are captured.

    Sends one call per provider format through the app's adapter, and one through each
    instrumented HTTP library. The calls are tagged, priced and stored like any other,
    found in the ledger, and then removed from it. Nothing leaves this machine. Signals
    are sent, and the calls have the tag feature=llm_cost_verify. Exits with status 1 on
    any error.
    """
    # The sender of signals is the app itself, not the proxy.
    show(verify(current_app.extensions["llm_cost"].app))


def verify(app: Flask) -> Iterator[Finding]:
    """Send each call, and check what was captured."""
    from ..capture.clients import unsupported
    from .demo.provider import serve_each

    state = app.extensions["llm_cost"]
    if not state.settings.enabled:
        yield Finding("error", "capture", "LLM_COST_ENABLED is False.")
        return
    try:
        stores = _stores(state)
    except StorageError as error:
        yield Finding.failed("ledger", error)
        return
    stored: list[Call] = []
    # As the app's settings limit or redact it.
    tag = resolve(state.settings, [{"feature": FEATURE}]).tags.get("feature")
    with serve_each(pause=0) as urls, _hosts(state, urls):
        for name, provider, send in _ways(state.extension):
            path, body = _REQUESTS[provider]
            with _recorded(app, state, stores, tag) as calls:
                with state.extension.tags(feature=FEATURE):
                    send(getattr(urls, provider) + path, body)
            stored += calls
            yield _check(name, calls, tag)
    for library, reason in sorted(unsupported().items()):
        yield Finding("warn", library, reason)
    if stores:
        yield _remove(state, stored)


def _stores(state: t.Any) -> bool:
    """Whether calls go to a ledger that can be queried.

    :raises StorageError: If that ledger cannot be read.
    """
    if state.settings.storage != "database" or state.collected is not None:
        return False
    with state.ledger.reading():
        return True


@contextmanager
def _hosts(state: t.Any, urls: Urls) -> Iterator[None]:
    """Make the fake provider known to this process while the block runs."""
    before = state.settings
    hosts = {**before.provider_hosts, **urls.hosts}
    state.settings = dataclasses.replace(before, provider_hosts=hosts)
    try:
        yield
    finally:
        state.settings = before


@contextmanager
def _recorded(
    app: Flask, state: t.Any, stores: bool, tag: str | None
) -> Iterator[list[Call]]:
    """Collect the calls that are recorded inside; store them only if ``stores``."""
    calls: list[Call] = []

    def receive(sender: Flask, call: Call, **_: t.Any) -> None:
        if call.tags.get("feature") == tag or not call.tags:
            calls.append(call)

    before = state.collected
    if not stores:
        state.collected = []
    try:
        with call_recorded.connected_to(receive, sender=app):
            yield calls
    finally:
        state.collected = before


def _remove(state: t.Any, calls: list[Call]) -> Finding:
    """Look up the calls in the ledger, and remove them."""
    from ..query.detail import call_detail

    ids = [call.event_id for call in calls]
    try:
        written = state.extension.flush(30)
        with state.ledger.reading() as connection:
            found = [each for each in ids if call_detail(connection, each) is not None]
        removed = state.ledger.withdraw(ids)
    except LlmCostError as error:
        return Finding.failed("ledger", error)
    if not written or len(found) < len(ids) or removed < len(found):
        return Finding(
            "error",
            "ledger",
            f"{len(ids)} calls were captured, but {len(found)} were found and {removed}"
            " removed. The others have the tag feature=llm_cost_verify; run `doctor` to"
            " see why they are not in the ledger.",
        )
    return Finding("ok", "ledger", f"{removed} calls found and removed.")


def _ways(extension: t.Any) -> Iterator[tuple[str, str, _Send]]:
    """How the calls are sent: name, provider format and function."""
    from ..capture.clients import ways

    for provider in _REQUESTS:
        yield provider, provider, _through_adapter(extension)
    for library, how in sorted(ways().items()):
        # DSPy may bring lm15 without that being installed itself.
        if "instrument" in how and library in _SENDS and _is_importable(library):
            yield library, "openai", _SENDS[library]
            if library.startswith("httpx"):
                yield f"{library} async", "openai", _async_send(library)


def _is_importable(library: str) -> bool:
    return importlib.util.find_spec(library.partition(".")[0]) is not None


def _through_adapter(extension: t.Any) -> _Send:
    return lambda url, body: _by_requests(url, body, extension.adapter())


def _by_requests(url: str, body: dict[str, t.Any], adapter: t.Any = None) -> None:
    import requests

    with requests.Session() as session:
        session.trust_env = False
        if adapter is not None:
            session.mount("http://", adapter)
        session.post(url, json=body, timeout=10).close()


def _send(library: str) -> _Send:
    def send(url: str, body: dict[str, t.Any]) -> None:
        module: t.Any = importlib.import_module(library)
        with module.Client(trust_env=False, timeout=10) as client:
            client.post(url, json=body)

    return send


def _async_send(library: str) -> _Send:
    def send(url: str, body: dict[str, t.Any]) -> None:
        module: t.Any = importlib.import_module(library)

        async def main() -> None:
            async with module.AsyncClient(trust_env=False, timeout=10) as client:
                await client.post(url, json=body)

        asyncio.run(main())

    return send


def _by_aiohttp(url: str, body: dict[str, t.Any]) -> None:
    import aiohttp

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            async with session.post(url, json=body) as response:
                await response.read()

    asyncio.run(main())


def _by_botocore(url: str, body: dict[str, t.Any]) -> None:
    from botocore.awsrequest import AWSRequest
    from botocore.httpsession import URLLib3Session

    headers = {"Content-Type": "application/json"}
    request = AWSRequest("POST", url, headers, data=json.dumps(body).encode())
    session = URLLib3Session(timeout=10)
    try:
        session.send(request.prepare())
    finally:
        session.close()


def _by_urllib3(url: str, body: dict[str, t.Any]) -> None:
    import urllib3

    with urllib3.PoolManager(timeout=10) as pool:
        pool.request("POST", url, json=body)


def _by_http_client(url: str, body: dict[str, t.Any]) -> None:
    from http.client import HTTPConnection

    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("POST", parts.path, json.dumps(body).encode())
        connection.getresponse().read()
    finally:
        connection.close()


def _by_curl_cffi(url: str, body: dict[str, t.Any]) -> None:
    from curl_cffi import requests

    with requests.Session(trust_env=False) as session:
        session.post(url, json=body, timeout=10)


def _by_niquests(url: str, body: dict[str, t.Any]) -> None:
    niquests: t.Any = importlib.import_module("niquests")
    with niquests.Session() as session:
        session.trust_env = False
        session.post(url, json=body, timeout=10).close()


def _by_lm15(url: str, body: dict[str, t.Any]) -> None:
    transports: t.Any = importlib.import_module("lm15.transports")
    headers = [("Content-Type", "application/json")]
    request = transports.TransportRequest(
        "POST", url, headers, json.dumps(body).encode()
    )
    with transports.StdlibTransport() as transport:
        with transport.stream(request) as response:
            for _ in response:
                pass


_SENDS: t.Final[dict[str, _Send]] = {
    "requests": _by_requests,
    "httpx": _send("httpx"),
    "httpx2": _send("httpx2"),
    "aiohttp": _by_aiohttp,
    "botocore": _by_botocore,
    "urllib3": _by_urllib3,
    "http.client": _by_http_client,
    "curl_cffi": _by_curl_cffi,
    "niquests": _by_niquests,
    "lm15": _by_lm15,
}


def _check(name: str, calls: list[Call], tag: str | None) -> Finding:
    if len(calls) != 1:
        return Finding("error", name, f"{len(calls)} calls captured; expected 1.")
    [call] = calls
    if call.usage is None:
        return Finding("error", name, f"{call.model} captured without usage.")
    if call.tags.get("feature") != tag:
        return Finding("error", name, f"{call.model} captured without tags.")
    if call.cost is None:
        return Finding("warn", name, f"{call.model} captured, but it has no price.")
    return Finding(
        "ok",
        name,
        f"{call.model} captured: {count(call.usage.total_input_tokens, 'token')} in,"
        f" {call.usage.total_output_tokens:,} out, {money(call.cost.total_usd)}.",
    )
