"""Exports that overlap, rows that are equal, and several accounts in one run."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost import BillError
from flask_llm_cost.bills import Document
from flask_llm_cost.bills import read
from tests.bills import generator
from tests.bills.generator import START
from tests.bills.generator import Used
from tests.bills.generator import Year
from tests.bills.samples import total

CLOUDS: t.Final = pytest.mark.parametrize(
    "source",
    [generator.AZURE, generator.AWS, generator.GOOGLE, generator.FOCUS],
    ids=lambda source: str(source.name),
)


def usage(source: generator.Source, days: int = 20) -> list[Used]:
    return Year(source, days).used


def file(
    source: generator.Source, used: list[Used], first: int, last: int, name: str = "a"
) -> Document:
    """An export of these days, from 0; the last one exclusive."""
    days = [(START + n * generator.DAY).date() for n in range(first, last)]
    some = [each for each in used if each.day in days]
    [(_, text), *_] = source.write(some, (), last)
    return Document.of_bytes(f"{name}.{first}", text.encode())


@CLOUDS
@pytest.mark.parametrize("second", [(0, 20), (5, 20), (10, 20), (13, 20), (3, 5)])
def test_days_that_two_exports_have_are_refused(
    source: generator.Source, second: tuple[int, int]
) -> None:
    used = usage(source)
    first = file(source, used, 0, 14)
    with pytest.raises(BillError, match=r"are also in .* \(2026-01-"):
        read([first, file(source, used, *second, name="b")])


@CLOUDS
def test_exports_that_follow_each_other_are_one_bill(source: generator.Source) -> None:
    used = usage(source)
    parts = [file(source, used, *each) for each in ((0, 13), (13, 20))]
    [statement] = read(parts)
    assert total(statement) == generator.total(used)
    assert not [each for each in statement.warnings if "twice" in each]


@CLOUDS
def test_a_day_at_the_border_of_two_exports_is_added_with_a_warning(
    source: generator.Source,
) -> None:
    used = usage(source)
    day = (START + 13 * generator.DAY).date()
    part = [
        dataclasses.replace(each, quantity=each.quantity // 3)
        if each.day == day
        else each
        for each in used
    ]
    first = file(source, part, 0, 14)
    [statement] = read([first, file(source, used, 13, 20)])
    assert any("2026-01-14 are added" in each for each in statement.warnings)


@CLOUDS
def test_equal_rows_of_one_export_are_all_billed(source: generator.Source) -> None:
    used = usage(source, 3)
    [(_, text), *_] = source.write(used, (), 3)
    if source is generator.GOOGLE and text.startswith("["):
        text = json.dumps(2 * json.loads(text))
    elif text.startswith("{"):
        text += text if text.endswith("\n") else f"\n{text}"
    else:
        text += text.partition("\n")[2]
    [statement] = read([Document.of_bytes("a", text.encode())])
    assert total(statement) == 2 * generator.total(used)


# Accounts


def costs(organization: str | None, usd: str, day: int = 1) -> Document:
    at = dt.datetime(2026, 9, day, tzinfo=dt.UTC)
    bucket = {
        "object": "bucket",
        "start_time": int(at.timestamp()),
        "end_time": int(at.timestamp()) + 86400,
        "organization_id": organization,
        "results": [
            {
                "object": "organization.costs.result",
                "amount": {"value": usd, "currency": "usd"},
                "line_item": "gpt-5-mini-2025-08-07, input",
                "project_id": "p",
            }
        ],
    }
    page = {"object": "page", "data": [bucket], "has_more": False}
    return Document.of_bytes(f"{organization}.{usd}", json.dumps(page).encode())


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (
            ("org-a", "org-b"),
            "several organizations: org-a, org-b. Read each separately",
        ),
        ((None, None), "2026-09-01 00:00 is also in"),
        (("org-a", "org-a"), "2026-09-01 00:00 is also in"),
    ],
)
def test_two_organizations_are_never_added(
    names: tuple[str | None, str | None], problem: str
) -> None:
    documents = [costs(name, f"1.{n}") for n, name in enumerate(names)]
    with pytest.raises(BillError, match=problem):
        read(documents)


def test_accounts_of_one_cloud_are_one_bill_with_scopes() -> None:
    used = usage(generator.AWS, 4)
    other = [dataclasses.replace(each, scope="theirs") for each in used]
    parts = file(generator.AWS, used, 0, 4), file(generator.AWS, other, 0, 4, "b")
    [statement] = read(parts)
    assert total(statement) == 2 * generator.total(used)
    assert {line.scope["account"] for line in statement.lines} == {"ours", "theirs"}
    assert statement.lines[0].billed_usd != Decimal(0)
