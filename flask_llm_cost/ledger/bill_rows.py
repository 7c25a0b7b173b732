"""Bills in a database."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from ..db.engine import Engines
from ..db.statements import chunks
from ..db.tables import bill_lines
from ..db.tables import bill_statements
from ..storage import BillStorage
from ..storage import StoredBillText

_b: t.Final = bill_statements.c
_l: t.Final = bill_lines.c


@dataclass(frozen=True, slots=True)
class BillRows(BillStorage):
    """Keeps bills in the tables of a ledger."""

    engines: Engines

    @contextmanager
    def _changing(self) -> Iterator[sa.Connection]:
        self.engines.prepare()
        with self.engines.explained(), self.engines.writing().begin() as connection:
            yield connection

    def put(self, key: str, header: str, lines: Iterable[str]) -> bool:
        if any(each.key == key for each in self.all()):
            return False
        rows = [
            {"statement": key, "number": number, "line": line}
            for number, line in enumerate(lines)
        ]
        with self._changing() as connection:
            # Lines of a bill that was being stored by a process that died are not there:
            # the transaction is one.
            now = dt.datetime.now(dt.UTC)
            values = {"id": key, "stored_at": now, "header": header}
            connection.execute(sa.insert(bill_statements).values(values))
            for some in chunks(rows):
                connection.execute(sa.insert(bill_lines), list(some))
        return True

    def all(self) -> list[StoredBillText]:
        query = sa.select(_b.id, _b.stored_at, _b.header, _b.result)
        with self.engines.snapshot(fresh=True) as connection:
            rows = connection.execute(query.order_by(_b.stored_at.desc(), _b.id))
            return [StoredBillText(*row) for row in rows]

    def lines(self, key: str) -> list[str]:
        query = sa.select(_l.line).where(_l.statement == key).order_by(_l.number)
        with self.engines.snapshot(fresh=True) as connection:
            return list(connection.scalars(query))

    def note(self, key: str, result: str) -> None:
        with self._changing() as connection:
            update = sa.update(bill_statements).where(_b.id == key)
            connection.execute(update.values(result=result))

    def forget(self, key: str) -> bool:
        with self._changing() as connection:
            connection.execute(sa.delete(bill_lines).where(_l.statement == key))
            deleted = connection.execute(sa.delete(bill_statements).where(_b.id == key))
            return deleted.rowcount > 0
