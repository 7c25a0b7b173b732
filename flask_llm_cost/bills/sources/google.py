"""Google: rows of the Cloud Billing export to BigQuery, as JSON or CSV.

A row is a SKU of a project in an hour. Its cost is before credits, which are beside it.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

from ...money import multiply
from ...money import WIDE
from ..document import Document
from ..line import Kind
from ..models import book_model
from ..skus import aspect_of
from ..skus import describe
from ..skus import is_family
from ..skus import is_llm
from ..skus import Sku
from ..skus import split_words
from ..skus import unit_factor
from ..skus import Whose
from ..skus import with_model
from ..statement import make_statement
from ..statement import Statement
from ..sums import Amounts
from ..sums import is_refund
from ..sums import Key
from ..sums import Scope
from ..sums import scope_of
from ..sums import Sums
from ..tables import column_names
from ..tables import Row
from ..tables import rows_of
from ..values import DAY
from ..values import parse
from ..values import Place
from ..values import shown
from ..values import text

NAME: t.Final = "google"
TRIED: t.Final = False

_KINDS: t.Final[Mapping[str, Kind]] = {
    "regular": "usage",
    "tax": "tax",
    "adjustment": "adjustment",
    "rounding_error": "rounding",
}
_COUNTED: t.Final = frozenset(("count", "token", "tokens", "characters", "requests"))


def recognizes(document: Document) -> bool:
    """Whether these are rows of the export."""
    names = column_names(document)
    return {
        "usage_start_time",
        "cost",
        "currency",
    } <= names and "billedcost" not in names


def read(documents: Sequence[Document]) -> Statement:
    """Read the rows of all files.

    :raises BillError: If a row cannot be read.
    """
    sums = Sums(NAME, documents[0].name)
    exported: list[dt.datetime] = []
    accounts: set[str] = set()
    for document in documents:
        part = Sums(NAME, document.name)
        for place, row in rows_of(document):
            for key, amounts in _lines(place, row):
                part.add(key, amounts)
            if row.get("export_time"):
                exported.append(place.time(row["export_time"], "export_time"))
                exported[:] = [max(exported)]
            accounts.update(filter(None, [text(row.get("billing_account_id"))]))
        sums.include(part)
    return make_statement(
        NAME,
        documents,
        sums.lines(),
        account=", ".join(sorted(accounts)) or None,
        watermark=max(exported, default=None),
        warnings=sums.warnings,
    )


def _field(row: Row, name: str, below: str) -> t.Any:
    """Return a nested field: as an object, as text with JSON, or as separate columns."""
    value = row.get(name)
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, dict):
        return value.get(below)
    return row.get(f"{name}.{below}", row.get(f"{name}_{below}"))


@functools.lru_cache(maxsize=1024)
def _parsed(value: str) -> t.Any:
    try:
        return json.loads(value, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return None


def _lines(place: Place, row: Row) -> Iterator[tuple[Key, Amounts]]:
    start = place.time(row.get("usage_start_time"), "usage_start_time")
    start = dt.datetime.combine(start.date(), dt.time(tzinfo=dt.UTC))
    currency = place.currency(row.get("currency"), "currency")
    amount = place.amount(row.get("cost"), "cost")
    service = str(_field(row, "service", "description") or "")
    name = str(_field(row, "sku", "description") or "")
    if not (service and name) and amount and row.get("cost_type") in (None, "regular"):
        missing = "sku.description" if service else "service.description"
        raise place.error(
            f"it costs {shown(row['cost'])}, but has no {missing}, which says what for."
            " Export that column, too."
        )
    rate = row.get("currency_conversion_rate")
    at_rate = functools.partial(_usd, place, currency, rate)
    if not is_llm(service, name):
        key = Key(start, start + DAY, "ignored", text(service) or "other", currency)
        yield key, Amounts(billed=amount, usd=at_rate(amount))
    else:
        key, quantity = _described(place, row, start, name, currency)
        listed = row.get("cost_at_list")
        yield (
            key,
            Amounts(
                billed=amount,
                listed=place.amount(listed, "cost_at_list") if listed else None,
                usd=at_rate(amount),
                quantity=quantity,
            ),
        )
    for credit, credited in _credits(place, row):
        kind: Kind = "ignored" if key.kind == "ignored" else "credit"
        bare = key._replace(kind=kind, name=credit, meter=None, mode=None, tier=None)
        yield bare, Amounts(billed=credited, usd=at_rate(credited))


def _described(
    place: Place, row: Row, start: dt.datetime, name: str, currency: str
) -> tuple[Key, Decimal | None]:
    sku = sku_of(name)
    kind = _KINDS.get(str(row.get("cost_type") or "regular"), "adjustment")
    used = _field(row, "usage", "amount")
    if kind == "usage" and is_refund(parse(row.get("cost")), used):
        kind = "credit"
    quantity = None
    unit = str(_field(row, "usage", "unit") or "").lower()
    if sku.meter is not None and unit in _COUNTED and kind == "usage":
        factor = unit_factor(unit) or Decimal(1)
        quantity = multiply(place.number(used, "usage.amount"), factor)
    region = text(_field(row, "location", "region"))
    key = sku.key(
        (start, start + DAY),
        kind,
        text(name) or "unnamed SKU",
        currency,
        Whose("vertex", _scope(row), region),
    )
    return key, quantity if key.kind == "usage" else None


def _usd(place: Place, currency: str, rate: object, amount: Decimal) -> Decimal | None:
    """Convert to USD at the bill's own rate: units of the currency for one dollar."""
    if currency == "USD" or rate in (None, ""):
        return None
    number = place.number(rate, "currency_conversion_rate")
    if number <= 0:
        raise place.error(f"currency_conversion_rate is {shown(rate)}.")
    return WIDE.divide(amount, number)


def _credits(place: Place, row: Row) -> Iterator[tuple[str, Decimal]]:
    value = row.get("credits")
    if isinstance(value, str):
        value = _parsed(value) if value else None
        if value is None and row["credits"]:
            raise place.error("credits is not JSON. Export the rows as JSON.")
    at = place.at("credits")
    for number, each in enumerate(at.list(value or [])):
        credit = at.at(number).mapping(each)
        amount = at.at(number).amount(credit.get("amount"), "amount")
        yield text(credit.get("name") or credit.get("full_name")) or "credit", amount


def _scope(row: Row) -> Scope:
    labels = row.get("labels")
    found = _parsed(labels) if isinstance(labels, str) and labels else labels
    pairs = [
        (f"label:{each.get('key')}"[:100], str(each.get("value"))[:100])
        for each in (found if isinstance(found, list) else ())
        if isinstance(each, dict)
    ]
    return scope_of(project=text(_field(row, "project", "id"))) + tuple(sorted(pairs))


@functools.lru_cache(maxsize=4096)
def sku_of(name: str) -> Sku:
    """Return what a SKU's description says.

    Such as ``Gemini 3 Flash Text Input - Predictions``.
    """
    words = split_words(name)
    sku = describe(words, tokens=True)
    first = next((place for place, each in enumerate(words) if is_family(each)), None)
    if first is None or sku.kind != "usage":
        return sku
    model = [words[first]]
    for word in words[first + 1 :]:
        if aspect_of(word) is not None:
            break
        model.append(word)
    called = " ".join(model)
    return with_model(sku, book_model("vertex", called) or called)
