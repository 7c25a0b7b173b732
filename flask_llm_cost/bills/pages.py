"""Pages of an API: a set of them is complete, or not read at all."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from .document import Document
from .values import days_between
from .values import Place
from .values import shown

Result: t.TypeAlias = Mapping[str, t.Any]


@dataclass(frozen=True, slots=True)
class Bucket:
    """What an API answered for one span of time."""

    place: Place
    start: dt.datetime
    end: dt.datetime
    results: Sequence[Result]
    fields: Mapping[str, t.Any]


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of an API."""

    place: Place
    buckets: Sequence[Bucket]
    next_page: str | None
    fields: Mapping[str, t.Any]


Span: t.TypeAlias = Callable[
    [Place, Mapping[str, t.Any]], tuple[dt.datetime, dt.datetime]
]
"""Reads a bucket's start and end."""


def first_value(document: Document) -> Mapping[str, t.Any]:
    """Return the first object of a JSON document, to recognize it; else an empty one."""
    if not document.is_json:
        return {}
    value = document.json
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, dict) else {}


def one_account(place: Place, names: Iterable[str | None]) -> str | None:
    """Return the one organization that files are of, if it is known.

    :raises BillError: If they are of several.
    """
    known = sorted({name for name in names if name is not None})
    if len(known) > 1:
        raise place.error(
            f"the files are from several organizations: {', '.join(known)}. Read each"
            " separately."
        )
    return next(iter(known), None)


def read_pages(document: Document, span: Span) -> list[Page]:
    """Return the pages of a file: one, one per line, or a bare list of buckets.

    :raises BillError: If it is an error response, or not pages at all.
    """
    value = document.json
    if isinstance(value, list) and not any(_is_page(each) for each in value):
        return [_page(document, document.place, {"data": value}, span)]
    values = value if isinstance(value, list) else [value]
    many = len(values) > 1
    return [
        _page(
            document, document.place.at(number) if many else document.place, each, span
        )
        for number, each in enumerate(values)
    ]


def _is_page(value: object) -> bool:
    return isinstance(value, dict) and ("data" in value or "error" in value)


def _page(document: Document, place: Place, value: object, span: Span) -> Page:
    fields = place.mapping(value)
    refuse_error(place, fields)
    refuse_cut(place, fields)
    data = place.at("data")
    buckets = [
        _bucket(data.at(number), each, span)
        for number, each in enumerate(data.list(fields.get("data")))
    ]
    if document.days is not None:
        # APIs answer with one day more if the last one is not over.
        first, last = document.days
        buckets = [each for each in buckets if first <= each.start.date() < last]
    return Page(place, buckets, next_page(place, fields), fields)


def _bucket(place: Place, value: object, span: Span) -> Bucket:
    fields = place.mapping(value)
    start, end = span(place, fields)
    if end <= start:
        raise place.error("it ends before it starts.")
    at = place.at("results")
    results = at.list(fields.get("results", fields.get("result")))
    each = [at.at(number).mapping(one) for number, one in enumerate(results)]
    return Bucket(place, start, end, each, fields)


def next_page(place: Place, fields: Mapping[str, t.Any]) -> str | None:
    """Return the cursor of the next page, if there is one.

    :raises BillError: If there are more pages but no cursor.
    """
    cursor, more = fields.get("next_page"), fields.get("has_more")
    if more not in (None, True, False):
        raise place.error(f"has_more is {shown(more)}, which is not true or false.")
    if more and not (isinstance(cursor, str) and cursor):
        raise place.error(
            "has_more is true, but there is no next_page. The answer is broken; request"
            " all pages again."
        )
    return str(cursor) if cursor and more is not False else None


def refuse_error(place: Place, fields: Mapping[str, t.Any]) -> None:
    """Refuse an error response.

    :raises BillError: If it is one.
    """
    error = fields.get("error")
    if not error and fields.get("type") != "error":
        return
    detail = error if isinstance(error, dict) else fields
    words = [detail.get("status") or detail.get("code"), detail.get("type")]
    words.append(detail.get("message") or (error if isinstance(error, str) else None))
    said = ": ".join(str(word)[:200] for word in words if word)
    gone = any(word in said.lower() for word in ("410", "gone", "expired"))
    advice = (
        "The cursor expired when the data was refreshed; request the first page again"
        " and discard the pages that you have."
        if gone
        else "Fix the request and download the bill again."
    )
    raise place.error(f"it is an error response ({said or 'no message'}). {advice}")


_CUT: t.Final = ("truncated", "is_truncated", "limitReached", "limit_reached")


def refuse_cut(place: Place, fields: Mapping[str, t.Any]) -> None:
    """Reject an answer that is marked as incomplete.

    :raises BillError: If it is.
    """
    metadata = fields.get("metadata")
    for part in (fields, metadata if isinstance(metadata, dict) else {}):
        for name in _CUT:
            if part.get(name) not in (None, False, "false"):
                raise place.error(
                    f"{name} is {str(part[name]).lower()}: the source left rows out."
                    " Request fewer days or fewer groups."
                )


KindOf: t.TypeAlias = Callable[[Place, Result], str]
"""Returns what kind of report a result is of."""
NOTHING: t.Final = "nothing"
"""The kind of reports without results, beside costs of the same days."""


def complete_sets(
    pages: Sequence[Page], kind_of: KindOf, costs: str, *, split: bool
) -> dict[str, list[Page]]:
    """Sort pages by what they report, and reject incomplete sets.

    :param costs: The kind of costs; a page without results is of this kind, unless it
        continues another, or costs of its days are there.
    :param split: Whether the API continues a bucket on the next page.
    :raises BillError: If a page is missing or given twice.
    """
    found: dict[str, list[Page]] = defaultdict(list)
    silent = []
    for page in pages:
        kinds = {kind_of(place, result) for _, place, result in each_result([page])}
        if len(kinds) > 1:
            raise page.place.error(
                "it mixes costs and usage. Save each answer separately."
            )
        if kinds:
            found[kinds.pop()].append(page)
        else:
            silent.append(page)
    for page in silent:
        found[_followed(page, found, costs)].append(page)
    for kind, each in found.items():
        # Several reports of usage may have nothing to report of the same days.
        if kind != NOTHING:
            _refuse_incomplete(each, split=split)
    return dict(found)


def _followed(page: Page, found: Mapping[str, Sequence[Page]], costs: str) -> str:
    if not page.buckets:
        return costs
    start = page.buckets[0].start
    taken = {bucket.start for each in found.get(costs, ()) for bucket in each.buckets}
    continued = [
        kind
        for kind, pages in found.items()
        if any(each.next_page and each.buckets[-1].end == start for each in pages)
    ]
    if start not in taken:
        return continued[0] if continued and costs not in continued else costs
    return next((kind for kind in continued if kind != costs), NOTHING)


def _refuse_incomplete(pages: Sequence[Page], *, split: bool) -> None:
    cursors: dict[str, Place] = {}
    ordered = sorted((page for page in pages if page.buckets), key=_start)
    following = {
        id(page): after for page, after in zip(ordered, ordered[1:], strict=False)
    }
    for page in pages:
        if page.next_page is None:
            continue
        if page.next_page in cursors:
            raise page.place.error(
                f"it names the same next page as {cursors[page.next_page].file}. A page"
                " is given twice, or the API repeats itself; request all pages again."
            )
        cursors[page.next_page] = page.place
        if not _continued(page, following.get(id(page)), split):
            raise page.place.error(
                "has_more is true, but the next page is not among the files. Save every"
                " page, following next_page, and name all of them."
            )
    _refuse_repeated(ordered, split=split)


def _start(page: Page) -> tuple[dt.datetime, dt.datetime, bool]:
    return page.buckets[0].start, page.buckets[-1].end, page.next_page is None


def _continued(page: Page, after: Page | None, split: bool) -> bool:
    if after is None or not page.buckets:
        return False
    last, first = page.buckets[-1], after.buckets[0]
    return first.start == last.end or (split and first.start == last.start)


def _refuse_repeated(pages: Sequence[Page], *, split: bool) -> None:
    last: Bucket | None = None
    seen: dict[dt.datetime, Place] = {}
    for page in pages:
        for bucket in page.buckets:
            continues = split and last is not None and bucket.start == last.start
            continues = continues and bucket is page.buckets[0]
            continues = continues and bucket.results != t.cast(Bucket, last).results
            if bucket.start in seen and not continues:
                raise bucket.place.error(
                    f"{bucket.start:%Y-%m-%d %H:%M} is also in"
                    f" {seen[bucket.start].file}. Name each page once, and answers with"
                    " one grouping only."
                )
            seen[bucket.start] = bucket.place
            last = bucket


def days_of(pages: Iterable[Page]) -> frozenset[dt.date]:
    """Return the UTC days that pages answer for."""
    return frozenset(
        day
        for page in pages
        for bucket in page.buckets
        for day in days_between(bucket.start, bucket.end)
    )


def parts_of_days(pages: Iterable[Page]) -> Mapping[dt.date, str]:
    """Return the UTC days that costs have a part of only, and why they do not count.

    :raises BillError: If costs do not start at midnight.
    """
    found: dict[dt.date, str] = {}
    for page in pages:
        for bucket in page.buckets:
            if bucket.start.time() != dt.time():
                raise bucket.place.error(
                    f"it starts at {bucket.start:%Y-%m-%dT%H:%M:%SZ}, which is not"
                    " midnight in UTC. Request whole UTC days (1d)."
                )
            if bucket.end.time() != dt.time():
                why = f"The bill covers this day only until {bucket.end:%H:%M:%S} UTC."
                found[bucket.end.date()] = why
    return found


def each_result(pages: Sequence[Page]) -> Iterator[tuple[Bucket, Place, Result]]:
    """Iterate over the results of all buckets with their places."""
    for page in pages:
        for bucket in page.buckets:
            at = bucket.place.at("results")
            for number, result in enumerate(bucket.results):
                yield bucket, at.at(number), result
