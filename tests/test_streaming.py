"""Calls that are sent while a response is streamed have the tags of its request."""

from __future__ import annotations

import asyncio
import gc
import threading
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Iterator

import pytest
import requests
from asgiref.wsgi import WsgiToAsgi
from flask import current_app
from flask import Flask
from flask import g
from flask import has_app_context
from flask import has_request_context
from flask import request
from flask import Response
from flask import send_file
from flask import session
from flask import stream_with_context
from flask_login import current_user
from flask_login import login_user
from flask_login import LoginManager
from flask_login import UserMixin
from werkzeug.serving import make_server
from werkzeug.test import create_environ
from werkzeug.test import run_wsgi_app

from flask_llm_cost import Call
from flask_llm_cost import LlmCost
from flask_llm_cost.testing import record_calls
from tests.conftest import MakeApp

Wrap = Callable[[Iterator[str]], t.Any]


@pytest.fixture
def calls(app: Flask) -> Iterator[list[Call]]:
    with record_calls(app) as calls:
        yield calls


@pytest.fixture
def send(llm_cost: LlmCost) -> Callable[[], object]:
    return lambda: llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)


def _read(app: Flask, path: str) -> bytes:
    """Request a page as a server does: it reads the body after the request has ended."""
    body, *_ = run_wsgi_app(app, create_environ(path))
    try:
        return b"".join(body)
    finally:
        body.close()  # type: ignore[attr-defined]


def _stream(app: Flask, send: Callable[[], object], wrap: Wrap = iter) -> list[str]:
    """Add a page that streams two calls; return what its tag provider was asked."""
    asked: list[str] = []

    @app.extensions["llm_cost"].extension.tag_provider
    def who() -> dict[str, t.Any]:
        if not has_request_context():
            return {}
        asked.append(request.path)
        return {"path": request.path, "user": g.user, "seen": session.get("seen")}

    @app.before_request
    def know() -> None:
        g.user = request.args.get("user", "ann")

    @app.get("/chat/<int:count>")
    def chat(count: int) -> Response:
        def lines() -> Iterator[str]:
            for number in range(count):
                send()
                yield f"{number}\n"

        return Response(wrap(lines()))

    return asked


class Steps:
    """An iterable that is not a generator, as packages return."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines = lines
        self.closed = False

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("wrap", [iter, Steps, lambda lines: map(str, lines)])
def test_calls_of_a_plain_generator_have_the_tags_of_their_request(
    wrap: Wrap, app: Flask, calls: list[Call], send: Callable[[], object]
) -> None:
    asked = _stream(app, send, wrap)
    assert _read(app, "/chat/2?user=bob") == b"0\n1\n"
    assert [call.tags for call in calls] == [
        {"path": "/chat/2", "user": "bob", "seen": ""}
    ] * 2
    assert asked == ["/chat/2"]  # once for each request
    _read(app, "/chat/1")
    assert calls[-1].tags["user"] == "ann"


def test_a_stream_that_sends_nothing_asks_no_provider_and_copies_no_context(
    app: Flask, calls: list[Call], send: Callable[[], object]
) -> None:
    ended: list[object] = []
    app.teardown_request(ended.append)
    asked = _stream(app, lambda: None)
    _read(app, "/chat/2")
    assert asked == calls == []
    assert len(ended) == 1


def test_stream_with_context_and_bind_work_as_before(
    app: Flask, llm_cost: LlmCost, calls: list[Call], send: Callable[[], object]
) -> None:
    asked = _stream(app, send, stream_with_context)
    _read(app, "/chat/2?user=bob")
    assert [call.tags["user"] for call in calls] == ["bob"] * 2
    assert len(asked) == 2  # at each send, in the request's own context


def test_requests_that_are_read_in_turns_keep_their_own_tags(
    app: Flask, calls: list[Call], send: Callable[[], object]
) -> None:
    _stream(app, send)
    bodies = [
        run_wsgi_app(app, create_environ(f"/chat/2?user={name}"))[0]
        for name in ("ann", "bob")
    ]
    for body in bodies * 2:
        next(iter(body))
    assert [call.tags["user"] for call in calls] == ["ann", "bob"] * 2
    for body in bodies:
        body.close()  # type: ignore[attr-defined]


def test_an_app_inside_another_has_its_own_calls(
    make_app: MakeApp, app: Flask, calls: list[Call], send: Callable[[], object]
) -> None:
    inner = make_app()
    inner_cost: LlmCost = inner.extensions["llm_cost"].extension
    _stream(
        inner,
        lambda: inner_cost.track(provider="openai", model="gpt-4o", input_tokens=1),
    )
    _stream(app, send)

    @app.get("/inner")
    def relay() -> Response:
        def both() -> Iterator[bytes]:
            send()
            yield _read_inner()
            send()

        def _read_inner() -> bytes:
            body, *_ = run_wsgi_app(inner, create_environ("/chat/1?user=eve"))
            return b"".join(body)

        first = _read_inner()  # in the request of the outer app
        return Response(iter([first, *both()]))

    with record_calls(inner) as theirs:
        _read(app, "/inner?user=bob")
    assert [call.tags["user"] for call in theirs] == ["eve", "eve"]
    assert [call.tags["user"] for call in calls] == ["bob", "bob"]


def test_an_app_context_of_the_generator_keeps_its_g(
    app: Flask, calls: list[Call], send: Callable[[], object]
) -> None:
    left: list[bool] = []

    def in_context() -> None:
        with app.app_context():
            send()
            left.append("user" in g)

    _stream(app, in_context)
    _read(app, "/chat/1?user=bob")
    assert calls[0].tags["user"] == "bob"
    assert left == [False]


def test_a_context_lives_as_long_as_its_response(
    app: Flask, calls: list[Call], send: Callable[[], object]
) -> None:
    kept: list[weakref.ref[t.Any]] = []
    _stream(app, send)
    app.before_request(
        lambda: kept.append(weakref.ref(request._get_current_object()))  # type: ignore[attr-defined]
    )
    body, *_ = run_wsgi_app(app, create_environ("/chat/3"))
    next(iter(body))
    body.close()  # type: ignore[attr-defined]
    gc.collect()
    assert kept[0]() is None
    assert len(calls) == 1


def test_a_body_that_is_never_read_is_closed(
    app: Flask, send: Callable[[], object]
) -> None:
    made: list[Steps] = []

    def wrap(lines: Iterator[str]) -> Steps:
        made.append(Steps(lines))
        return made[0]

    _stream(app, send, wrap)
    start: t.Any = lambda *_: None  # noqa: E731
    body: t.Any = app(create_environ("/chat/3"), start)
    body.close()
    assert made[0].closed


def test_what_teardown_functions_raise_does_not_reach_the_stream(
    app: Flask,
    calls: list[Call],
    send: Callable[[], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    _stream(app, send)
    ended: list[object] = []

    @app.teardown_request
    def once_only(error: BaseException | None) -> None:
        ended.append(error)
        if len(ended) > 1:
            raise RuntimeError("twice")

    assert _read(app, "/chat/2") == b"0\n1\n"
    assert len(calls) == 2
    assert "context of a streamed request raised RuntimeError" in caplog.text


def test_the_body_is_passed_on_as_it_is(
    app: Flask, send: Callable[[], object], tmp_path: t.Any
) -> None:
    (tmp_path / "file").write_text("text")
    seen: list[t.Any] = []
    app.add_url_rule("/file", "file", lambda: send_file(tmp_path / "file"))
    app.add_url_rule("/text", "text", lambda: "text")
    # Functions that are registered first are called last.
    app.after_request_funcs[None].insert(
        0, lambda response: seen.append(response.response) or response
    )
    for path in ("/file", "/text"):
        assert _read(app, path) == b"text"
    assert not [body for body in seen if type(body).__name__ == "_Body"]


def test_an_error_of_the_generator_is_the_apps(
    app: Flask, send: Callable[[], object]
) -> None:
    def fail() -> t.NoReturn:
        raise KeyError("mine")

    _stream(app, fail)
    with pytest.raises(KeyError, match="mine"):
        _read(app, "/chat/1")


def test_a_login_is_loaded_again(
    app: Flask, llm_cost: LlmCost, calls: list[Call], send: Callable[[], object]
) -> None:
    class User(UserMixin):
        def __init__(self, name: str) -> None:
            self.id = name

        def get_id(self) -> str:
            if g.get("gone"):
                raise LookupError("detached from its session")
            return str(self.id)

    app.secret_key = "test"
    LoginManager(app).user_loader(User)
    llm_cost.tag_provider(lambda: {"user": current_user.id})

    @app.get("/login")
    def login() -> Response:
        login_user(User("ann"))
        return Response(str(send())[:1] for _ in range(2))

    _read(app, "/login")
    assert [call.tags for call in calls] == [{"user": "ann"}] * 2


@pytest.mark.parametrize("server", ["threads", "asgi", "gevent"])
def test_any_server(
    server: str, app: Flask, calls: list[Call], send: Callable[[], object]
) -> None:
    _stream(app, send)
    users = [f"u{number}" for number in range(4)]
    if server == "asgi":
        asyncio.run(_by_asgi(app, users))
    elif server == "threads":
        _by_threads(app, users)
    else:
        _by_gevent(app, users)
    assert sorted(call.tags["user"] for call in calls) == sorted(users * 3)


async def _by_asgi(app: Flask, users: list[str]) -> None:
    async def ask(user: str) -> None:
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": "/chat/3",
            "query_string": f"user={user}".encode(),
            "headers": [],
        }

        async def receive() -> dict[str, t.Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def sent(message: t.Any) -> None:
            await asyncio.sleep(0)

        await WsgiToAsgi(app)(scope, receive, sent)

    await asyncio.gather(*map(ask, users))


def _by_threads(app: Flask, users: list[str]) -> None:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        url = f"http://127.0.0.1:{server.port}/chat/3"
        for user in users:
            assert requests.get(url, {"user": user}, timeout=10).text == "0\n1\n2\n"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def _by_gevent(app: Flask, users: list[str]) -> None:
    import gevent

    def ask(user: str) -> None:
        body, *_ = run_wsgi_app(app, create_environ(f"/chat/3?user={user}"))
        for _ in body:
            gevent.sleep(0)
        body.close()  # type: ignore[attr-defined]

    gevent.joinall([gevent.spawn(ask, user) for user in users], raise_error=True)


def test_several_apps_find_their_own(
    make_app: MakeApp, app: Flask, calls: list[Call], send: Callable[[], object]
) -> None:
    make_app()
    _stream(app, lambda: has_app_context() or send())
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    llm_cost.init_app(Flask("second", instance_path=app.instance_path + "x"))
    _read(app, "/chat/1?user=bob")
    assert [call.tags["user"] for call in calls] == ["bob"]
    assert not current_app


def test_a_thread_of_the_generator_is_flagged(
    app: Flask, llm_cost: LlmCost, calls: list[Call], send: Callable[[], object]
) -> None:
    def in_thread() -> None:
        thread = threading.Thread(target=send)
        thread.start()
        thread.join()

    _stream(app, in_thread)
    _read(app, "/chat/1")
    assert calls[0].flags == {"no_context"}
    with app.app_context():
        send()
    assert not calls[1].flags
