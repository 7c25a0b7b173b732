"""The calls that a page shows, and links to the same calls elsewhere."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass

from flask import url_for

from ..query.anomaly import Anomaly
from . import format
from .forms import Choice
from .forms import FILTER_LABELS
from .forms import FilterForm


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
        self._path = path
        self._params: dict[str, t.Any] = {
            f.name: f.data for f in form if f.name in _SINGLE and f.data
        }
        if form.tags:
            self._params["tag"] = [f"{k}:{v}" for k, v in form.tags]
        self.order = {
            f.name: f.data
            for f in form
            if f.name in ("sort", "per") and f.data and f.data != f.default
        }
        """Sort order and page size, where they are not the default."""

    def to(self, endpoint: str, **changes: t.Any) -> str:
        """The URL of a page with these filters; ``None`` removes a filter."""
        params = {**self._params, **changes}
        return _url(endpoint, {k: v for k, v in params.items() if v is not None})

    def here(self, **changes: t.Any) -> str:
        """This page with some parameters changed, from its first row by default."""
        return self.to(self._endpoint, **{**self._path, **self.order, **changes})

    def here_as(self, endpoint: str) -> str:
        """The same filters and order in another format."""
        return self.to(endpoint, **self.order)

    def ending(self, day: dt.date) -> str:
        """This page without filters, for the 30 days that end on a day."""
        return _url(self._endpoint, {**self._path, "to": day.isoformat()})

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
            Chip(FILTER_LABELS[name], self._label(name), self.here(**{name: None}))
            for name in _SINGLE
            if name in FILTER_LABELS and name in self._params
        ]
        tags = self._params.get("tag", [])
        for tag in tags:
            rest = [other for other in tags if other != tag]
            chips.append(Chip("Tag", tag, self.here(tag=rest or None)))
        return chips

    def _label(self, name: str) -> str:
        field, value = self.form[name], self._params[name]
        return field.options[value] if isinstance(field, Choice) else str(value)

    @property
    def unfiltered(self) -> str:
        """This page with its dates and order, but no other filter."""
        return _url(self._endpoint, {**self._path, **self.order, **self.dates})

    @property
    def hidden_fields(self) -> list[tuple[str, str]]:
        """Parameters that the date form must carry over."""
        pairs = [
            (k, str(v))
            for k, v in {**self._params, **self.order}.items()
            if k not in ("from", "to", "tag")
        ]
        return pairs + [("tag", tag) for tag in self._params.get("tag", [])]

    @property
    def presets(self) -> list[Preset]:
        """Common date ranges, with the current one marked."""
        today = self.today
        ranges = {
            "Today": today,
            "7 days": today - dt.timedelta(days=6),
            "30 days": today - dt.timedelta(days=29),
            "90 days": today - dt.timedelta(days=89),
            "This month": today.replace(day=1),
            "This year": today.replace(month=1, day=1),
        }
        presets: list[Preset] = []
        for label, first in ranges.items():
            dates = {"from": first.isoformat(), "to": today.isoformat()}
            current = (first, today) == (self.first, self.last)
            # On the first of a month two presets are the same day: mark one.
            current = current and not any(p.current for p in presets)
            presets.append(Preset(label, self.here(**dates), current))
        return presets
