"""OpenAI: pages of ``/v1/organization/costs`` and ``/v1/organization/usage/*``.

Costs are in dollars. A line item names model, meter and tier; usage has quantities.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

from ...prices.names import served_mode
from ..contradiction import contradictions
from ..document import Document
from ..join import join
from ..line import Kind
from ..line import Line
from ..openai_items import in_our_units
from ..openai_items import parse_item
from ..pages import Bucket
from ..pages import complete_sets
from ..pages import days_of
from ..pages import each_result
from ..pages import first_value
from ..pages import one_account
from ..pages import Page
from ..pages import parts_of_days
from ..pages import read_pages
from ..pages import Result
from ..statement import make_statement
from ..statement import Statement
from ..sums import Amounts
from ..sums import is_refund
from ..sums import Key
from ..sums import scope_of
from ..sums import Sums
from ..values import Place
from ..values import shown
from ..values import text

NAME: t.Final = "openai"
TRIED: t.Final = True

_COSTS: t.Final = "organization.costs.result"
_USAGE: t.Final = "organization.usage."


def recognizes(document: Document) -> bool:
    """Whether these are pages or buckets of OpenAI's API."""
    first = first_value(document)
    if first.get("object") == "bucket":
        return True
    data = first.get("data")
    return (
        first.get("object") == "page"
        and isinstance(data, list)
        and not any(isinstance(each, dict) and "starting_at" in each for each in data)
    )


def read(documents: Sequence[Document]) -> Statement:
    """Read costs, and any usage with them.

    :raises BillError: If a page is missing, given twice or cannot be read.
    """
    pages = [page for document in documents for page in read_pages(document, _span)]
    account = _account(pages)
    by_kind = complete_sets(pages, _kind, _COSTS, split=False)
    costs = by_kind.pop(_COSTS, [])
    if not costs:
        raise documents[0].place.error(
            "it has usage, but no costs. Name the pages of /v1/organization/costs, too."
        )
    lines = _lines(costs)
    reports = [page for each in by_kind.values() for page in each]
    usage = _usage(reports)
    joined, left = join(lines, usage)
    return make_statement(
        NAME,
        documents,
        joined,
        account=account,
        usage=left,
        covered=days_of(costs),
        not_comparable={
            **contradictions(lines, usage, days_of(reports)),
            **parts_of_days(costs),
        },
    )


def _span(place: Place, fields: Mapping[str, t.Any]) -> tuple[dt.datetime, dt.datetime]:
    return (
        place.unix_time(fields.get("start_time"), "start_time"),
        place.unix_time(fields.get("end_time"), "end_time"),
    )


def _account(pages: Sequence[Page]) -> str | None:
    names = [
        text(bucket.fields.get("organization_id"))
        for page in pages
        for bucket in page.buckets
    ]
    return one_account(pages[-1].place, names)


# Kinds of pages


def _kind(place: Place, result: Result) -> str:
    name = result.get("object")
    if name == _COSTS or (name is None and "amount" in result):
        return _COSTS
    if isinstance(name, str) and name.startswith(_USAGE):
        return name
    raise place.error(
        f"object is {shown(name)}, which is neither costs nor usage of OpenAI."
    )


# Costs


def _lines(pages: Sequence[Page]) -> tuple[Line, ...]:
    sums = Sums(NAME, pages[0].place.file)
    for bucket, place, result in each_result(pages):
        sums.add(*_cost(bucket, place, result))
    return sums.lines()


def _cost(bucket: Bucket, place: Place, result: Result) -> tuple[Key, Amounts]:
    at = place.at("amount")
    money = at.mapping(result.get("amount"))
    amount = at.amount(money.get("value"), "value")
    name = text(result.get("line_item"))
    item = parse_item(name or "")
    quantity = place.quantity(result.get("quantity"), "quantity")
    kind: Kind = item.kind
    if kind == "usage" and is_refund(amount, quantity):
        kind = "credit"
    key = Key(
        bucket.start,
        bucket.end,
        kind,
        name or "all line items",
        at.currency(money.get("currency"), "currency"),
        _scope(result),
        NAME,
        item.model,
        item.meter,
        item.mode,
        item.tier,
    )
    quantity = in_our_units(quantity, result.get("quantity_unit"))
    return key, Amounts(billed=amount, quantity=quantity)


def _scope(result: Result) -> tuple[tuple[str, str], ...]:
    return scope_of(
        project=text(result.get("project_id")), api_key=text(result.get("api_key_id"))
    )


# Usage


_PER_CALL: t.Final[Mapping[str, tuple[str, str]]] = {
    "organization.usage.images.result": ("images", "image"),
    "organization.usage.audio_speeches.result": ("characters", "character"),
    "organization.usage.audio_transcriptions.result": ("seconds", "audio_second"),
    "organization.usage.code_interpreter_sessions.result": (
        "num_sessions",
        "code_interpreter",
    ),
    "organization.usage.file_searches.result": ("num_requests", "file_search"),
    "organization.usage.web_searches.result": ("num_requests", "web_search"),
}
"""Where a report has its quantity, and the meter it is of."""


def _usage(pages: Sequence[Page]) -> tuple[Line, ...]:
    if not pages:
        return ()
    sums = Sums(NAME, pages[0].place.file)
    for bucket, place, result in each_result(pages):
        model = text(result.get("model"))
        requests = place.count(result.get("num_model_requests"), "num_model_requests")
        for meter, quantity in _quantities(place, result):
            key = Key(
                bucket.start,
                bucket.end,
                "usage",
                f"{model or 'all models'}, {meter}",
                "USD",
                _scope(result),
                NAME,
                model,
                meter,
                _mode(result),
            )
            sums.add(key, Amounts(quantity=quantity, requests=requests))
    return sums.lines()


def _mode(result: Result) -> str | None:
    if result.get("batch") is True:
        return "batch"
    tier = result.get("service_tier")
    return None if tier is None else served_mode(NAME, str(tier))[0]


def _quantities(place: Place, result: Result) -> Iterator[tuple[str, Decimal]]:
    name, meter = _PER_CALL.get(str(result.get("object")), ("", ""))
    if name:
        counts = {meter: place.quantity(result.get(name), name) or Decimal(0)}
    else:
        counts = _tokens(place, result)
    for each, count in counts.items():
        if count < 0:
            raise place.error(
                f"its tokens contradict each other: {each} would be {count}."
            )
        if count:
            yield each, count


def _tokens(place: Place, result: Result) -> dict[str, Decimal]:
    """Return tokens by meter. What the API reports as a part of another is taken out."""

    def count(name: str) -> Decimal:
        return place.quantity(result.get(name), name) or Decimal(0)

    cached = count("input_cached_tokens")
    writes = count("input_cache_write_tokens")
    uncached = count("input_uncached_tokens")
    if result.get("input_uncached_tokens") is None:
        uncached = count("input_tokens") - cached - writes
    tokens = {"cache_write": writes}
    for meter, whole, prefix in (
        ("input", uncached, "input"),
        ("cache_read", cached, "input_cached"),
        ("output", count("output_tokens"), "output"),
    ):
        media = {name: count(f"{prefix}_{name}_tokens") for name in ("audio", "image")}
        tokens[meter] = whole - media["audio"] - media["image"]
        tokens |= {f"{meter}_{name}": each for name, each in media.items()}
    return tokens
