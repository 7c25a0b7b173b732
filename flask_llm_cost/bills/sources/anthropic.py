"""Anthropic: pages of the cost and usage reports, and of their analytics successors.

Amounts are text, in cents and fractions of cents. Usage nests cache writes by their TTL.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

from ...money import multiply
from ...prices.names import served_mode
from ..document import Document
from ..join import join
from ..line import Kind
from ..line import Line
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
from ..sums import Scope
from ..sums import scope_of
from ..sums import Sums
from ..values import Place
from ..values import shown
from ..values import text

NAME: t.Final = "anthropic"
TRIED: t.Final = False

_COSTS: t.Final = "costs"
_USAGE: t.Final = "usage"
_CENT: t.Final = Decimal("0.01")
_TOP_GROUPS: t.Final = 100
"""How many groups the Enterprise reports return at most, without a remainder."""

_KINDS: t.Final[Mapping[str, tuple[Kind, str | None]]] = {
    "tokens": ("usage", None),
    "web_search": ("tool_fee", "web_search"),
    "code_execution": ("tool_fee", None),
    "session_usage": ("session_fee", None),
}
"""The kind and meter of a ``cost_type``."""
_TOKENS: t.Final[Mapping[str, tuple[str, str | None]]] = {
    "uncached_input_tokens": ("input", None),
    "output_tokens": ("output", None),
    "cache_read_input_tokens": ("cache_read", None),
    "cache_creation.ephemeral_5m_input_tokens": ("cache_write", "5m"),
    "cache_creation.ephemeral_1h_input_tokens": ("cache_write_1h", "1h"),
}
"""The meter and TTL of a ``token_type``, which is also where usage has its count."""
_MODES: t.Final = {"flex_discount": "flex", "priority_on_demand": "priority"}


def recognizes(document: Document) -> bool:
    """Whether these are pages or buckets of Anthropic's API."""
    first = first_value(document)
    data = first.get("data")
    if isinstance(data, list) and "has_more" in first:
        return first.get("object") is None and all(_is_bucket(each) for each in data)
    return _is_bucket(first)


def _is_bucket(value: object) -> bool:
    return isinstance(value, dict) and "starting_at" in value and "results" in value


def read(documents: Sequence[Document]) -> Statement:
    """Read costs, and any usage with them.

    :raises BillError: If a page is missing, given twice or cannot be read.
    """
    pages = [page for document in documents for page in read_pages(document, _span)]
    account = _account(pages)
    by_kind = complete_sets(pages, _kind, _COSTS, split=True)
    costs = by_kind.get(_COSTS, [])
    if not costs:
        raise documents[0].place.error(
            "it has usage, but no costs. Name the pages of the cost report, too."
        )
    lines, left = join(_lines(costs, _cost), _lines(by_kind.get(_USAGE, ()), _used))
    return make_statement(
        NAME,
        documents,
        lines,
        account=account,
        usage=left,
        covered=days_of(costs),
        watermark=_watermark(costs),
        not_comparable=parts_of_days(costs),
        warnings=[*_capped(costs)],
    )


def _span(place: Place, fields: Mapping[str, t.Any]) -> tuple[dt.datetime, dt.datetime]:
    return (
        place.time(fields.get("starting_at"), "starting_at"),
        place.time(fields.get("ending_at"), "ending_at"),
    )


def _kind(place: Place, result: Result) -> str:
    if result.get("rbac_group_id") is not None:
        raise place.error(
            f"it is grouped by rbac_group_id ({shown(result['rbac_group_id'])}). Such"
            " groups overlap, so their sum is not the bill; request the report without"
            " that grouping."
        )
    if "amount" in result:
        return _COSTS
    if any(name.partition(".")[0] in result for name in (*_TOKENS, "server_tool_use")):
        return _USAGE
    raise place.error("it has neither an amount nor tokens.")


def _account(pages: Sequence[Page]) -> str | None:
    names = [text(page.fields.get("organization_id")) for page in pages]
    return one_account(pages[-1].place, names)


def _watermark(pages: Sequence[Page]) -> dt.datetime | None:
    """Until when all pages are complete. One with no data yet is complete until it starts."""
    times = []
    for page in pages:
        if "data_refreshed_at" not in page.fields or not page.buckets:
            continue
        value = page.fields["data_refreshed_at"]
        first = page.buckets[0].start
        at = first if value is None else page.place.time(value, "data_refreshed_at")
        times.append(at)
    return min(times, default=None)


def _capped(pages: Sequence[Page]) -> Iterator[str]:
    for page in pages:
        for bucket in page.buckets:
            if len(bucket.results) == _TOP_GROUPS:
                yield (
                    f"{bucket.start:%Y-%m-%d} has exactly {_TOP_GROUPS} groups. The"
                    " Enterprise reports omit further ones; request fewer groups."
                )


Reader: t.TypeAlias = t.Callable[
    [Bucket, Place, Result], t.Iterable[tuple[Key, Amounts]]
]


def _lines(pages: Sequence[Page], reader: Reader) -> tuple[Line, ...]:
    if not pages:
        return ()
    sums = Sums(NAME, pages[0].place.file)
    for bucket, place, result in each_result(pages):
        for key, amounts in reader(bucket, place, result):
            sums.add(key, amounts)
    return sums.lines()


def _cost(
    bucket: Bucket, place: Place, result: Result
) -> Iterator[tuple[Key, Amounts]]:
    amount = _dollars(place, result, "amount")
    listed = result.get("list_amount")
    cost_type, token_type = text(result.get("cost_type")), result.get("token_type")
    kind, meter = _KINDS.get(cost_type or "", ("usage", None))
    ttl = None
    if kind == "usage" and token_type is not None:
        meter, ttl = _TOKENS.get(str(token_type), (None, None))
    model = text(result.get("model"))
    if kind == "usage" and is_refund(amount, None):
        kind = "credit"
    name = text(result.get("description")) or ", ".join(
        str(each) for each in (model, cost_type, token_type) if each
    )
    currency = place.currency(result.get("currency"), "currency")
    key = _key(bucket, kind, name or "all costs", currency, result, meter)
    yield (
        key._replace(cache_ttl=ttl),
        Amounts(
            billed=amount,
            listed=None if listed is None else _dollars(place, result, "list_amount"),
            requests=place.count(result.get("requests"), "requests"),
        ),
    )


def _dollars(place: Place, result: Result, name: str) -> Decimal:
    return multiply(place.amount(result.get(name), name), _CENT)


def _key(
    bucket: Bucket,
    kind: Kind,
    name: str,
    currency: str,
    result: Result,
    meter: str | None,
) -> Key:
    mode, tier = _mode_and_tier(result)
    geo = text(result.get("inference_geo"))
    return Key(
        bucket.start,
        bucket.end,
        kind,
        name,
        currency,
        _scope(result),
        NAME,
        text(result.get("model")),
        meter,
        mode,
        tier,
        None if geo == "not_available" else geo,
    )


def _mode_and_tier(result: Result) -> tuple[str | None, str | None]:
    window = text(result.get("context_window"))
    tier = None if window in (None, "0-200k") else "long_context"
    if result.get("speed") == "fast":
        return "fast", tier
    name = text(result.get("service_tier"))
    if name is None:
        return None, tier
    if name in _MODES:
        return _MODES[name], tier
    mode, flags = served_mode(NAME, name)
    # A tier that is not known has prices that are not known either.
    return mode, name if flags else tier


def _scope(result: Result) -> Scope:
    return scope_of(
        workspace=text(result.get("workspace_id")),
        api_key=text(result.get("api_key_id")),
        service_account=text(result.get("service_account_id")),
        product=text(result.get("product")),
    )


def _used(
    bucket: Bucket, place: Place, result: Result
) -> Iterator[tuple[Key, Amounts]]:
    requests = place.count(result.get("requests"), "requests")
    for meter, ttl, count in _counts(place, result):
        if count:
            name = f"{text(result.get('model')) or 'all models'}, {meter}"
            key = _key(bucket, "usage", name, "USD", result, meter)
            yield (
                key._replace(cache_ttl=ttl),
                Amounts(quantity=count, requests=requests),
            )


def _counts(
    place: Place, result: Result
) -> Iterator[tuple[str, str | None, Decimal | None]]:
    for path, (meter, ttl) in _TOKENS.items():
        yield meter, ttl, _count(place, result, *path.split("."))
    searches = _count(place, result, "server_tool_use", "web_search_requests")
    yield "web_search", None, searches


def _count(place: Place, result: Result, name: str, *below: str) -> Decimal | None:
    value = result.get(name)
    if not below or value is None:
        return place.quantity(value, name)
    inner = place.at(name)
    return _count(inner, inner.mapping(value), *below)
