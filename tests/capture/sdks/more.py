"""More frameworks, over several providers' APIs. Each that is installed is played."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterator

from tests.capture.sdks.driver import installed
from tests.capture.sdks.driver import MESSAGES
from tests.capture.sdks.driver import Sdk
from tests.capture.sdks.driver import WIDE
from tests.capture.sdks.frameworks import ANSWER
from tests.capture.sdks.frameworks import EVENTS
from tests.capture.sdks.frameworks import PLAIN
from tests.capture.server import MESSAGE_JSON
from tests.capture.server import MESSAGE_STREAM

_CLAUDE: t.Final[dict[str, t.Any]] = {
    "provider": "anthropic",
    "answer": MESSAGE_JSON,
    "events": tuple(piece + b"\n\n" for piece in MESSAGE_STREAM.split(b"\n\n")),
    "patches": (("anthropic._base_client.INITIAL_RETRY_DELAY", 0.001),),
}
_GPT: t.Final[dict[str, t.Any]] = {
    "provider": "openai",
    "answer": ANSWER,
    "events": EVENTS,
    "patches": (("openai._base_client.INITIAL_RETRY_DELAY", 0.001),),
}
_BRIEF: t.Final = ("plain", "streamed to the end", "401")


def _text(answer: t.Any) -> t.Any:
    return getattr(answer, "content", None) or str(getattr(answer, "message", ""))


def _chats(
    name: str, make: t.Any, wire: dict[str, t.Any], **more: t.Any
) -> Iterator[Sdk]:
    """A chat model of LangChain, sync and async."""
    for asynchronous in more.pop("kinds", (False, True)):
        options: dict[str, t.Any] = {
            "ask": (lambda m: m.ainvoke("hi"))
            if asynchronous
            else lambda m: m.invoke("hi"),
            "stream": (lambda m: m.astream("hi"))
            if asynchronous
            else lambda m: m.stream("hi"),
            "shown": _text,
            "holds_client": False,
            "scenes": WIDE,
            "without": ("stopped early",),
        }
        yield Sdk(
            name=name + " async" * asynchronous,
            make=make,
            asynchronous=asynchronous,
            **options | wire | more,
        )


def _langchain_anthropic() -> Iterator[Sdk]:
    from langchain_anthropic import ChatAnthropic

    def make(url: str, timeout: float) -> t.Any:
        return ChatAnthropic(
            model="claude", api_key="k", base_url=url, timeout=timeout, max_retries=1
        )

    # Its async client is cached, and belongs to the first event loop.
    yield from _chats("langchain-anthropic", make, _CLAUDE, kinds=(False,))


def _langchain_ollama() -> Iterator[Sdk]:
    from langchain_ollama import ChatOllama

    from tests.capture.sdks.ollama import SDKS as PLAIN_ONES

    own = PLAIN_ONES[0]
    wire = {
        "provider": "ollama",
        "answer": own.answer,
        "events": own.events,
        "media": own.media,
        "used": own.used,
    }

    def make(url: str, timeout: float) -> t.Any:
        return ChatOllama(
            model="llama3", base_url=url, client_kwargs={"timeout": timeout}
        )

    # It always asks for a stream.
    yield from _chats(
        "langchain-ollama", make, wire, scenes=("streamed to the end", "401")
    )


def _langchain_nvidia() -> Iterator[Sdk]:
    from langchain_nvidia_ai_endpoints import ChatNVIDIA

    def make(url: str, timeout: float) -> t.Any:
        return ChatNVIDIA(model="gpt-4o", api_key="nvapi-k", base_url=f"{url}/v1")

    yield from _chats(
        "langchain-nvidia-ai-endpoints",
        make,
        _GPT | {"provider": "nvidia", "patches": ()},
        scenes=("plain", "streamed to the end"),
    )


def _langchain_openrouter() -> Iterator[Sdk]:
    from langchain_openrouter import ChatOpenRouter

    def make(url: str, timeout: float) -> t.Any:
        return ChatOpenRouter(
            model="gpt-4o", api_key="k", base_url=f"{url}/api/v1", max_retries=0
        )

    yield from _chats(
        "langchain-openrouter",
        make,
        _GPT | {"provider": "openrouter", "patches": ()},
        scenes=_BRIEF,
    )


def _llama_index_anthropic() -> Iterator[Sdk]:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.anthropic import Anthropic

    said = [ChatMessage(role="user", content="hi")]

    def make(url: str, timeout: float) -> t.Any:
        return Anthropic(
            model="claude-haiku-4-5",
            api_key="k",
            base_url=url,
            timeout=timeout,
            max_retries=1,
        )

    yield Sdk(
        name="llama-index-llms-anthropic",
        make=make,
        ask=lambda model: model.chat(said),
        stream=lambda model: model.stream_chat(said),
        shown=lambda answer: str(answer.message),
        holds_client=False,
        scenes=("plain", "streamed to the end", "401", "429, then 200"),
        **_CLAUDE,
    )


def _aisuite() -> Iterator[Sdk]:
    import aisuite

    def make(url: str, timeout: float) -> t.Any:
        options = {"api_key": "k", "base_url": f"{url}/v1", "max_retries": 1}
        return aisuite.Client({"openai": options | {"timeout": timeout}})

    yield Sdk(
        name="aisuite",
        make=make,
        ask=lambda client: (
            client.chat.completions.create(model="openai:gpt-4o", messages=MESSAGES)
            .choices[0]
            .message.content
        ),
        stream=lambda client: iter(()),
        holds_client=False,
        scenes=PLAIN,
        **_GPT,
    )


def _any_llm() -> Iterator[Sdk]:
    import any_llm

    def asked(asynchronous: bool, **more: t.Any) -> Callable[[t.Any], t.Any]:
        call = any_llm.acompletion if asynchronous else any_llm.completion
        return lambda url: call(
            model="gpt-4o",
            provider="openai",
            messages=list(MESSAGES),
            api_key="k",
            api_base=f"{url}/v1",
            client_args={"max_retries": 1},
            **more,
        )

    for asynchronous in (False, True):
        yield Sdk(
            name="any-llm-sdk" + " async" * asynchronous,
            make=lambda url, timeout: url,
            ask=asked(asynchronous),
            stream=asked(asynchronous, stream=True),
            shown=lambda answer: [
                getattr(each, "message", None) or getattr(each, "delta", None)
                for each in answer.choices
            ],
            asynchronous=asynchronous,
            holds_client=False,
            scenes=("plain", "streamed to the end", "401", "429, then 200"),
            **_GPT,
        )


def _semantic_kernel() -> Iterator[Sdk]:
    from openai import AsyncOpenAI
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatPromptExecutionSettings
    from semantic_kernel.contents import ChatHistory

    settings = OpenAIChatPromptExecutionSettings()

    def make(url: str, timeout: float) -> t.Any:
        client = AsyncOpenAI(
            api_key="k", base_url=f"{url}/v1", timeout=timeout, max_retries=1
        )
        return OpenAIChatCompletion(ai_model_id="gpt-4o", async_client=client)

    def said() -> t.Any:
        history = ChatHistory()
        history.add_user_message("hi")
        return history

    yield Sdk(
        name="semantic-kernel",
        make=make,
        ask=lambda chat: chat.get_chat_message_content(said(), settings),
        stream=lambda chat: chat.get_streaming_chat_message_content(said(), settings),
        shown=str,
        asynchronous=True,
        holds_client=False,
        closing=lambda chat: chat.client,
        scenes=("plain", "streamed to the end", "401", "429, then 200"),
        **_GPT,
    )


_FRAMEWORKS: t.Final[tuple[tuple[str, Callable[[], Iterator[Sdk]]], ...]] = (
    ("langchain_anthropic", _langchain_anthropic),
    ("langchain_ollama", _langchain_ollama),
    ("langchain_nvidia_ai_endpoints", _langchain_nvidia),
    ("langchain_openrouter", _langchain_openrouter),
    ("llama_index.llms.anthropic", _llama_index_anthropic),
    ("aisuite", _aisuite),
    ("any_llm", _any_llm),
    ("semantic_kernel", _semantic_kernel),
)

SDKS = tuple(sdk for module, make in _FRAMEWORKS if installed(module) for sdk in make())
