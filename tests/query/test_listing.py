from __future__ import annotations

import base64
import datetime as dt
import typing as t
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.call import Call
from flask_llm_cost.call import REPORTED
from flask_llm_cost.call import Usage
from flask_llm_cost.errors import FilterError
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.query import listing
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.keyset import Position
from flask_llm_cost.query.keyset import SORTS
from flask_llm_cost.query.listing import call_page
from flask_llm_cost.query.listing import CallPage
from flask_llm_cost.query.listing import top_calls

from .samples import cost_of
from .samples import ledgers
from .samples import make_call
from .samples import NOON
from .samples import Store

EVERYTHING = CallFilter()
MONTH = CallFilter.days("2026-04-01", "2026-04-30", dt.UTC, NOON.date())


def page(store: Store, where: CallFilter = EVERYTHING, **options: t.Any) -> CallPage:
    with store.reading() as connection:
        return call_page(connection, where, **options)


def pages(store: Store, sort: str, where: CallFilter = EVERYTHING) -> list[CallPage]:
    found = [page(store, where, sort=sort, per=25)]
    while found[-1].next is not None:
        found.append(page(store, where, sort=sort, per=25, after=found[-1].next))
    return found


def expected_order(found: list[Call], sort: str) -> list[str]:
    """The ids in the order that a sort promises, unknown values last."""

    def value(call: Call) -> t.Any:
        usage = call.usage
        return {
            "expensive": call.cost and int(call.cost.total_usd.scaleb(12)),
            "input": usage and usage.total_input_tokens,
            "output": usage and usage.total_output_tokens,
            "slow": call.latency_ms,
        }.get(sort, 0)

    def silent(call: Call) -> bool:
        return call.usage is None and call.outcome in ("http_error", "no_response")

    if sort == "unknown_pricing":
        found = [c for c in found if c.cost is None and not silent(c)]
    if sort == "incomplete":
        found = [
            c
            for c in found
            if c.cost and not c.cost.complete
            if c.usage_source != "estimated" or c.cost.source in REPORTED
        ]
    ids = sorted(found, key=lambda c: (c.started_at, c.event_id), reverse=True)
    known = [c for c in ids if value(c) is not None]
    unknown = [c for c in ids if value(c) is None]
    return [c.event_id for c in sorted(known, key=lambda c: -value(c)) + unknown]


@pytest.mark.parametrize("sort", SORTS)
@given(found=ledgers)
@settings(max_examples=15, deadline=None)
def test_an_order_is_what_it_says(store: Store, sort: str, found: list[Call]) -> None:
    store.fill(*found)
    rows = page(store, sort=sort).rows
    assert [row.event_id for row in rows] == expected_order(found, sort)


@pytest.mark.parametrize("sort", SORTS)
@given(found=st.lists(ledgers, min_size=5, max_size=12).map(lambda x: sum(x, [])))
@settings(max_examples=4, deadline=None)
def test_paging_visits_every_row_once_there_and_back(
    store: Store, sort: str, found: list[Call]
) -> None:
    store.fill(*found)
    forth = pages(store, sort)
    ids = [row.event_id for one in forth for row in one.rows]
    assert ids == expected_order(found, sort)
    back = forth[-1]
    for one in reversed(forth):
        assert back == one
        if back.previous is not None:
            back = page(store, sort=sort, per=25, before=back.previous)
    assert back.previous is None


def many(count: int) -> list[Call]:
    """Calls of a few values each, some unknown, often at the same moment."""
    return [
        make_call(
            NOON - dt.timedelta(milliseconds=n // 3),
            cost=None if n % 5 == 0 else cost_of(str(n % 4)),
            usage=None if n % 7 == 0 else Usage(input_tokens=n % 3, output_tokens=n),
            latency_ms=None if n % 2 else n % 11,
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("sort", SORTS)
def test_every_page_but_the_last_is_full(store: Store, sort: str) -> None:
    found = many(130)
    store.fill(*found)
    forth = pages(store, sort)
    ids = [row.event_id for one in forth for row in one.rows]
    assert ids == expected_order(found, sort)
    assert {len(one.rows) for one in forth[:-1]} <= {25}
    spans = [(one.first, one.last, one.total) for one in forth]
    total = len(ids)
    wanted = [
        (first + 1, min(first + 25, total), total) for first in range(0, total, 25)
    ]
    assert spans == (wanted or [(0, 0, 0)])


@pytest.mark.parametrize("sort", SORTS)
def test_pages_of_a_range_stay_within_it(store: Store, sort: str) -> None:
    found = many(130)
    store.fill(*found)
    times = sorted(call.started_at for call in found)
    where = CallFilter(start=times[20], end=times[100])
    within = [c for c in found if times[20] <= c.started_at < times[100]]
    forth = pages(store, sort, where)
    ids = [row.event_id for one in forth for row in one.rows]
    assert ids == expected_order(within, sort)
    back = forth[-1]
    for one in reversed(forth[1:]):
        assert back == one
        back = page(store, where, sort=sort, per=25, before=back.previous)
    assert back == forth[0]


def test_going_back_to_the_first_page_shows_a_full_one(sqlite: Store) -> None:
    sqlite.fill(*many(60))
    first = page(sqlite, per=25)
    # The reader is on a page that begins with the sixth row; five come before it.
    sixth = first.rows[5]
    cursor = Position("recent", sixth.event_id).cursor()
    assert page(sqlite, per=25, before=cursor) == first


def test_an_empty_list_has_no_way_on(store: Store) -> None:
    store.fill()
    found = page(store)
    assert (found.rows, found.first, found.last, found.total) == ((), 0, 0, 0)
    assert found.next is None
    assert found.previous is None


def test_new_calls_do_not_shift_the_next_page(sqlite: Store) -> None:
    found = many(50)
    sqlite.fill(*found)
    first = page(sqlite, per=25)
    sqlite.fill(make_call(NOON + dt.timedelta(days=1)), *found)
    second = page(sqlite, per=25, after=first.next)
    assert {row.event_id for row in (*first.rows, *second.rows)} == {
        call.event_id for call in found
    }


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


ID = make_call().event_id
BAD_CURSORS = [
    "",
    "x",
    "=",
    "\0",
    "\ud800",
    "é",
    "A" * 100_000,
    encoded("recent  "),
    encoded("recent  not-an-id"),
    encoded("recent  00000000-0000-4000-8000-000000000000"),
    encoded("recent  ffffffff-ffff-7fff-bfff-ffffffffffff"),
    encoded(f"recent 5 {ID}"),
    encoded(f"recent  {ID} "),
    encoded(f"recent  {ID.upper()}"),
    encoded(f"recent  {{{ID}}}"),
    encoded(f"recent  {ID}") + "=",
    encoded(f"expensive 5 {ID}"),
    encoded(f"expensive  {ID}"),
]


@pytest.mark.parametrize("name", ["after", "before"])
@pytest.mark.parametrize("cursor", BAD_CURSORS, ids=range(len(BAD_CURSORS)))
def test_a_cursor_that_is_none_of_ours_is_an_error(
    sqlite: Store, name: str, cursor: str
) -> None:
    with pytest.raises(FilterError, match=f"^{name}: it is not a cursor of this list"):
        page(sqlite, **{name: cursor})


@pytest.mark.parametrize("value", ["1.5", "x", "1e3", "0x1", "٣", "1_0", str(2**63)])
def test_a_tampered_value_is_an_error(sqlite: Store, value: str) -> None:
    cursor = encoded(f"expensive {value} {ID}")
    with pytest.raises(FilterError, match="^after: "):
        page(sqlite, sort="expensive", after=cursor)


@given(st.binary(max_size=80).map(lambda b: base64.urlsafe_b64encode(b).decode()))
@settings(deadline=None)
def test_no_cursor_breaks_a_page(sqlite: Store, cursor: str) -> None:
    with pytest.raises(FilterError, match="^after: "):
        page(sqlite, after=cursor)


def test_one_cursor_at_a_time(sqlite: Store) -> None:
    with pytest.raises(FilterError, match="^before: it cannot be combined with after"):
        page(sqlite, after="x", before="x")


@pytest.mark.parametrize("per", [0, -1, 1, 24, 51, 201, 10**9])
def test_a_page_has_one_of_four_sizes(sqlite: Store, per: int) -> None:
    with pytest.raises(FilterError, match=f"^per: {per} is not one of 25, 50"):
        page(sqlite, per=per)


def test_a_sort_must_exist(sqlite: Store) -> None:
    with pytest.raises(FilterError, match='^sort: "\'; DROP" is not one of recent'):
        page(sqlite, sort="'; DROP")


def test_a_row_holds_what_is_known(store: Store) -> None:
    usage = Usage(
        input_tokens=1,
        input_audio_tokens=2,
        input_image_tokens=4,
        cache_read_tokens=8,
        cache_write_tokens=16,
        cache_write_1h_tokens=32,
        output_tokens=64,
        output_audio_tokens=128,
        output_image_tokens=256,
        other_tokens={"input_video": 512, "output_video": 1024},
        reasoning_tokens=3,
    )
    call = make_call(
        usage=usage,
        tags={"feature": "chät"},
        flags=frozenset({"b", "a"}),
        stream=True,
        http_status=200,
        latency_ms=5,
    )
    store.fill(call)
    [row] = page(store).rows
    assert (row.event_id, row.started_at) == (call.event_id, NOON)
    assert (row.input_tokens, row.output_tokens, row.other_tokens) == (7, 448, 1536)
    assert row.cache_read_tokens == 8
    assert (row.cache_write_tokens, row.cache_write_1h_tokens) == (16, 32)
    assert row.total_tokens == usage.total_tokens == 2047
    assert row.cost_usd == call.cost.total_usd if call.cost else False
    assert row.tags == {"feature": "chät"}
    assert row.flags == ("a", "b")
    assert row.stream is True
    assert row.cost_complete is True


def test_a_row_of_nothing_known_says_so(store: Store) -> None:
    store.fill(make_call(usage=None, cost=None, response_id=None, latency_ms=None))
    [row] = page(store).rows
    assert row.input_tokens is None
    assert row.total_tokens is None
    assert row.cost_usd is None
    assert row.cost_complete is None
    assert row.latency_ms is None
    assert row.tags == {}
    assert row.flags == ()


def test_the_top_of_an_order(store: Store) -> None:
    store.fill(*many(20))
    with store.reading() as connection:
        top = top_calls(connection, EVERYTHING, sort="expensive", limit=3)
    assert [row.cost_usd for row in top] == [3, 3, 3]


def plan(store: Store, statement: sa.Select[t.Any]) -> str:
    text = statement.compile(store.engine, compile_kwargs={"literal_binds": True})
    with store.reading() as connection:
        rows = connection.execute(sa.text(f"EXPLAIN QUERY PLAN {text}"))
        return "\n".join(row.detail for row in rows)


@pytest.mark.parametrize("where", [EVERYTHING, MONTH], ids=["all", "month"])
@pytest.mark.parametrize("backwards", [False, True], ids=["after", "before"])
def test_a_page_of_the_latest_walks_the_primary_key(
    sqlite: Store, where: CallFilter, backwards: bool
) -> None:
    position = Position("recent", ID)
    found = plan(
        sqlite, listing.select(where, "recent", 51, position, backwards=backwards)
    )
    assert "SEARCH llm_cost_calls USING INDEX sqlite_autoindex" in found
    assert "TEMP B-TREE" not in found


def steps(store: Store, ask: Callable[[sa.Connection], object]) -> int:
    """How much SQLite does for a question, in hundreds of its instructions."""
    done = 0

    def count() -> int:
        nonlocal done
        done += 1
        return 0

    with store.reading() as connection:
        driver: t.Any = connection.connection.driver_connection
        driver.set_progress_handler(count, 100)
        try:
            ask(connection)
        finally:
            driver.set_progress_handler(None, 0)
    return done


def test_a_page_does_not_read_what_lies_before_it(sqlite: Store) -> None:
    found = [make_call(NOON - dt.timedelta(seconds=n)) for n in range(6000)]
    sqlite.fill(*found)
    where = CallFilter(start=NOON - dt.timedelta(days=1), end=NOON + dt.timedelta(1))

    def asked(n: int, backwards: bool) -> int:
        position = Position("recent", found[n].event_id)
        question = listing.select(where, "recent", 51, position, backwards=backwards)
        return steps(sqlite, lambda connection: connection.execute(question).all())

    assert asked(5900, False) <= asked(10, False) + 2
    assert asked(100, True) <= asked(5990, True) + 2


def test_a_cursor_at_the_end_of_time_is_an_empty_page(sqlite: Store) -> None:
    sqlite.fill(*many(3))
    last = mint_event_id(dt.datetime(9999, 12, 31, 23, 59, 59, 999_000, dt.UTC))
    cursor = Position("recent", last).cursor()
    assert len(page(sqlite, after=cursor).rows) == 3
    assert len(page(sqlite, before=cursor).rows) == 3


def test_the_first_page_sorts_nothing(sqlite: Store) -> None:
    found = plan(sqlite, listing.select(EVERYTHING, "recent", 51))
    assert "SCAN llm_cost_calls USING INDEX sqlite_autoindex" in found
    assert "TEMP B-TREE" not in found


@pytest.mark.parametrize("sort", SORTS)
def test_other_orders_read_only_the_range(sqlite: Store, sort: str) -> None:
    found = plan(sqlite, listing.select(MONTH, sort, 51))
    assert "SEARCH llm_cost_calls USING INDEX sqlite_autoindex" in found


def test_a_model_is_found_by_its_index(sqlite: Store) -> None:
    where = CallFilter(model="gpt-4o", start=MONTH.start, end=MONTH.end)
    found = plan(sqlite, listing.select(where, "recent", 51))
    assert "USING INDEX ix_llm_cost_calls_model" in found


def test_a_rare_tag_is_found_by_its_index(sqlite: Store) -> None:
    where = CallFilter(tags=(("feature", "chat"),))
    found = plan(sqlite, listing.select(where, "recent", 51))
    assert "ix_llm_cost_tag_values_key" in found
