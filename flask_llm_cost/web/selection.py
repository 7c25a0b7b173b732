"""The calls that a page shows, and links to the same calls elsewhere."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass

from flask import url_for

from ..calendar import DAY
from ..calendar import next_first_day
from ..query.anomaly import Anomaly
from . import format
from .forms import Choice
from .forms import FILTER_LABELS
from .forms import FilterForm
from .forms import VIEW_PARAMETERS


@dataclass(frozen=True, slots=True)
class Chip:
    """An active filter, and the URL of the same page without it."""

    name: str
    value: str
    remove: str


@dataclass(frozen=True, slots=True)
class Preset:
    """A common date range."""

    label: str
    href: str
    current: bool


def _url(endpoint: str, params: t.Mapping[str, t.Any]) -> str:
    return url_for(endpoint, **t.cast(dict[str, t.Any], params))


_SINGLE: t.Final = ("from", "to", *(name for name in FILTER_LABELS if name != "tag"))
"""Filters that can be given once."""

F = t.TypeVar("F", bound=FilterForm)


class Selection(t.Generic[F]):
    """The filters of a page, and URLs that keep, narrow or widen them."""

    def __init__(self, form: F, endpoint: str, today: dt.date, **path: str) -> None:
        self.form = form
        self.where = form.where
        self.today = today
        self._endpoint = endpoint
        # The page of a model needs its filters: without them, it is the overview.
        self._bare = ".overview" if endpoint == ".model" else endpoint
        self._path = path
        self._params: dict[str, t.Any] = {
            f.name: f.data for f in form if f.name in _SINGLE and f.data
        }
        if form.tags:
            self._params["tag"] = [f"{k}:{v}" for k, v in form.tags]
        self.order = {
            f.name: f.data
            for f in form
            if f.name in VIEW_PARAMETERS and f.data and f.data != f.default
        }
        """How the page shows the calls, where it is not the default."""

    def to(self, endpoint: str, **changes: t.Any) -> str:
        """The URL of a page with these filters; ``None`` removes a filter."""
        params = {**self._params, **changes}
        return _url(endpoint, {k: v for k, v in params.items() if v is not None})

    def here(self, **changes: t.Any) -> str:
        """This page with some parameters changed, from its first row by default."""
        return self.to(self._endpoint, **{**self._path, **self.order, **changes})

    def here_as(self, endpoint: str, **path: str) -> str:
        """The same filters and order in another format."""
        return self.to(endpoint, **path, **self.order)

    def ending(self, day: dt.date) -> str:
        """This page without filters, for the 30 days that end on a day."""
        return _url(self._bare, {**self._path, "to": day.isoformat()})

    def tagged(self, endpoint: str, key: str, value: str, **changes: t.Any) -> str:
        """A page with one more tag condition."""
        tags = dict.fromkeys([*self._params.get("tag", ()), f"{key}:{value}"])
        return self.to(endpoint, **changes, tag=list(tags))

    def between(self, endpoint: str, first: dt.date, last: dt.date) -> str:
        """A page with these filters and other dates."""
        return self.to(endpoint, **{"from": first.isoformat(), "to": last.isoformat()})

    def behind(self, anomaly: Anomaly) -> str:
        """The calls behind an anomaly, most expensive first."""
        day = anomaly.day.isoformat()
        changes: dict[str, t.Any] = {
            "from": day,
            "to": day,
            "provider": anomaly.provider,
            "model": anomaly.model,
            "sort": "expensive",
        }
        if anomaly.cause is None:
            return self.to(".calls", **changes)
        return self.tagged(".calls", anomaly.cause.key, anomaly.cause.value, **changes)

    @property
    def action(self) -> str:
        """The target of this page's forms."""
        return _url(self._endpoint, self._path)

    @property
    def dates(self) -> dict[str, str]:
        """The date parameters that were given."""
        return {k: self._params[k] for k in ("from", "to") if k in self._params}

    @property
    def span(self) -> str:
        """The date range: ``24 Oct – 22 Nov 2026``."""
        return format.span(self.first, self.last)

    @property
    def first(self) -> dt.date:
        return t.cast(dt.date, self.where.first_day)

    @property
    def last(self) -> dt.date:
        return t.cast(dt.date, self.where.last_day)

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def chips(self) -> list[Chip]:
        """The active filters, without the date range."""
        chips = [
            Chip(FILTER_LABELS[name], self._label(name), self._without(name))
            for name in _SINGLE
            if name in FILTER_LABELS and name in self._params
        ]
        tags = self._params.get("tag", [])
        for tag in tags:
            rest = [other for other in tags if other != tag]
            chips.append(Chip("Tag", tag, self.here(tag=rest or None)))
        return chips

    def _without(self, name: str) -> str:
        endpoint = self._bare if name in ("provider", "model") else self._endpoint
        return self.to(endpoint, **{**self._path, **self.order, name: None})

    def _label(self, name: str) -> str:
        field, value = self.form[name], self._params[name]
        return field.options[value] if isinstance(field, Choice) else str(value)

    @property
    def unfiltered(self) -> str:
        """This page with its dates and order, but no other filter."""
        return _url(self._bare, {**self._path, **self.order, **self.dates})

    @property
    def beside_dates(self) -> list[tuple[str, str]]:
        """Parameters that the date form must carry over."""
        return self.beside("from", "to")

    @property
    def beside_filters(self) -> list[tuple[str, str]]:
        """Parameters that the filter form must carry over, with the range of dates."""
        dates = [("from", self.first.isoformat()), ("to", self.last.isoformat())]
        return dates + self.beside("from", "to", *_SINGLE)

    def beside(self, *names: str) -> list[tuple[str, str]]:
        """Return the parameters other than those of a form, as pairs."""
        pairs = [
            (k, str(v))
            for k, v in {**self._params, **self.order}.items()
            if k not in (*names, "tag")
        ]
        tags = [] if "tag" in names else self._params.get("tag", [])
        return pairs + [("tag", tag) for tag in tags]

    @property
    def presets(self) -> list[Preset]:
        """Common date ranges, with the current one marked."""
        presets: list[Preset] = []
        for label, (first, last) in ranges(self.today).items():
            dates = {"from": first.isoformat(), "to": last.isoformat()}
            current = (first, last) == (self.first, self.last)
            # On the first of a month two presets are the same day: mark one.
            current = current and not any(p.current for p in presets)
            presets.append(Preset(label, self.here(**dates), current))
        return presets


def ranges(today: dt.date) -> dict[str, tuple[dt.date, dt.date]]:
    """Return the first and the last day of each preset."""
    month = today.replace(day=1)
    last_month = month - DAY
    year_ago = today.replace(year=today.year - 1, day=1)
    month_end = next_first_day("month", month) - DAY
    return {
        "Today": (today, today),
        "Yesterday": (today - DAY, today - DAY),
        "7 days": (today - 6 * DAY, today),
        "30 days": (today - 29 * DAY, today),
        "90 days": (today - 89 * DAY, today),
        "Month to date": (month, today),
        "This month": (month, month_end),
        "Last month": (last_month.replace(day=1), last_month),
        "This year": (today.replace(month=1, day=1), today),
        "12 months": (next_first_day("month", year_ago), today),
    }
