"""Recognizes the LLM calls among a client's requests, and opens a meter for each."""

from __future__ import annotations

import typing as t
import uuid
import weakref
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from ..attempt import Attempt
from ..attempt import ClientRecorder
from ..attempt import Recorder
from ..call import TagSource
from ..errors import ConfigError
from ..errors import LlmCostError
from ..providers import Exchange
from ..providers import Headers
from ..providers import is_request
from ..providers import Provider
from ..providers import Route
from ..providers import route
from ..recurring import report
from .harmless import harmless
from .meter import Meter
from .suppression import current
from .suppression import Guard
from .unlisted import Tentative

Hosts: t.TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str] | None]
"""``LLM_COST_PROVIDER_HOSTS``, or a callable that returns those of the current app.

``None`` means that this app captures nothing.
"""

RequestHeaders: t.TypeAlias = Headers | Callable[[], Headers]

Body: t.TypeAlias = bytes | Callable[[], bytes | None] | None


class Tap:
    """What a client's attempts are captured with: where to record them, and their tags.

    :param recorder: Asked before an LLM call is sent, and handed the call at its end.
    :param hosts: As ``LLM_COST_PROVIDER_HOSTS``, or a callable evaluated at each attempt.
    :param providers: An app's own, tried before the built-in ones; or a callable that
        returns them, evaluated at each attempt.
    :param tags: Explicit tags of every call captured through this tap.
    :raises ConfigError: If ``tags`` is neither a mapping nor a callable.
    """

    __slots__ = ("__weakref__", "_name", "hosts", "providers", "recorder", "tags")

    def __init__(
        self,
        recorder: ClientRecorder,
        *,
        hosts: Hosts | None = None,
        providers: Sequence[Provider] | Callable[[], Sequence[Provider]] = (),
        tags: TagSource | None = None,
    ) -> None:
        if tags is not None and not callable(tags) and not isinstance(tags, Mapping):
            raise ConfigError(
                "tags must be a mapping, or a callable that returns one, not"
                f" {type(tags).__name__}."
            )
        self.recorder = recorder
        self.hosts = hosts
        self.providers = providers if callable(providers) else tuple(providers)
        self.tags = tags
        self._name = ""

    def __reduce__(self) -> tuple[t.Any, ...]:
        """A client that is copied or pickled keeps this very tap, within its process."""
        if not self._name:
            self._name = uuid.uuid4().hex
            _pickled[self._name] = self
        return _unpickled, (self._name,)

    @harmless(passing=(LlmCostError,))
    def open(
        self,
        method: str,
        url: str,
        body: Body,
        form: Body = None,
        *,
        headers: RequestHeaders = (),
        begun: bool = False,
    ) -> Meter | None:
        """Start to follow an attempt, before it is sent.

        :param body: The request body, or ``None`` if reading would consume it. A callable
            is evaluated only if this is an LLM call.
        :param form: What :func:`.form` makes of a form's fields, if there is no such body.
        :param headers: Of the request, or a callable that returns them.
        :param begun: The provider began it, so budgets cannot block it.
        :return: ``None`` if the attempt is not captured.
        :raises LlmCostError: If the recorder rejects the call, as an exceeded budget does.
        """
        outer = current()
        if outer is not None and not outer.tentative:
            return None
        found = self._route(method, url, unlisted=outer is None)
        if found is None:
            return None
        if outer is not None:
            outer.superseded = True
        guard = Guard(tentative=found.unlisted)
        token = meter = None
        try:
            # Before the recorder is asked: a tag provider may call an LLM itself.
            token = guard.enter()
            meter = self._begin(found, url, body, form, guard, begun)
            if meter is not None:
                meter.asked(url, headers)
        finally:
            if meter is None:
                guard.leave(token)
        if meter is not None:
            meter.start(token)
        return meter

    def find(self, method: str, url: str) -> Route | None:
        """The route of an attempt with this URL that is, or may be, an LLM call."""
        return self._route(method, url, unlisted=True)

    # What an app's own providers raise must not stop a call, whatever it is: only what the
    # recorder itself raises may pass.

    @harmless()
    def _route(self, method: str, url: str, *, unlisted: bool = False) -> Route | None:
        hosts = self.hosts
        if callable(hosts):
            hosts = hosts()
            if hosts is None:
                return None
        own = self.providers
        providers = own() if callable(own) else own
        found = route(method, url, hosts=hosts, providers=providers, unlisted=unlisted)
        if found is None or not found.unlisted:
            return found
        return None if self.recorder.unlisted_hosts == "ignore" else found

    @harmless()
    def _exchange(self, found: Route, sent: bytes | None) -> Exchange | None:
        if found.unlisted and not is_request(found.dialect, sent):
            return None
        return Exchange(found, request_body=sent)

    def _begin(
        self,
        found: Route,
        url: str,
        body: Body,
        form: Body,
        guard: Guard,
        begun: bool,
    ) -> Meter | None:
        sent = _read(body)
        exchange = self._exchange(found, _read(form) if sent is None else sent)
        if exchange is None:
            return None
        recorder: Recorder = self.recorder
        if found.unlisted:
            recorder = Tentative(self.recorder, guard)
        snapshot = recorder.begin(
            Attempt(
                provider=found.provider,
                operation=found.operation,
                request_model=exchange.request_model,
                stream=exchange.stream,
                tags=self.tags,
                body=sent,
                flags=found.flags,
                poll=found.poll or begun,
                unlisted=found.unlisted,
            )
        )
        if snapshot is None:
            return None
        if snapshot.estimate:
            exchange.use_estimate()
        meter = Meter(recorder, exchange, snapshot, guard)
        if snapshot.inject:
            meter.asking = _asking(exchange, url, sent)
        return meter


@harmless()
def _asking(exchange: Exchange, url: str, sent: bytes | None) -> bytes | None:
    return exchange.inject_stream_usage(url, sent)


@harmless()
def _read(body: Body) -> bytes | None:
    """The body. If we cannot read it, the call is still a call."""
    return body() if callable(body) else body


_pickled: weakref.WeakValueDictionary[str, Tap] = weakref.WeakValueDictionary()


def _unpickled(name: str) -> Tap | None:
    tap = _pickled.get(name)
    if tap is None:
        report(
            "An adapter was unpickled in a process other than the one that made it: it"
            " sends, but records nothing. Mount a new llm_cost.adapter() there, or wrap"
            " its session again."
        )
    return tap
