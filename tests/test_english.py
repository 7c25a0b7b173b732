"""Some phrases may not return to the package, its docs and its changelog.

Each was replaced because a reader stumbled over it. Run by ``nox -s lint``, too.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

SCANNED: t.Final = (
    "flask_llm_cost/**/*.py",
    "flask_llm_cost/**/*.html",
    "flask_llm_cost/**/*.css",
    "docs/**/*.rst",
    "docs/*.py",
    "changes/*.rst",
    "instance_example/**/*",
    "benchmarks/*",
    "*.md",
    "*.rst",
    "*.py",
)

PHRASES: t.Final = {
    r"(?<!there\s)\b(is|are) no (valid )?"
    r"(age|bind|call|date|JSON|library|mapping|name|number|text|time|URL|UUID\w*|YAML)"
    r"\b": "is not a valid ...",
    # With punctuation, because templates test for `is none`.
    r"(?<!there\s)\b(is|are|was|were) (?-i:none)(?=[.,;:\"]| of\b)": "is not; is not one of",
    r"\bthat (is|are) (?-i:none)\b": "an invalid ...",
    r"\bdeare(r|st)\b": "more expensive, most expensive",
    r"\bfor ever\b": "indefinitely",
    r"\b(be|been|is|are|was|were) told\b": "is notified, is given",
    r"\btold (by|of)\b": "reported, recorded",
    r"\bwhose (it|they) (is|are)\b": "a noun: owner, scope, tags",
    r"\b(and|or) the like\b|\band its likes\b": "and similar ones",
    r"\bno more(?=[.,;:)\"])": "no longer",
    r"\bheading for\b": "forecast",
    r"(\"\"\"|[.:] )(?-i:So) (long|many|much|often)\b": "How long, The number of",
    r"\bpassed over\b": "ignored, skipped",
    r"\bset aside\b": "rejected",
    r"\badd(ed|s)? up\b(?! to)": "aggregated, summed",
    r"\btaken down\b": "recorded, appended",
    r"\bput right\b": "corrected",
    r"\bof late\b": "recently",
    r"\bas it is kept\b": "as stored",
    r"\b(breaks|broke|broken) off\b": "interrupted, was cut",
    r"\bbut for\b": "except for",
    r"\b(is|are|were) lacking\b": "is missing",
    r"\bof which no\b": "a sentence of its own",
    r"\bsays so\b": "reports it, states it",
    r"\blooked after\b": "maintained",
    r"\bfresh input\b": "uncached input",
    r"\bread from cache\b": "cache reads",
    r"\bwritten to cache\b": "cache writes",
    r"\bthis address asks\b": "Invalid filter",
    r"\bno call fits\b": "No matching calls",
    r"\bremarks on calls\b": "Warnings",
    r"\bends with 1\b": "exits with status 1",
    r"\bwrong way round\b": "reversed",
    r"\bbe it\b": "whether",
}
"""A regular expression (a blank also matches a line break), and what to write instead."""


def pattern(phrase: str) -> re.Pattern[str]:
    """A phrase may continue on the next line of a comment, or in the next string."""
    return re.compile(phrase.replace(" ", r"""[\s"'#]+"""), re.IGNORECASE)


def found(text: str) -> Iterator[tuple[int, str, str]]:
    """The lines with such a phrase, the phrase, and what to write instead."""
    for phrase, instead in PHRASES.items():
        for match in pattern(phrase).finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield line, " ".join(match[0].split()), instead


def scanned() -> Iterator[str]:
    for glob in SCANNED:
        for path in ROOT.glob(glob):
            name = path.relative_to(ROOT).as_posix()
            written = path.suffix in (".py", ".html", ".css", ".rst", ".md")
            if written and "/_build/" not in name and name != "docs/commands.rst":
                yield name


def test_no_phrase_returns() -> None:
    phrases = [
        f"{name}:{line}: {phrase!r}; write: {instead}"
        for name in sorted(scanned())
        for line, phrase, instead in found((ROOT / name).read_text("utf-8"))
    ]
    assert not phrases, "\n".join(phrases)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("'x' is no date; write it as YYYY-MM-DD", 1),
        ("There is no call, and there is no number to show.", 0),
        ("It is no longer kept, and its parts add up to it.", 0),
        ("# the dearest\n    # calls", 1),
        ('"No more than three are kept for"\n        " ever."', 1),
        ("A budget is defined no more.", 1),
        ('"""So many results are kept."""', 1),
        ("It is None. There are none.", 0),
        ("A date that is none, a range and the like", 3),
    ],
)
def test_a_phrase_is_found(text: str, count: int) -> None:
    assert len(list(found(text))) == count
