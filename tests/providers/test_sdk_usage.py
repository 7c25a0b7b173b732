"""Each field of usage that a provider's SDK knows is read, or is listed as not billed.

The SDKs' own types are walked, so a field that a new release adds fails here.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import types
import typing as t
from pathlib import Path

import pytest

from flask_llm_cost import providers

pydantic = pytest.importorskip("pydantic")

READERS = "\n".join(
    path.read_text() for path in Path(inspect.getfile(providers)).parent.glob("*.py")
)

Fields = dict[str, set[str]]
"""The fields of the types of usage, by the path of the type."""


def modules(root: str) -> t.Iterator[types.ModuleType]:
    package = importlib.import_module(root)
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{root}."):
        yield importlib.import_module(found.name)


def usage_types(root: str, name: str = "Usage") -> Fields:
    """Return the types whose name contains one, and those of their fields."""
    found: Fields = {}
    for module in modules(root):
        for each in vars(module).values():
            if (
                inspect.isclass(each)
                and issubclass(each, pydantic.BaseModel)
                and each.__module__ == module.__name__
                and name in each.__name__
            ):
                walk(each, found, each.__module__.removeprefix(f"{root}."))
    return found


def walk(model: t.Any, found: Fields, where: str) -> None:
    path = f"{where}.{model.__name__}"
    if path in found:
        return
    found[path] = set(model.model_fields)
    for field in model.model_fields.values():
        for each in inner_types(field.annotation):
            if inspect.isclass(each) and issubclass(each, pydantic.BaseModel):
                walk(each, found, where)


def inner_types(annotation: t.Any) -> t.Iterator[t.Any]:
    yield annotation
    for each in t.get_args(annotation):
        yield from inner_types(each)


def unknown_fields(
    found: Fields, not_billed: dict[str, str], elsewhere: dict[str, str]
) -> set[str]:
    """Return the fields that no reader names and no list has."""
    return {
        f"{path}.{field}"
        for path, fields in found.items()
        if not path.startswith(tuple(elsewhere))
        for field in fields
        if not is_read(field) and field not in not_billed
    }


def is_read(field: str) -> bool:
    first, *rest = field.split("_")
    camel = first + "".join(word.capitalize() for word in rest)
    return re.search(rf'"(?:{field}|{camel})"', READERS) is not None


OPENAI_NOT_BILLED = {
    "text_tokens": "what is left of the total without audio and images",
    "cached_text_tokens": "what is left of the cached total without images",
    "accepted_prediction_tokens": "a part of the completion's tokens",
    "rejected_prediction_tokens": "a part of the completion's tokens",
    "ttl_30m_tokens": "the default time: what is left of the writes without 12 hours",
    "invocation_count": "a count of calls, which are billed by token",
}
OPENAI_ELSEWHERE = {
    "admin.": "reports of an organization, not answers",
    "evals.": "no route yet: a run of an evaluation is not recorded",
    "live.": "no route yet: a live session is not recorded",
    "batch_usage.": "a sum: each line of the batch's output is a call",
    "beta.threads.runs.run_step": "a part of the run, whose usage is read",
}


def test_each_field_of_openais_usage_is_read_or_not_billed() -> None:
    pytest.importorskip("openai")
    found = usage_types("openai.types")
    assert len(found) > 30
    assert unknown_fields(found, OPENAI_NOT_BILLED, OPENAI_ELSEWHERE) == set()
    assert_needed(found, OPENAI_ELSEWHERE)


ANTHROPIC_NOT_BILLED = {
    "web_fetch_requests": "fetching has no fee beyond its tokens",
    "reason": "why a credit was not applied",
    "remove_to_redeem": "what prevents a credit",
}
ANTHROPIC_ELSEWHERE = {
    "beta.beta_dream_usage": "no route yet: a dream is not recorded",
    "beta.beta_managed_agents": "no route yet: managed agents are not recorded",
    "beta.sessions.": "no route yet: managed agents are not recorded",
    "beta.organization.": "reports of an organization, not answers",
    "organization.": "reports of an organization, not answers",
}


def test_each_field_of_anthropics_usage_is_read_or_not_billed() -> None:
    pytest.importorskip("anthropic")
    found = usage_types("anthropic.types")
    assert len(found) > 15
    assert unknown_fields(found, ANTHROPIC_NOT_BILLED, ANTHROPIC_ELSEWHERE) == set()
    assert_needed(found, ANTHROPIC_ELSEWHERE)


GOOGLE_NOT_BILLED = {
    "initial_input_tokens": "a part of total_input_tokens",
    "total_tokens": "the sum of the others",
    "audio_duration_seconds": "a part of a cache, which is billed by its tokens",
    "image_count": "a part of a cache, which is billed by its tokens",
    "text_count": "a part of a cache, which is billed by its tokens",
    "video_duration_seconds": "a part of a cache, which is billed by its tokens",
}


def test_each_field_of_googles_usage_is_read_or_not_billed() -> None:
    genai = pytest.importorskip("google.genai.types")
    found: Fields = {}
    for name, each in vars(genai).items():
        if "Usage" in name and hasattr(each, "model_fields"):
            walk(each, found, "types")
    assert len(found) > 3
    assert unknown_fields(found, GOOGLE_NOT_BILLED, {}) == set()


def test_each_field_of_googles_interactions_is_read_or_not_billed() -> None:
    usage = pytest.importorskip("google.genai._gaos.types.interactions.usage")
    found: Fields = {}
    walk(usage.Usage, found, "interactions")
    assert len(found) > 1
    assert unknown_fields(found, GOOGLE_NOT_BILLED, {}) == set()


BEDROCK_NOT_BILLED = {
    "latencyMs": "not a quantity",
    "guardrailProcessingLatency": "not a quantity",
    "guardrailCoverage": "how much of the text was checked",
    "usage": "text units of a guardrail, without a price: flagged unread_usage",
}
BEDROCK_ELSEWHERE = {
    "GuardrailUsage": "text units of a guardrail, without a price: flagged unread_usage",
    "GuardrailChecks": "no route: checks without a model are not recorded",
}


def test_each_field_of_bedrocks_usage_is_read_or_not_billed() -> None:
    session = pytest.importorskip("botocore.session").get_session()
    model = session.get_service_model("bedrock-runtime")
    shapes = {name: model.shape_for(name) for name in model.shape_names}
    found = {
        name: set(shape.members)
        for name, shape in shapes.items()
        if re.search("Usage|Metrics|CacheDetail$", name) and hasattr(shape, "members")
    }
    assert len(found) > 5
    assert unknown_fields(found, BEDROCK_NOT_BILLED, BEDROCK_ELSEWHERE) == set()
    assert_needed(found, BEDROCK_ELSEWHERE)


def assert_needed(found: Fields, elsewhere: dict[str, str]) -> None:
    """Assert that each entry of a list is still about a type of the SDK."""
    for prefix in elsewhere:
        assert any(path.startswith(prefix) for path in found), prefix
