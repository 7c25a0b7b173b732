"""Which model, and so which price, a call of Amazon Bedrock's InvokeModel has.

The inference profile in the URL is billed: a profile of a region may cost more than the
model alone (https://aws.amazon.com/bedrock/pricing). The body has the vendor's own name.
"""

from __future__ import annotations

import json
from decimal import Decimal
from urllib.parse import quote

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.providers import read_exchange

PLAIN = "anthropic.claude-sonnet-4-5-20250929-v1:0"
PROFILE = f"us.{PLAIN}"
APPLICATION = "arn:aws:bedrock:us-east-1:123:application-inference-profile/abc123"
BODY = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-sonnet-4-5-20250929",
    "usage": {"input_tokens": 1000, "output_tokens": 10},
}


def invoke(model: str) -> Reading:
    reading = read_exchange(
        method="POST",
        url=f"https://bedrock-runtime.us-east-1.amazonaws.com/model/{model}/invoke",
        request_body=b"{}",
        status=200,
        headers={},
        body=json.dumps(BODY).encode(),
    )
    assert reading is not None
    return reading


@pytest.mark.parametrize(
    ("given", "model"),
    [
        (PROFILE, PROFILE),
        (f"arn:aws:bedrock:us-east-1:123:inference-profile/{PROFILE}", PROFILE),
        (APPLICATION, "abc123"),
    ],
)
@pytest.mark.parametrize("encoded", [True, False])
def test_the_url_names_the_model(given: str, model: str, encoded: bool) -> None:
    assert invoke(quote(given, safe="") if encoded else given).model == model


def test_a_regional_profile_has_its_own_price() -> None:
    price = PriceBook.bundled().cost
    regional = invoke(PROFILE)
    assert regional.usage is not None
    assert regional.model is not None
    cost = price("bedrock", regional.model, regional.usage)
    whole_world = price("bedrock", f"global.{PLAIN}", regional.usage)
    plain = price("bedrock", PLAIN, regional.usage)
    assert cost is not None
    assert whole_world is not None
    assert plain is not None
    assert cost.total_usd == plain.total_usd == whole_world.total_usd * Decimal("1.1")


@pytest.mark.parametrize(
    "key", [APPLICATION, f"bedrock/{APPLICATION}", "bedrock/abc123"]
)
def test_an_application_profile_is_priced_by_its_alias(key: str) -> None:
    book = PriceBook.layered(aliases={key: f"bedrock/{PROFILE}"})
    reading = invoke(quote(APPLICATION, safe=""))
    assert reading.usage is not None
    assert reading.model is not None
    cost = book.cost("bedrock", reading.model, reading.usage)
    assert cost is not None
    assert cost.price_key == f"bedrock/{PROFILE}"
