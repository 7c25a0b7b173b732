"""Which model of the price book a cloud's bill means."""

from __future__ import annotations

import functools
import re
import typing as t
from collections import defaultdict
from collections.abc import Mapping

from .rates import bundled

Name: t.TypeAlias = tuple[str, ...]

_VENDOR: t.Final = re.compile(
    r"(?:(?:us|eu|apac|global|au|jp|in|ca)\.)?[a-z0-9]+\.(?=[a-z])"
)
_VERSION: t.Final = re.compile(r"-v1(?::0)?\Z")
"""As :func:`.spelling`: other versions are other models, unless a date says which."""
_ANY_VERSION: t.Final = re.compile(r"-v\d+(?::\d+)?\Z")
_DATE: t.Final = re.compile(r"[-@](\d{4})-?(\d{2})-?(\d{2})(?=-|\Z)")
_WORDS: t.Final = re.compile(r"\d+|[a-z]+")
_ZERO: t.Final = re.compile(r"(?<=\d)\.0(?!\d)")


def model_key(provider: str, model: str) -> Name:
    """Return what the names of one model have in common, whatever spells them.

    ``Claude4.6Sonnet`` of a bill and ``us.anthropic.claude-sonnet-4-6-v1:0`` of a call
    have the same key. The date of a snapshot is left out.
    """
    return _key(_DATE.sub("", _bare(provider, model)))


def same_model(provider: str, name: str, other_provider: str, other: str) -> bool:
    """Whether two names mean one model, and not two snapshots of it."""
    if model_key(provider, name) != model_key(other_provider, other):
        return False
    dates = [_DATE.search(each.lower()) for each in (name, other)]
    return None in dates or len({d.groups() for d in dates if d is not None}) == 1


def _bare(provider: str, model: str) -> str:
    name = model.lower().rpartition("/")[2]
    if provider != "bedrock":
        return name
    version = _ANY_VERSION if _DATE.search(name) else _VERSION
    return _VENDOR.sub("", version.sub("", name))


def _key(name: str) -> Name:
    return tuple(sorted(_WORDS.findall(_ZERO.sub("", name))))


def book_model(provider: str, words: str, *, day: str | None = None) -> str | None:
    """Return the book's model that a bill's words mean, if it is exactly one.

    :param day: The month and day of its snapshot (``1120``), if the words give it.
    """
    plain, dated = _names(provider)
    key = _key(words.lower())
    if day is not None:
        found = {name for name in dated.get(key, ()) if _month_and_day(name) == day}
    else:
        found = plain.get(key, set()) or dated.get(key, set())
    if len({_month_and_day(name) for name in found}) > 1:
        return None  # Two snapshots, which may have two prices
    # The rest spells one model: Bedrock names the vendor, and lists add a version.
    return min(found, key=lambda name: ("." not in name, len(name), name), default=None)


def _month_and_day(name: str) -> str | None:
    match = _DATE.search(name)
    return None if match is None else match[2] + match[3]


@functools.cache
def _names(provider: str) -> tuple[Mapping[Name, set[str]], Mapping[Name, set[str]]]:
    """Return the provider's models by key: without and with the date of a snapshot."""
    plain: dict[Name, set[str]] = defaultdict(set)
    dated: dict[Name, set[str]] = defaultdict(set)
    for entry in bundled().entries():
        owner, _, model = entry.partition("/")
        if owner != provider or "/" in model or model != _unprefixed(provider, model):
            continue
        bare = _bare(provider, model)
        names = dated if _DATE.search(bare) else plain
        names[model_key(provider, model)].add(model)
    return plain, dated


def _unprefixed(provider: str, model: str) -> str:
    """Strip the region of an inference profile: a model's name has one point at most."""
    head, _, tail = model.partition(".")
    regional = provider == "bedrock" and head in _REGIONS
    return tail if regional else model


_REGIONS: t.Final = frozenset("us eu apac global au jp in ca us-gov".split())
