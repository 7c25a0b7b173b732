"""MySQL and MariaDB reject statements that are larger than ``max_allowed_packet``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pymysql
import pytest

from flask_llm_cost.call import Call
from flask_llm_cost.ledger import Ledger
from tests.cluster.servers import free_ports
from tests.conftest import MakeLedger

from .samples import make_call
from .test_ledger import stored
from .test_stopped import MariaDB


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A server of these tests' own: the limit is global."""
    (port,) = free_ports(1)
    with MariaDB(tmp_path_factory.mktemp("packets") / "server", port) as server:
        server.make()
        server.start()
        yield server


def limit(server: MariaDB, size: int) -> None:
    """Set the limit of connections that are made from now on."""
    connection = pymysql.connect(unix_socket=f"{server.folder}/socket", user="root")
    with connection.cursor() as cursor:
        cursor.execute(f"SET GLOBAL max_allowed_packet = {size}")
    connection.close()


@pytest.fixture
def ledger(mariadb: MariaDB, make_ledger: MakeLedger) -> Iterator[Ledger]:
    limit(mariadb, 16 * 1024 * 1024)
    ledger = make_ledger(mariadb.uri)
    ledger.schema.downgrade("base")
    ledger.schema.upgrade()
    ledger.close()
    yield ledger
    limit(mariadb, 16 * 1024 * 1024)


def wide(number: int, size: int) -> Call:
    """A call whose row has about so many bytes."""
    call = make_call(number, tags={"user": f"u{number}", "text": "x" * 1000})
    usage = call.usage
    assert usage is not None
    other = {f"input_{n:05}": 1 for n in range(size // 20)}
    return replace(call, usage=replace(usage, other_tokens=other))


@pytest.mark.parametrize("size", [16 * 1024, 1024 * 1024])
def test_a_batch_that_is_too_large_is_split(
    ledger: Ledger, mariadb: MariaDB, size: int
) -> None:
    limit(mariadb, size)
    calls = [wide(number, 2000) for number in range(400)]
    for call in calls:
        ledger.append(call)
    assert ledger.flush(60)
    assert stored(ledger) == calls
    assert (ledger.queue.count(), ledger.queue.rejected()) == (0, [])


def test_one_line_that_is_too_large_is_set_aside_with_the_reason(
    ledger: Ledger, mariadb: MariaDB
) -> None:
    limit(mariadb, 32 * 1024)
    calls = [
        wide(number, 200_000 if number in (7, 30) else 200) for number in range(60)
    ]
    for call in calls:
        ledger.append(call)
    assert not ledger.flush()  # some were rejected
    assert stored(ledger) == [c for n, c in enumerate(calls) if n not in (7, 30)]
    rejected = list(ledger.queue.spool.rejected)
    assert len(rejected) == 2
    assert all("max_allowed_packet" in each.reason for each in rejected)
    limit(mariadb, 16 * 1024 * 1024)
    ledger.close()
    assert ledger.queue.requeue() == 2
    assert ledger.flush(60)
    assert len(stored(ledger)) == 60
