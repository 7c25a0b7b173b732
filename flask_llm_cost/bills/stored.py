"""Stored bills: statements as JSON, and which of them is the latest."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from ..errors import StorageError
from ..money import digits
from ..storage import BillStorage
from ..storage import StoredBillText
from .line import Line
from .report import Report
from .statement import Statement

_KEY_DIGITS: t.Final = 12
_TIMES: t.Final = ("start", "end")
_encode: t.Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class StoredBill:
    """A bill that is kept, without its lines."""

    key: str
    stored_at: dt.datetime
    source: str
    account: str | None
    start: dt.date
    """The first UTC day."""
    end: dt.date
    """The last UTC day."""
    currency: str
    digest: str
    lines: int
    results: tuple[Mapping[str, t.Any], ...]
    """The reports of the last comparison, as JSON has them; none if there was none."""
    replaced: bool
    """Whether a later bill of the same source and account covers all of its days."""


class StoredBills:
    """Keeps the bills of one ledger.

    :param stored: The storage's own.
    """

    def __init__(self, stored: BillStorage) -> None:
        self._stored = stored

    def put(self, statement: Statement) -> str:
        """Store a statement, unless it is stored already; return its key."""
        key = key_of(statement)
        header = _encode(_header(statement))
        self._stored.put(key, header, map(_encode, _lines(statement)))
        return key

    def note(self, key: str, reports: Iterable[Report]) -> None:
        """Store the result of comparing a bill to the ledger."""
        self._stored.note(key, _encode([report.as_json() for report in reports]))

    def all(self) -> list[StoredBill]:
        """List the bills, latest first.

        :raises StorageError: If they cannot be read, or one is damaged.
        """
        found: list[StoredBill] = []
        for each in self._stored.all():
            try:
                bill = _kept(each)
            except (ValueError, KeyError, TypeError) as error:
                raise StorageError(
                    f"The bill {each.key} is damaged ({error!r}). Delete it with"
                    f" `flask llm-cost bills forget {each.key}`, and compare it again."
                ) from error
            replaced = any(_covers(later, bill) for later in found)
            found.append(dataclasses.replace(bill, replaced=replaced))
        return found

    def find(self, key: str) -> list[StoredBill]:
        """Return the bills whose keys begin like this, latest first."""
        return [each for each in self.all() if key and each.key.startswith(key)]

    def read(self, key: str) -> Statement | None:
        """Return a statement with its lines."""
        for each in self._stored.all():
            if each.key == key:
                return _statement(json.loads(each.header), self._stored.lines(key))
        return None

    def forget(self, key: str) -> bool:
        """Delete a bill; return whether there was one."""
        # In a folder, a key that is not one of a bill could be a path to other files.
        known = any(each.key == key for each in self._stored.all())
        return known and self._stored.forget(key)


def key_of(statement: Statement) -> str:
    """Return the key of a statement: the same files have the same."""
    return f"{statement.source}-{statement.digest[:_KEY_DIGITS]}"


def _covers(later: StoredBill, bill: StoredBill) -> bool:
    same = (later.source, later.account) == (bill.source, bill.account)
    return same and later.start <= bill.start and bill.end <= later.end


def _header(statement: Statement) -> dict[str, t.Any]:
    return {
        "source": statement.source,
        "account": statement.account,
        "start": statement.start.isoformat(),
        "end": statement.end.isoformat(),
        "currency": statement.currency,
        "digest": statement.digest,
        "lines": len(statement.lines),
        "covered": sorted(day.isoformat() for day in statement.covered),
        "watermark": statement.watermark and statement.watermark.isoformat(),
        "not_comparable": {
            day.isoformat(): why for day, why in statement.not_comparable.items()
        },
        "warnings": list(statement.warnings),
    }


def _lines(statement: Statement) -> Iterator[dict[str, t.Any]]:
    for is_usage, lines in ((False, statement.lines), (True, statement.usage)):
        for line in lines:
            yield {"usage": is_usage, **_fields(line)}


def _fields(line: Line) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {}
    for field in dataclasses.fields(line):
        value = getattr(line, field.name)
        if isinstance(value, Decimal):
            value = digits(value)
        elif isinstance(value, dt.datetime):
            value = value.isoformat()
        if value is not None and value != {}:
            found[field.name] = value
    return found


def _line(fields: dict[str, t.Any]) -> Line:
    for name in _TIMES:
        fields[name] = dt.datetime.fromisoformat(fields[name])
    if "quantity" in fields:
        fields["quantity"] = Decimal(fields["quantity"])
    return Line(**fields)


def _statement(header: Mapping[str, t.Any], texts: Iterable[str]) -> Statement:
    lines: dict[bool, list[Line]] = {False: [], True: []}
    for text in texts:
        fields = json.loads(text)
        lines[fields.pop("usage")].append(_line(fields))
    mark = header["watermark"]
    return Statement(
        source=header["source"],
        account=header["account"],
        start=dt.datetime.fromisoformat(header["start"]),
        end=dt.datetime.fromisoformat(header["end"]),
        currency=header["currency"],
        lines=tuple(lines[False]),
        digest=header["digest"],
        usage=tuple(lines[True]),
        covered=frozenset(map(dt.date.fromisoformat, header["covered"])),
        watermark=None if mark is None else dt.datetime.fromisoformat(mark),
        not_comparable={
            dt.date.fromisoformat(day): why
            for day, why in header["not_comparable"].items()
        },
        warnings=tuple(header["warnings"]),
    )


def _kept(bill: StoredBillText) -> StoredBill:
    header = json.loads(bill.header)
    end = dt.datetime.fromisoformat(header["end"]) - dt.timedelta(microseconds=1)
    return StoredBill(
        key=bill.key,
        stored_at=bill.stored_at,
        source=header["source"],
        account=header["account"],
        start=dt.datetime.fromisoformat(header["start"]).date(),
        end=end.date(),
        currency=header["currency"],
        digest=header["digest"],
        lines=header["lines"],
        results=tuple(json.loads(bill.result)) if bill.result else (),
        replaced=False,
    )
