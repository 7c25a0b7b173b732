"""Write ``docs/accuracy.rst``: what the generator plants, and what is named.

Run ``python -m tests.bills.accuracy`` after a change of either.
"""

from __future__ import annotations

import itertools
import tempfile
import typing as t
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from flask_llm_cost.bills import CAUSES
from flask_llm_cost.bills.reconcile import reconcile
from tests.bills.generator import causes_of
from tests.bills.generator import QUANTITIES
from tests.bills.generator import Source
from tests.bills.generator import WITH_QUANTITIES
from tests.bills.generator import Year
from tests.bills.test_generated import bill
from tests.bills.test_generated import held
from tests.bills.test_generated import named
from tests.bills.test_planted import calls_of
from tests.bills.test_planted import ledger_of
from tests.bills.test_planted import real_bill

PAGE: t.Final = Path(__file__).parents[2] / "docs" / "accuracy.rst"
DAYS: t.Final = 120

_HEAD: t.Final = """\
Accuracy
========

The tests generate this page, and a test fails if their results differ from it.


Real bills
----------

Six days of a real OpenAI bill, compared to calls with the usage that OpenAI reports, at
the bundled prices:

.. list-table::
    :header-rows: 1

    * - Day (UTC)
      - Billed
      - Ledger
      - Verdict
"""

_PLANTED: t.Final = f"""

Planted causes
--------------

For each source, a ledger of {DAYS} days and the bill for it are generated, in the source's own
format. On every fourth day, one cause of each of two kinds is planted in known amounts. *Named*
is the part that ``reconcile`` finds, to within {{tolerance}} USD a day, since calls are
rounded. *Invented* is what it names although it was not planted.

.. list-table::
    :header-rows: 1

    * - Source
      - Planted
      - Named
      - Invented
      - Unexplained
"""

_CAUSES: t.Final = """

Causes by source
----------------

The planted sums, in USD. A dash means that the bills of a source cannot show the cause, or
that it is not planted there.

.. list-table::
    :header-rows: 1

"""
_TOLERANCE: t.Final = Decimal("2e-10")


def page() -> str:
    """Return the page."""
    lines = [
        _HEAD.rstrip(),
        *_real(),
        _PLANTED.format(tolerance="0.0000000002").rstrip(),
    ]
    sums: dict[str, dict[str, Decimal]] = {}
    for source in WITH_QUANTITIES:
        row, sums[source.name] = _planted(source)
        lines += row
    lines += [_CAUSES.rstrip(), "", *_row("Cause", *sums)]
    for cause in CAUSES:
        if any(cause in each for each in sums.values()):
            lines += _row(
                f"``{cause}``",
                *(
                    f"{each[cause]:.6f}" if cause in each else "—"
                    for each in sums.values()
                ),
            )
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> Iterator[str]:
    first, *rest = cells
    yield f"    * - {first}"
    yield from (f"      - {cell}" for cell in rest)


def _real() -> Iterator[str]:
    statement = real_bill()
    [report] = reconcile(statement, ledger_of(calls_of(statement)))
    for day in report.days:
        if day.verdict != "nothing":
            known = day.verdict != "not_comparable"
            ours = f"{day.ledger_usd.normalize():f}" if known else "—"
            yield from _row(str(day.day), f"{day.billed_usd:f}", ours, day.verdict)
    yield ""
    yield "The other days contradict the usage that OpenAI reports for them."


def _planted(source: Source) -> tuple[list[str], dict[str, Decimal]]:
    year = Year(source, DAYS)
    causes = causes_of(source)
    quantities = itertools.cycle(c for c in causes if c in QUANTITIES)
    rates = itertools.cycle(c for c in causes if c not in QUANTITIES)
    for day in range(0, DAYS - 5, 4):
        getattr(year, next(quantities))(day)
        getattr(year, next(rates))(day)
    with tempfile.TemporaryDirectory() as folder:
        [report] = reconcile(bill(year, Path(folder)), held(year))
    found = {key: usd for key, usd in named(report).items() if abs(usd) > _TOLERANCE}
    planted = {key: usd for key, usd in year.planted.items() if abs(usd) > _TOLERANCE}
    exact = [
        key
        for key in planted
        if abs(planted[key] - found.get(key, Decimal(0))) <= _TOLERANCE
    ]
    invented = found.keys() - planted.keys()
    unexplained = f"{report.unexplained_usd.normalize():f}"
    counts = (str(len(planted)), str(len(exact)), str(len(invented)))
    sums: dict[str, Decimal] = {}
    for (_, cause), usd in planted.items():
        sums[cause] = sums.get(cause, Decimal(0)) + usd
    return list(_row(source.name, *counts, f"{unexplained} USD")), sums


if __name__ == "__main__":
    PAGE.write_text(page())
