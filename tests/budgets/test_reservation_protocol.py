"""The reservation protocol against a model: free, reserved, settled, lost, replaced."""

from __future__ import annotations

import datetime as dt
import tempfile
from decimal import Decimal

import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle
from hypothesis.stateful import consumes
from hypothesis.stateful import initialize
from hypothesis.stateful import invariant
from hypothesis.stateful import rule
from hypothesis.stateful import RuleBasedStateMachine

from flask_llm_cost.budgets import read_budgets
from flask_llm_cost.budgets.definition import Reservation
from flask_llm_cost.budgets.policy import Policy
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.config import Settings
from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.ledger import Ledger
from tests.ledger.samples import make_call

PICO = Decimal("1e-12")
amounts = st.integers(0, 4)


class Protocol(RuleBasedStateMachine):
    """Calls of 0 to 4 pico-USD against two budgets, of 10 and of 7."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.spent: list[int] = []
        self.reserved: dict[str, int] = {}
        self.lost: dict[str, int] = {}
        self.slack = 0
        """By how much calls cost more than was reserved for them."""

    @initialize()
    def begin(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        entry = {"period": "total", "behavior": "block"}
        found = read_budgets(
            Settings.read(
                {
                    "LLM_COST_BUDGETS": [
                        entry | {"name": "ten", "limit_usd": 10 * PICO},
                        entry | {"name": "seven", "limit_usd": 7 * PICO},
                    ]
                }
            )
        )
        self.ledger = Ledger(
            Settings(),
            instance_path=self._folder.name,
            policy=Policy(found),
        )
        assert self.ledger.budgets is not None
        self.budgets = self.ledger.budgets

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self._folder.cleanup()

    @rule(target=calls, estimate=amounts)
    def take(self, estimate: int) -> Call:
        self.number += 1
        call = make_call(self.number)
        windows = self.budgets.counters.windows_of(call)
        refused = self.budgets.reservations.reserve(
            call.event_id, [Reservation(window, estimate) for window in windows]
        )
        room = 7 - self.used
        assert (refused is None) == (estimate <= room and room > 0)
        if refused is None:
            self.reserved[call.event_id] = estimate
        else:
            assert refused.budget in ("ten", "seven")
        return call

    @property
    def used(self) -> int:
        return sum(self.spent) + sum(self.reserved.values()) + sum(self.lost.values())

    @rule(call=consumes(calls), cost=amounts, twice=st.booleans())
    def settle(self, call: Call, cost: int, twice: bool) -> None:
        usd = cost * PICO
        made = Cost(usd, {"input": Part(Decimal(1), usd, usd)}, "bundled")
        row = make_call(started_at=call.started_at, event_id=call.event_id, cost=made)
        for _ in range(1 + twice):
            assert not self.ledger._store.write([row]).rejected
        estimate = self.reserved.pop(call.event_id, self.lost.pop(call.event_id, 0))
        self.slack += max(0, cost - estimate)
        self.spent.append(cost)

    @rule(call=consumes(calls))
    def die(self, call: Call) -> None:
        """The process died: the call will not arrive."""

    @rule()
    def lapse(self) -> None:
        self.budgets.reservations.expire(dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
        self.lost |= self.reserved
        self.reserved.clear()

    @rule()
    def free(self) -> None:
        assert self.budgets.release(name="ten") == len(self.lost)
        assert self.budgets.release(name="seven") == len(self.lost)
        self.lost.clear()

    @invariant()
    def counters_are_those_of_the_model(self) -> None:
        if not hasattr(self, "ledger"):
            return
        with self.ledger.reading() as connection:
            rows = connection.execute(sa.select(budget_windows)).all()
            drift = self.budgets.verify(connection)
        assert drift == ([], 0)
        for row in rows:
            assert row.spent == sum(self.spent)
            assert row.reserved == sum(self.reserved.values())
            assert row.lost == sum(self.lost.values())
            assert row.spent + row.reserved + row.lost <= row.allowed + self.slack


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
