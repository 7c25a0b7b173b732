"""Tools of OpenAI's responses with fees of their own.

Sources: https://platform.openai.com/docs/guides/tools-web-search (only the action
``search`` has a fee), the SDK's types ``ToolUsage`` and ``ResponseFunctionWebSearch``.
"""

from __future__ import annotations

import json
import typing as t

import pytest

from flask_llm_cost import Usage
from flask_llm_cost.call import Reading
from flask_llm_cost.providers import read_exchange

USAGE = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}


def search(action: str | None) -> dict[str, t.Any]:
    call: dict[str, t.Any] = {"type": "web_search_call", "status": "completed"}
    return call if action is None else {**call, "action": {"type": action}}


def read(**members: t.Any) -> Reading:
    body = {"id": "resp_1", "object": "response", "model": "gpt-5.5", **members}
    reading = read_exchange(
        method="POST",
        url="https://api.openai.com/v1/responses",
        request_body=None,
        status=200,
        headers={},
        body=json.dumps({**body, "usage": USAGE}).encode(),
    )
    assert reading is not None
    return reading


def units(reading: Reading) -> dict[str, int]:
    assert reading.usage is not None
    return {name: int(n) for name, n in reading.usage.units.items() if n}


@pytest.mark.parametrize(
    ("action", "billed"),
    [("search", 1), ("open_page", 0), ("find_in_page", 0), (None, 1)],
)
def test_only_searches_have_a_fee(action: str | None, billed: int) -> None:
    found = units(read(output=[search(action), search("search")]))
    assert found == {"web_search": 1 + billed}


def test_the_providers_own_count_of_searches_takes_precedence() -> None:
    usage = {"web_search": {"num_requests": 1}}
    found = units(read(output=[search("search")] * 3, tool_usage=usage))
    assert found == {"web_search": 1}


def test_opened_pages_of_a_long_answer_have_no_fee() -> None:
    text = {"type": "message", "content": [{"text": "x" * 3_000_000}]}
    output = [search("search"), search("open_page"), text, search("find_in_page")]
    assert units(read(output=output)) == {"web_search": 1}


IMAGES = {
    "input_tokens": 60,
    "input_tokens_details": {"image_tokens": 20, "text_tokens": 40},
    "output_tokens": 1000,
    "output_tokens_details": {"image_tokens": 990, "text_tokens": 10},
    "total_tokens": 1060,
}
TOOLS = [{"type": "image_generation", "model": "gpt-image-2"}]


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_drawing_is_billed_by_the_tokens_of_the_model_that_draws(size: int) -> None:
    output = [{"type": "image_generation_call", "result": "A" * size}]
    reading = read(output=output, tools=TOOLS, tool_usage={"image_gen": IMAGES})
    drawn = reading.usage_by_model["gpt-image-2"]
    assert (drawn.input_tokens, drawn.input_image_tokens) == (40, 20)
    assert (drawn.output_tokens, drawn.output_image_tokens) == (10, 990)
    assert reading.usage_by_model["gpt-5.5"] == reading.usage
    assert units(reading) == {}


def test_drawing_by_a_model_that_is_not_named_is_flagged() -> None:
    assert "unread_usage" in read(output=[], tool_usage={"image_gen": IMAGES}).flags


SVG = {"input_tokens": 7, "output_tokens": 9, "total_tokens": 16, "model": "gpt-svg"}


def test_an_svg_that_a_tool_drew_is_billed_at_its_own_model() -> None:
    # openai 3.57: ImageGenerationCall.svg_usage
    item = {"type": "image_generation_call", "svg_usage": SVG}
    reading = read(output=[item], model="gpt-6")
    assert reading.usage_by_model["gpt-svg"] == Usage(input_tokens=7, output_tokens=9)
    assert len(reading.usage_by_model) == 2
    assert not reading.flags


def test_an_svg_without_a_model_is_unread() -> None:
    item = {"type": "image_generation_call", "svg_usage": {**SVG, "model": None}}
    assert "unread_usage" in read(output=[item], model="gpt-6").flags
