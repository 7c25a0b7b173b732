from __future__ import annotations

import datetime as dt
import threading
import typing as t
from dataclasses import replace
from decimal import Decimal
from functools import partial

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.bound import Bound
from flask_llm_cost.calendar import END
from flask_llm_cost.calendar import FIRST
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.db.tables import calls
from flask_llm_cost.db.tables import PRICED_COLUMNS
from flask_llm_cost.db.tables import revisions as table
from flask_llm_cost.errors import StorageError
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger import reprice as reprice_module
from flask_llm_cost.ledger.reprice import Repriced
from flask_llm_cost.ledger.reprice import Scope
from flask_llm_cost.ledger.revisions import revise
from flask_llm_cost.ledger.revisions import Revision
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.layers import make_layer
from flask_llm_cost.prices.requote import requote
from tests.conftest import every_database
from tests.conftest import MakeLedger

from .samples import calls as any_calls
from .samples import make_call
from .samples import NOON

Pair: t.TypeAlias = tuple[int, int]

HOUR = dt.timedelta(hours=1)
NOW = NOON + 5 * HOUR
ALL = Scope(NOON - HOUR, NOON + HOUR, priced=True)
GAPS = Scope(NOON - HOUR, NOON + HOUR)


def cost(amount: str, *, complete: bool = True) -> Cost:
    usd = Decimal(amount)
    return Cost(
        usd, {"input": Part(Decimal(1000), Decimal(3), usd)}, "file", complete=complete
    )


def quote(call: Call) -> tuple[Cost | None, frozenset[str]]:
    if call.model == "nobody-knows":
        return None, frozenset(("unpriced",))
    return cost("0.003"), frozenset(("derived",))


def stored(ledger: Ledger) -> list[dict[str, t.Any]]:
    with ledger.reading() as connection:
        query = sa.select(calls).order_by(calls.c.started_at, calls.c.event_id)
        return [row._asdict() for row in connection.execute(query)]


def kept(ledger: Ledger) -> list[dict[str, t.Any]]:
    with ledger.reading() as connection:
        query = sa.select(table).order_by(table.c.event_id, table.c.number)
        return [row._asdict() for row in connection.execute(query)]


def keep(ledger: Ledger, *found: Call) -> None:
    for call in found:
        ledger.append(call)
    assert ledger.flush(60)


def unpriced(number: int = 0, **changes: t.Any) -> Call:
    changes.setdefault("flags", frozenset(("unpriced", "region.us")))
    return make_call(number, cost=None, **changes)


def reprice(ledger: Ledger, scope: Scope = GAPS, **options: t.Any) -> Repriced:
    return ledger.repricing.reprice(
        scope, quote, now=options.pop("now", NOW), **options
    )


@every_database
def test_an_unpriced_call_gets_a_cost_and_its_rollups_follow(ledger: Ledger) -> None:
    keep(ledger, unpriced(), make_call(1), unpriced(2, model="nobody-knows"))
    ledger.rollups.build()
    done = reprice(ledger)
    assert (done.seen, done.priced, done.changed) == (2, 1, 0)
    assert done.unpriced == {("openai", "nobody-knows"): 1}
    assert (done.before, done.after) == (0, 3 * 10**9)
    first, other, unknown = stored(ledger)
    assert (first["cost_total"], first["cost_input"]) == (3 * 10**9, 3 * 10**9)
    assert first["flags"] == "derived region.us"
    assert first["cost_source"] == "file"
    assert other["cost_source"] == "bundled"
    assert unknown["cost_total"] is None
    ledger.rollups.build()
    assert ledger.rollups.verify() == []


@every_database
def test_the_previous_cost_is_kept_and_restored(ledger: Ledger) -> None:
    keep(ledger, unpriced(), make_call(1))
    before = stored(ledger)
    done = reprice(ledger, ALL)
    assert (done.priced, done.changed) == (1, 1)
    after = stored(ledger)
    assert before != after
    old = kept(ledger)
    assert [{name: row[name] for name in PRICED_COLUMNS} for row in old] == [
        {name: row[name] for name in PRICED_COLUMNS} for row in before
    ]
    assert {row["run"] for row in old} == {done.run}
    back = ledger.repricing.undo("last", now=NOW + HOUR)
    assert back.seen == 2
    assert (back.before, back.after) == (done.after, done.before)
    assert stored(ledger) == before
    again = ledger.repricing.undo(back.run, now=NOW + 2 * HOUR)
    assert again.priced + again.changed == 2
    assert stored(ledger) == after
    assert [row["number"] for row in kept(ledger)] == [1, 2, 3, 1, 2, 3]
    ledger.rollups.build()
    assert ledger.rollups.verify() == []


def test_a_second_run_finds_nothing_to_change(ledger: Ledger) -> None:
    keep(ledger, unpriced(), make_call(1))
    reprice(ledger, ALL)
    first = kept(ledger)
    done = reprice(ledger, ALL, now=NOW + HOUR)
    assert (done.seen, done.priced, done.changed) == (2, 0, 0)
    assert kept(ledger) == first


def test_a_dry_run_returns_the_same_and_changes_nothing(ledger: Ledger) -> None:
    keep(ledger, unpriced(), make_call(1), unpriced(2, model="nobody-knows"))
    before = stored(ledger)
    foreseen = reprice(ledger, ALL, dry_run=True)
    assert stored(ledger) == before
    assert kept(ledger) == []
    done = reprice(ledger, ALL)
    assert replace(foreseen, run="") == replace(done, run="")
    undone = ledger.repricing.undo(done.run, now=NOW, dry_run=True)
    assert (undone.before, undone.after) == (done.after, done.before)
    assert len(kept(ledger)) == 2


def test_a_cost_that_the_provider_reported_stays(ledger: Ledger) -> None:
    usd = Decimal("0.5")
    said = Cost(usd, {"reported": Part(Decimal(1), usd, usd)}, "provider")
    keep(ledger, make_call(cost=said, reported_cost=usd))
    before = stored(ledger)
    assert reprice(ledger, ALL).seen == 0
    assert stored(ledger) == before


def test_a_priced_call_is_repriced_only_on_request(ledger: Ledger) -> None:
    keep(ledger, make_call(), make_call(1, cost=cost("0.001", complete=False)))
    done = reprice(ledger)
    assert (done.seen, done.changed) == (1, 1)


def test_a_complete_cost_is_not_replaced_by_an_incomplete_one(ledger: Ledger) -> None:
    keep(ledger, make_call(), make_call(1, model="nobody-knows"))
    before = stored(ledger)

    def floor(call: Call) -> tuple[Cost | None, frozenset[str]]:
        known, flags = quote(call)
        return known and replace(known, complete=False), flags

    done = ledger.repricing.reprice(ALL, floor, now=NOW)
    assert sum(done.unchanged.values()) == 2
    assert stored(ledger) == before


def book(**rates: str) -> PriceBook:
    return PriceBook([make_layer("override", {"m": rates}, "here")])


BOOK, CHEAPER = book(input="1", output="2"), book(input="1", output="1")


def cut(number: int = 0, **changes: t.Any) -> Call:
    """A stream of at most 1,000 + 500 tokens that was stopped."""
    changes.setdefault("usage", Usage(input_tokens=800, output_tokens=1))
    call = make_call(
        number,
        provider="openai",
        model="m",
        cost=None,
        usage_source="stream_partial",
        outcome="interrupted",
        bound=Bound(input_tokens=1000, output_tokens=500),
        estimate=Usage(input_tokens=800, output_tokens=100),
        flags=frozenset(("cut",)),
        **changes,
    )
    found, noted = requote(BOOK, call)
    return replace(call, cost=found, flags=call.flags | noted)


@every_database
@pytest.mark.parametrize(
    ("usage", "total", "ceilings"),
    [
        (Usage(input_tokens=800, output_tokens=1), (802, 801), (1800, 1300)),
        (None, (0, 0), (2000, 1500)),
    ],
)
def test_a_new_price_moves_the_ceiling_and_the_estimate_of_a_cut_call(
    ledger: Ledger, usage: Usage | None, total: Pair, ceilings: Pair
) -> None:
    keep(ledger, cut(usage=usage), make_call(1))
    ledger.rollups.build()
    before = stored(ledger)
    assert (before[0]["cost_total"], before[0]["cost_ceiling"]) == (
        total[0] * 10**6,
        ceilings[0] * 10**6,
    )
    same = ledger.repricing.reprice(GAPS, partial(requote, BOOK), now=NOW)
    assert (same.seen, same.changed) == (1, 0)
    done = ledger.repricing.reprice(GAPS, partial(requote, CHEAPER), now=NOW)
    assert done.changed == 1
    row = stored(ledger)[0]
    assert (row["cost_total"], row["cost_ceiling"]) == (
        total[1] * 10**6,
        ceilings[1] * 10**6,
    )
    assert '"estimate":"0.000900000000"' in row["details"]
    ledger.rollups.build()
    assert ledger.rollups.verify() == []
    ledger.repricing.undo("last", now=NOW)
    assert stored(ledger) == before
    ledger.rollups.build()
    assert ledger.rollups.verify() == []


def test_a_call_without_usage_or_limit_is_not_priced(ledger: Ledger) -> None:
    keep(ledger, unpriced(usage=None, outcome="interrupted"))
    assert reprice(ledger, ALL).seen == 0


def test_a_call_that_cannot_be_priced_does_not_stop_the_run(ledger: Ledger) -> None:
    keep(ledger, unpriced(), unpriced(1, model="odd"))

    def fussy(call: Call) -> tuple[Cost | None, frozenset[str]]:
        if call.model == "odd":
            raise ValueError("of several models")
        return quote(call)

    done = ledger.repricing.reprice(GAPS, fussy, now=NOW)
    assert done.priced == 1
    assert done.unchanged == {"of several models": 1}


@pytest.mark.parametrize(
    ("models", "seen"),
    [(("gpt-4o",), 2), (("azure/gpt-4o",), 1), (("gpt-4o", "vendor/gpt-4o"), 3)],
)
def test_a_run_can_be_limited_to_models(
    ledger: Ledger, models: tuple[str, ...], seen: int
) -> None:
    keep(
        ledger,
        unpriced(),
        unpriced(1, provider="azure"),
        unpriced(2, model="vendor/gpt-4o"),
    )
    assert reprice(ledger, replace(GAPS, models=models)).seen == seen


def test_a_run_goes_through_many_batches(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reprice_module, "BATCH", 3)
    keep(ledger, *(unpriced(n // 2) for n in range(10)))
    steps: list[int] = []
    done = reprice(ledger, progress=steps.append)
    assert (done.priced, steps) == (10, [3, 3, 3, 1])
    assert ledger.repricing.undo("last", now=NOW).seen == 10
    assert all(row["cost_total"] is None for row in stored(ledger))


def test_an_undo_leaves_what_another_run_changed_since(ledger: Ledger) -> None:
    keep(ledger, unpriced(), unpriced(1))
    first = reprice(ledger)
    some = replace(ALL, end=NOON + dt.timedelta(milliseconds=1))
    ledger.repricing.reprice(
        some, lambda call: (cost("0.004"), frozenset()), now=NOW + HOUR
    )
    done = ledger.repricing.undo(first.run, now=NOW + 2 * HOUR)
    assert done.unchanged == {"changed or pruned meanwhile": 1}
    assert [row["cost_total"] for row in stored(ledger)] == [4 * 10**9, None]


def test_an_unknown_run_is_an_error(ledger: Ledger) -> None:
    with pytest.raises(StorageError, match="nothing to undo"):
        ledger.repricing.undo("last", now=NOW)
    with pytest.raises(StorageError, match="No run 'x'"):
        ledger.repricing.undo("x", now=NOW)


@every_database
def test_revisions_are_deleted_with_their_calls(ledger: Ledger) -> None:
    keep(ledger, unpriced(), unpriced(1, started_at=NOON + 2 * HOUR))
    ledger.rollups.build()
    ledger.repricing.reprice(replace(GAPS, end=NOW), quote, now=NOW)
    ledger.prune(NOON + HOUR)
    assert [row["started_at"] for row in kept(ledger)] == [NOON + 2 * HOUR]
    ledger.rollups.build()
    assert ledger.rollups.verify() == []
    ledger.clear("all")
    assert kept(ledger) == []


@every_database
def test_a_change_describes_the_call_and_its_costs(ledger: Ledger) -> None:
    keep(ledger, unpriced(tags={"team": "red"}), make_call(1, tags={}))
    rows = stored(ledger)
    wanted = [
        Revision(
            (row["started_at"], row["event_id"]),
            {**{name: row[name] for name in PRICED_COLUMNS}, "cost_total": 7},
        )
        for row in rows
    ]
    gone = Revision((NOON + HOUR, rows[0]["event_id"]), wanted[0].columns)
    with ledger._engines.writing().begin() as connection:
        found = revise(connection, "run", NOW, [*wanted, gone])
    assert [
        (each.call.event_id, each.call.tags, each.before, each.after) for each in found
    ] == [
        (wanted[0].key[1], {"team": "red"}, None, 7),
        (wanted[1].key[1], {}, 2_500_000_001, 7),
    ]


@every_database
def test_repricing_writing_pruning_and_building_at_once_stay_consistent(
    database: str | None, make_ledger: MakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reprice_module, "BATCH", 20)
    writer, pricer, pruner = (make_ledger(database) for _ in range(3))
    keep(writer, *(unpriced(n, started_at=NOON + n * HOUR / 100) for n in range(300)))
    writer.rollups.build()
    failures: list[BaseException] = []

    def run(action: t.Callable[[], object]) -> threading.Thread:
        def guarded() -> None:
            try:
                action()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        return thread

    def write() -> None:
        for n in range(6):
            at = NOON + 3 * HOUR + n * HOUR / 10
            keep(writer, *(unpriced(started_at=at) for _ in range(10)))

    scope = Scope(NOON, NOW)
    threads = [
        run(write),
        run(lambda: pricer.repricing.reprice(scope, quote, now=NOW)),
        run(lambda: pruner.prune(NOON + HOUR, batch=15)),
        run(lambda: [writer.rollups.build() for _ in range(5)]),
    ]
    for thread in threads:
        thread.join()
    assert failures == []
    pricer.repricing.reprice(scope, quote, now=NOW)
    writer.rollups.build()
    assert writer.rollups.verify() == []
    rows = stored(writer)
    assert len(rows) == 260
    assert {row["cost_total"] for row in rows} == {3 * 10**9}
    assert len(kept(writer)) == 260


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(any_calls(), min_size=1, max_size=12), st.booleans())
def test_an_undone_run_leaves_calls_as_they_were(
    ledger: Ledger, made: list[Call], every: bool
) -> None:
    ledger.clear("all")
    keep(ledger, *made)
    before = stored(ledger)
    scope = Scope(FIRST, END, priced=every)
    ledger.repricing.reprice(scope, quote, now=NOW)
    after = stored(ledger)
    reported = [row for row in before if row["cost_source"] == "provider"]
    assert all(row in after for row in reported)
    assert all(
        row["cost_total"] is not None
        for row in after
        if row["total_input_tokens"] is not None and row["model"] != "nobody-knows"
    )
    if after != before:
        ledger.repricing.undo("last", now=NOW)
        assert stored(ledger) == before
        ledger.repricing.undo("last", now=NOW)
        assert stored(ledger) == after
    ledger.rollups.build()
    assert ledger.rollups.verify() == []
