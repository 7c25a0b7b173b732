"""Alerts reach the webhook: at least once, signed, and nowhere else."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import hmac
import json
import socket
import threading
import time
import typing as t
from decimal import Decimal

import pytest
import sqlalchemy as sa

from flask_llm_cost.budgets import Alert
from flask_llm_cost.budgets import webhook
from flask_llm_cost.budgets.webhook import DeliveryError
from flask_llm_cost.budgets.webhook import Webhook
from flask_llm_cost.db.budget_tables import outbox
from flask_llm_cost.public_address import is_public
from tests.capture.server import Answer
from tests.capture.server import Provider
from tests.capture.server import Scene
from tests.conftest import MakeApp

from .test_enforcement import spend

SECRET = "a shared secret"


def settings(provider: Provider, **more: t.Any) -> dict[str, t.Any]:
    return {
        "LLM_COST_DAILY_BUDGET": "1",
        "LLM_COST_ALERT_WEBHOOK_URL": provider.url("/hook?key=1"),
        "LLM_COST_ALERT_WEBHOOK_SECRET": SECRET,
        "LLM_COST_ALERT_ALLOW_PRIVATE": True,
    } | more


def wait_for(scene: Scene, count: int) -> None:
    until = time.monotonic() + 20
    while len(scene.requests) < count and time.monotonic() < until:
        time.sleep(0.02)
    assert len(scene.requests) == count


def test_an_alert_is_posted_and_signed(make_app: MakeApp, provider: Provider) -> None:
    scene = provider.play(Answer(b"ok"))
    app = make_app(**settings(provider))
    spend(app, "0.6", tags={"note": "private"})
    wait_for(scene, 1)
    (seen,) = scene.requests
    headers = {key.lower(): value for key, value in seen.headers.items()}
    signed = headers["x-llm-cost-timestamp"].encode() + b"." + seen.body
    digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert headers["x-llm-cost-signature"] == f"sha256={digest}"
    assert (seen.method, seen.path) == ("POST", "/hook?key=1")
    document = json.loads(seen.body)
    assert document["text"].startswith(
        "The day budget 'daily' has reached 50 %: $0.6 of $1 spent."
    )
    assert document["event"] == "budget_threshold"
    assert document["limit_usd"] == "1"
    assert document["id"] == headers["idempotency-key"]
    assert "private" not in seen.body.decode()


def test_a_tag_value_cannot_mention_people_in_slack() -> None:
    alert = Alert(
        budget="R&D",
        period="total",
        limit_usd=Decimal(1),
        spent_usd=Decimal("0.50"),
        threshold=Decimal("0.5"),
        tags={"user": "<!channel>"},
    )
    document = alert.document()
    assert document["text"] == (
        "The total budget 'R&amp;D' of user '&lt;!channel&gt;' has reached 50 %:"
        " $0.5 of $1 spent."
    )
    assert (document["budget"], document["tags"]) == ("R&D", {"user": "<!channel>"})


def test_a_failed_delivery_is_retried(make_app: MakeApp, provider: Provider) -> None:
    scene = provider.play(Answer(b"no", status=503), Answer(b"ok"))
    app = make_app(**settings(provider, LLM_COST_ALERT_WEBHOOK_SECRET=None))
    spend(app, "0.6")
    wait_for(scene, 1)
    ledger = app.extensions["llm_cost"].ledger
    # As if the pause were over.
    until = time.monotonic() + 20
    while len(scene.requests) < 2 and time.monotonic() < until:
        with ledger._engines.writing().begin() as connection:
            connection.execute(
                sa.update(outbox)
                .where(outbox.c.attempts > 0)
                .values(due_at=dt.datetime.now(dt.UTC))
            )
        time.sleep(0.2)
        ledger.budgets.deliver()
    first, second = (json.loads(seen.body) for seen in scene.requests)
    assert first == second
    with ledger.reading() as connection:
        assert connection.execute(sa.select(outbox)).first() is None


def test_a_redirect_is_not_followed(provider: Provider) -> None:
    scene = provider.play(
        Answer(status=302, headers=(("Location", provider.url("/elsewhere")),))
    )
    with pytest.raises(DeliveryError, match="answered 302"):
        Webhook(provider.url("/hook"), private=True)("1", b"{}")
    assert len(scene.requests) == 1


def test_a_private_address_is_refused_unless_it_is_allowed(provider: Provider) -> None:
    scene = provider.play(Answer(b"ok"))
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(DeliveryError, match="ALERT_ALLOW_PRIVATE"):
            Webhook(f"http://{host}:{provider.server_port}/hook")("1", b"{}")
    assert scene.connections == 0


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "fe80::1%eth0",
        "fd00::1",
        "fec0::1",
        "::10.0.0.1",
        "::ffff:0:10.0.0.1",
        "64:ff9b:1::a00:1",
    ],
)
def test_private_addresses_are_recognized_in_any_form(address: str) -> None:
    assert not is_public(address)


def test_public_addresses_are_public() -> None:
    assert is_public("8.8.8.8")
    assert is_public("2606:4700::1111")


def test_errors_do_not_contain_the_url(provider: Provider) -> None:
    provider.play(Answer(status=500))
    with pytest.raises(DeliveryError) as info:
        Webhook(provider.url("/hook/secret-path"), private=True)("1", b"{}")
    assert "secret-path" not in str(info.value)
    with pytest.raises(DeliveryError) as info:
        Webhook(provider.url("/hook/a secret-path"), private=True)("1", b"{}")
    assert "secret-path" not in str(info.value)


@pytest.mark.parametrize("secure", [False, True])
def test_a_receiver_that_drips_is_given_up(
    monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    """Before, the time-out was that of each read: this one held the thread for 40 s."""
    monkeypatch.setattr(webhook, "TIMEOUT", 1.0)
    stopped = threading.Event()

    def drip() -> None:
        connection, _ = server.accept()
        with server, connection, contextlib.suppress(OSError):
            start = (
                b"\x16\x03\x03\x40\x00" if secure else b"HTTP/1.1 200 OK\r\nX-Header: "
            )
            for byte in start + b"x" * 1000:
                connection.sendall(bytes([byte]))
                if stopped.wait(0.05):
                    return

    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=drip)
    thread.start()
    url = f"http{'s' if secure else ''}://127.0.0.1:{server.getsockname()[1]}/secret"
    begun = time.monotonic()
    with pytest.raises(DeliveryError, match="no answer within 1 s") as error:
        Webhook(url, private=True)("1", b"{}")
    assert time.monotonic() - begun < 5
    assert "secret" not in str(error.value)
    stopped.set()
    thread.join()


def test_an_answer_whose_body_never_ends_counts(provider: Provider) -> None:
    provider.play(Answer(b"x" * 100, dies_after=10, hangs=True))
    begun = time.monotonic()
    Webhook(provider.url("/hook"), private=True)("1", b"{}")
    assert time.monotonic() - begun < 4
