"""A wrapped session keeps its adapters."""

from __future__ import annotations

import copy
import gc
import pickle
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Iterator

import pytest
import requests
from requests.adapters import BaseAdapter
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3.util import Retry

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.errors import ConfigError
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import CHAT_JSON
from tests.capture.server import Provider

ASK = {"model": "gpt-4o"}


class Mine(HTTPAdapter):
    """A custom adapter, with its own attributes."""

    __attrs__ = [*HTTPAdapter.__attrs__, "label", "sent"]

    def __init__(self, label: str = "mine", **options: t.Any) -> None:
        self.label = label
        self.sent = 0
        super().__init__(**options)

    def send(self, *args: t.Any, **options: t.Any) -> requests.Response:
        self.sent += 1
        return super().send(*args, **options)


class Whole(BaseAdapter):
    """An adapter that sends through another one, and is copied with all attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = HTTPAdapter()

    def send(self, *args: t.Any, **options: t.Any) -> requests.Response:
        return self.inner.send(*args, **options)

    def close(self) -> None:
        self.inner.close()


class Remade(Whole):
    """One with its own reduction."""

    def __reduce__(self) -> tuple[t.Any, ...]:
        return self.__class__, ()


class Emptied(Whole):
    """One whose copies have only the attributes that it knows."""

    def __setstate__(self, state: dict[str, t.Any]) -> None:
        self.__dict__ = {"inner": state["inner"]}


KINDS: dict[str, Callable[[], t.Any]] = {
    "plain": HTTPAdapter,
    "own": Mine,
    "whole": Whole,
    "remade": Remade,
}


@pytest.fixture
def tap(book: Book, hosts: dict[str, str]) -> Tap:
    return Tap(book, hosts=hosts, tags={"feature": "first"})


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def test_adapters_stay_the_same_objects(
    session: requests.Session, tap: Tap, provider: Provider, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON))
    mine = Mine("billing", max_retries=3)
    session.mount("http://", mine)
    before = dict(session.adapters), vars(mine).copy()
    clients.wrap(tap, session)
    assert dict(session.adapters) == before[0]
    assert {**before[1], "_llm_cost": tap} == vars(mine)
    adapter = session.get_adapter(provider.url())
    assert adapter is mine
    assert isinstance(adapter, Mine)
    assert (adapter.label, type(adapter).__name__) == ("billing", "Mine")
    assert type(adapter).__module__ == Mine.__module__
    assert session.post(provider.url(), json=ASK).content == CHAT_JSON
    assert mine.sent == 1
    assert book.call.usage is not None
    assert book.call.tags == {"feature": "first"}


def test_settings_made_on_an_adapter_later_apply(
    session: requests.Session, tap: Tap, provider: Provider, book: Book
) -> None:
    busy = Answer(b"{}", status=503)
    scene = provider.play(busy, busy, Answer(CHAT_JSON))
    clients.wrap(tap, session)
    adapter: t.Any = session.get_adapter(provider.url())
    adapter.max_retries = Retry(2, status_forcelist=[503], allowed_methods=None)
    assert session.post(provider.url(), json=ASK).status_code == 200
    assert len(scene.requests) == 3
    assert book.call.http_status == 200


def test_a_session_that_is_wrapped_again_uses_the_new_tap(
    session: requests.Session, tap: Tap, provider: Provider, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON))
    clients.wrap(tap, session)
    kind = type(session.get_adapter(provider.url()))
    clients.wrap(Tap(book, hosts=tap.hosts, tags={"feature": "second"}), session)
    assert type(session.get_adapter(provider.url())) is kind
    session.post(provider.url(), json=ASK)
    assert book.call.tags == {"feature": "second"}


def test_an_adapter_of_several_prefixes_and_sessions_makes_one_record(
    session: requests.Session, tap: Tap, provider: Provider, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON))
    shared = Mine()
    with requests.Session() as other:
        for each in (session, other):
            each.mount("http://", shared)
            each.mount("http://127.0.0.1", shared)
            clients.wrap(tap, each)
            each.post(provider.url(), json=ASK)
    assert len(book.calls) == len(book.attempts) == shared.sent == 2


def test_the_second_request_of_an_authentication_is_an_attempt(
    session: requests.Session, tap: Tap, provider: Provider, book: Book
) -> None:
    challenge = 'Digest realm="r", nonce="n", qop="auth"'
    refusal = Answer(b"no", status=401, headers=(("WWW-Authenticate", challenge),))
    provider.play(refusal, Answer(CHAT_JSON))
    clients.wrap(tap, session)
    session.auth = HTTPDigestAuth("user", "password")
    assert session.post(provider.url(), json=ASK).ok
    assert [call.http_status for call in book.calls] == [401, 200]


def _pickled(thing: t.Any) -> t.Any:
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, _pickled])
def test_a_copy_goes_on_recording(
    kind: str,
    again: Callable[[t.Any], t.Any],
    session: requests.Session,
    tap: Tap,
    provider: Provider,
    book: Book,
) -> None:
    provider.play(Answer(CHAT_JSON))
    adapter = KINDS[kind]()
    session.mount("http://", adapter)
    clients.wrap(tap, session)
    copied = again(adapter)
    assert copied is not adapter
    assert isinstance(copied, KINDS[kind])  # type: ignore[arg-type]
    with requests.Session() as other:
        other.mount("http://", copied)
        assert other.post(provider.url(), json=ASK).content == CHAT_JSON
    assert book.call.tags == {"feature": "first"}


def test_a_copy_that_loses_the_tap_sends(
    session: requests.Session, tap: Tap, provider: Provider, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON))
    session.mount("http://", Emptied())
    clients.wrap(tap, session)
    with copy.deepcopy(session) as other:
        assert other.post(provider.url(), json=ASK).content == CHAT_JSON
    assert not book.calls


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_without_its_tap_sends_and_warns(
    kind: str,
    session: requests.Session,
    provider: Provider,
    book: Book,
    hosts: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider.play(Answer(CHAT_JSON))
    session.mount("http://", KINDS[kind]())
    clients.wrap(Tap(book, hosts=hosts), session)
    data = pickle.dumps(session.get_adapter("http://"))
    # As in another process, which does not have the tap.
    session.adapters.clear()
    gc.collect()
    copied = pickle.loads(data)
    assert type(copied) is KINDS[kind]
    session.mount("http://", copied)
    assert session.post(provider.url(), json=ASK).content == CHAT_JSON
    assert not book.calls
    assert "records nothing" in caplog.text


def test_an_adapter_of_fixed_layout_is_an_error(
    session: requests.Session, tap: Tap
) -> None:
    class Fixed:
        __slots__ = ()

        def close(self) -> None:
            pass

    fixed: t.Any = Fixed()
    session.mount("http://", fixed)
    with pytest.raises(ConfigError, match="transport Fixed.*cannot be wrapped"):
        clients.wrap(tap, session)


def test_a_wrapped_adapter_is_freed_at_once(tap: Tap) -> None:
    session = requests.Session()
    session.mount("http://", Mine())
    clients.wrap(tap, session)
    gone = weakref.ref(session.get_adapter("http://"))
    gc.disable()
    try:
        session.adapters.clear()
        assert gone() is None
    finally:
        gc.enable()
        session.close()
