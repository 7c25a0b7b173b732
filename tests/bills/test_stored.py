"""Bills are kept on every storage, and read again as they were."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost.bills import StoredBills
from flask_llm_cost.bills.statement import Statement
from flask_llm_cost.config import Settings
from flask_llm_cost.errors import StorageError
from flask_llm_cost.files.monthly import JsonlLedger
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.storage import Storage
from tests.bills.months import a_line
from tests.bills.months import DAY
from tests.bills.months import START
from tests.bills.months import statement
from tests.conftest import every_database


def bill(days: int, digest: str, **changes: t.Any) -> Statement:
    line = a_line(
        START.date(),
        "0.1234567890123456789",
        name='Modèle\u2028 | "x"\n',
        model="one",
        meter="input",
        quantity=Decimal("1.50"),
        scope={"project": "ours"},
        listed_text="1",
    )
    apart = dataclasses.replace(line, billed_text=None, requests=3)
    values: dict[str, t.Any] = {
        "usage": (apart,),
        "watermark": START + DAY,
        "not_comparable": {START.date(): "why"},
        "warnings": ("careful",),
    }
    return statement([line], days, digest=digest * 64, **(values | changes))


def keeps_bills(storage: Storage) -> None:
    stored = StoredBills(storage.bills)
    assert stored.all() == []
    first, whole, other = bill(20, "a"), bill(31, "b"), bill(9, "c", account="x")
    for each in (first, whole, other):
        key = stored.put(each)
        assert stored.read(key) == each
    assert stored.put(first) == f"openai-{'a' * 12}"
    found = {each.digest[0]: each for each in stored.all()}
    assert {name: each.replaced for name, each in found.items()} == {
        "a": True,  # the month was restated
        "b": False,
        "c": False,
    }
    assert found["b"].end == dt.date(2026, 1, 31)
    assert found["b"].results == ()
    assert stored.find("openai-bb") == [found["b"]]
    assert len(stored.find("openai")) == len(found)
    assert stored.forget(found["b"].key)
    assert not stored.forget(found["b"].key)
    assert stored.read(found["b"].key) is None
    assert len(stored.all()) == 2


@every_database
def test_a_database_keeps_bills(ledger: Ledger) -> None:
    keeps_bills(ledger)
    assert ledger.schema.check() == []


def test_files_keep_bills(tmp_path: Path) -> None:
    ledger = JsonlLedger(Settings(), instance_path=str(tmp_path))
    keeps_bills(ledger)
    kept = list((tmp_path / "llm_cost_calls" / "bills").iterdir())
    assert kept
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)
    assert ledger.files() == []
    ledger.close()


def test_a_damaged_file_is_named_and_can_be_deleted(tmp_path: Path) -> None:
    ledger = JsonlLedger(Settings(), instance_path=str(tmp_path))
    stored = StoredBills(ledger.bills)
    key = stored.put(bill(3, "d"))
    calls = tmp_path / "llm_cost_calls" / "2026-01.jsonl"
    path = calls.parent / "bills" / f"{key}.jsonl"
    for damage in (b"{", b"{}", b"[1]", b"\xff"):
        path.write_bytes(damage)
        with pytest.raises(StorageError, match=key):
            stored.all()
    path.write_text("{}")
    calls.touch()
    assert not stored.forget("../2026-01")
    assert stored.forget(key)
    assert stored.all() == []
    assert calls.exists()
    ledger.close()
