"""AWS: the Cost and Usage Report 2.0 as CSV, for Amazon Bedrock.

There is no row per call: a line sums a usage type. Credits may bring the bill to 0, so that
amounts are gross, and credits are lines of their own.
"""

from __future__ import annotations

import datetime as dt
import functools
import operator
import re
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

from ...errors import BillError
from ...money import multiply
from ..document import Document
from ..line import Kind
from ..models import book_model
from ..skus import describe
from ..skus import is_llm
from ..skus import Sku
from ..skus import split_words
from ..skus import unit_factor
from ..skus import Whose
from ..statement import make_statement
from ..statement import Statement
from ..sums import add
from ..sums import Amounts
from ..sums import Key
from ..sums import MAX_LINES
from ..sums import Scope
from ..sums import scope_of
from ..sums import Sums
from ..tables import tags_of
from ..values import DAY
from ..values import parse
from ..values import Place
from ..values import text

NAME: t.Final = "aws"
TRIED: t.Final = False

_PRODUCT: t.Final = "line_item_product_code"
_TYPE: t.Final = "line_item_line_item_type"
_TEXT: t.Final = "line_item_line_item_description"
_MAP: t.Final = "product"
"""Where a Marketplace model has its name."""
_NEEDED: t.Final = (
    "line_item_usage_start_date",
    _TYPE,
    _PRODUCT,
    "line_item_usage_type",
    "pricing_unit",
    "line_item_currency_code",
)
_ROLE: t.Final = "line_item_iam_principal"
_OPTIONAL: t.Final = (
    "line_item_usage_end_date",
    "line_item_usage_account_id",
    _ROLE,
    "tags",
    "resource_tags",
    _TEXT,
    _MAP,
    "product_region_code",
)
_COST: t.Final = "line_item_unblended_cost"
_QUANTITY: t.Final = "line_item_usage_amount"
_LISTED: t.Final = "pricing_public_on_demand_cost"

_KINDS: t.Final[Mapping[str, Kind]] = {
    "Usage": "usage",
    "DiscountedUsage": "usage",
    "SavingsPlanCoveredUsage": "usage",
    "Credit": "credit",
    "Refund": "credit",
    "Tax": "tax",
    "Fee": "commitment",
    "RIFee": "commitment",
    "SavingsPlanUpfrontFee": "commitment",
    "SavingsPlanRecurringFee": "commitment",
    "SavingsPlanNegation": "commitment",
}
"""By the type of a line; discounts and what is not known are adjustments."""
_USED: t.Final = frozenset(name for name, kind in _KINDS.items() if kind == "usage")
_REFUND: t.Final = "Refund"


def recognizes(document: Document) -> bool:
    """Whether it is a CUR 2.0 in CSV."""
    names = {name.strip().lower() for name in document.columns}
    return _COST in names and "line_item_product_code" in names


def read(documents: Sequence[Document]) -> Statement:
    """Read one export: the files of its billing period.

    :raises BillError: If a file cannot be read.
    """
    sums = Sums(NAME, documents[0].name)
    for document in documents:
        part = Sums(NAME, document.name)
        _Table(document).read(part)
        sums.include(part)
    return make_statement(NAME, documents, sums.lines(), warnings=sums.warnings)


class _Table:
    """One file. Rows that are alike are summed by their text, before it is understood."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._names = [name.strip().lower() for name in document.columns]
        missing = {*_NEEDED, _COST, _QUANTITY}.difference(self._names)
        if missing:
            raise document.place.error(
                f"it has no column {', '.join(sorted(missing))}. Add it to the export."
            )
        present = [name for name in _OPTIONAL if name in self._names]
        self._columns = [*_NEEDED, *present]

    def read(self, sums: Sums) -> None:
        """Add the lines of the file."""
        for (day, *cells), (number, *amounts) in self._raw().items():
            place = Place(self._document.name, f"row {number}")
            row = dict(zip(self._columns, (day, *cells), strict=True))
            cost, quantity, listed = amounts
            place.amount(str(cost), _COST)
            key, factor = _key(place, row)
            if quantity is not None and factor is not None and key.kind == "usage":
                quantity = multiply(quantity, factor)
            else:
                quantity = None
            sums.add(key, Amounts(billed=cost, listed=listed, quantity=quantity))

    def _raw(self) -> Mapping[tuple[str, ...], t.Any]:
        """Sum rows: 200 MB take seconds, so that this loop does as little as possible."""
        position = self._names.index
        at_cost, at_quantity = position(_COST), position(_QUANTITY)
        at_listed = position(_LISTED) if _LISTED in self._names else None
        at_type = position(_TYPE)
        simple = self._simplify()
        found: dict[tuple[str, ...], t.Any] = {}
        for number, row in self._document.rows():
            cost, quantity = parse(row[at_cost]), parse(row[at_quantity] or "0")
            if cost is None or quantity is None:
                raise self._wrong(number, row)
            listed = None if at_listed is None else parse(row[at_listed])
            if listed is None and at_listed is not None and row[at_listed]:
                raise self._wrong(number, row)
            if cost < 0 and not quantity and row[at_type] in _USED:
                row[at_type] = _REFUND
            key = simple(row)
            known = found.get(key)
            if known is None:
                found[key] = [number, cost, quantity, listed]
                self._refuse_many(len(found))
                continue
            known[1] = add(known[1], cost)
            known[2] = add(known[2], quantity)
            unlisted = None in (listed, known[3])
            known[3] = None if unlisted else add(known[3], t.cast(Decimal, listed))
        return found

    def _simplify(self) -> t.Callable[[list[str]], tuple[str, ...]]:
        """Return what makes the key of a row.

        Hours and sessions of a role are never compared, nor is what other services cost
        by tag: such rows become one.
        """
        names = self._names
        cells = operator.itemgetter(*map(names.index, self._columns))
        at_day, at_product = names.index(_NEEDED[0]), names.index(_PRODUCT)
        at_role = names.index(_ROLE) if _ROLE in names else None
        told = [names.index(each) for each in (_TEXT, _MAP) if each in names]
        kept = (_NEEDED[0], _PRODUCT, "line_item_currency_code")
        dropped = [names.index(each) for each in self._columns if each not in kept]

        def simple(row: list[str]) -> tuple[str, ...]:
            row[at_day] = row[at_day][:10]
            if at_role is not None:
                row[at_role] = _role(row[at_role])
            if not _is_llm(row[at_product], *[row[each] for each in told]):
                for each in dropped:
                    row[each] = ""
            return t.cast(tuple[str, ...], cells(row))

        return simple

    def _refuse_many(self, count: int) -> None:
        if count > 2 * MAX_LINES:
            raise self._document.place.error(
                f"it has more than {count - 1:,} different rows a day. Export it without"
                " tags, or one account at a time."
            )

    def _wrong(self, number: int, row: Sequence[str]) -> BillError:
        place = Place(self._document.name, f"row {number}")
        cells = dict(zip(self._names, row, strict=True))
        names = [_COST, *(name for name in (_QUANTITY, _LISTED) if cells.get(name))]
        name = next(each for each in names if parse(cells[each]) is None)
        return place.not_a_number(cells[name], name)


@functools.lru_cache(maxsize=4096)
def _is_llm(product: str, *told: str) -> bool:
    return any(is_llm(each, "") for each in (product, *told))


def _key(place: Place, row: Mapping[str, str]) -> tuple[Key, Decimal | None]:
    start = place.time(row["line_item_usage_start_date"], "line_item_usage_start_date")
    currency = place.currency(row["line_item_currency_code"], "line_item_currency_code")
    product, usage_type = row[_PRODUCT], row["line_item_usage_type"]
    told = row.get(_TEXT, ""), row.get(_MAP, "")
    span = (start, _end(place, row, start))
    if not _is_llm(product, *told):
        return Key(*span, "ignored", product or "other", currency), None
    line_type = row[_TYPE]
    sku = usage_sku(usage_type, row["pricing_unit"], " ".join(told))
    kind: Kind = _KINDS.get(line_type, "adjustment")
    whose = Whose("bedrock", _scope(row), text(row.get("product_region_code")))
    key = sku.key(span, kind, text(usage_type) or line_type, currency, whose)
    return key, _factor(usage_type, row["pricing_unit"])


def _end(place: Place, row: Mapping[str, str], start: dt.datetime) -> dt.datetime:
    """Return the end of the day, or of what takes longer, such as a monthly fee."""
    value = row.get("line_item_usage_end_date")
    if not value:
        return start + DAY
    end = place.time(value, "line_item_usage_end_date")
    midnight = dt.datetime.combine(end.date(), dt.time(tzinfo=dt.UTC))
    return max(start + DAY, midnight if end == midnight else midnight + DAY)


def _factor(usage_type: str, unit: str) -> Decimal | None:
    if unit.strip().lower() in ("units", "unit", ""):
        # A unit of a Marketplace model is a million tokens.
        return Decimal(10**6) if usage_type.endswith("-Units") else None
    return unit_factor(unit)


def _scope(row: Mapping[str, str]) -> Scope:
    return (
        *scope_of(
            account=text(row.get("line_item_usage_account_id")),
            principal=text(row.get(_ROLE)),
        ),
        *tags_of(row.get("tags")),
        *tags_of(row.get("resource_tags")),
    )


@functools.lru_cache(maxsize=1024)
def _role(principal: str) -> str:
    """Return a role without the session's name, which is another one on each host."""
    head, slash, rest = principal.partition(":assumed-role/")
    return f"{head}{slash}{rest.partition('/')[0]}"


# Usage types

_USAGE_TYPE: t.Final = re.compile(
    r"(?:[A-Z]{2,4}\d?-MP:)?(?:(?P<region>[A-Z]{2,4}\d|EU)[-_])?(?P<rest>.*)", re.DOTALL
)
_MODEL: t.Final = re.compile(
    r"(?P<model>[A-Za-z0-9.]+(?:-[A-Za-z0-9.]+)??)-(?:mantle-)?(?=(?:input|output|cache)\b)"
)
_EDITION: t.Final = re.compile(r"([\w .-]+?) \(Amazon Bedrock Edition\)")
_REGIONS: t.Final = {
    "USE1": "us-east-1",
    "USE2": "us-east-2",
    "USW1": "us-west-1",
    "USW2": "us-west-2",
    "CAN1": "ca-central-1",
    "EU": "eu-west-1",
    "EUW1": "eu-west-1",
    "EUW2": "eu-west-2",
    "EUW3": "eu-west-3",
    "EUC1": "eu-central-1",
    "EUN1": "eu-north-1",
    "APN1": "ap-northeast-1",
    "APN2": "ap-northeast-2",
    "APS1": "ap-southeast-1",
    "APS2": "ap-southeast-2",
    "APS3": "ap-south-1",
    "SAE1": "sa-east-1",
}


@functools.lru_cache(maxsize=4096)
def usage_sku(usage_type: str, unit: str = "", description: str = "") -> Sku:
    """Return what a usage type says. Most of the Marketplace name no model."""
    match = t.cast("re.Match[str]", _USAGE_TYPE.match(usage_type))
    rest = match["rest"]
    named = _MODEL.match(rest)
    words = split_words(rest if named is None else rest[named.end() :])
    sku = describe(words, tokens="token" in unit.lower())
    edition = _EDITION.search(description)
    model = named["model"] if named else None if edition is None else edition[1].strip()
    if sku.region is None and match["region"] is not None:
        sku = sku._replace(region=_REGIONS.get(match["region"], match["region"]))
    if model is None:
        return sku
    return sku._replace(model=book_model("bedrock", model) or model)
