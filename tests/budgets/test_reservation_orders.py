"""The reservation protocol, exhaustively: every step from every state of two calls."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_llm_cost.budgets import read_budgets
from flask_llm_cost.budgets.definition import Reservation
from flask_llm_cost.budgets.policy import Policy
from flask_llm_cost.budgets.storage import Budgets
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.config import Settings
from flask_llm_cost.db.budget_tables import budget_reservations
from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.ledger import Ledger
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON

PICO = Decimal("1e-12")
LIMITS = {"all": 3, "user": 2}
ESTIMATES = (2, 1)
COSTS = (1, 3)
"""In pico-USD: the second call costs more than was reserved for it."""

WINDOWS = (("all", "user"), ("all",))
"""The budgets that each call counts in."""

State: t.TypeAlias = tuple[str, str]
"""The state of each call: ``free``, ``reserved``, ``lost`` or ``stored``."""

STEPS = [
    *((step, n) for step in ("take", "store", "reset") for n in (0, 1)),
    ("lapse", None),
    ("reset lost", None),
]
Step: t.TypeAlias = tuple[str, int | None]


def counted(state: State, window: str) -> tuple[int, int, int]:
    """Return the counters of a window: spent, reserved and lost."""
    found = {"stored": 0, "reserved": 0, "lost": 0, "free": 0}
    for n, each in enumerate(state):
        if window in WINDOWS[n]:
            found[each] += COSTS[n] if each == "stored" else ESTIMATES[n]
    return found["stored"], found["reserved"], found["lost"]


def admits(state: State, n: int) -> bool:
    used = {name: sum(counted(state, name)) for name in WINDOWS[n]}
    return all(
        used[name] + ESTIMATES[n] <= LIMITS[name] and used[name] < LIMITS[name]
        for name in used
    )


def after(state: State, step: Step) -> State:
    """Return the state after a step, by the protocol."""
    what, n = step
    if what == "lapse":
        return t.cast(State, tuple("lost" if s == "reserved" else s for s in state))
    if what == "reset lost":
        return t.cast(State, tuple("free" if s == "lost" else s for s in state))
    assert n is not None
    new = state[n]
    if what == "store":
        new = "stored"
    elif what == "reset" and new != "stored":
        new = "free"
    elif what == "take" and new == "free" and admits(state, n):
        new = "reserved"
    return (new, state[1]) if n == 0 else (state[0], new)


def makes_sense(state: State, step: Step) -> bool:
    """A call is sent once: it does not reserve again."""
    what, n = step
    return what != "take" or n is None or state[n] == "free"


@dataclass
class Day:
    """Two calls of one day, in whose windows nothing else counts."""

    ledger: Ledger
    calls: tuple[Call, Call]

    def do(self, step: Step) -> bool | None:
        budgets = t.cast(Budgets, self.ledger.budgets)
        what, n = step
        if what == "lapse":
            budgets.reservations.expire(dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
        elif what == "reset lost":
            for name in LIMITS:
                budgets.release(name=name)
        elif n is not None and what == "store":
            assert not self.ledger._store.write([self.calls[n]]).rejected
        elif n is not None and what == "reset":
            event = self.calls[n].event_id
            budgets.release(event_id=event)
        elif n is not None:
            windows = budgets.counters.windows_of(self.calls[n])
            wanted = [Reservation(window, ESTIMATES[n]) for window in windows]
            assert {w.budget.name for w in windows} == set(WINDOWS[n])
            return budgets.reservations.reserve(self.calls[n].event_id, wanted) is None
        return None

    def look(self) -> tuple[dict[str, tuple[int, int, int]], set[tuple[int, str]]]:
        """Return the counters of its windows, and its reservations."""
        w, h = budget_windows.c, budget_reservations.c
        events = [call.event_id for call in self.calls]
        with self.ledger.reading() as connection:
            rows = connection.execute(
                sa.select(budget_windows).where(
                    w.starts_at <= self.calls[0].started_at,
                    w.ends_at > self.calls[0].started_at,
                )
            ).all()
            reservations = connection.execute(
                sa.select(h.event_id, h.state).where(h.event_id.in_(events))
            ).all()
        return (
            {row.name: (row.spent, row.reserved, row.lost) for row in rows},
            {(events.index(row.event_id), row.state) for row in reservations},
        )


@pytest.fixture
def ledger(tmp_path: Path) -> t.Iterator[Ledger]:
    entry = {"period": "day", "behavior": "block"}
    entries = [
        entry | {"name": "all", "limit_usd": LIMITS["all"] * PICO},
        entry
        | {"name": "user", "limit_usd": LIMITS["user"] * PICO, "tags": {"user": "*"}},
    ]
    ledger = Ledger(
        Settings(),
        instance_path=str(tmp_path),
        policy=Policy(read_budgets(Settings.read({"LLM_COST_BUDGETS": entries}))),
    )
    yield ledger
    ledger.close()


def make_day(ledger: Ledger, number: int) -> Day:
    at = NOON + dt.timedelta(days=number)

    def call(n: int) -> Call:
        usd = COSTS[n] * PICO
        return make_call(
            started_at=at,
            event_id=mint_event_id(at),
            cost=Cost(usd, {"input": Part(Decimal(1), usd, usd)}, "bundled"),
            tags={"user": "ann"} if n == 0 else {},
        )

    return Day(ledger, (call(0), call(1)))


def test_every_step_from_every_state_follows_the_protocol(ledger: Ledger) -> None:
    paths: dict[State, list[Step]] = {("free", "free"): []}
    to_do = deque(paths)
    number = 0
    while to_do:
        state = to_do.popleft()
        for step in STEPS:
            if not makes_sense(state, step):
                continue
            number += 1
            day = make_day(ledger, number)
            for earlier in paths[state]:
                day.do(earlier)
            taken = day.do(step)
            then = after(state, step)
            where = f"{state} {step}"
            if step[0] == "take":
                n = t.cast(int, step[1])
                assert taken == (then[n] == "reserved"), where
            counters, reservations = day.look()
            for name, found in counters.items():
                assert found == counted(then, name), where
            assert reservations == {
                (n, each) for n, each in enumerate(then) if each in ("reserved", "lost")
            }, where
            if then not in paths:
                paths[then] = [*paths[state], step]
                to_do.append(then)
    # Each of the two calls in each of its states.
    every = {"free", "reserved", "lost", "stored"}
    assert set(paths) == {(one, other) for one in every for other in every}
    budgets = t.cast(Budgets, ledger.budgets)
    with ledger.reading() as connection:
        assert budgets.verify(connection) == ([], 0)
