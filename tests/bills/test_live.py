"""Admin APIs, faked on loopback."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import logging
import threading
import typing as t
import urllib.parse
from collections.abc import Iterator
from decimal import Decimal

import pytest

from flask_llm_cost import BillError
from flask_llm_cost.bills import live
from flask_llm_cost.bills import read
from flask_llm_cost.bills import Statement
from flask_llm_cost.bills.live import client as clients
from flask_llm_cost.capture.suppression import suppressed

from .samples import total

SECRET = "sk-admin-0123456789-secret"
MAY = dt.date(2026, 5, 1)
KEYS: t.Final = {api.key: SECRET for api in live.APIS.values()}

Answer = tuple[int, t.Any, dict[str, str]]
Reply = t.Callable[[str, dict[str, list[str]], t.Any], Answer]


class Fake:
    """A provider on loopback. ``reply`` answers; what was asked is in ``asked``."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[t.Any] = []
        self.reply: Reply = lambda path, query, body: (404, {}, {})
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.answer(self)

            do_POST = do_GET

            def log_message(self, format: str, *args: t.Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        parts = urllib.parse.urlsplit(handler.path)
        query = urllib.parse.parse_qs(parts.query)
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else None
        self.asked.append((parts.path, query))
        self.headers.append(dict(handler.headers.items()))
        self.bodies.append(body)
        status, value, headers = self.reply(parts.path, query, body)
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        handler.send_response(status)
        for name, each in {"Content-Length": str(len(data)), **headers}.items():
            handler.send_header(name, each)
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = True

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    yield server
    server.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(clients.time, "sleep", found.append)
    return found


def ask(
    fake: Fake, source: str, start: dt.date = MAY, days: int = 2, **more: t.Any
) -> Statement:
    end = start + dt.timedelta(days=days)
    options: dict[str, t.Any] = {"environ": KEYS, "url": fake.url} | more
    documents = live.fetch(source, start, end, **options)
    [statement] = read(documents, source)
    return statement


def openai_page(query: dict[str, list[str]], usage: bool, cut: int = 40) -> Answer:
    """Answer as OpenAI does: a bucket per day, and a few per page."""
    start = int(query.get("page", query["start_time"])[0])
    end = int(query["end_time"][0])
    cost = {
        "object": "organization.costs.result",
        "amount": {"value": 1, "currency": "usd"},
        "line_item": "gpt-4.1-2025-04-14, input",
        "quantity": 500_000,
    }
    last = min(end, start + cut * 86_400)
    data = [
        {
            "object": "bucket",
            "start_time": day,
            "end_time": day + 86_400,
            "results": [] if usage else [cost],
        }
        for day in range(start, last, 86_400)
    ]
    more = last < end
    page = {"object": "page", "data": data, "has_more": more}
    return 200, page | {"next_page": str(last) if more else None}, {}


def test_openai_is_asked_by_windows_and_pages(fake: Fake) -> None:
    fake.reply = lambda path, query, body: openai_page(query, "usage" in path, cut=20)
    statement = ask(fake, "openai", dt.date(2025, 11, 20), 60)
    assert total(statement) == 60
    assert len(statement.covered) == 60
    costs = [query for path, query in fake.asked if path.endswith("/costs")]
    spans = {
        int(each["end_time"][0]) - int(each["start_time"][0])
        for each in costs
        if "page" not in each
    }
    assert max(spans) == 31 * 86_400
    # Grouping by key is refused before 2025-12-06.
    assert costs[0]["group_by[]"] == ["project_id", "line_item"]
    assert costs[-1]["group_by[]"] == ["project_id", "line_item", "api_key_id"]
    assert {headers["Authorization"] for headers in fake.headers} == {
        f"Bearer {SECRET}"
    }
    assert any(path.endswith("/usage/completions") for path, _ in fake.asked)


def test_usage_is_not_asked_for_where_costs_have_quantities(fake: Fake) -> None:
    fake.reply = lambda path, query, body: openai_page(query, "usage" in path)
    statement = ask(fake, "openai", dt.date(2026, 9, 1), 3)
    assert {path for path, _ in fake.asked} == {"/v1/organization/costs"}
    assert {line.quantity for line in statement.lines} == {500_000}


def test_a_day_more_than_asked_for_is_dropped(fake: Fake) -> None:
    def reply(path: str, query: dict[str, list[str]], body: t.Any) -> Answer:
        end = str(int(query["end_time"][0]) + 86_400)
        return openai_page(query | {"end_time": [end]}, "usage" in path)

    fake.reply = reply
    assert total(ask(fake, "openai", dt.date(2026, 9, 1), 62)) == 62


def test_retry_after_is_honored(fake: Fake, waits: list[float]) -> None:
    now = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)
    date = now.strftime("%a, %d %b %Y %H:%M:%S GMT")
    refusals: list[Answer] = [
        (429, {}, {"Retry-After": "7"}),
        (503, {}, {"Retry-After": date}),
        (500, {}, {}),
    ]

    def reply(path: str, query: dict[str, list[str]], body: t.Any) -> Answer:
        return refusals.pop(0) if refusals else openai_page(query, usage=False)

    fake.reply = reply
    assert total(ask(fake, "openai", dt.date(2026, 9, 1))) == 2
    assert waits[0] == 7
    assert 20 < waits[1] <= 30
    assert waits[2] == 4


def test_attempts_are_limited(fake: Fake, waits: list[float]) -> None:
    fake.reply = lambda path, query, body: (503, {}, {})
    with pytest.raises(BillError, match="it answered with 503 .5 attempts"):
        ask(fake, "openai")
    assert len(waits) == 4
    fake.reply = lambda path, query, body: (429, {}, {"Retry-After": "86400"})
    with pytest.raises(BillError, match="asked to wait 86400 s"):
        ask(fake, "openai")
    assert len(waits) == 4


def test_an_answer_that_breaks_off_is_asked_for_again(
    fake: Fake, waits: list[float]
) -> None:
    longer = [{"Content-Length": "1000000"}]

    def reply(path: str, query: dict[str, list[str]], body: t.Any) -> Answer:
        status, page, _ = openai_page(query, usage=False)
        return status, page, longer.pop() if longer else {}

    fake.reply = reply
    assert total(ask(fake, "openai", dt.date(2026, 9, 1))) == 2
    assert len(waits) == 1


def bucket(day: int, amount: str) -> dict[str, t.Any]:
    result = {"amount": amount, "currency": "USD", "cost_type": "tokens"}
    return {
        "starting_at": f"2026-05-{day:02}T00:00:00Z",
        "ending_at": f"2026-05-{day + 1:02}T00:00:00Z",
        "results": [result],
    }


def test_an_expired_cursor_starts_the_window_over(fake: Fake) -> None:
    gone = [True]

    def reply(path: str, query: dict[str, list[str]], body: t.Any) -> Answer:
        if path.endswith("/messages"):
            return 200, {"data": [], "has_more": False, "next_page": None}, {}
        if "page" not in query:
            amount = "100" if gone else "300"
            page = {"data": [bucket(1, amount)], "has_more": True, "next_page": "b"}
            return 200, page, {}
        if gone:
            gone.pop()
            return 410, {"type": "error", "error": {"type": "gone"}}, {}
        return 200, {"data": [bucket(2, "200")], "has_more": False}, {}

    fake.reply = reply
    # Nothing of the first page from before the refresh is left.
    assert total(ask(fake, "anthropic")) == 5
    assert fake.headers[0]["x-api-key"] == SECRET
    assert fake.headers[0]["anthropic-version"] == "2023-06-01"
    assert fake.asked[0][1]["group_by[]"] == ["workspace_id", "description"]


def test_a_repeated_cursor_ends(fake: Fake) -> None:
    page = {"data": [], "has_more": True, "next_page": "b"}
    fake.reply = lambda path, query, body: (200, page, {})
    with pytest.raises(BillError, match="the same next page twice"):
        ask(fake, "anthropic")


def test_data_that_is_refreshed_forever_ends(fake: Fake) -> None:
    fake.reply = lambda path, query, body: (410, {}, {})
    with pytest.raises(BillError, match="refreshed repeatedly"):
        ask(fake, "anthropic")
    assert len(fake.asked) == 3


def test_openrouter_is_asked_day_by_day(fake: Fake) -> None:
    today = dt.datetime.now(dt.UTC).date()
    start = today - dt.timedelta(days=3)

    def reply(path: str, query: dict[str, list[str]], body: t.Any) -> Answer:
        day = query["date"][0]
        row = {"date": day, "model": "m", "usage": 0.5, "byok_usage_inference": 0}
        return 200, {"data": [row] if day == str(start) else []}, {}

    fake.reply = reply
    statement = ask(fake, "openrouter", start, 3)
    assert total(statement) == Decimal("0.5")
    # A day without activity is covered, too.
    assert len(statement.covered) == 3
    with pytest.raises(BillError, match="last 30 completed days only"):
        ask(fake, "openrouter", today, 1)


def test_xai_halves_what_was_cut(fake: Fake) -> None:
    def reply(path: str, query: dict[str, list[str]], body: t.Any) -> Answer:
        span = body["analyticsRequest"]["timeRange"]
        first = span["startTime"][:10]
        cut = first != span["endTime"][:10]
        point = {"timestamp": f"{first}T00:00:00Z", "values": [1.5]}
        series = {"group": ["grok-4"], "dataPoints": [point]}
        return 200, {"limitReached": cut, "timeSeries": [series]}, {}

    fake.reply = reply
    assert total(ask(fake, "xai", days=3, team="my team")) == Decimal("4.5")
    assert fake.asked[0][0] == "/v1/billing/teams/my%20team/usage"


def test_the_key_is_in_no_error_log_or_progress(
    fake: Fake, caplog: pytest.LogCaptureFixture, waits: list[float]
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    detail = {"error": {"message": f"wrong key {SECRET}", "type": SECRET}}
    for status in (401, 403, 503, 302):
        fake.reply = lambda path, query, body, status=status: (  # type: ignore[misc]
            status,
            detail if status != 302 else {},
            {"Location": "https://example.com"} if status == 302 else {},
        )
        with pytest.raises(BillError) as caught:
            ask(fake, "openai", progress=said.append)
        assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.args}"
    assert said[0].startswith(
        "Requesting from openai: costs of 2026-05-01 to 2026-05-02"
    )
    assert SECRET not in caplog.text + "".join(said)


def test_our_own_requests_are_not_captured(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    once = clients.Client._once

    def watched(self: t.Any, *arguments: t.Any) -> bytes:
        seen.append(suppressed())
        return once(self, *arguments)

    monkeypatch.setattr(clients.Client, "_once", watched)
    fake.reply = lambda path, query, body: openai_page(query, usage=False)
    ask(fake, "openai", dt.date(2026, 9, 1))
    assert seen == [True]


@pytest.mark.parametrize(
    ("source", "options", "problem"),
    [
        ("aws", {}, "it has no API for bills. Use one of openai, anthropic"),
        ("openai", {"environ": {}}, "set OPENAI_ADMIN_KEY"),
        ("openai", {"environ": {"OPENAI_ADMIN_KEY": "a\nb"}}, "set OPENAI_ADMIN_KEY"),
        ("xai", {}, "pass the id of the team as --team"),
        ("openai", {"url": "http://example.com"}, "must be https, or on loopback"),
        ("openai", {"days": 0}, "has no days; swap them"),
    ],
)
def test_what_cannot_be_asked_is_an_error(
    fake: Fake, source: str, options: dict[str, t.Any], problem: str
) -> None:
    with pytest.raises(BillError, match=problem):
        ask(fake, source, **options)
    assert not fake.asked
