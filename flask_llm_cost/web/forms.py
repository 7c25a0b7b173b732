"""What may stand in the query string of a page, and nothing else.

A bad value is a 400 that names its parameter: a filter that was mistyped must never
show more than was asked for.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass
from dataclasses import replace

import wtforms
from flask import url_for
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest
from wtforms.form import BaseForm

from ..call import KEY_PATTERN
from ..call import OUTCOMES
from ..call import USAGE_SOURCES
from ..errors import FilterError
from ..query.anomaly import Anomaly
from ..query.filters import CallFilter
from . import format

MOST_TAGS: t.Final = 20
"""Tags that one question may ask for; each is a subselect."""

LONGEST: t.Final = {
    "provider": 64,
    "model": 255,
    "trace_id": 255,
    "tag": 1400,
    "q": 100,
}
LONGEST_CURSOR: t.Final = 4000

PER_PAGE: t.Final = ("25", "50", "100", "200")

CALL_SORTS: t.Final = {
    "recent": "Newest",
    "expensive": "Dearest",
    "slow": "Slowest",
    "input": "Most input",
    "output": "Most output",
    "unknown_pricing": "Unpriced",
}

MODEL_SORTS: t.Final = {
    "cost": "Spend",
    "calls": "Calls",
    "avg_cost": "Average cost",
    "latency": "Latency",
}

NAMES: t.Final = {
    "provider": "Provider",
    "model": "Model",
    "stream": "Streamed",
    "usage_source": "Usage from",
    "outcome": "Outcome",
    "trace_id": "Trace",
    "tag": "Tag",
}


class BadQuery(BadRequest):
    """Parameters that mean nothing.

    :param problems: Name and message of each.
    """

    def __init__(self, problems: t.Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{name}: {message}" for name, message in problems))
        self.problems = problems


def _any(names: t.Iterable[str]) -> dict[str, str]:
    return {"": "Any", **{name: name.replace("_", " ") for name in names}}


def _strip(value: str | None) -> str:
    return (value or "").strip()


def _given(value: str | None) -> str:
    return value or ""


class Choice(wtforms.StringField):
    """One of a few words; the template draws it as a select or as links.

    WTForms' own SelectField takes its choices one way up to 3.2 and another from 3.4 on.

    :param options: What each word is called.
    """

    def __init__(
        self, label: str, options: t.Mapping[str, str], **kwargs: t.Any
    ) -> None:
        super().__init__(label, filters=[_strip], **kwargs)
        self.options = options

    @property
    def word(self) -> str:
        """The one chosen; empty if none is."""
        return self.data or ""

    def process_formdata(self, valuelist: list[str]) -> None:
        if valuelist and valuelist[0].strip():
            super().process_formdata(valuelist)

    def pre_validate(self, form: BaseForm) -> None:
        if self.data and self.data not in self.options:
            allowed = ", ".join(filter(None, self.options))
            raise wtforms.validators.ValidationError(
                f"{_shown(self.data)} is not one of {allowed}."
            )


class Text(wtforms.StringField):
    """One line, trimmed, of bounded length."""

    def __init__(self, label: str, **options: t.Any) -> None:
        super().__init__(label, filters=[_strip], **options)

    def pre_validate(self, form: BaseForm) -> None:
        longest = LONGEST.get(self.name, LONGEST_CURSOR)
        if len(self.data or "") > longest:
            raise wtforms.validators.StopValidation(
                f"is longer than {longest} characters."
            )


def _shown(value: str) -> str:
    return repr(value[:40])


PARAMETERS: t.Final = (*NAMES, "from", "to", "sort", "per")
"""What links carry along: url_for reads other names, such as ``_scheme``, its own way."""


class Day(Text):
    """A date, exactly as it is given: a blank around it is no part of one."""

    def __init__(self, label: str, **options: t.Any) -> None:
        super().__init__(label, **options)
        self.filters = [_given]


class SliceForm(wtforms.Form):
    """Which calls a page is about."""

    from_ = Day("From", name="from")
    to = Day("To")
    provider = Text("Provider")
    model = Text("Model")
    stream = Choice("Streamed", _any(("yes", "no")))
    usage_source = Choice("Usage from", _any(USAGE_SOURCES))
    outcome = Choice("Outcome", _any(OUTCOMES))
    trace_id = Text("Trace")

    @classmethod
    def read(cls, args: MultiDict[str, str], zone: dt.tzinfo, today: dt.date) -> t.Self:
        """Take the parameters this page knows; others are left alone.

        :raises BadQuery: Naming every parameter that has no meaning.
        """
        form = cls(args)
        problems = [(n, "is given more than once.") for n in form._repeated(args)]
        if not form.validate():
            problems += [(f.name, str(f.errors[0])) for f in form if f.errors]
        try:
            form.tags = tuple(dict.fromkeys(read_tags(args.getlist("tag"))))
        except FilterError as error:
            problems.append((error.parameter, error.message))
        try:
            form.where = form._where(zone, today)
        except FilterError as error:
            problems.append((error.parameter, error.message))
        if problems:
            raise BadQuery(problems)
        return form

    tags: tuple[tuple[str, str], ...] = ()
    where: CallFilter

    def _repeated(self, args: MultiDict[str, str]) -> list[str]:
        # Which one of two counts is anyone's guess, so neither does.
        return [f.name for f in self if len(set(args.getlist(f.name))) > 1]

    def _where(self, zone: dt.tzinfo, today: dt.date) -> CallFilter:
        return replace(
            CallFilter.days(self.from_.data, self.to.data, zone, today),
            provider=self.provider.data or None,
            model=self.model.data or None,
            stream={"yes": True, "no": False}.get(self.stream.word),
            usage_source=self.usage_source.data or None,
            outcome=self.outcome.data or None,
            trace_id=self.trace_id.data or None,
            tags=self.tags,
        )


class CallsForm(SliceForm):
    """The list of calls: a slice, an order and a page of it."""

    sort = Choice("Order", CALL_SORTS, default="recent")
    per = Choice("Rows", {p: p for p in PER_PAGE})
    after = Text("After")
    before = Text("Before")


class ModelsForm(SliceForm):
    """The list of models: a slice and an order."""

    sort = Choice("Order", MODEL_SORTS, default="cost")


class SearchForm(wtforms.Form):
    """A search in the prices."""

    q = Text("Search")

    @classmethod
    def read(cls, args: MultiDict[str, str]) -> t.Self:
        """Take the words.

        :raises BadQuery: If there are too many.
        """
        form = cls(args)
        if not form.validate():
            raise BadQuery([(f.name, str(f.errors[0])) for f in form if f.errors])
        return form


def read_tags(texts: t.Iterable[str]) -> t.Iterator[tuple[str, str]]:
    """Split ``key:value`` texts at the first colon. Blank ones are left out.

    :raises FilterError: If one has no colon or no possible key, or there are too many.
    """
    given = [text for text in texts if text.strip()]
    if len(given) > MOST_TAGS:
        raise FilterError(
            "tag", f"{len(given)} tags are more than {MOST_TAGS}; ask for fewer."
        )
    for text in given:
        key, colon, value = text.partition(":")
        key = key.strip()
        if not colon or not KEY_PATTERN.fullmatch(key):
            raise FilterError(
                "tag",
                f"{_shown(text)} must be written key:value, such as feature:chat.",
            )
        if len(text) > LONGEST["tag"]:
            raise FilterError("tag", f"is longer than {LONGEST['tag']} characters.")
        yield key, value.strip()


@dataclass(frozen=True, slots=True)
class Chip:
    """One condition of the slice, and the way to the same page without it."""

    name: str
    value: str
    remove: str


@dataclass(frozen=True, slots=True)
class Preset:
    """A usual range of days."""

    label: str
    href: str
    current: bool


def _url(endpoint: str, params: t.Mapping[str, t.Any]) -> str:
    return url_for(endpoint, **t.cast(dict[str, t.Any], params))


_KEPT: t.Final = ("from", "to", *(name for name in NAMES if name != "tag"))


F = t.TypeVar("F", bound=SliceForm)


class Slice(t.Generic[F]):
    """The slice that a page shows, and links that keep, narrow or widen it."""

    def __init__(self, form: F, endpoint: str, today: dt.date, **path: str) -> None:
        self.form = form
        self.where = form.where
        self.today = today
        self._endpoint = endpoint
        self._path = path
        self._params: dict[str, t.Any] = {
            f.name: f.data for f in form if f.name in _KEPT and f.data
        }
        if form.tags:
            self._params["tag"] = [f"{k}:{v}" for k, v in form.tags]
        self.order = {
            f.name: f.data
            for f in form
            if f.name in ("sort", "per") and f.data and f.data != f.default
        }
        """Its order and length, where they are not the usual ones."""

    def to(self, endpoint: str, **changes: t.Any) -> str:
        """The address of a page about this slice; ``None`` takes a condition away."""
        params = {**self._params, **changes}
        return _url(endpoint, {k: v for k, v in params.items() if v is not None})

    def here(self, **changes: t.Any) -> str:
        """This page with some of it changed; from its first row, unless it says where."""
        return self.to(self._endpoint, **{**self._path, **self.order, **changes})

    def here_as(self, endpoint: str) -> str:
        """The same slice in the same order, in another form."""
        return self.to(endpoint, **self.order)

    def around(self, day: dt.date) -> str:
        """This page, unfiltered, about the 30 days that end on a day."""
        return _url(self._endpoint, {**self._path, "to": day.isoformat()})

    def tagged(self, endpoint: str, key: str, value: str, **changes: t.Any) -> str:
        """A page about the calls of this slice that carry a tag, too."""
        tags = dict.fromkeys([*self._params.get("tag", ()), f"{key}:{value}"])
        return self.to(endpoint, **changes, tag=list(tags))

    def day(self, endpoint: str, first: dt.date, last: dt.date) -> str:
        """A page about some days of this slice."""
        return self.to(endpoint, **{"from": first.isoformat(), "to": last.isoformat()})

    def odd(self, anomaly: Anomaly) -> str:
        """The calls behind a rise, the dearest first."""
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
        """Where this page's forms go."""
        return _url(self._endpoint, self._path)

    @property
    def days_only(self) -> dict[str, str]:
        """Its days as parameters, if they were asked for."""
        return {k: self._params[k] for k in ("from", "to") if k in self._params}

    @property
    def span(self) -> str:
        """Its days: ``24 Oct – 22 Nov 2026``."""
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
        """Its conditions, days apart."""
        chips = [
            Chip(NAMES[name], self._params[name], self.here(**{name: None}))
            for name in _KEPT
            if name in NAMES and name in self._params
        ]
        tags = self._params.get("tag", [])
        for tag in tags:
            rest = [other for other in tags if other != tag]
            chips.append(Chip("Tag", tag, self.here(tag=rest or None)))
        return chips

    @property
    def clear(self) -> str:
        """This page about the same days, without any other condition."""
        return _url(self._endpoint, {**self._path, **self.order, **self.days_only})

    @property
    def hidden(self) -> list[tuple[str, str]]:
        """Conditions that the days' form must carry along."""
        pairs = [
            (k, str(v))
            for k, v in {**self._params, **self.order}.items()
            if k not in ("from", "to", "tag")
        ]
        return pairs + [("tag", tag) for tag in self._params.get("tag", [])]

    @property
    def presets(self) -> list[Preset]:
        """The usual ranges, with the current one marked."""
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
            days = {"from": first.isoformat(), "to": today.isoformat()}
            current = (first, today) == (self.first, self.last)
            # On the first of a month two of them mean the same days: mark one.
            current = current and not any(p.current for p in presets)
            presets.append(Preset(label, self.here(**days), current))
        return presets
