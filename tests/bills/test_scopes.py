"""A bill of an organization, compared by the groups that its calls belong to."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.bills.held import compare
from flask_llm_cost.bills.reconcile import reconcile
from flask_llm_cost.bills.scopes import group_of
from flask_llm_cost.bills.scopes import lacking
from flask_llm_cost.call import Call
from flask_llm_cost.ledger import Ledger
from tests.bills.months import bill_of
from tests.bills.months import ledger_of
from tests.bills.months import Row
from tests.bills.months import rows_of
from tests.bills.test_reconcile import amount
from tests.bills.test_reconcile import causes
from tests.bills.test_reconcile import DAYS
from tests.bills.test_reconcile import made
from tests.conftest import MakeLedger
from tests.ledger.test_ledger import spool

WEB: t.Final = "organization=org-1 project=proj_web key=aa"
JOBS: t.Final = "organization=org-1 key=bb"
GROUPS: t.Final = {"project=proj_web": "proj_web", "key=bb": "proj_jobs"}


def _month() -> tuple[list[Call], list[Row]]:
    """Calls of two apps in turn, and what is billed to the project of each."""
    calls, _ = made()
    ours = [
        dataclasses.replace(call, scope=JOBS if n % 4 < 2 else WEB)
        for n, call in enumerate(calls)
    ]
    rows = [
        dataclasses.replace(row, project=group_of(call.scope or "", GROUPS))
        for call in ours
        for row in rows_of(call)
    ]
    return ours, rows


@pytest.mark.parametrize(
    ("scope", "group"),
    [
        ("organization=o project=p key=k", "of the whole"),
        ("organization=o project=p key=x", "of the project"),
        ("organization=o key=x", "of the organization"),
        ("project=q", "of the rest"),
        ("", "of the rest"),
    ],
)
def test_the_most_specific_part_decides(scope: str, group: str) -> None:
    groups = {
        "organization=o": "of the organization",
        "project=p": "of the project",
        "organization=o project=p key=k": "of the whole",
        "*": "of the rest",
    }
    assert group_of(scope, groups) == group
    assert group_of("project=q", {"project=p": "g"}) is None


def test_each_group_of_a_bill_is_compared_apart() -> None:
    calls, rows = _month()
    reports = reconcile(bill_of(rows, DAYS), ledger_of(calls), scopes=GROUPS)
    assert [report.scope for report in reports] == ["proj_web", "proj_jobs"]
    for report in reports:
        assert report.verdict == "reconciled"
        billed = amount(row for row in rows if row.project == report.scope)
        assert report.billed_usd == report.ledger_usd == billed > 0


def test_what_one_group_lacks_is_not_made_up_by_another() -> None:
    calls, rows = _month()
    lost = next(call for call in calls if call.scope == JOBS)
    kept = [call for call in calls if call is not lost]
    web, jobs = reconcile(bill_of(rows, DAYS), ledger_of(kept), scopes=GROUPS)
    assert web.verdict == "reconciled"
    assert causes(jobs) == {"uncaptured": amount(rows_of(lost))}


def test_without_groups_what_is_missing_is_named_with_its_project() -> None:
    calls, rows = _month()
    rows = [dataclasses.replace(row, project="proj_web") for row in rows]
    notebooks = [
        dataclasses.replace(row, project="notebooks")
        for call in calls
        for row in rows_of(call)
        if call.scope == WEB
    ]
    calls = [dataclasses.replace(call, scope=WEB) for call in calls]
    lost = calls[0]
    bill = bill_of([*rows, *notebooks], DAYS)
    [report] = reconcile(bill, ledger_of(calls[1:]))
    by_scope = {
        scope: sum(r.amount_usd for r in report.residuals if r.scope == scope)
        for scope in ("notebooks", "proj_web")
    }
    assert set(causes(report)) == {"uncaptured"}
    assert abs(by_scope["notebooks"] - amount(notebooks)) < Decimal("1e-9")
    assert abs(by_scope["proj_web"] - amount(rows_of(lost))) < Decimal("1e-9")


def test_answers_stored_twice_count_only_in_their_group(
    make_ledger: MakeLedger,
) -> None:
    calls, rows = _month()
    again = dataclasses.replace(
        next(call for call in calls if call.scope == WEB), response_id="again"
    )
    twin = dataclasses.replace(again, event_id=again.event_id[:-1] + "0")
    others = [call for call in calls if call.event_id != again.event_id]
    ledger: Ledger = make_ledger()
    spool(ledger, [*others, again, twin])
    ledger.queue.drain()
    now = calls[-1].started_at + dt.timedelta(days=9)
    bill = bill_of(rows, DAYS)
    web, jobs = compare(ledger, bill, scopes=GROUPS, now=now)
    assert causes(web) == {"double_capture": -amount(rows_of(again))}
    assert jobs.verdict == "reconciled"


quantities = st.dictionaries(
    st.sampled_from("abc"), st.integers(0, 9).map(Decimal), max_size=3
)


@given(quantities, quantities, st.integers(1, 30).map(Decimal))
def test_the_parts_that_are_lacking_add_up(
    billed: dict[str, Decimal], held: dict[str, Decimal], left: Decimal
) -> None:
    found = lacking(billed, held, left)
    assert sum(found.values()) == left
    for name, quantity in found.items():
        assert name is None or 0 < quantity <= billed[name]
