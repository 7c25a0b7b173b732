"""Recognizes LLM calls to unlisted hosts, by their request and their answer.

A path such as ``/v1/messages`` proves nothing. An exchange is an LLM call if its request
and its answer are both in the same dialect, and the answer reports usage.
"""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass

from ..call import Call
from ..call import Usage
from . import anthropic
from . import bedrock
from . import gemini
from . import ollama
from . import openai
from . import paths
from . import realtime
from . import sparse
from . import xai
from .dialect import CONFLICT
from .dialect import Dialect
from .dialect import inner
from .dialect import items
from .dialect import Notes
from .dialect import Object
from .paths import Path

FLAG: t.Final = "unlisted_host"
"""The flag of calls to such hosts."""

_ROLES: t.Final = frozenset(
    ("system", "developer", "user", "assistant", "tool", "function")
)

_IN_DOUBT: t.Final = frozenset((CONFLICT, "reader_error", "broken_frames"))


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the request and an answer, or one of its events, certainly look like."""

    request: Callable[[Object], bool]
    answer: Callable[[Object], bool]
    content: bool = False
    """The answer is recognized without its content, which may be very long."""


def _objects(value: object) -> list[Object]:
    """Get an array of objects, or an empty list if the value is something else."""
    found = items(value)
    return found if all(isinstance(each, Mapping) for each in found) else []


def _named(document: Object) -> bool:
    return isinstance(document.get("model"), str)


def _messages(request: Object) -> list[Object]:
    messages = _objects(request.get("messages"))
    said = all(
        each.get("role") in _ROLES and ("content" in each or "tool_calls" in each)
        for each in messages
    )
    return messages if said else []


def _asks_chat(request: Object) -> bool:
    return _named(request) and bool(_messages(request))


def _asks_message(request: Object) -> bool:
    return _asks_chat(request) and isinstance(request.get("max_tokens"), int)


def _asks_text(request: Object) -> bool:
    return _named(request) and isinstance(request.get("prompt"), (str, list))


def _asks_input(request: Object) -> bool:
    return _named(request) and isinstance(request.get("input"), (str, list))


def _asks_content(request: Object) -> bool:
    contents = _objects(request.get("contents"))
    return bool(contents) and all(_objects(each.get("parts")) for each in contents)


def _asks_converse(request: Object) -> bool:
    messages = _messages(request)
    return bool(messages) and all(_objects(each.get("content")) for each in messages)


def _chat(answer: Object) -> bool:
    choices = _objects(answer.get("choices"))
    known = str(answer.get("object")).startswith("chat.completion") and bool(choices)
    return known and all(inner(each, "message") or "delta" in each for each in choices)


def _text(answer: Object) -> bool:
    choices = _objects(answer.get("choices"))
    known = answer.get("object") == "text_completion" and bool(choices)
    return known and all(isinstance(each.get("text"), str) for each in choices)


def _embeddings(answer: Object) -> bool:
    return answer.get("object") == "list" and bool(inner(answer, "usage"))


def _response(answer: Object) -> bool:
    found = inner(answer, "response") or answer
    return found.get("object") == "response" and isinstance(found.get("output"), list)


def _message(answer: Object) -> bool:
    found = inner(answer, "message") or answer
    return (
        found.get("type") == "message"
        and found.get("role") == "assistant"
        and isinstance(found.get("content"), list)
    )


def _candidates(answer: Object) -> bool:
    candidates = _objects(answer.get("candidates"))
    return bool(candidates) and all(
        inner(each, "content") or "finishReason" in each for each in candidates
    )


def _converse(answer: Object) -> bool:
    message = inner(inner(answer, "output"), "message") or inner(answer, "messageStart")
    return message.get("role") == "assistant"


def _ollama(answer: Object) -> bool:
    said = inner(answer, "message").get("role", answer.get("response"))
    return _named(answer) and isinstance(said, str) and "created_at" in answer


_SHAPES: t.Final[Mapping[tuple[Dialect, str], _Shape]] = {
    (openai.CHAT, "chat"): _Shape(_asks_chat, _chat),
    (openai.CHAT, "completions"): _Shape(_asks_text, _text),
    (openai.EMBEDDINGS, "embeddings"): _Shape(_asks_input, _embeddings, content=True),
    (openai.RESPONSES, "responses"): _Shape(_asks_input, _response),
    (anthropic.MESSAGES, "chat"): _Shape(_asks_message, _message),
    (gemini.GENERATE, "chat"): _Shape(_asks_content, _candidates),
    (bedrock.CONVERSE, "chat"): _Shape(_asks_converse, _converse),
    (ollama.OLLAMA, "chat"): _Shape(_asks_chat, _ollama),
    (ollama.OLLAMA, "completions"): _Shape(_asks_text, _ollama),
}


def _turn(event: Object) -> bool:
    """Whether an event is the end of a turn: of OpenAI's, or a message of Gemini's."""
    ended = event.get("type") == "response.done"
    named = inner(event, "response").get("object") == "realtime.response"
    return (ended and named) or bool(inner(event, "usageMetadata"))


def _any(request: Object) -> bool:
    return True


def _counted(message: Object) -> bool:
    return bool(inner(message, "usage") or inner(message, "usage_metadata"))


_TURNS: t.Final[Mapping[Dialect, Callable[[Object], bool]]] = {
    realtime.REALTIME: _turn,
    openai.RESPONSES: _response,
    gemini.GENERATE: _counted,
    xai.MESSAGES: _counted,
}
"""What an event over websockets, or a message over gRPC, certainly looks like. What was
asked needs no proof: only certain messages begin a turn, and a method has a full name."""


def _strict(
    dialect: Dialect, answer: Callable[[Object], bool], *, whole: bool = True
) -> Dialect:
    """Create a dialect that reads usage only from an answer that certainly is in it.

    Costs that the answer reports are left out: their currency is not known.

    :param whole: An answer is recognized by its content.
    """

    def read(notes: Notes, document: Object) -> None:
        if answer(document):
            notes.session["certain"] = True
        dialect.read(notes, document)

    def usage(notes: Notes) -> Usage | None:
        found = dialect.usage(notes)
        if found is None or not found.total_tokens or not notes.session.get("certain"):
            return None
        return found

    return dataclasses.replace(
        dialect,
        read=read,
        usage=usage,
        cost=lambda notes: None,
        tail=(*dialect.tail, "object"),
        parse_whole_if=(b"",) if whole else dialect.parse_whole_if,
    )


def _known() -> Iterator[tuple[Path, Callable[[Object], bool]]]:
    for path in (*paths.GATEWAY, *paths.XAI_MESSAGES):
        shape = _SHAPES.get((path.dialect, path.operation))
        turn = _TURNS.get(path.dialect)
        if shape is not None and path.method == "POST":
            dialect = _strict(path.dialect, shape.answer, whole=not shape.content)
            yield dataclasses.replace(path, dialect=dialect), shape.request
        elif turn is not None and path.method in ("WS", "GRPC"):
            dialect = _strict(path.dialect, turn)
            yield dataclasses.replace(path, dialect=dialect), _any


_FOUND: t.Final = tuple(_known())

_REQUESTS: t.Final = {path.dialect: request for path, request in _FOUND}

PATHS: t.Final = tuple(path for path, _ in _FOUND)
"""The paths of a gateway whose requests and answers differ from all others."""

ENDS: t.Final = (
    "/completions",
    "/edits",
    "embeddings",
    "/responses",
    "/responses/compact",
    "/api/chat",
    "/api/generate",
    "/v1/messages",
    ":generateContent",
    ":streamGenerateContent",
    "/converse",
    "/converse-stream",
    "/realtime",
    "BidiGenerateContent",
    "BidiGenerateContentConstrained",
    "/GenerateContent",
    "/StreamGenerateContent",
    *(path.pattern.replace("\\", "") for path in paths.XAI_MESSAGES),
)
"""The ends of these paths, which most other requests do not have."""


def is_request(dialect: Dialect, body: bytes | None) -> bool:
    """Whether a request's body is in the dialect of one of :data:`PATHS`."""
    request = _REQUESTS[dialect]
    if request is _any:
        return True
    document = sparse.parse(body) if body else None
    return isinstance(document, dict) and request(document)


def is_call(call: Call) -> bool:
    """Whether the answer showed that an exchange was an LLM call."""
    return call.usage is not None and not call.flags & _IN_DOUBT
