"""Fingerprints of API keys: one hash key for each ledger, whoever writes."""

from __future__ import annotations

import os
import stat
import threading
import typing as t
from pathlib import Path

import sqlalchemy as sa

from flask_llm_cost.config import Settings
from flask_llm_cost.db.rows import call_of
from flask_llm_cost.db.tables import calls
from flask_llm_cost.db.tables import meta
from flask_llm_cost.files.hash_key import hash_key
from flask_llm_cost.files.hash_key import NAME
from flask_llm_cost.files.monthly import JsonlLedger
from flask_llm_cost.jsonl import decode
from flask_llm_cost.jsonl import encode
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.scope import digest_of
from flask_llm_cost.scope import ids_of
from tests.ledger.samples import make_call

MakeLedger: t.TypeAlias = t.Callable[..., Ledger]


def _call(number: int, key: str = "sk-1") -> t.Any:
    return make_call(number, scope="project=p", key_digest=digest_of(key))


def _ledger(folder: Path, **settings: t.Any) -> Ledger:
    return Ledger(Settings(**settings), instance_path=str(folder))


def _scopes(ledger: Ledger) -> list[str | None]:
    with ledger.reading() as connection:
        rows = connection.execute(sa.select(calls).order_by(calls.c.started_at))
        return [call_of(row).scope for row in rows]


def test_a_digest_travels_to_the_writer() -> None:
    call = _call(0)
    assert decode(encode(call)) == call


def test_equal_keys_have_equal_fingerprints_in_every_process(tmp_path: Path) -> None:
    first, second = _ledger(tmp_path), _ledger(tmp_path)
    for ledger, number, key in (
        (first, 0, "sk-1"),
        (second, 1, "sk-1"),
        (first, 2, "sk-2"),
    ):
        ledger.append(_call(number, key))
        assert ledger.flush(60)
    one, same, other = _scopes(first)
    assert one == same != other
    assert one is not None
    assert ids_of(one).keys() == {"project", "key"}
    assert first.hash_key == second.hash_key is not None
    first.close()
    second.close()


def test_another_ledger_has_other_fingerprints(tmp_path: Path) -> None:
    found = set()
    for name in ("a", "b"):
        ledger = _ledger(tmp_path / name)
        ledger.append(_call(0))
        assert ledger.flush(60)
        found.update(_scopes(ledger))
        ledger.close()
    assert len(found) == 2


def test_the_hash_key_is_generated_once(tmp_path: Path) -> None:
    ledgers = [_ledger(tmp_path) for _ in range(4)]
    threads = [
        threading.Thread(
            target=lambda own=own, n=n: (own.append(_call(n)), own.flush())
        )
        for n, own in enumerate(ledgers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledgers[0].reading() as connection:
        query = sa.select(meta.c.value).where(meta.c.name == "scope_key")
        assert len(connection.scalars(query).all()) == 1
    assert len(set(_scopes(ledgers[0]))) == 1
    for ledger in ledgers:
        ledger.close()


def test_calls_that_waited_for_a_database_get_their_fingerprint(
    tmp_path: Path,
) -> None:
    # No tables yet: the lines wait in the spool, with a digest.
    uri = f"sqlite:///{tmp_path / 'host.db'}"
    ledger = _ledger(tmp_path, database_uri=uri)
    ledger.append(_call(0))
    assert not ledger.flush(0.2)
    assert ledger.hash_key is None
    lines = b"".join(p.read_bytes() for p in ledger.folder.rglob("*") if p.is_file())
    assert b"sk-1" not in lines
    assert digest_of("sk-1").encode() in lines
    ledger.schema.upgrade()
    assert ledger.flush(60)
    ledger.append(_call(1))
    assert ledger.flush(60)
    first, second = _scopes(ledger)
    assert first == second is not None
    assert digest_of("sk-1") not in first
    ledger.close()


def test_a_call_that_is_written_at_once_has_its_fingerprint(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path, write="sync")
    assert ledger.append(_call(0))
    (scope,) = _scopes(ledger)
    assert scope is not None
    assert scope.startswith("project=p key=")
    ledger.close()


def test_files_have_a_key_that_only_their_owner_can_read(tmp_path: Path) -> None:
    ledger = JsonlLedger(Settings(storage="jsonl"), instance_path=str(tmp_path))
    found = ledger.hash_key
    path = ledger.folder / NAME
    assert path.read_text() == found == hash_key(ledger.folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(ledger.folder) == [NAME]


def test_a_damaged_key_file_costs_no_call(tmp_path: Path) -> None:
    ledger = JsonlLedger(Settings(storage="jsonl"), instance_path=str(tmp_path))
    ledger.folder.mkdir()
    (ledger.folder / NAME).write_text("half")
    assert ledger.hash_key is None
    assert ledger.append(make_call(0, scope="project=p"))
    assert [call.scope for call in ledger.query()] == ["project=p"]
