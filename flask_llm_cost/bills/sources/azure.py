"""Azure: the cost details export as CSV, and answers of the Cost Management query API.

A row is a meter on a day, without an id. Its cost is in the billing currency and, in newer
exports, in USD: Azure converts a whole month at one rate.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

from ...money import multiply
from ..day_order import iso_day
from ..day_order import orders_of
from ..document import Document
from ..line import Kind
from ..models import book_model
from ..pages import refuse_error
from ..skus import aspect_of
from ..skus import describe
from ..skus import is_llm
from ..skus import Sku
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
from ..tables import Row
from ..tables import rows_of
from ..tables import tags_of
from ..values import DAY
from ..values import Place
from ..values import text

NAME: t.Final = "azure"
TRIED: t.Final = False

_COSTS: t.Final = ("costinbillingcurrency", "cost", "pretaxcost", "totalcost")
_USD: t.Final = ("costinusd", "costusd", "totalcostusd", "pretaxcostusd")
_LISTED: t.Final = ("paygcostinbillingcurrency",)
_DAYS: t.Final = ("date", "usagedate", "usagedatetime")
_METERS: t.Final = ("metername", "meter")
_CURRENCIES: t.Final = ("billingcurrency", "billingcurrencycode", "currency")

_KINDS: t.Final[Mapping[str, Kind]] = {
    "": "usage",
    "usage": "usage",
    "purchase": "commitment",
    "unusedreservation": "commitment",
    "unusedsavingsplan": "commitment",
    "refund": "credit",
    "credit": "credit",
    "tax": "tax",
    "roundingadjustment": "rounding",
}
"""By the type of a charge; what is not known is an adjustment."""


def recognizes(document: Document) -> bool:
    """Whether it is an export of cost details, or an answer of the query API."""
    if document.is_json:
        value = document.json
        inner = value.get("properties") if isinstance(value, dict) else None
        return isinstance(inner, dict) and {"columns", "rows"} <= {*inner}
    names = {name.strip().lower() for name in document.columns}
    return (
        "metercategory" in names
        and not names.isdisjoint(_COSTS)
        and not names.isdisjoint(_DAYS)
    )


def read(documents: Sequence[Document]) -> Statement:
    """Read the files of one export, or the pages of one query.

    :raises BillError: If a file cannot be read, or a page is missing.
    """
    sums = Sums(NAME, documents[0].name)
    _refuse_missing_pages([each for each in documents if each.is_json])
    warnings = [each for document in documents for each in _totals_only(document)]
    exports = [each for each in documents if not each.is_json]
    orders, unsure = orders_of(exports, _DAYS)
    for document in documents:
        part = Sums(NAME, document.name)
        rows = _answer(document) if document.is_json else rows_of(document)
        day_first = orders.get(document.name, False)
        for place, row in rows:
            part.add(*_line(place, row, day_first))
        sums.include(part)
    warnings += [*unsure, *sums.warnings]
    return make_statement(NAME, documents, sums.lines(), warnings=warnings)


def _totals_only(document: Document) -> Iterator[str]:
    """Say which columns of an export are missing without which quantities are not known."""
    names = {name.strip().lower() for name in document.columns}
    for known in (_METERS, ("quantity",), ("unitofmeasure",)):
        if names and names.isdisjoint(known):
            yield (
                f"{document.name}: it has no column {known[0]}, so only totals can be"
                " compared. Export all columns."
            )


def _refuse_missing_pages(documents: Sequence[Document]) -> None:
    links = [
        each.json["properties"].get("nextLink")
        for each in documents
        if isinstance(each.json, dict) and isinstance(each.json.get("properties"), dict)
    ]
    following = [link for link in links if link]
    if len({*following}) < len(following):
        raise documents[0].place.error(
            "two answers have the same nextLink. Request them again."
        )
    if following and len(following) == len(links):
        raise documents[-1].place.error(
            "nextLink names a page that is not among the files. Save every page."
        )


def _answer(document: Document) -> Iterator[tuple[Place, Row]]:
    value = document.place.mapping(document.json)
    refuse_error(document.place, value)
    place = document.place.at("properties")
    properties = place.mapping(value.get("properties"))
    columns = place.at("columns").list(properties.get("columns"))
    names = [str(place.mapping(each).get("name")).lower() for each in columns]
    for number, cells in enumerate(place.at("rows").list(properties.get("rows"))):
        at = place.at("rows").at(number)
        if len(at.list(cells)) != len(names):
            raise at.error(f"it has {len(cells)} cells for {len(names)} columns.")
        yield at, dict(zip(names, cells, strict=True))


def _first(row: Row, names: Sequence[str]) -> tuple[str, t.Any]:
    """Return the first of these columns that has a value, and its name."""
    for name in names:
        if row.get(name) not in (None, ""):
            return name, row[name]
    return names[0], None


def _line(place: Place, row: Row, day_first: bool) -> tuple[Key, Amounts]:
    amounts = _amounts(place, row)
    day_name, day = _first(row, _DAYS)
    start = _day(place, day, day_name, day_first)
    currency_name, currency = _first(row, _CURRENCIES)
    code = place.currency(currency, currency_name)
    meter = str(_first(row, _METERS)[1] or row.get("metercategory") or "")
    service = " ".join(
        str(row.get(each) or "")
        for each in ("metercategory", "metersubcategory", "productname", "product")
    )
    if not is_llm(service, meter):
        category = text(row.get("metercategory")) or "other"
        return Key(start, start + DAY, "ignored", category, code), amounts
    sku, quantity = _sku(place, row, meter)
    kind: Kind = _KINDS.get(str(row.get("chargetype") or "").lower(), "adjustment")
    if kind == "usage" and is_refund(amounts.billed, row.get("quantity")):
        kind = "credit"
    name = text(meter) or "unnamed meter"
    key = sku.key((start, start + DAY), kind, name, code, Whose("azure", _scope(row)))
    return key, amounts._replace(quantity=quantity if key.kind == "usage" else None)


def _amounts(place: Place, row: Row) -> Amounts:
    name, cost = _first(row, _COSTS)
    usd_name, usd = _first(row, _USD)
    listed_name, listed = _first(row, _LISTED)
    return Amounts(
        billed=place.amount(cost, name),
        usd=None if usd is None else place.amount(usd, usd_name),
        listed=None if listed is None else place.amount(listed, listed_name),
    )


def _sku(place: Place, row: Row, meter: str) -> tuple[Sku, Decimal | None]:
    unit = str(row.get("unitofmeasure") or "")
    sku = meter_sku(meter, unit)
    value, factor = row.get("quantity"), unit_factor(unit) if unit else None
    if value in (None, "") or factor is None or sku.meter is None:
        return sku, None
    return sku, multiply(place.number(value, "quantity"), factor)


_NUMBER_DAY: t.Final = re.compile(r"(\d{4})(\d{2})(\d{2})")


def _day(place: Place, value: object, key: str, day_first: bool) -> dt.datetime:
    """Read a day: ISO 8601, MM/DD/YYYY of exports, or yyyymmdd of the query API."""
    written = str(value or "")
    if match := _NUMBER_DAY.fullmatch(written):
        return place.day("-".join(match.groups()), key)
    return place.day(iso_day(place, written, key, day_first=day_first), key)


def _scope(row: Row) -> Scope:
    group = row.get("resourcegroup") or row.get("resourcegroupname")
    return (
        *scope_of(
            subscription=text(row.get("subscriptionid") or row.get("subscriptionguid")),
            resource_group=text(group),
            resource=_resource(
                str(row.get("resourceid") or row.get("instanceid") or "")
            ),
        ),
        *tags_of(row.get("tags")),
    )


def _resource(path: str) -> str | None:
    return text(path.rstrip("/").rpartition("/")[2].lower())


_SNAPSHOT: t.Final = re.compile(r"[01]\d[0-3]\d")
_IN_NAMES: t.Final = frozenset(("side", "cache", "mode", "region"))
"""What meters also write into a model's name: ``gpt-4o-mini-0718-Inp-glbl``. The other
words are models' own there: ``gpt-image-1``, ``text-embedding-3-small``."""


@functools.lru_cache(maxsize=4096)
def meter_sku(meter: str, unit: str = "") -> Sku:
    """Return what a meter's name says, such as ``gpt-4o 1120 Inp glbl Tokens``."""
    told: list[str] = []
    names: list[str] = []
    days: list[str] = []
    for word in re.split(r"[\s/_]+", meter):
        kept = []
        for part in word.split("-"):
            aspect = aspect_of(part.lower())
            if aspect is not None and (part == word or aspect in _IN_NAMES):
                told.append(part.lower())
            elif _SNAPSHOT.fullmatch(part):
                days.append(part)
            elif part:
                kept.append(part)
        names.extend(["-".join(kept)] if kept else [])
    sku = describe(told, tokens="token" in unit.lower())
    name = " ".join(names)
    if sku.kind != "usage" or not any(map(str.isdigit, name)):
        return sku  # "Claude Consumption Unit" is a total.
    # The meters of GPT-5 begin with its version.
    full = f"gpt-{name}" if name[0].isdigit() else name
    found = book_model("azure", full, day=days[0] if days else None)
    return with_model(sku, found or " ".join([*names, *days]))
