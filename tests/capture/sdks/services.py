"""SDKs of services whose clients are alike in nothing. Each that is installed is played."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from decimal import Decimal

from flask_llm_cost.call import Usage
from tests.capture.sdks.driver import installed
from tests.capture.sdks.driver import MESSAGES
from tests.capture.sdks.driver import Sdk
from tests.capture.sdks.frameworks import ANSWER
from tests.capture.sdks.frameworks import EVENTS

_STREAMS: t.Final = ("plain", "streamed to the end", "dies mid-stream", "401")
"""What an SDK without retries plays, whose streams cannot be closed."""


def _body(**members: t.Any) -> bytes:
    return json.dumps(members).encode()


def _asked(client: t.Any, model: str = "gpt-4o", **more: t.Any) -> t.Any:
    return client.chat.completions.create(model=model, messages=MESSAGES, **more)


def _streamed(client: t.Any) -> t.Any:
    return _asked(client, stream=True)


def _content(answer: t.Any) -> t.Any:
    choices = answer.choices
    if not choices:
        return None
    choice = choices[0]
    part = getattr(choice, "message", None) or getattr(choice, "delta", None)
    return getattr(part, "content", None)


def _both(
    name: str, make: Callable[..., t.Any], provider: str, **more: t.Any
) -> Iterator[Sdk]:
    """A sync and an async client that are called alike."""
    common: dict[str, t.Any] = {
        "ask": _asked,
        "stream": _streamed,
        "answer": ANSWER,
        "events": EVENTS,
        "shown": _content,
        "holds_client": False,
        "scenes": _STREAMS,
    }
    for asynchronous in (False, True):
        yield Sdk(
            name=f"{name} async" if asynchronous else name,
            provider=provider,
            make=lambda url, timeout, a=asynchronous: make(url, timeout, a),
            asynchronous=asynchronous,
            **common | more,
        )


def _portkey() -> Iterator[Sdk]:
    from portkey_ai import AsyncPortkey
    from portkey_ai import Portkey

    def make(url: str, timeout: float, asynchronous: bool) -> t.Any:
        kind = AsyncPortkey if asynchronous else Portkey
        return kind(api_key="k", base_url=f"{url}/v1", provider="openai")

    yield from _both("portkey-ai", make, "openai")


def _hugging_face() -> Iterator[Sdk]:
    from huggingface_hub import AsyncInferenceClient
    from huggingface_hub import InferenceClient

    def make(url: str, timeout: float, asynchronous: bool) -> t.Any:
        kind = AsyncInferenceClient if asynchronous else InferenceClient
        return kind(base_url=f"{url}/v1", api_key="k", timeout=timeout)

    yield from _both("huggingface_hub", make, "huggingface")


def _azure_inference() -> Iterator[Sdk]:
    from azure.ai.inference import ChatCompletionsClient
    from azure.core.credentials import AzureKeyCredential

    def make(url: str, timeout: float) -> t.Any:
        credential = AzureKeyCredential("k")
        return ChatCompletionsClient(
            url + "/models", credential, read_timeout=timeout, retry_total=1
        )

    def ask(client: t.Any, **more: t.Any) -> t.Any:
        return client.complete(model="gpt-4o", messages=MESSAGES, **more)

    yield Sdk(
        name="azure-ai-inference",
        provider="azure_ai",
        make=make,
        ask=ask,
        stream=lambda client: ask(client, stream=True),
        answer=ANSWER,
        events=EVENTS,
        shown=_content,
        holds_client=False,
        scenes=("plain", "streamed to the end", "401"),
    )


def _ai21() -> Iterator[Sdk]:
    from ai21 import AI21Client
    from ai21 import AsyncAI21Client
    from ai21.models.chat import UserMessage

    said = [UserMessage(content="hi")]

    def make(url: str, timeout: float, asynchronous: bool) -> t.Any:
        kind = AsyncAI21Client if asynchronous else AI21Client
        return kind(
            api_key="k", api_host=f"{url}/studio/v1", timeout_sec=timeout, num_retries=1
        )

    def ask(client: t.Any, **more: t.Any) -> t.Any:
        chats = client.chat.completions
        return chats.create(model="jamba-large", messages=said, **more)

    yield from _both(
        "ai21",
        make,
        "ai21",
        ask=ask,
        stream=lambda client: ask(client, stream=True),
        scenes=("plain", "401"),
    )


_UNITS: t.Final = ("plain", "401")


def _voyage() -> Iterator[Sdk]:
    import voyageai

    def make(url: str, timeout: float, asynchronous: bool) -> t.Any:
        kind = voyageai.AsyncClient if asynchronous else voyageai.Client
        return kind(api_key="k", base_url=f"{url}/v1", timeout=timeout)

    yield from _both(
        "voyageai",
        make,
        "voyage",
        ask=lambda client: client.embed(["hi"], model="voyage-3"),
        shown=lambda answer: (answer.embeddings, answer.total_tokens),
        answer=_body(
            object="list",
            data=[{"object": "embedding", "embedding": [0.5], "index": 0}],
            model="voyage-3",
            usage={"total_tokens": 7},
        ),
        used=Usage(input_tokens=7),
        scenes=_UNITS,
    )


def _replicate() -> Iterator[Sdk]:
    from replicate import Client

    yield Sdk(
        name="replicate",
        provider="replicate",
        make=lambda url, timeout: Client(api_token="k", base_url=url),
        ask=lambda client: client.models.predictions.create("o/m", input={}),
        stream=lambda client: iter(()),
        shown=lambda prediction: (prediction.id, prediction.output),
        answer=_body(
            id="p1",
            model="o/m",
            version="v",
            status="succeeded",
            input={},
            output="hi",
            urls={},
            created_at="2026-11-30T00:00:00Z",
            completed_at="2026-11-30T00:00:03Z",
            metrics={"predict_time": 2.5},
        ),
        events=EVENTS,
        used=Usage(units={"predict_second": Decimal("2.5")}),
        holds_client=False,
        scenes=_UNITS,
    )


def _eleven_labs() -> Iterator[Sdk]:
    from elevenlabs.client import AsyncElevenLabs
    from elevenlabs.client import ElevenLabs

    def make(url: str, timeout: float, asynchronous: bool) -> t.Any:
        kind = AsyncElevenLabs if asynchronous else ElevenLabs
        return kind(api_key="k", base_url=url, timeout=timeout)

    yield from _both(
        "elevenlabs",
        make,
        "elevenlabs",
        ask=lambda client: client.text_to_speech.convert_with_timestamps(
            voice_id="v", text="hello", model_id="eleven_flash_v2_5"
        ),
        shown=lambda answer: answer.audio_base_64,
        answer=_body(audio_base64="UklG", alignment=None, normalized_alignment=None),
        used=Usage(units={"character": Decimal(5)}),
        scenes=_UNITS,
    )


def _deepgram() -> Iterator[Sdk]:
    from deepgram import AsyncDeepgramClient
    from deepgram import DeepgramClient
    from deepgram.environment import DeepgramClientEnvironment

    def make(url: str, timeout: float, asynchronous: bool) -> t.Any:
        kind = AsyncDeepgramClient if asynchronous else DeepgramClient
        where = DeepgramClientEnvironment(
            base=url, production=url, agent=url, agent_rest=url
        )
        return kind(
            api_key="k",
            environment=where,
            timeout=timeout,
            max_retries=1,
            session_id="s",
        )

    yield from _both(
        "deepgram-sdk",
        make,
        "deepgram",
        ask=lambda client: client.listen.v1.media.transcribe_url(
            url="https://example.com/a.mp3", model="nova-3"
        ),
        shown=lambda answer: answer.metadata.request_id,
        answer=_body(
            metadata={
                "request_id": "d1",
                "sha256": "0",
                "created": "2026-11-30T00:00:00Z",
                "duration": 4.5,
                "channels": 2,
                "models": ["u"],
                "model_info": {"u": {"name": "n", "version": "1", "arch": "nova-3"}},
            },
            results={"channels": []},
        ),
        used=Usage(units={"audio_second": Decimal(9)}),
        scenes=_UNITS,
    )


_SERVICES: t.Final[tuple[tuple[str, Callable[[], Iterator[Sdk]]], ...]] = (
    ("portkey_ai", _portkey),
    ("huggingface_hub", _hugging_face),
    ("azure.ai.inference", _azure_inference),
    ("ai21", _ai21),
    ("voyageai", _voyage),
    ("replicate", _replicate),
    ("elevenlabs", _eleven_labs),
    ("deepgram", _deepgram),
)

SDKS = tuple(sdk for module, make in _SERVICES if installed(module) for sdk in make())
