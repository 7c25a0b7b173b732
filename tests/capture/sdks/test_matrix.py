"""Real SDKs: what an app sees is what it would see without us, each attempt is a row.

Which SDKs: ``LLM_COST_SDKS``, names of modules here; ``nox -s sdk`` runs them all.
"""

from __future__ import annotations

import gc
import importlib
import os
import warnings
from collections.abc import Iterator

import pytest

from flask_llm_cost.capture.tap import Tap
from tests.capture.conftest import Book
from tests.capture.sdks.driver import play
from tests.capture.sdks.driver import Scene
from tests.capture.sdks.driver import SCENES
from tests.capture.sdks.driver import Sdk
from tests.capture.server import Provider

CHOSEN = os.environ.get("LLM_COST_SDKS") or "openai,anthropic,google_genai,boto3"


def _drivers() -> Iterator[Sdk]:
    for name in CHOSEN.split(","):
        with warnings.catch_warnings():
            # Warnings of an SDK at import are not our concern.
            warnings.simplefilter("ignore")
            yield from importlib.import_module(f"tests.capture.sdks.{name}").SDKS


@pytest.fixture(scope="module", autouse=True)
def _few_objects() -> Iterator[None]:
    """Spare the garbage collector the SDKs' own modules."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    with warnings.catch_warnings():
        # Connections that an SDK, or a test that drops a stream, never closed.
        warnings.simplefilter("ignore")
        gc.collect()


PLAYS = [
    pytest.param(sdk, name, id=f"{sdk}: {name}")
    for sdk in _drivers()
    for name in sdk.scenes or SCENES
    if name not in sdk.without
]
OFTEN = ("plain", "streamed to the end", "429, then 200")
"""Scenes that are also played with all layers captured at once."""


@pytest.fixture
def quick(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    for target, value in sdk.patches:
        monkeypatch.setattr(target, value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("sdk", "name"), PLAYS)
def test_an_app_sees_what_it_would_see_without_us(
    sdk: Sdk, name: str, provider: Provider, book: Book, hosts: dict[str, str]
) -> None:
    hosts[provider.host] = sdk.provider
    scene = SCENES[name]
    expected = play(sdk, scene, provider, None, "bare")
    hows = ("wrapped", "instrumented") if sdk.holds_client else ("instrumented",)
    for how in (*hows, "both") if name in OFTEN and sdk.holds_client else hows:
        book.calls.clear()
        played = play(sdk, scene, provider, Tap(book, hosts=hosts), how)
        assert played.result == expected.result, how
        if sdk.counts_tries:
            assert played.requests == expected.requests, how
        assert played.requests[:2] == expected.requests[:2], how
        _check(book, sdk, scene, len(played.requests), how)


def _check(book: Book, sdk: Sdk, scene: Scene, attempts: int, how: str) -> None:
    outcomes = [call.outcome for call in book.calls]
    assert outcomes == scene.outcomes(sdk, attempts), how
    for call in book.calls:
        if call.outcome == "ok" and scene.usage:
            assert call.usage == sdk.used, how
            assert call.stream is (scene.reads != "plain"), how
        elif call.usage is not None:
            assert call.usage_source == "stream_partial", how
