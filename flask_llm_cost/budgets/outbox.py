"""What the webhook is owed: taken down with the alert, struck out when it is accepted."""

from __future__ import annotations

import datetime as dt
import json
import logging
import random
import typing as t
import uuid
from collections.abc import Callable

import sqlalchemy as sa

from ..db.engine import Engines
from ..db.tables import outbox
from . import Alert

_log = logging.getLogger("flask_llm_cost")

LEASE: t.Final = dt.timedelta(seconds=60)
"""So long has one process to deliver it before another tries."""

_LONGEST_PAUSE: t.Final = dt.timedelta(hours=1)
_KEPT: t.Final = dt.timedelta(days=7)
"""What was not accepted for so long is given up."""

_random: t.Final = random.SystemRandom()
"""Not the module's, which an app may have seeded to draw the same numbers again."""

_o: t.Final = outbox.c

Deliver: t.TypeAlias = Callable[[str, bytes], None]
"""Posts one alert, with its id; raises if it was not accepted."""


def post(connection: sa.Connection, alert: Alert) -> None:
    """Owe an alert to the webhook, in the transaction that raises it."""
    now = dt.datetime.now(dt.UTC)
    number = uuid.uuid4().hex
    body = json.dumps({"id": number, **alert.document()}, ensure_ascii=False)
    connection.execute(
        sa.insert(outbox).values(
            id=number, created_at=now, due_at=now, attempts=0, body=body
        )
    )


class Outbox:
    """Delivers what is due, at least once."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    def waiting(self) -> int:
        """How many alerts the webhook has not accepted yet."""
        with self._engines.connected(self._engines.reading()) as connection:
            return (
                connection.scalar(sa.select(sa.func.count()).select_from(outbox)) or 0
            )

    def deliver(self, send: Deliver) -> tuple[int, Exception | None]:
        """Deliver what is due; how many were, and what kept the last other from it."""
        self._engines.prepare()
        done = 0
        failed: Exception | None = None
        with self._engines.explained():
            while (owed := self._claim()) is not None:
                number, attempts, created_at, body = owed
                # Whatever a network does, the alert stays owed.
                try:
                    send(number, body.encode())
                except Exception as error:
                    failed = error
                    self._put_off(number, attempts, created_at)
                else:
                    self._strike(number)
                    done += 1
        return done, failed

    def _claim(self) -> tuple[str, int, dt.datetime, str] | None:
        """Take the next that is due; another process then leaves it alone for a while."""
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
                    return row.id, row.attempts + 1, row.created_at, row.body
        return None

    def _put_off(self, number: str, attempts: int, created_at: dt.datetime) -> None:
        now = dt.datetime.now(dt.UTC)
        if now - created_at > _KEPT:
            _log.error(
                "The webhook did not take an alert for %d days: it is given up.",
                _KEPT.days,
            )
            self._strike(number)
            return
        pause = min(dt.timedelta(seconds=2.0 ** min(attempts, 20)), _LONGEST_PAUSE)
        due = now + pause * _random.uniform(0.5, 1.0)
        with self._engines.reading().begin() as connection:
            connection.execute(
                sa.update(outbox).where(_o.id == number).values(due_at=due)
            )

    def _strike(self, number: str) -> None:
        with self._engines.reading().begin() as connection:
            connection.execute(sa.delete(outbox).where(_o.id == number))
