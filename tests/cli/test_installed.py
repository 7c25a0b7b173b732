"""What ``doctor`` reports about installed clients and SDKs."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator

import httpx2
import openai
import pytest
from flask import Flask

from flask_llm_cost import LlmCost
from flask_llm_cost.capture import clients
from flask_llm_cost.capture.inside import WAYS
from flask_llm_cost.checks import INSTRUMENTS
from flask_llm_cost.cli import installed
from flask_llm_cost.cli.installed import LIBRARIES
from flask_llm_cost.cli.installed import libraries_of
from flask_llm_cost.cli.installed import look
from flask_llm_cost.cli.installed import SDKS
from tests.cli.conftest import Run

NAMED = {sdk.name: sdk for sdk in SDKS}


@pytest.fixture(autouse=True)
def nothing_is_instrumented() -> Iterator[None]:
    yield
    clients.uninstrument()


def said(**ways: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    return {each.name: (each.status, each.message) for each in look(ways, (), {})}


def test_every_library_is_known() -> None:
    assert tuple(LIBRARIES) == INSTRUMENTS


def test_an_sdk_sends_through_the_library_that_it_requires() -> None:
    assert libraries_of(NAMED["openai"]) == ["httpx2"]
    assert libraries_of(NAMED["google-genai"]) == ["httpx2", "aiohttp"]
    assert libraries_of(NAMED["boto3"]) == ["botocore"]


def test_an_sdk_that_nothing_captures_is_an_error_with_a_fix() -> None:
    status, message = said(requests=("adapter",))["SDK openai"]
    assert status == "error"
    assert importlib.metadata.version("openai") in message
    assert "nothing captures httpx2" in message
    assert "LLM_COST_INSTRUMENT = True" in message
    assert "llm_cost.wrap(client) where the app is created" in message


def test_a_partly_captured_sdk_is_an_error() -> None:
    status, message = said(httpx2=("wrap",))["SDK google-genai"]
    assert status == "error"
    assert "nothing captures aiohttp" in message


def test_captured_clients_are_reported_with_how() -> None:
    found = said(httpx2=("instrument", "wrap"), botocore=("wrap",))
    assert found["SDK openai"][0] == "ok"
    assert "captured by instrument and wrap" in found["SDK openai"][1]
    assert found["SDK boto3"][0] == "ok"
    assert found["client httpx2"][1].endswith("instrument, wrap.")
    assert found["client aiohttp"][1].endswith("not captured here.")


def test_an_sdk_that_cannot_be_wrapped_comes_with_the_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions = {"voyageai": "0.5.0", "xai-sdk": "1.21.0", "google-generativeai": "0.8"}
    monkeypatch.setattr(installed, "version_of", versions.get)
    monkeypatch.setattr(installed, "libraries_of", lambda sdk: list(sdk.libraries))
    found = said(httpx2=("instrument",))
    assert "set voyageai.requestssession =" in found["SDK voyageai"][1]
    assert 'llm_cost.instrument("grpc")' in found["SDK xai-sdk"][1]
    only = found["SDK google-generativeai"][1]
    assert "LLM_COST_INSTRUMENT = True, the only way to capture it." in only
    assert not any("llm_cost.wrap(client)" in text for _, text in found.values())


def test_a_library_that_only_instrument_captures_is_named() -> None:
    message = said()["client urllib3"][1]
    assert message.endswith(
        "not captured here, and only LLM_COST_INSTRUMENT captures it."
    )
    assert said()["client requests"][1].endswith("not captured here.")


def test_every_sdk_with_a_way_of_its_own_is_known() -> None:
    libraries = {*LIBRARIES, "litellm", "dspy"}
    known = {sdk.package or sdk.name for sdk in SDKS} | libraries
    assert set(WAYS) <= known


def test_a_wrapped_client_of_one_sdk_does_not_capture_another() -> None:
    found = said(httpx2=("wrap of openai",))
    assert found["SDK openai"][0] == "ok"
    status, message = found["SDK anthropic"]
    assert status == "warn"
    assert "only by wrap of openai. Wrap this SDK" in message
    for more in ("instrument", "wrap", "wrap of langchain_openai", "wrap of anthropic"):
        assert said(httpx2=("wrap of openai", more))["SDK anthropic"][0] == "ok", more


def test_the_doctor_knows_which_sdk_a_wrapped_client_belongs_to(
    llm_cost: LlmCost,
) -> None:
    with httpx2.Client() as plain, openai.OpenAI(api_key="x") as sdk:
        llm_cost.wrap(sdk)
        assert "wrap of openai" in clients.ways()["httpx2"]
        llm_cost.wrap(plain)
        assert "wrap" in clients.ways()["httpx2"]


def test_a_version_that_cannot_be_captured_is_named() -> None:
    found = {each.name: each for each in look({}, (), {"urllib3": "It is too old."})}
    assert found["client urllib3"].status == "warn"
    assert found["client urllib3"].message.endswith("not captured here. It is too old.")
    assert found["client requests"].status == "ok"


def test_general_packages_only_warn() -> None:
    assert said()["SDK boto3"][0] == "warn"


def test_an_sdk_whose_calls_are_in_the_ledger_only_warns() -> None:
    found = {each.name: each for each in look({}, ("openai",), {})}
    assert found["SDK openai"].status == "warn"
    assert "calls of openai" in found["SDK openai"].message
    assert found["SDK anthropic"].status == "error"


def test_the_doctor_sees_how_this_process_captures(app: Flask, run: Run) -> None:
    extension = app.extensions["llm_cost"].extension

    def examined() -> dict[str, tuple[str, str]]:
        found = json.loads(run("doctor", "--format", "json", app=app).stdout)
        return {each["name"]: (each["status"], each["message"]) for each in found}

    assert examined()["SDK openai"][0] == "error"
    extension.adapter()
    assert examined()["client requests"][1].endswith(": adapter.")
    extension.instrument("httpx2")
    assert examined()["SDK openai"][0] == "ok"
    extension.uninstrument()
    assert examined()["SDK openai"][0] == "error"
