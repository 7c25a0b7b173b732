"""The query parameters of the pages.

An invalid value is answered with a 400 that names the parameter: a mistyped filter must
never show more than was requested.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import replace

import wtforms
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest
from wtforms.form import BaseForm

from ..call import KEY_PATTERN
from ..call import OUTCOME_LABELS
from ..call import USAGE_SOURCE_LABELS
from ..errors import FilterError
from ..query.filters import CallFilter
from ..query.filters import MAX_TAG_LENGTH
from ..query.filters import tag_conditions

MAX_LENGTHS: t.Final = {
    "provider": 64,
    "model": 255,
    "trace_id": 255,
    "scope": 255,
    "tag": MAX_TAG_LENGTH,
    "q": 100,
}
MAX_CURSOR_LENGTH: t.Final = 4000

PER_PAGE: t.Final = ("25", "50", "100", "200")

CALL_SORTS: t.Final = {
    "recent": "Newest",
    "expensive": "Most expensive",
    "slow": "Slowest",
    "input": "Most input",
    "output": "Most output",
    "unknown_pricing": "Unpriced",
    "incomplete": "Incomplete",
}

TABLE_SORTS: t.Final = {
    "cost": "Spend",
    "calls": "Calls",
    "avg_cost": "Average cost",
    "latency": "Latency",
    "name": "Name",
}

GROUPS: t.Final = {
    "": "Nothing",
    "provider": "Provider",
    "model": "Model",
    "meter": "Token type",
    "session": "Session",
    "scope": "Scope",
}

GRAINS: t.Final = {
    "": "Automatic",
    "hour": "Hour",
    "day": "Day",
    "week": "Week",
    "month": "Month",
}

COMPARISONS: t.Final = {
    "previous": "Previous period",
    "last_month": "Same days of last month",
    "last_year": "Same days of last year",
    "none": "Nothing",
}

FILTER_LABELS: t.Final = {
    "provider": "Provider",
    "model": "Model",
    "stream": "Streamed",
    "usage_source": "Usage source",
    "outcome": "Outcome",
    "trace_id": "Trace ID",
    "scope": "Scope",
    "tag": "Tag",
}

VIEW_PARAMETERS: t.Final = ("group", "grain", "compare", "view", "q", "sort", "per")
"""How a page shows the calls that are selected."""

PARAMETERS: t.Final = (*FILTER_LABELS, "from", "to", *VIEW_PARAMETERS)
"""Parameters that links carry over. ``url_for`` interprets other names, such as
``_scheme``, itself."""


class BadQuery(BadRequest):
    """Invalid query parameters.

    :param problems: Name and message of each.
    """

    def __init__(self, problems: t.Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{name}: {message}" for name, message in problems))
        self.problems = problems


def _text(value: str | None) -> str:
    return value or ""


def _strip(value: str | None) -> str:
    return _text(value).strip()


def _quoted(value: str) -> str:
    return repr(value[:40])


class Choice(wtforms.StringField):
    """One of a few values; the template draws it as a select or as links.

    The way WTForms' own SelectField takes its choices differs between 3.2 and 3.4.

    :param options: The label of each value.
    """

    def __init__(
        self, label: str, options: t.Mapping[str, str], **kwargs: t.Any
    ) -> None:
        super().__init__(label, filters=[_strip], **kwargs)
        self.options = options

    @property
    def value(self) -> str:
        """The chosen value, or an empty string."""
        return self.data or ""

    def process_formdata(self, valuelist: list[str]) -> None:
        if valuelist and valuelist[0].strip():
            super().process_formdata(valuelist)

    def pre_validate(self, form: BaseForm) -> None:
        if self.data and self.data not in self.options:
            allowed = ", ".join(filter(None, self.options))
            raise wtforms.validators.ValidationError(
                f"{_quoted(self.data)} is not a valid choice; use one of {allowed}."
            )


class Text(wtforms.StringField):
    """One line of limited length, without surrounding whitespace."""

    def __init__(self, label: str, *, strip: bool = True, **options: t.Any) -> None:
        super().__init__(label, filters=[_strip if strip else _text], **options)

    def pre_validate(self, form: BaseForm) -> None:
        limit = MAX_LENGTHS.get(self.name, MAX_CURSOR_LENGTH)
        if len(self.data or "") > limit:
            raise wtforms.validators.StopValidation(
                f"must be at most {limit} characters long."
            )


class FilterForm(wtforms.Form):
    """The filters that every page with calls accepts."""

    # Whitespace around a date makes it invalid.
    from_ = Text("From", name="from", strip=False)
    to = Text("To", strip=False)
    provider = Text(FILTER_LABELS["provider"])
    model = Text(FILTER_LABELS["model"])
    stream = Choice(FILTER_LABELS["stream"], {"": "Any", "yes": "Yes", "no": "No"})
    usage_source = Choice(
        FILTER_LABELS["usage_source"], {"": "Any", **USAGE_SOURCE_LABELS}
    )
    outcome = Choice(FILTER_LABELS["outcome"], {"": "Any", **OUTCOME_LABELS})
    trace_id = Text(FILTER_LABELS["trace_id"])
    scope = Text(FILTER_LABELS["scope"])

    tags: tuple[tuple[str, str], ...] = ()
    where: CallFilter

    @classmethod
    def read(cls, args: MultiDict[str, str], zone: dt.tzinfo, today: dt.date) -> t.Self:
        """Parse the known parameters and ignore all others.

        :raises BadQuery: Naming every invalid parameter.
        """
        form = cls(args)
        problems = [(name, "must be given only once.") for name in form._repeated(args)]
        if not form.validate():
            problems += [(f.name, str(f.errors[0])) for f in form if f.errors]
        try:
            form.tags = tuple(dict.fromkeys(tag_conditions(args.getlist("tag"))))
        except FilterError as error:
            problems.append((error.parameter, error.message))
        try:
            form.where = form._where(zone, today)
        except FilterError as error:
            # A value that the form rejected is rejected by the query, too.
            if error.parameter not in (name for name, _ in problems):
                problems.append((error.parameter, error.message))
        if problems:
            raise BadQuery(problems)
        return form

    def _repeated(self, args: MultiDict[str, str]) -> list[str]:
        # It is ambiguous which of two values counts, so neither does.
        return [f.name for f in self if len(set(args.getlist(f.name))) > 1]

    def _where(self, zone: dt.tzinfo, today: dt.date) -> CallFilter:
        return replace(
            CallFilter.days(self.from_.data, self.to.data, zone, today),
            provider=self.provider.data or None,
            model=self.model.data or None,
            stream={"yes": True, "no": False}.get(self.stream.value),
            usage_source=self.usage_source.data or None,
            outcome=self.outcome.data or None,
            trace_id=self.trace_id.data or None,
            scope=self.scope.data or None,
            tags=self.tags,
        )


class ExploreForm(FilterForm):
    """Filters, and how spend is divided and compared."""

    group = Text("Group by")
    grain = Choice("Per", GRAINS)
    compare = Choice("Compare with", COMPARISONS, default="previous")
    view = Choice("View", {"": "Each period", "cumulative": "Cumulative"})

    def validate_group(self, field: wtforms.Field) -> None:
        """Accept the names of groups, and any tag key."""
        found = field.data or ""
        key = found.removeprefix("tag:")
        if found in GROUPS or (key != found and KEY_PATTERN.fullmatch(key)):
            return
        names = ", ".join(filter(None, GROUPS))
        raise wtforms.validators.ValidationError(
            f"{_quoted(found)} is not a valid group; use one of {names}, or tag:KEY."
        )


class CallsForm(FilterForm):
    """Filters, order and page of the list of calls."""

    sort = Choice("Sort by", CALL_SORTS, default="recent")
    per = Choice("Rows per page", {p: p for p in PER_PAGE})
    after = Text("After")
    before = Text("Before")


class TableForm(FilterForm):
    """Filters, search, order and page of a table of costs."""

    q = Text("Search")
    sort = Choice("Sort by", TABLE_SORTS, default="cost")
    per = Choice("Rows per page", {p: p for p in PER_PAGE})
    page = Text("Page")

    number: int = 1
    """The number of the page."""

    def validate_page(self, field: wtforms.Field) -> None:
        """Accept a number from 1."""
        text = field.data or "1"
        if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) < 10**6):
            raise wtforms.validators.ValidationError(
                f"{_quoted(text)} is not a valid page; use a number from 1."
            )
        self.number = int(text)


class SearchForm(wtforms.Form):
    """The search on the prices page."""

    q = Text("Search")

    @classmethod
    def read(cls, args: MultiDict[str, str]) -> t.Self:
        """Parse the search text.

        :raises BadQuery: If it is too long.
        """
        form = cls(args)
        if not form.validate():
            raise BadQuery([(f.name, str(f.errors[0])) for f in form if f.errors])
        return form
