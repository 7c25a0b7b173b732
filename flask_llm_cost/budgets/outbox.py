"""Transactional outbox for webhook alerts: inserted with the alert, deleted on a 2xx."""

from __future__ import annotations

import datetime as dt
import json
import logging
import random
import typing as t
import uuid
from collections.abc import Callable

import sqlalchemy as sa

from ..db.budget_tables import outbox
from ..db.engine import Engines
from .alert import Alert

_log = logging.getLogger("flask_llm_cost")

LEASE: t.Final = dt.timedelta(seconds=60)
"""How long one process may take to deliver an alert before another tries."""

_MAX_PAUSE: t.Final = dt.timedelta(hours=1)
_EXPIRY: t.Final = dt.timedelta(days=7)
"""Alerts that are not accepted within this time are dropped."""

_random: t.Final = random.SystemRandom()
"""Not the module's generator, which the app may have seeded."""

_o: t.Final = outbox.c

Send: t.TypeAlias = Callable[[str, bytes], None]
"""Posts one alert with its id; raises if it was not accepted."""


def enqueue(connection: sa.Connection, alert: Alert) -> None:
    """Queue an alert for the webhook, in the transaction that raises it."""
    now = dt.datetime.now(dt.UTC)
    number = uuid.uuid4().hex
    body = json.dumps({"id": number, **alert.document()}, ensure_ascii=False)
    connection.execute(
        sa.insert(outbox).values(
            id=number, created_at=now, due_at=now, attempts=0, body=body
        )
    )


class Outbox:
    """Delivers queued alerts, at least once."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    def deliver(self, send: Send) -> tuple[int, Exception | None]:
        """Deliver what is due; return the number delivered and the last error."""
        self._engines.prepare()
        delivered = 0
        failed: Exception | None = None
        with self._engines.explained():
            while (row := self._claim()) is not None:
                # Whatever the network does, the alert stays queued.
                try:
                    send(row.id, row.body.encode())
                except Exception as error:
                    failed = error
                    self._retry_later(row)
                else:
                    self._delete(row.id)
                    delivered += 1
        return delivered, failed

    def _claim(self) -> sa.Row[t.Any] | None:
        """Take the next alert that is due; other processes then skip it for a while."""
        now = dt.datetime.now(dt.UTC)
        engine = self._engines.reading()
        query = sa.select(outbox).where(_o.due_at <= now).order_by(_o.due_at).limit(10)
        with engine.connect() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            claim = (
                sa.update(outbox)
                .where(_o.id == row.id, _o.attempts == row.attempts, _o.due_at <= now)
                .values(attempts=row.attempts + 1, due_at=now + LEASE)
            )
            with engine.begin() as connection:
                if connection.execute(claim).rowcount == 1:
                    return row
        return None

    def _retry_later(self, row: sa.Row[t.Any]) -> None:
        now = dt.datetime.now(dt.UTC)
        if now - row.created_at > _EXPIRY:
            _log.error(
                "An alert was dropped, because the webhook did not accept it for %d"
                " days.",
                _EXPIRY.days,
            )
            self._delete(row.id)
            return
        attempt = row.attempts + 1
        pause = min(dt.timedelta(seconds=2.0 ** min(attempt, 20)), _MAX_PAUSE)
        due = now + pause * _random.uniform(0.5, 1.0)
        with self._engines.reading().begin() as connection:
            connection.execute(
                sa.update(outbox).where(_o.id == row.id).values(due_at=due)
            )

    def _delete(self, number: str) -> None:
        with self._engines.reading().begin() as connection:
            connection.execute(sa.delete(outbox).where(_o.id == number))
