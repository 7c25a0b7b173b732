"""Where SDKs hold the HTTP client that they send through."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from types import ModuleType

from ..interrupts import pass_on

_NAMES: t.Final = (
    "_client",
    "_async_client",
    "_api_client",
    "_httpx_client",
    "_async_httpx_client",
    "_http_client",
    "_client_wrapper",
    "httpx_client",
    "sdk_configuration",
    "client",
    "async_client",
    "openai_client",
    "_pipeline",
    "_transport",
    "session",
)
"""Attributes through which SDKs hold their HTTP client:

openai, anthropic, groq, ollama ``_client``; google-genai ``_api_client._httpx_client``,
``._async_httpx_client``; mistralai ``sdk_configuration.client``,
``.async_client``; cohere ``_client_wrapper.httpx_client.httpx_client``; assemblyai
``_client._http_client``; portkey also ``openai_client``; azure-core
``_client._pipeline._transport.session``.
"""

_MADE: t.Final[Mapping[str, tuple[str, ...]]] = {
    "replicate.client.Client": ("_client", "_async_client"),
    "fal_client.client.SyncClient": ("_client",),
}
"""Properties, by class, that create an HTTP client when they are first used."""

_OPENED: t.Final = "azure.core.pipeline.transport._requests_basic.RequestsTransport"
"""It creates its session when it is opened, and stays open."""

WAYS: t.Final[Mapping[str, str]] = {
    "azure": "Wrap its client with llm_cost.wrap(client), or, if it is async, use"
    ' llm_cost.instrument("aiohttp").',
    "claude_agent_sdk": 'Capture it with llm_cost.instrument("claude_agent_sdk").',
    "dashscope": 'Capture it with llm_cost.instrument("requests", "aiohttp").',
    "dspy": 'Capture it with llm_cost.instrument("lm15").',
    "fal_client": "Wrap its client with llm_cost.wrap(client), or, if it is async, use"
    ' llm_cost.instrument("httpx").',
    "huggingface_hub": "Its clients share one HTTP client: use"
    " llm_cost.wrap(huggingface_hub.get_session()), or, if it is async,"
    ' llm_cost.instrument("httpx", "httpx2").',
    "litellm": 'Capture it with llm_cost.instrument("httpx", "aiohttp").',
    "lm15": 'Capture it with llm_cost.instrument("lm15").',
    "voyageai": "Its clients share a session: set voyageai.requestssession ="
    " llm_cost.wrap(requests.Session()), or, if it is async, use"
    ' llm_cost.instrument("aiohttp").',
    "xai_sdk": 'Capture it with llm_cost.instrument("grpc").',
}
"""What to do, by the package of a client in which no HTTP client is found."""

_OTHERWISE: t.Final = (
    "Wrap the client that it uses, or capture all clients with llm_cost.instrument()."
)


def inside(client: object) -> Iterator[t.Any]:
    """Yield what a client holds that may be, or hold, its HTTP client."""
    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    if kind == _OPENED:
        _get(client, "open", call=True)
    made = _MADE.get(kind, ())
    for name in made:
        yield _get(client, name)
    for name in _NAMES:
        # Only from the instance: another class's property may open a connection.
        if name not in made:
            yield own(client, name)


def own(client: object, name: str) -> t.Any:
    """Get an attribute of the instance; ``None`` if there is none."""
    try:
        return vars(client).get(name)
    except TypeError:
        return None


def _get(client: object, name: str, *, call: bool = False) -> t.Any:
    # The SDK's own code: without a key, for example, some cannot create their client.
    try:
        found = getattr(client, name)
        return found() if call else found
    except Exception as error:
        pass_on(error)
        return None


def package_of(client: object) -> str:
    """Return the package that a client, a class or a module belongs to."""
    if isinstance(client, ModuleType):
        return client.__name__.partition(".")[0]
    kind = client if isinstance(client, type) else type(client)
    return kind.__module__.partition(".")[0]


def way(client: object) -> str:
    """Return what to do about a client in which no HTTP client is found."""
    return WAYS.get(package_of(client), _OTHERWISE)
