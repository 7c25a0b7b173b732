"""xAI: the management API's usage by day, in dollars."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from ..document import Document
from ..pages import first_value
from ..pages import refuse_cut
from ..pages import refuse_error
from ..rates import bundled
from ..statement import make_statement
from ..statement import Statement
from ..sums import Amounts
from ..sums import is_refund
from ..sums import Key
from ..sums import scope_of
from ..sums import Sums
from ..values import DAY
from ..values import Place
from ..values import shown
from ..values import text

NAME: t.Final = "xai"
TRIED: t.Final = False


def recognizes(document: Document) -> bool:
    """Whether it is an answer of ``/v1/billing/teams/TEAM/usage``."""
    return "timeSeries" in first_value(document)


def read(documents: Sequence[Document]) -> Statement:
    """Read usage by day.

    :raises BillError: If the source left rows out, or a day is given twice.
    """
    sums = Sums(NAME, documents[0].name)
    seen: dict[tuple[object, ...], Place] = {}
    for place, value in _answers(documents):
        for key, amounts, at in _points(place, value):
            same = (key.start, key.name, key.scope)
            if same in seen:
                raise at.error(
                    f"{key.start:%Y-%m-%d} of {shown(key.name)} is also in"
                    f" {seen[same].file}. Name each answer once."
                )
            seen[same] = at
            sums.add(key, amounts)
    return make_statement(NAME, documents, sums.lines())


def _answers(
    documents: Sequence[Document],
) -> Iterator[tuple[Place, Mapping[str, t.Any]]]:
    for document in documents:
        value = document.json
        for number, each in enumerate(value if isinstance(value, list) else [value]):
            many = isinstance(value, list)
            place = document.place.at(number) if many else document.place
            fields = place.mapping(each)
            refuse_error(place, fields)
            refuse_cut(place, fields)
            yield place.at("timeSeries"), fields


def _points(
    place: Place, fields: Mapping[str, t.Any]
) -> Iterator[tuple[Key, Amounts, Place]]:
    for number, value in enumerate(place.list(fields.get("timeSeries"))):
        at = place.at(number)
        series = at.mapping(value)
        group = [str(each) for each in at.list(series.get("group") or [])]
        labels = [str(each) for each in at.list(series.get("groupLabels") or group)]
        points = at.at("dataPoints")
        for index, point in enumerate(points.list(series.get("dataPoints"))):
            where = points.at(index)
            yield (*_point(where, where.mapping(point), group, labels), where)


def _point(
    place: Place,
    point: Mapping[str, t.Any],
    group: Sequence[str],
    labels: Sequence[str],
) -> tuple[Key, Amounts]:
    start = place.time(point.get("timestamp"), "timestamp")
    values = place.list(point.get("values"))
    if len(values) != 1:
        raise place.error(
            f"it has {len(values)} values; request only usd (one value per point)."
        )
    if (start.hour, start.minute) != (0, 0):
        raise place.error(
            f"timestamp is {shown(point['timestamp'])}, which is not midnight in UTC."
            " Request it with TIME_UNIT_DAY and the time zone Etc/GMT."
        )
    models = [each for each in group if bundled().find(NAME, each, start) is not None]
    others = [each for each in group if each not in models[:1]]
    amount = place.amount(values[0], "values")
    key = Key(
        start,
        start + DAY,
        "credit" if is_refund(amount, None) else "usage",
        text(", ".join(labels)) or "all usage",
        "USD",
        scope_of(group=text(", ".join(others))),
        NAME,
        models[0] if models else None,
    )
    return key, Amounts(billed=amount)
