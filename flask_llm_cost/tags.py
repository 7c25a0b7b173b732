"""Tags of a call: resolved from every source, limited and redacted."""

from __future__ import annotations

import functools
import inspect
import json
import re
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from .binding import step
from .binding import step_async
from .call import KEY_PATTERN
from .call import TagSource
from .interrupts import pass_on
from .recurring import report

if t.TYPE_CHECKING:
    from .config import Settings

_F = t.TypeVar("_F", bound=Callable[..., t.Any])

REDACTED: t.Final = "[REDACTED]"

TRACE_KEY: t.Final = "trace_id"
"""The tag that is stored in its own column, because it differs in each call."""

_T = t.TypeVar("_T")


class Block:
    """Tags the calls made inside a ``with`` block or a decorated function.

    Blocks nest; the inner one wins. Many threads and tasks may enter one block at the same
    time. The function may be a coroutine function, or a generator function, plain or async:
    its tags then apply while its own code runs.
    """

    def __init__(self, tags: Mapping[str, t.Any]) -> None:
        self._tags = dict(tags)
        self._open: list[_Entry] = []

    def __enter__(self) -> None:
        entry = _Entry(self._tags, self)
        self._open.append(entry)
        _entered.set((*_entered.get(), entry))

    def __exit__(self, *exc: object) -> None:
        # Entries belong to the context, not to the block.
        entries = _entered.get()
        for at in range(len(entries) - 1, -1, -1):
            if entries[at].block is self:
                _entered.set(entries[:at] + entries[at + 1 :])
                if entries[at] in self._open:
                    self._open.remove(entries[at])
                return
        # Left in another context than entered (a generator was closed elsewhere). The
        # entry cannot be removed from there, so it is switched off. This is impossible if
        # the block is entered several times, but each generator has its own block.
        if len(self._open) == 1:
            self._open.pop().on = False

    def _run(self, function: Callable[[], _T]) -> _T:
        with self:
            return function()

    def __call__(self, function: _F) -> _F:
        wrapper = _tagged(self, function)
        return t.cast(_F, functools.wraps(function)(wrapper))


class _Entry:
    """One time that a block was entered. Tasks started inside inherit it."""

    __slots__ = ("block", "on", "tags")

    def __init__(self, tags: Mapping[str, t.Any], block: Block) -> None:
        self.tags = tags
        self.block = block
        self.on = True


_entered: ContextVar[tuple[_Entry, ...]] = ContextVar("flask_llm_cost.tags", default=())


def _tagged(block: Block, function: Callable[..., t.Any]) -> Callable[..., t.Any]:
    async def coroutine(*args: t.Any, **kwargs: t.Any) -> t.Any:
        with block:
            return await function(*args, **kwargs)

    def generator(*args: t.Any, **kwargs: t.Any) -> t.Any:
        return step(block._run, function(*args, **kwargs))

    def plain(*args: t.Any, **kwargs: t.Any) -> t.Any:
        with block:
            return function(*args, **kwargs)

    if inspect.iscoroutinefunction(function):
        return coroutine
    if inspect.isasyncgenfunction(function):
        return step_async(lambda: block._run, function)
    if inspect.isgeneratorfunction(function):
        return generator
    return plain


@dataclass(frozen=True, slots=True)
class ResolvedTags:
    """The tags of one call, resolved and limited."""

    tags: dict[str, str]
    flags: frozenset[str]
    """``tag_error`` if a source raised, ``tags_dropped`` if a tag was dropped."""


_NO_FLAGS: t.Final[frozenset[str]] = frozenset()


def resolve(
    settings: Settings, sources: Iterable[TagSource], *, in_request: bool = True
) -> ResolvedTags:
    """Evaluate every source once; the first one that has a key wins.

    A source that raises loses only its own tags, and a callable value only itself. Never
    raises.

    :param in_request: Whether there is a request. Only for the log.
    """
    flags: set[str] = set()
    tags: dict[str, str] = {}
    redact = _redactor(settings.redacted_tag_keys)
    for source in sources:
        # Providers, callables and __str__ of values are the app's code. One that raises,
        # or does not return a mapping, must affect neither the call nor other tags.
        try:
            given = source() if callable(source) else source
            entries = list(given.items()) if given else []
        except Exception as error:
            pass_on(error)
            _report(source, error, in_request, "its tags are missing")
            flags.add("tag_error")
            continue
        for key, value in entries:
            if not isinstance(key, str) or not KEY_PATTERN.fullmatch(key):
                flags.add("tags_dropped")
            elif key not in tags:
                if len(tags) >= settings.max_tags:
                    flags.add("tags_dropped")
                    continue
                try:
                    found = value() if callable(value) else value
                    tags[key] = cut(redact(key, found), settings.max_tag_bytes)
                except Exception as error:
                    pass_on(error)
                    _report(source, error, in_request, f"the tag {key} is missing")
                    flags.add("tag_error")
    return ResolvedTags(tags, frozenset(flags) if flags else _NO_FLAGS)


# Highest priority first, so that the limit drops the least specific tags.


def sources_here(explicit: TagSource | None) -> Iterator[TagSource]:
    """Explicit tags, then those of the blocks around the send, the inner block first."""
    if explicit:
        yield explicit
    yield from (entry.tags for entry in reversed(_entered.get()) if entry.on)


def sources_of_app(
    settings: Settings, providers: Iterable[TagSource]
) -> Iterator[TagSource]:
    """Tag providers, then the default tags."""
    yield from reversed(tuple(providers))
    if settings.default_tags:
        yield settings.default_tags


def _report(source: TagSource, error: Exception, in_request: bool, effect: str) -> None:
    """Log where a source failed, but not the message of the error: it may quote content."""
    name = getattr(source, "__qualname__", type(source).__name__)
    code = getattr(inspect.unwrap(t.cast(t.Any, source)), "__code__", None)
    at = error.__traceback__ and error.__traceback__.tb_next
    place = ""
    if at is not None:
        place = f" ({at.tb_frame.f_code.co_filename}:{at.tb_lineno})"
    elif code is not None:
        place = f" ({code.co_filename}:{code.co_firstlineno})"
    report(
        "The tag provider %s%s raised %s%s; %s.",
        name,
        place,
        type(error).__name__,
        "" if in_request else " outside a request",
        effect,
    )


def cut(text: str, limit: int) -> str:
    """At most ``limit`` bytes of UTF-8, cut between characters; never cuts a redaction."""
    if len(text) * 4 <= limit or text == REDACTED:
        return text
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


_WORDS: t.Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_SECRETS: t.Final = re.compile(
    r"\bBearer\s+\S{8}"
    r"|\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8}"
    r"|\bAIza[A-Za-z0-9_-]{30}"
    r"|\bAKIA[A-Z0-9]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{30}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10}"
)
"""API keys of well-known services. A value that contains one is not stored."""


@functools.lru_cache(maxsize=8)
def _redactor(secret_keys: tuple[str, ...]) -> Callable[[str, t.Any], str]:
    secrets = {"".join(_words(key)) for key in secret_keys}

    @functools.lru_cache(maxsize=512)
    def secret(key: str) -> bool:
        words = _words(key)
        # Joined: apikey, api_key and apiKey are one name.
        return any(
            "".join(words[start:end]) in secrets
            for start in range(len(words))
            for end in range(start + 1, len(words) + 1)
        )

    def clean(value: t.Any) -> t.Any:
        if isinstance(value, Mapping):
            return {
                str(k): REDACTED if secret(str(k)[:200]) else clean(v)
                for k, v in value.items()
            }
        if isinstance(value, (list, tuple, set, frozenset)):
            return [clean(v) for v in value]
        if isinstance(value, str):
            return REDACTED if _SECRETS.search(value) else value
        return value

    def redact(key: str, value: t.Any) -> str:
        if secret(key):
            return REDACTED
        return as_text(clean(value))

    return redact


def _words(key: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORDS.findall(key))


def as_text(value: t.Any) -> str:
    """A tag's value as text, before it is cut to the limit."""
    if isinstance(value, str):
        # UTF-8 cannot encode a lone surrogate, PostgreSQL cannot store NUL.
        if value.isascii() and "\0" not in value:
            return value
        return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    if value is None:
        return ""
    if isinstance(value, (bool, dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return as_text(str(value))
