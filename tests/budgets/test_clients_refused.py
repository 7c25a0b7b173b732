"""A budget that blocks surfaces in every client library, before anything is sent."""

from __future__ import annotations

import asyncio
import typing as t
from collections.abc import Callable

import aiohttp
import boto3
import httpx
import httpx2
import pytest
import requests
from botocore.config import Config

from flask_llm_cost.errors import BudgetExceeded
from tests.capture.server import Answer
from tests.capture.server import Provider
from tests.conftest import MakeApp

from .test_enforcement import extension_of

ASK = {"model": "gpt-4o", "max_tokens": 5, "messages": []}


def _by_requests(url: str) -> None:
    requests.post(url, json=ASK, timeout=5)


def _by(module: t.Any, url: str) -> None:
    with module.Client(verify=False) as client:
        client.post(url, json=ASK)


def _async_by(module: t.Any, url: str) -> None:
    async def main() -> None:
        async with module.AsyncClient(verify=False) as client:
            await client.post(url, json=ASK)

    asyncio.run(main())


def _by_aiohttp(url: str) -> None:
    async def main() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=ASK) as response,
        ):
            await response.read()

    asyncio.run(main())


def _by_boto3(url: str) -> None:
    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=url.removesuffix("/v1/chat/completions"),
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"max_attempts": 1}),
    )
    client.converse(
        modelId="anthropic.claude-3-haiku-20240307-v1:0",
        messages=[{"role": "user", "content": [{"text": "Hi"}]}],
        inferenceConfig={"maxTokens": 5},
    )


SENDS: dict[str, Callable[[str], None]] = {
    "requests": _by_requests,
    "httpx": lambda url: _by(httpx, url),
    "httpx2": lambda url: _by(httpx2, url),
    "httpx async": lambda url: _async_by(httpx, url),
    "httpx2 async": lambda url: _async_by(httpx2, url),
    "aiohttp": _by_aiohttp,
    "botocore": _by_boto3,
}


@pytest.mark.parametrize("library", SENDS)
def test_a_refusal_reaches_the_caller(
    make_app: MakeApp, provider: Provider, library: str
) -> None:
    speaks = "bedrock" if library == "botocore" else "openai"
    app = make_app(
        LLM_COST_BUDGETS=[{"name": "none", "limit_usd": 0, "behavior": "block"}],
        LLM_COST_PROVIDER_HOSTS={provider.host: speaks},
    )
    scene = provider.play(Answer(b"{}"))
    llm_cost = extension_of(app)
    with app.app_context():
        llm_cost.instrument()
        try:
            with pytest.raises(BudgetExceeded) as info:
                SENDS[library](provider.url())
        finally:
            llm_cost.uninstrument()
        assert llm_cost.flush(60)
        assert llm_cost.calls.count() == 0
    assert info.value.budget == "none"
    assert scene.requests == []
