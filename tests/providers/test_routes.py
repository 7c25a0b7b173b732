"""A URL determines the provider, and whether the request is a call."""

from __future__ import annotations

import dataclasses
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.providers import chat_route
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import Path
from flask_llm_cost.providers import Provider
from flask_llm_cost.providers import read_exchange
from flask_llm_cost.providers import route
from flask_llm_cost.providers.dialect import Dialect
from flask_llm_cost.providers.dialect import needles
from flask_llm_cost.providers.dialect import Notes
from flask_llm_cost.providers.dialect import Object
from flask_llm_cost.providers.registry import PROVIDERS


@pytest.mark.parametrize(
    ("url", "provider", "operation", "model", "stream"),
    [
        (
            "https://API.openai.com/v1/chat/completions?x=1",
            "openai",
            "chat",
            None,
            False,
        ),
        ("https://api.openai.com/v1/responses", "openai", "responses", None, False),
        ("https://api.openai.com/v1/moderations", "openai", "moderations", None, False),
        (
            "https://api.anthropic.com/v1/messages?beta=true",
            "anthropic",
            "chat",
            None,
            False,
        ),
        (
            "https://generativelanguage.googleapis.com/v1beta/models/m:streamGenerateContent",
            "gemini",
            "chat",
            "m",
            True,
        ),
        (
            "https://x.openai.azure.com/openai/deployments/mine/chat/completions",
            "azure",
            "chat",
            "mine",
            False,
        ),
        (
            "https://x.openai.azure.com/openai/v1/responses",
            "azure",
            "responses",
            None,
            False,
        ),
        (
            "https://bedrock-runtime.eu-west-1.amazonaws.com/model/a.b%3A0/converse-stream",
            "bedrock",
            "chat",
            "a.b:0",
            True,
        ),
        (
            "https://bedrock-runtime.eu-west-1.amazonaws.com/model/"
            "arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Feu.a.b/converse",
            "bedrock",
            "chat",
            "eu.a.b",
            False,
        ),
        (
            "https://api.groq.com/openai/v1/chat/completions",
            "groq",
            "chat",
            None,
            False,
        ),
    ],
)
def test_known_urls(
    url: str, provider: str, operation: str, model: str | None, stream: bool
) -> None:
    found = route("POST", url)
    assert found is not None
    assert (found.provider, found.operation) == (provider, operation)
    assert (found.model, found.stream) == (model, stream)


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "https://api.openai.com/v1/chat/completions"),
        ("GET", "https://api.openai.com/v1/models"),
        ("POST", "https://api.openai.com/v1/files"),
        ("POST", "https://api.openai.com/v1/responses/input_tokens"),
        ("POST", "https://api.openai.com.evil.example/v1/chat/completions"),
        ("POST", "https://evil.example/api.openai.com/v1/chat/completions"),
        ("POST", "https://api.anthropic.com/v1/messages/count_tokens"),
        ("POST", "https://api.anthropic.com/v1/messages/batches"),
        (
            "POST",
            "https://generativelanguage.googleapis.com/v1beta/models/m:countTokens",
        ),
        (
            "POST",
            "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/count-tokens",
        ),
        ("POST", "https://example.com/v1/chat/completions"),
        ("POST", "http://[bad"),
        ("POST", "https://api.openai.com:port/v1/chat/completions"),
        ("POST", ""),
    ],
)
def test_urls_that_are_not_calls(method: str, url: str) -> None:
    assert route(method, url) is None


def test_a_get_of_a_background_response_is_a_poll() -> None:
    found = route("GET", "https://api.openai.com/v1/responses/resp_1?stream=false")
    assert found is not None
    assert found.poll


@pytest.mark.parametrize("pattern", ["llm.example", "LLM.example:8443"])
def test_an_unknown_name_is_a_gateway(pattern: str) -> None:
    url = "https://llm.example:8443/v1/chat/completions"
    found = route("POST", url, hosts={pattern: "ours"})
    assert found is not None
    assert (found.provider, found.operation) == ("ours", "chat")


def test_a_built_in_name_selects_its_dialect() -> None:
    reading = read_exchange(
        method="POST",
        url="http://localhost:9/v1/messages",
        request_body=None,
        status=200,
        headers={},
        body=b'{"usage":{"input_tokens":1,"cache_read_input_tokens":5,"output_tokens":2}}',
        hosts={"localhost:9": "anthropic"},
    )
    assert reading is not None
    assert reading.usage == Usage(input_tokens=1, cache_read_tokens=5, output_tokens=2)


def test_another_port_is_another_host() -> None:
    url = "http://localhost:10/v1/chat/completions"
    assert route("POST", url, hosts={"localhost:9": "ours"}) is None


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/openai/responses", "responses"),
        ("/anthropic/v1/messages", "chat"),
        ("/v1beta/models/gemini-2.5-pro:generateContent", "chat"),
        ("/bedrock/model/amazon.nova-lite-v1%3A0/converse", "chat"),
        ("/api/chat", "chat"),
        ("/api/embeddings", "embeddings"),
    ],
)
def test_a_gateway_serves_other_apis(path: str, operation: str) -> None:
    found = route("POST", f"http://gate:1{path}", hosts={"gate:1": "gate"})
    assert found is not None
    assert (found.provider, found.operation) == ("gate", operation)


def test_names_are_unique() -> None:
    names = [provider.name for provider in PROVIDERS]
    assert len(names) == len(set(names))


def test_a_provider_is_found_by_name() -> None:
    assert chat_route("anthropic").dialect is not chat_route("openai").dialect
    assert chat_route("Anthropic").provider == "anthropic"
    assert chat_route("nobody").provider == "nobody"


def read_words(notes: Notes, document: Object) -> None:
    notes.identify(model=document.get("engine"), response_id=document.get("ref"))
    notes.merge(document.get("spent"))


def count_words(notes: Notes) -> Usage | None:
    if "words" not in notes.usage:
        return None
    return Usage(input_tokens=notes.count(notes.usage["words"]))


WORDS = Dialect(
    read=read_words, usage=count_words, needles=needles(rb'"spent"'), tail=("spent",)
)
OURS = Provider(
    "ours", ("*.ours.example",), (Path(r"/ask/(?P<model>\w+)", WORDS, "chat"),)
)


def read_ours(body: bytes, dialect: Dialect = WORDS) -> Reading:
    paths = tuple(dataclasses.replace(path, dialect=dialect) for path in OURS.paths)
    ours = dataclasses.replace(OURS, paths=paths)
    found = route("POST", "https://a.ours.example/ask/big", providers=[ours])
    assert found is not None
    exchange = Exchange(found, request_body=None)
    exchange.begin_response(200, {})
    exchange.feed(body, decoded=False)
    return exchange.reading(ended=True)


def test_an_app_registers_a_provider_of_its_own() -> None:
    reading = read_ours(b'{"engine":"big-2","ref":"r1","spent":{"words":12}}')
    assert (reading.provider, reading.request_model) == ("ours", "big")
    assert (reading.model, reading.response_id) == ("big-2", "r1")
    assert reading.usage == Usage(input_tokens=12)


def fail(notes: Notes, document: Object) -> None:
    raise RuntimeError("a secret of the answer")


def test_an_error_in_a_dialect_is_flagged(caplog: pytest.LogCaptureFixture) -> None:
    reading = read_ours(b'{"spent":{}}', dataclasses.replace(WORDS, read=fail))
    assert (reading.usage, reading.flags) == (None, {"reader_error"})
    assert "secret" not in caplog.text


def name_by_number(notes: Notes, document: Object) -> None:
    read_words(notes, document)
    notes.model = notes.response_id = t.cast("str", 7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tier": lambda notes: 5},
        {"cost": lambda notes: 0.5},
        {"cost": lambda notes: Decimal("NaN")},
        {"usage": lambda notes: {"input_tokens": 5}},
        {"usage_by_model": lambda notes: {"big": 5}},
        {"usage_by_model": lambda notes: None},
        {"price_flags": lambda notes: ["region.us"]},
        {"read": name_by_number},
    ],
)
def test_a_value_of_the_wrong_type_is_flagged(wrong: t.Any) -> None:
    """A value that cannot be stored must not cost more than the usage."""
    body = b'{"engine":"big-2","ref":"r1","spent":{"words":12}}'
    reading = read_ours(body, dataclasses.replace(WORDS, **wrong))
    assert (reading.usage, reading.flags) == (None, {"reader_error"})
    names = ("big", None) if "read" in wrong else ("big-2", "r1")
    assert (reading.model, reading.response_id) == names
    assert (reading.service_tier, reading.reported_cost) == (None, None)


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://llm.example.com/v1/chat/completions", "own"),
        ("https://eu.llm.example.com/v1/chat/completions", "below"),
        ("https://a.b.example.com/v1/chat/completions", "all"),
        ("https://eu.llm.example.com:8443/v1/chat/completions", "port"),
        ("https://example.com/v1/chat/completions", None),
        ("https://notexample.com/v1/chat/completions", None),
    ],
)
def test_hosts_may_be_all_those_below_a_name(url: str, provider: str | None) -> None:
    hosts = {
        "*.example.com": "all",
        "*.llm.example.com": "below",
        "llm.example.com": "own",
        "*.llm.example.com:8443": "port",
    }
    found = route("POST", url, hosts=hosts)
    assert (None if found is None else found.provider) == provider


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        # anthropic.lib.aws and .google_cloud
        ("https://aws-external-anthropic.us-east-1.api.aws/v1/messages", "anthropic"),
        (
            "https://claude.googleapis.com/v1/projects/p/locations/global/workspaces/w"
            "/invoke/v1/messages",
            "anthropic",
        ),
        ("https://api-inference.together.ai/v1/chat/completions", "together"),
        ("https://inference.do-ai.run/v1/chat/completions", "gradient_ai"),
        ("https://api.ai21.com/studio/v1/chat/completions", "ai21"),
        ("https://ark.cn-beijing.volces.com/api/v3/chat/completions", "volcengine"),
        ("https://qianfan.baidubce.com/v2/chat/completions", "qianfan"),
        ("https://inference.baseten.co/v1/chat/completions", "baseten"),
        ("https://x.gcp.databricks.com/serving-endpoints/m/invocations", "databricks"),
        ("https://api.llama.com/v1/chat/completions", "meta"),
    ],
)
def test_the_default_hosts_of_sdks_are_known(url: str, provider: str) -> None:
    found = route("POST", url)
    assert found is not None
    assert (found.provider, found.operation) == (provider, "chat")
