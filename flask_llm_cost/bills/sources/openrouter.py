"""OpenRouter: the activity API by day, and the activity page's CSV by generation.

The bill is ``usage`` in dollars. ``byok_usage_inference`` is on the invoice of the provider
whose key was used.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from ..document import Document
from ..pages import next_page
from ..pages import refuse_cut
from ..pages import refuse_error
from ..statement import make_statement
from ..statement import Statement
from ..sums import Amounts
from ..sums import Key
from ..sums import scope_of
from ..sums import Sums
from ..values import DAY
from ..values import Place
from ..values import text

NAME: t.Final = "openrouter"
TRIED: t.Final = False

_GENERATION: t.Final = frozenset(("generation_id", "cost_total", "created_at"))
_MOMENT: t.Final = dt.timedelta(microseconds=1)


def recognizes(document: Document) -> bool:
    """Whether it is the activity API's answer, or the activity page's CSV."""
    if not document.is_json:
        return _GENERATION <= {name.strip().lower() for name in document.columns}
    value = document.json
    rows = value.get("data") if isinstance(value, dict) else value
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], dict):
        return False
    return "usage" in rows[0] and "byok_usage_inference" in rows[0]


def read(documents: Sequence[Document]) -> Statement:
    """Read activity, or generations.

    :raises BillError: If a file cannot be read, or both kinds are given.
    """
    by_generation = [not document.is_json for document in documents]
    if any(by_generation) and not all(by_generation):
        raise documents[0].place.error(
            "activity by day and by generation is the same bill twice. Name only one of"
            " them."
        )
    reader = _Generations if all(by_generation) else _Activity
    reading = reader(documents[0].name)
    for document in documents:
        reading.read(document)
    return make_statement(
        NAME,
        documents,
        reading.sums.lines(),
        usage=reading.usage.lines(),
        warnings=reading.warnings(),
    )


class _Reading:
    def __init__(self, file: str) -> None:
        self.sums = Sums(NAME, file)
        self.usage = Sums(NAME, file)
        self.own_keys = 0

    def read(self, document: Document) -> None:
        raise NotImplementedError

    def warnings(self) -> Sequence[str]:
        if not self.own_keys:
            return ()
        return (
            f"{self.own_keys} rows used your own key: their cost is on the invoice of the"
            " key's provider, and is not compared here.",
        )


class _Activity(_Reading):
    """One row per day, model, endpoint and key."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self._seen: dict[Key, str] = {}

    def read(self, document: Document) -> None:
        for place, row in _activity_rows(document):
            start = place.day(row.get("date"), "date")
            key = Key(
                start,
                start + DAY,
                "usage",
                text(row.get("model_permaslug")) or str(row.get("model")),
                "USD",
                scope_of(
                    api_key=text(row.get("api_key_hash")),
                    endpoint=text(row.get("endpoint_id")),
                    upstream=text(row.get("provider_name")),
                ),
                NAME,
                text(row.get("model")),
            )
            self.own_keys += bool(
                place.count(row.get("byok_requests"), "byok_requests")
            )
            if key in self._seen:
                raise place.error(
                    f"{start:%Y-%m-%d} of {key.name} is also in {self._seen[key]}. Name"
                    " each day once: the newest answer has all of it."
                )
            self._seen[key] = document.name
            self._add(place, row, key)

    def _add(self, place: Place, row: Mapping[str, t.Any], key: Key) -> None:
        self.sums.add(
            key,
            Amounts(
                billed=place.amount(row.get("usage"), "usage"),
                requests=place.count(row.get("requests"), "requests"),
            ),
        )
        # Reasoning is a part of the completion.
        for meter, name in (
            ("input", "prompt_tokens"),
            ("output", "completion_tokens"),
        ):
            quantity = place.quantity(row.get(name), name)
            if quantity:
                self.usage.add(key._replace(meter=meter), Amounts(quantity=quantity))


def _activity_rows(document: Document) -> Iterator[tuple[Place, Mapping[str, t.Any]]]:
    value, place = document.json, document.place
    if isinstance(value, dict):
        refuse_error(place, value)
        refuse_cut(place, value)
        if next_page(place, value) is not None or value.get("has_more"):
            raise place.error("there is another page. Save all rows in one answer.")
        place, value = place.at("data"), value.get("data")
    for number, row in enumerate(place.list(value)):
        at = place.at(number)
        yield at, at.mapping(row)


class _Generations(_Reading):
    """One row per generation, with its id: exact per call."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self._seen: set[str] = set()

    def read(self, document: Document) -> None:
        names = [name.strip().lower() for name in document.columns]
        missing = _GENERATION.difference(names)
        if missing:
            raise document.place.error(
                f"it has no column {', '.join(sorted(missing))}. Export the activity page"
                " as CSV again."
            )
        for number, cells in document.rows():
            place = Place(document.name, f"row {number}")
            row = dict(zip(names, cells, strict=True))
            generation = text(row["generation_id"])
            if generation is None or generation in self._seen:
                raise place.error(
                    f"generation_id is {generation or 'empty'}, which is"
                    f" {'given twice' if generation else 'not an id'}. Export the bill"
                    " again, and name each period once."
                )
            self._seen.add(generation)
            name = "byok_usage_inference"
            own = place.number(row.get(name) or "0", name)
            self.own_keys += bool(own)
            self.sums.add(*_generation(place, row, generation))


def _generation(
    place: Place, row: Mapping[str, str], generation: str
) -> tuple[Key, Amounts]:
    start = place.time(row["created_at"], "created_at")
    model = text(row.get("model_permaslug"))
    key = Key(
        start,
        start + _MOMENT,
        "usage",
        model or "unnamed model",
        "USD",
        scope_of(
            api_key_name=text(row.get("api_key_name")), app=text(row.get("app_name"))
        ),
        NAME,
        model,
        response_id=generation,
    )
    billed = place.amount(row["cost_total"], "cost_total")
    return key, Amounts(billed=billed, requests=1)
