"""Every known request that can cost money is a call, whether its answer is read or not.

``surfaces.txt`` has one for each method and path of the SDKs: its provider, operation,
whether the usage is read, method and URL.
"""

from __future__ import annotations

import typing as t
from pathlib import Path

from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import Route
from flask_llm_cost.providers import route
from flask_llm_cost.providers import unread
from flask_llm_cost.providers.registry import PROVIDERS

SURFACES: t.Final = [
    line.split()
    for line in Path(__file__).with_name("surfaces.txt").read_text("utf-8").splitlines()
]

NOT_CALLS: t.Final = """
Nothing is billed.
    POST api.openai.com/v1/files
    POST api.openai.com/v1/uploads
    POST api.openai.com/v1/realtime/client_secrets
    POST api.anthropic.com/v1/messages/count_tokens
    POST api.cohere.com/v1/tokenize
    POST api.deepgram.com/v1/auth/grant
    POST api.elevenlabs.io/v1/voices/add
    POST generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:countTokens
    GET api.stability.ai/v1/user/balance
The results are billed, which are read when they are fetched.
    POST api.openai.com/v1/batches
    POST api.anthropic.com/v1/messages/batches
    POST generativelanguage.googleapis.com/v1beta/models/m:batchGenerateContent
    POST generativelanguage.googleapis.com/v1beta/models/m:asyncBatchEmbedContent
    POST api.mistral.ai/v1/batch/jobs
    POST api.groq.com/openai/v1/batches
    GRPC api.x.ai/xai_api.BatchMgmt/CreateBatch
The order was billed, which is a call without usage.
    GRPC api.x.ai/xai_api.Chat/GetDeferredCompletion
    GRPC api.x.ai/xai_api.Video/GetDeferredVideo
    WS api.gladia.io/v2/live
The deployment is billed by the hour, not by the call.
    POST x.us-east-1.aws.endpoints.huggingface.cloud/v1/chat/completions
    POST model-x.api.baseten.co/environments/production/sync/v1/chat/completions
    POST model-x.api.baseten.co/production/predict
It is not a model.
    POST api.tavily.com/search
    POST r.jina.ai/
    POST s.jina.ai/
    POST us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l:retrieveContexts
"""
"""Requests that look as if they were calls, by the reason why they are none."""

NONE: t.Final = [line.split() for line in NOT_CALLS.splitlines() if line[:1] == " "]


def found(method: str, url: str) -> Route | None:
    return route(method, f"{'wss' if method == 'WS' else 'https'}://{url}")


def is_unread(found: Route) -> bool:
    return found.dialect.usage is unread.usage


def test_whatever_costs_money_is_a_call_of_its_provider() -> None:
    wrong = []
    for provider, operation, how, method, url in SURFACES:
        hit = found(method, url)
        if hit is None:
            wrong.append(f"{method} {url} is not a call")
            continue
        read = "unread" if is_unread(hit) else "read"
        if (hit.provider, hit.operation, read) != (provider, operation, how):
            wrong.append(f"{method} {url}: {hit.provider} {hit.operation} {read}")
    assert wrong == []


def test_the_list_has_every_provider_that_is_not_a_plain_gateway() -> None:
    listed = {provider for provider, *_ in SURFACES}
    own = {each.name for each in PROVIDERS if len(each.hosts) > 1 or each.region}
    assert own <= listed
    assert len(SURFACES) > 570
    assert len({(method, url) for *_, method, url in SURFACES}) == len(SURFACES)


def test_an_answer_that_is_not_read_is_a_row_without_usage() -> None:
    for *_, how, method, url in SURFACES:
        if how == "unread" and method == "POST":
            hit = found(method, url)
            assert hit is not None
            exchange = Exchange(hit, request_body=b'{"model": "m"}')
            exchange.begin_response(200, {"content-type": "application/json"})
            exchange.feed(b'{"id": "x", "usage": {"total_tokens": 5}}', decoded=True)
            reading = exchange.reading(ended=True)
            assert (reading.usage, reading.model, reading.response_id) == (
                None,
                "m",
                "x",
            )
            assert "unread_usage" in reading.flags, url


def test_only_what_is_posted_is_an_unread_call() -> None:
    for *_, how, method, url in SURFACES:
        hit = found("GET", url)
        assert how == "read" or method != "POST" or hit is None or not is_unread(hit)


def test_what_is_billed_elsewhere_or_not_at_all_is_not_a_call() -> None:
    assert [(method, url) for method, url in NONE if found(method, url)] == []
