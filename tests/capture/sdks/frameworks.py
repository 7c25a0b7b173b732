"""Frameworks over the SDKs of others. Each that is installed is played."""

from __future__ import annotations

import importlib
import json
import typing as t
from collections.abc import AsyncIterator
from collections.abc import Callable
from collections.abc import Iterator

from tests.capture.sdks.driver import installed
from tests.capture.sdks.driver import MESSAGES
from tests.capture.sdks.driver import Sdk
from tests.capture.sdks.driver import WIDE
from tests.capture.server import CHAT
from tests.capture.server import chat_events
from tests.capture.server import sse

_MESSAGE: t.Final = {"role": "assistant", "content": "hello"}
_CHOICE: t.Final = {"index": 0, "message": _MESSAGE, "finish_reason": "stop"}
ANSWER: t.Final = json.dumps({**CHAT, "created": 1, "choices": [_CHOICE]}).encode()


def _whole(event: t.Any) -> t.Any:
    """An event with what strict clients check for."""
    if not isinstance(event, dict):
        return event
    choices = [{"finish_reason": None, **each} for each in event["choices"]]
    return {**event, "created": 1, "system_fingerprint": None, "choices": choices}


EVENTS: t.Final = tuple(sse(_whole(event)) for event in chat_events())
PLAIN: t.Final = ("plain", "401", "429, then 200")

Make: t.TypeAlias = Callable[[str, float], t.Any]
Ask: t.TypeAlias = Callable[[t.Any], t.Any]


def _message(message: t.Any) -> t.Any:
    # Each has a new id.
    return getattr(message, "content", None), getattr(message, "usage_metadata", None)


def _langchain(
    package: str, module: str, kind: str, provider: str, path: str, **options: t.Any
) -> Iterator[Sdk]:
    """The chat model of one of LangChain's packages, sync and async."""
    where = options.pop("url", "base_url")
    retries = options.pop("patches", ())
    without = options.pop("without", ())

    def make(url: str, timeout: float) -> t.Any:
        made = getattr(importlib.import_module(module), kind)
        more = {where: url + path, "api_key": "k", "timeout": timeout, "max_retries": 1}
        return made(model="gpt-4o", **{**more, **options})

    for asynchronous in (False, True):
        yield Sdk(
            name=f"{package} async" if asynchronous else package,
            provider=provider,
            make=make,
            ask=lambda m, a=asynchronous: m.ainvoke("hi") if a else m.invoke("hi"),
            stream=lambda m, a=asynchronous: m.astream("hi") if a else m.stream("hi"),
            answer=ANSWER,
            events=EVENTS,
            asynchronous=asynchronous,
            holds_client=False,
            shown=_message,
            patches=retries,
            without=without,
            scenes=WIDE,
        )


LEAVES_OPEN: t.Final = {"without": ("stopped early",)}
"""A stream that is closed stays open until the garbage collector finds it."""

_OPENAI: t.Final = (("openai._base_client.INITIAL_RETRY_DELAY", 0.001),)


def _langchains() -> Iterator[Sdk]:
    openai = {"patches": _OPENAI}
    for package, kind, provider, path, more in (
        ("langchain-groq", "ChatGroq", "groq", "", LEAVES_OPEN),
        ("langchain-deepseek", "ChatDeepSeek", "deepseek", "", openai),
        ("langchain-together", "ChatTogether", "together", "/v1", openai),
        ("langchain-xai", "ChatXAI", "xai", "/v1", openai | {"url": "xai_api_base"}),
        ("langchain-mistralai", "ChatMistralAI", "mistral", "/v1", {"url": "endpoint"}),
        (
            "langchain-fireworks",
            "ChatFireworks",
            "fireworks_ai",
            "/inference/v1",
            LEAVES_OPEN,
        ),
        ("langchain-perplexity", "ChatPerplexity", "perplexity", "", {}),
    ):
        module = package.replace("-", "_")
        if installed(module):
            yield from _langchain(
                package, module, kind, provider, path, **t.cast("t.Any", more)
            )


def _llama_index() -> Iterator[Sdk]:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai import OpenAI

    said = [ChatMessage(role="user", content="hi")]

    def make(url: str, timeout: float) -> t.Any:
        return OpenAI(
            model="gpt-4o",
            api_key="k",
            api_base=f"{url}/v1",
            timeout=timeout,
            max_retries=1,
        )

    for asynchronous in (False, True):
        yield Sdk(
            name="llama-index-llms-openai" + " async" * asynchronous,
            provider="openai",
            make=make,
            ask=(lambda m: m.achat(said)) if asynchronous else (lambda m: m.chat(said)),
            stream=(lambda m: m.astream_chat(said))
            if asynchronous
            else (lambda m: m.stream_chat(said)),
            answer=ANSWER,
            events=EVENTS,
            asynchronous=asynchronous,
            holds_client=False,
            shown=lambda answer: str(answer.message),
            patches=_OPENAI,
            without=LEAVES_OPEN["without"],
            scenes=WIDE,
        )


def _haystack() -> Iterator[Sdk]:
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.dataclasses import ChatMessage
    from haystack.utils import Secret

    def make(url: str, timeout: float) -> t.Any:
        return OpenAIChatGenerator(
            model="gpt-4o",
            api_key=Secret.from_token("k"),
            api_base_url=f"{url}/v1",
            timeout=timeout,
            max_retries=1,
        )

    said = [ChatMessage.from_user("hi")]
    yield Sdk(
        name="haystack-ai",
        provider="openai",
        make=make,
        ask=lambda generator: generator.run(said)["replies"][0].text,
        stream=lambda generator: iter(()),
        answer=ANSWER,
        events=EVENTS,
        holds_client=False,
        patches=_OPENAI,
        scenes=PLAIN,
    )


def _openai_client(url: str, timeout: float, *, asynchronous: bool = False) -> t.Any:
    from tests.capture.sdks import openai

    return (openai.make_async if asynchronous else openai.make)(url, timeout)


def _async_client(url: str, timeout: float) -> t.Any:
    return _openai_client(url, timeout, asynchronous=True)


def _instructor() -> Iterator[Sdk]:
    import instructor
    from pydantic import BaseModel

    class City(BaseModel):
        name: str

    city = {**_MESSAGE, "content": json.dumps({"name": "Paris"})}
    answer = {**CHAT, "created": 1, "choices": [{**_CHOICE, "message": city}]}
    for asynchronous in (False, True):
        yield Sdk(
            name="instructor" + " async" * asynchronous,
            provider="openai",
            make=_async_client if asynchronous else _openai_client,
            ask=lambda client: instructor.from_openai(
                client, mode=instructor.Mode.JSON
            ).chat.completions.create(
                model="gpt-4o", messages=list(MESSAGES), response_model=City
            ),
            stream=lambda client: iter(()),
            answer=json.dumps(answer).encode(),
            events=EVENTS,
            asynchronous=asynchronous,
            shown=lambda answer: answer.name,
            patches=_OPENAI,
            scenes=("plain", "429, then 200"),
        )


def _agents() -> Iterator[Sdk]:
    import agents

    agents.set_tracing_disabled(True)

    def agent(client: t.Any) -> t.Any:
        model = agents.OpenAIChatCompletionsModel("gpt-4o", client)
        return agents.Agent(name="a", model=model)

    async def ask(client: t.Any) -> t.Any:
        return (await agents.Runner.run(agent(client), "hi")).final_output

    async def stream(client: t.Any) -> AsyncIterator[str]:
        result = agents.Runner.run_streamed(agent(client), "hi")
        async for event in result.stream_events():
            yield event.type

    yield Sdk(
        name="openai-agents",
        provider="openai",
        make=_async_client,
        ask=ask,
        stream=stream,
        answer=ANSWER,
        events=EVENTS,
        asynchronous=True,
        patches=_OPENAI,
        scenes=("plain", "streamed to the end", "401", "429, then 200"),
    )


def _smolagents() -> Iterator[Sdk]:
    from smolagents import OpenAIModel

    def make(url: str, timeout: float) -> t.Any:
        return OpenAIModel(
            model_id="gpt-4o",
            api_base=f"{url}/v1",
            api_key="k",
            client_kwargs={"timeout": timeout, "max_retries": 1},
            retry=False,
        )

    said = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    yield Sdk(
        name="smolagents",
        provider="openai",
        make=make,
        ask=lambda model: model.generate(said),
        stream=lambda model: model.generate_stream(said),
        answer=ANSWER,
        events=EVENTS,
        holds_client=False,
        shown=lambda answer: answer.content,
        patches=_OPENAI,
        without=LEAVES_OPEN["without"],
        scenes=WIDE,
    )


def _agno() -> Iterator[Sdk]:
    from agno.models.message import Message
    from agno.models.openai import OpenAIChat

    def make(url: str, timeout: float) -> t.Any:
        return OpenAIChat(
            id="gpt-4o",
            api_key="k",
            base_url=f"{url}/v1",
            timeout=timeout,
            max_retries=1,
        )

    def said() -> t.Any:
        return [Message(role="user", content="hi")]

    yield Sdk(
        name="agno",
        provider="openai",
        make=make,
        ask=lambda model: model.response(said()).content,
        stream=lambda model: model.response_stream(said()),
        answer=ANSWER,
        events=EVENTS,
        holds_client=False,
        shown=lambda answer: getattr(answer, "content", answer),
        patches=_OPENAI,
        scenes=("plain", "streamed to the end", "429, then 200"),
    )


def _autogen() -> Iterator[Sdk]:
    from autogen_core.models import UserMessage
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    def make(url: str, timeout: float) -> t.Any:
        return OpenAIChatCompletionClient(
            model="gpt-4o",
            api_key="k",
            base_url=f"{url}/v1",
            timeout=timeout,
            max_retries=1,
        )

    said = [UserMessage(content="hi", source="user")]
    yield Sdk(
        name="autogen-ext",
        provider="openai",
        make=make,
        ask=lambda client: client.create(said),
        stream=lambda client: client.create_stream(said, include_usage=True),
        answer=ANSWER,
        events=EVENTS,
        asynchronous=True,
        holds_client=False,
        shown=lambda answer: getattr(answer, "content", answer),
        closing=lambda client: None,
        patches=_OPENAI,
        scenes=WIDE,
    )


_OTHERS: t.Final[tuple[tuple[str, Callable[[], Iterator[Sdk]]], ...]] = (
    ("llama_index.llms.openai", _llama_index),
    ("haystack", _haystack),
    ("instructor", _instructor),
    ("agents", _agents),
    ("smolagents", _smolagents),
    ("agno", _agno),
    ("autogen_ext", _autogen),
)

SDKS = (
    *_langchains(),
    *(sdk for module, make in _OTHERS if installed(module) for sdk in make()),
)
