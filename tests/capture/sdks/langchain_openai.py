"""LangChain over OpenAI's SDK."""

from __future__ import annotations

import typing as t

from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient
from openai import DefaultHttpxClient

from tests.capture.sdks.driver import Sdk
from tests.capture.sdks.openai import EVENTS
from tests.capture.sdks.openai import WAIT
from tests.capture.server import CHAT_JSON


def _make(url: str, timeout: float) -> ChatOpenAI:
    return ChatOpenAI(
        model="gpt-4o",
        api_key="k",  # type: ignore[arg-type]
        base_url=f"{url}/v1",
        timeout=timeout,
        max_retries=1,
        use_responses_api=False,
        # Its own clients live as long as the process, beyond the end of an event loop.
        http_client=DefaultHttpxClient(),
        http_async_client=DefaultAsyncHttpxClient(),
    )


def _shown(message: t.Any) -> t.Any:
    # Each message has a new id.
    return message.model_dump(exclude={"id"})


SDKS = (
    Sdk(
        name="langchain-openai",
        provider="openai",
        make=_make,
        ask=lambda model: model.invoke("hello"),
        stream=lambda model: model.stream("hello"),
        answer=CHAT_JSON,
        events=EVENTS,
        shown=_shown,
        patches=WAIT,
    ),
    Sdk(
        name="langchain-openai async",
        provider="openai",
        make=_make,
        ask=lambda model: model.ainvoke("hello"),
        stream=lambda model: model.astream("hello"),
        answer=CHAT_JSON,
        events=EVENTS,
        asynchronous=True,
        shown=_shown,
        patches=WAIT,
    ),
)
