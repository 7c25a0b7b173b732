"""Whose account a call was made with, from the headers that providers document."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.providers.exchange import Exchange
from flask_llm_cost.providers.routes import route
from flask_llm_cost.scope import digest_of
from flask_llm_cost.scope import ids_of
from flask_llm_cost.scope import parts_of
from flask_llm_cost.scope import with_fingerprint
from flask_llm_cost.scope import without_key

CHAT = "https://api.openai.com/v1/chat/completions"
CLAUDE = "https://api.anthropic.com/v1/messages"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/g:generateContent"
VERTEX = (
    "https://europe-west1-aiplatform.googleapis.com/v1/projects/my-project"
    "/locations/europe-west1/publishers/google/models/gemini-2.5-flash:generateContent"
)
AZURE = "https://my-res.openai.azure.com/openai/deployments/d/chat/completions"


def exchange(
    url: str, asked: dict[str, str], answered: dict[str, str] | None = None
) -> Exchange:
    found = route("POST", url)
    assert found is not None, url
    made = Exchange(found, request_body=None)
    made.begin_request(url, asked)
    made.begin_response(200, answered or {})
    return made


@pytest.mark.parametrize(
    ("url", "asked", "answered", "scope"),
    [
        # openai._client.OpenAI.default_headers
        (
            CHAT,
            {"OpenAI-Organization": "org-1", "OpenAI-Project": "proj_2"},
            {},
            "organization=org-1 project=proj_2",
        ),
        # https://platform.openai.com/docs/api-reference/debugging-requests
        (
            CHAT,
            {},
            {"openai-organization": "acme", "openai-project": "proj_3"},
            "organization=acme project=proj_3",
        ),
        # What the app asked for is the id; the answer may have a name.
        (
            CHAT,
            {"OpenAI-Organization": "org-1"},
            {"openai-organization": "acme"},
            "organization=org-1",
        ),
        # https://docs.anthropic.com/en/api/overview#response-headers
        (
            CLAUDE,
            {},
            {"anthropic-organization-id": "0b1c", "anthropic-workspace-id": "wrkspc_1"},
            "organization=0b1c workspace=wrkspc_1",
        ),
        # https://cloud.google.com/apis/docs/system-parameters
        (
            GEMINI,
            {"x-goog-user-project": "billed-project"},
            {},
            "project=billed-project",
        ),
        (VERTEX, {}, {}, "project=my-project"),
        (AZURE, {}, {}, "resource=my-res"),
        # huggingface_hub.InferenceClient(bill_to=...)
        (CHAT, {"X-HF-Bill-To": "acme"}, {}, "organization=acme"),
        (CHAT, {}, {"x-request-id": "req_1"}, None),
        # Not ids: what does not look like one is content, or a key in the wrong place.
        (CHAT, {"OpenAI-Organization": "my private words"}, {}, None),
        (CHAT, {"OpenAI-Organization": "sk-proj-abc"}, {}, None),
        (CHAT, {"OpenAI-Project": "x" * 65}, {}, None),
    ],
)
def test_ids_are_read_from_headers(
    url: str, asked: dict[str, str], answered: dict[str, str], scope: str | None
) -> None:
    assert exchange(url, asked, answered).scope.text == scope


@pytest.mark.parametrize(
    ("url", "headers", "secret"),
    [
        (CHAT, {"Authorization": "Bearer sk-1"}, "sk-1"),
        (CHAT, {"authorization": "bearer  sk-1 "}, "sk-1"),
        # Replicate and Deepgram, fal
        (CHAT, {"Authorization": "Token r8_1"}, "r8_1"),
        (CHAT, {"Authorization": "Key id:secret"}, "id:secret"),
        (CLAUDE, {"x-api-key": "sk-ant-1"}, "sk-ant-1"),
        (AZURE, {"api-key": "abc"}, "abc"),
        (GEMINI, {"x-goog-api-key": "AIza1"}, "AIza1"),
        (GEMINI + "?key=AIza1&alt=sse", {}, "AIza1"),
        # A signature differs with each request; the id of the access key does not.
        (
            CHAT,
            {
                "Authorization": "AWS4-HMAC-SHA256 Credential=AKIA1/20260101/us-east-1"
                "/bedrock/aws4_request, SignedHeaders=host, Signature=ab12"
            },
            "AKIA1",
        ),
        # Replaced every hour: OAuth of Google, Entra ID, roles of AWS.
        (CHAT, {"Authorization": "Bearer ya29.abc"}, None),
        (CHAT, {"Authorization": "Bearer eyJhbGciOi.J9.x"}, None),
        (CHAT, {"Authorization": "AWS4-HMAC-SHA256 Credential=ASIA1/x"}, None),
        (CHAT, {}, None),
    ],
)
def test_a_key_is_digested_wherever_it_is_sent(
    url: str, headers: dict[str, str], secret: str | None
) -> None:
    found = exchange(url, headers).scope.key_digest
    assert found == (None if secret is None else digest_of(secret))


def test_headers_that_cannot_be_read_cost_no_call() -> None:
    found = route("POST", CHAT)
    assert found is not None
    made = Exchange(found, request_body=b'{"model": "gpt-4o"}')
    made.begin_request(CHAT, [("only one",)])  # type: ignore[list-item]
    assert made.scope.text is None
    assert made.reading(ended=True).model == "gpt-4o"


keys = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(st.text(min_size=1), st.text(min_size=1), keys, keys)
def test_a_fingerprint_depends_on_the_key_and_the_ledger(
    one: str, two: str, ledger: str, other: str
) -> None:
    mine = with_fingerprint("project=p", digest_of(one), ledger)
    assert mine == with_fingerprint("project=p", digest_of(one), ledger)
    if one != two:
        assert mine != with_fingerprint("project=p", digest_of(two), ledger)
    if ledger != other:
        assert mine != with_fingerprint("project=p", digest_of(one), other)
    assert ids_of(mine)["project"] == "p"
    assert parts_of(mine)[0] == f"key={ids_of(mine)['key']}"
    assert len(ids_of(mine)["key"]) == 16
    assert without_key(mine) == "project=p"
